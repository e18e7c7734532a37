"""What the commands of `orch` do besides reading their flags.

`options` are the flags that several share, `running` is a run with its views up to its exit
code, and `past` are the commands on runs that were begun before. The commands that begin a run
stand in `app`.
"""
