"""`orch` as an MCP server: built tools and whole runs, for other programs.

`server` speaks the protocol, and `calls` makes one call of a tool or one run. What only a person may allow is
never allowed here, because there is no person to ask.
"""
