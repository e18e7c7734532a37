"""The `orch` command, and `python -m orchestrator_cli`: quiet about Ctrl-C from its first moment on.

The command line is imported here and not above, because that takes a fifth of a second in which a
person may have thought better of it. The interpreter's own start before this is not covered.
"""

import os
import sys


def main() -> None:
    """Run `orch` and end the process with its exit code."""
    try:
        from orchestrator_cli.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("error: Interrupted.\n")
        sys.stderr.flush()
        os._exit(130)
    run()


if __name__ == "__main__":
    main()
