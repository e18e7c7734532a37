"""Running without a sandbox: allowed by a person each time anew, never by a setting."""

import sys

from orchestrator_cli.errors import ApprovalNeeded, UsageError

FLAG = "--unsafe-no-sandbox"
WARNING = (
    "NO SANDBOX: code that a model wrote will run with all your rights. It can read, change and delete\n"
    "all that you can, your keys and other folders among it, and send it anywhere."
)


def allowed_by(*, asked: bool, yes: bool) -> str:
    """How the user has allowed to run without a sandbox; empty where that was not asked for.

    On a terminal it has to be typed, also with `-y`. Raises `ApprovalNeeded` where nobody can
    type and `yes` was not said either, `UsageError` where the answer is no.
    """
    if not asked:
        return ""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        if yes:
            return f"{FLAG} with -y"
        raise ApprovalNeeded(
            f"{FLAG} has to be confirmed, and nobody is here to do so.",
            "Add -y to confirm it: code written by a model then has all your rights.",
        )
    sys.stderr.write(f"{WARNING}\nType yes to go on: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() != "yes":
        raise UsageError("It was not confirmed, so nothing was run.", f"Leave {FLAG} out.")
    return f"{FLAG}, confirmed at the terminal"
