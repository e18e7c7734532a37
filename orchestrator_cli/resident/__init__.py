"""A process that has imported everything and forks a worker for each command, as chg does for Mercurial.

    terminal ── orch (client) ── socket in the data folder ── resident ── fork ── worker: the command itself

The client hands over its streams, folder, environment, mask and limits, passes signals on, and ends with
the worker's exit code. The resident imports and forks, and does nothing else: it has no thread and no
connection. The worker is the command as it would be without all this, in a session of its own.

Without a resident, or with another one than the command needs, the command runs in its own process, and a
resident for the next one is started beside it. `wanted` says when there is to be none.

Not covered: Ctrl-Z stops the command and its client, but no programs that the command has started in sessions
of their own; programs that open `/dev/tty`, which is the terminal of a session; and control groups, because a
worker is in that of its resident.
"""
