"""How `fileLog.md` can be checked: the chain of hashes over its entries, what is wrong with one, and
what the data folder remembers of it.

`chain` is the format, `verification` finds the first fault of a chain, `comparison` holds entries
against what the journals say they are: pure functions over bytes. `heads` keeps the end of each log.
"""
