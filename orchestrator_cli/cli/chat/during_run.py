"""Commands that are typed during a run: those that look at it are carried out, and none is a remark."""

from orchestrator_cli.cli.chat.repl import MEANINGS, PLAIN
from orchestrator_cli.errors import UsageError
from orchestrator_cli.state import RunState
from orchestrator_cli.views.graph import plan_lines
from orchestrator_cli.views.text import one_line, spent


def command_lines(line: str, state: RunState, *, asked: bool, takes_remarks: bool) -> list[str] | None:
    """What a command shows; None if the line is not one. Raises `UsageError` if it has to wait.

    `asked`: a question is open, so that only lines of the known commands are not an answer.
    """
    if not asked and line.strip().lower() in PLAIN:
        line = f"/{line.strip().lower()}"
    name, _, rest = line.partition(" ")
    if not line.startswith("/") or (asked and name not in MEANINGS):
        return None
    match name, rest.strip():
        case "/help", "":
            remark = ", or a remark to the run" if takes_remarks else ""
            return [
                f"What you type is the answer to an open question{remark}.",
                "  /plan  show the plan",
                "  /cost  show what the run has cost so far",
                "Other commands have to wait for the end of the run. Ctrl-C ends it.",
            ]
        case "/cost", "":
            return [spent(state.usage)]
        case "/plan", "":
            return plan_lines(state.plan) if state.has_plan else ["No plan yet."]
    raise UsageError(
        f"{one_line(name, 40)} has to wait for the end of the run; Ctrl-C ends it.",
        "A remark may begin with / after a space.",
    )
