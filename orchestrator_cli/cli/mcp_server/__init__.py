"""`orch` as an MCP server: the tools of the library, and whole runs, for the programs of others.

`server` speaks the protocol, `calls` is one call of a tool, `asking` is one run. What only a person may
allow is never allowed here: there is nobody to be asked.
"""
