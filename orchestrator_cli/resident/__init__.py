"""A process that has imported everything and forks a worker for each command, as chg does for Mercurial.

    terminal ── orch (client) ── socket in the data folder ── resident ── fork ── worker: the command itself

The client hands over its streams, folder, environment, mask and limits, passes signals on, and ends with
the worker's exit code. The resident imports and forks, and does nothing else: it has no thread and no
connection. The worker is the command as it would be without all this, in a session of its own.

Without a resident, or with another one than the command needs, the command runs in its own process, and a
resident for the next one is started beside it. `ORCH_RESIDENT=auto` turns it on.

Not covered: Ctrl-Z stops the command and its client, but no programs that the command has started in sessions
of their own; and programs that open `/dev/tty`, which is the terminal of a session.
"""

import os


def is_wanted() -> bool:
    """Whether commands are to be run by residents. Not in CI, where no second command follows."""
    return os.environ.get("ORCH_RESIDENT") == "auto" and not os.environ.get("CI")
