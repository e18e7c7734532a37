"""How an error that ends a run is shown and counted: with the way to go on, as an outcome, in memory."""

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator_cli.approvals.broker import how_to_answer
from orchestrator_cli.errors import (
    AnswerMisfit,
    ApprovalNeeded,
    Cancelled,
    ConfigError,
    Interrupted,
    LimitReached,
    NotApproved,
    OrchError,
    ProviderError,
    RunFailed,
    RunTimedOut,
    StorageFault,
    UsageError,
    storage_fault,
)
from orchestrator_cli.events import ApprovalAsked, Outcome
from orchestrator_cli.process_limits import limit_met

PASSING = (
    *(UsageError, ConfigError, StorageFault, ProviderError),
    *(LimitReached, ApprovalNeeded, RunTimedOut, Interrupted, AnswerMisfit),
)
"""What ends a run that may be resumed."""


def outcome_of(error: OrchError | None) -> Outcome:
    match error:
        case None:
            return "completed"
        case ApprovalNeeded():
            return "paused"
        case Cancelled() | NotApproved():
            return "cancelled"
        case Interrupted():
            return "interrupted"
    return "failed"


def end_of_plan(error: BaseException | None) -> dict[str, Any]:
    """What `RunFinished` says of a run that was only to be planned, and ended with this error or none."""
    if error is None:
        return {"outcome": "planned"}
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted("Interrupted.")
    known = error if isinstance(error, OrchError) else RunFailed(f"{type(error).__name__}: {error}")
    return {"outcome": outcome_of(known), "error": str(known), "exit_code": known.exit_code}


def as_orch_error(exc: BaseException, run: str, asked: Sequence[ApprovalAsked] = ()) -> OrchError:
    """The error as a user is given it, with the way to go on if there is one. `asked`: its open questions."""
    go_on = f"Go on with: orch resume {run}"
    if isinstance(exc, KeyboardInterrupt):
        return Interrupted(
            "Interrupted.", f"What was finished is in the workspace; nothing is half-done.\n{go_on}"
        )
    exc = storage_fault(exc) or exc
    if (limit := limit_met(exc)) is not None:
        what = str(exc) or type(exc).__name__
        return RunFailed(
            f"This process has met a limit (ulimit {limit.flag}): {what}.", f"{limit.remedy}\n{go_on}"
        )
    if not isinstance(exc, OrchError):
        return RunFailed(
            f"Something unforeseen: {type(exc).__name__}: {exc} (in {_place_of(exc)})",
            f"Run it with --debug to see all of it.\n{go_on}",
        )
    if isinstance(exc, ApprovalNeeded):
        exc.remedy = exc.remedy if "orch resume" in exc.remedy else "\n".join(how_to_answer(run, asked))
    elif isinstance(exc, PASSING) and not isinstance(exc, Cancelled) and "orch resume" not in exc.remedy:
        exc.remedy = f"{exc.remedy}\n{go_on}".strip()
    return exc


def _place_of(exc: BaseException) -> str:
    """Where an error was raised, and where we called that. What happens once may not happen with --debug."""
    frames = traceback.extract_tb(exc.__traceback__)
    ours = [frame for frame in frames if __package__ in Path(frame.filename).parts]
    places = dict.fromkeys(f"{Path(one.filename).name}:{one.lineno}" for one in (*frames[-1:], *ours[-1:]))
    return ", from ".join(places) or "no known place"


def remembered_as(error: BaseException | None) -> str:
    """How a run ended, as far as its plan is to blame."""
    if error is None:
        return "completed"
    return "stopped" if isinstance(error, (*PASSING, Cancelled, NotApproved)) else "failed"
