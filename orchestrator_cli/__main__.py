"""The `orch` command, and `python -m orchestrator_cli`: quiet about Ctrl-C from its first moment on.

The command line is imported here and not above, because that takes a fifth of a second in which a
person may have thought better of it. The interpreter's own start before this is not covered.
"""

import os
import sys
from collections.abc import Callable


def main() -> None:
    """Run `orch` and end the process with its exit code."""
    _open_closed_streams()
    if sys.flags.optimize > 1:
        # Tools are described to models, and options to people, by docstrings.
        sys.stderr.write("error: Python was started without docstrings, which orch needs.\n")
        sys.stderr.write("  Unset PYTHONOPTIMIZE, and start Python without -OO.\n")
        sys.exit(3)
    try:
        start_next = _run_by_resident()
        from orchestrator_cli.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("error: Interrupted.\n")
        sys.stderr.flush()
        os._exit(130)
    start_next()
    run()


def _run_by_resident() -> Callable[[], None]:
    """End as a resident's worker has ended. Returns if there is none, with what starts the next one."""
    from orchestrator_cli.resident.wanted import wanted

    may = wanted()
    if not may.use:
        return lambda: None
    from orchestrator_cli.resident import client

    if (code := client.run()) is not None:
        client.end(code)
    return client.start_next if may.start else lambda: None


def _open_closed_streams() -> None:
    """Let standard streams that were closed lead nowhere, as daemons do.

    Otherwise the next files that are opened would take their numbers, and Python has no objects for them.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number, inheritable=True)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    main()
