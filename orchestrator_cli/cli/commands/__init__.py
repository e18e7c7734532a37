"""The commands of `orch`, a module for those that need the same parts.

`cli/app.py` lists them and imports the module of the one that runs, so a module imports what it needs at its
top. Its `app` holds the commands; `cli/options.py` their options.
"""
