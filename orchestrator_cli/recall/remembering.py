"""What a run leaves for those after it, and what it was given by those before: values, no effects."""

from collections.abc import Collection
from typing import Any

from memory import Memory, Recalled, RecalledRun, Record
from memory.templates import Template, mark, template_of
from orchestrator_cli import events
from orchestrator_cli.journal.redaction import Masks
from orchestrator_cli.planning.reuse import reads_outside
from orchestrator_cli.state.board import Board


def learned_from(
    board: Board, outcome: str, prompt: str, networked: Collection[str], masks: Masks
) -> dict[str, Any]:
    """What later plans are made by, as `memory.run_record` takes it.

    `networked` are the built tools of the run that reach the network.
    """
    plan, states, _, failures = board.snapshot()
    outside = reads_outside((*board.earlier, plan), board.planner_context, networked)
    failed = [f"{name}: {why}" for name, why in failures.items() if states.get(name) == "failed"]
    return {
        # The words of a failure may be those of a page.
        "reason": "" if outside else masks("; ".join(failed)),
        "template": _template(board, prompt, masks) if outcome == "completed" else None,
        "mark": mark(masks(plan.model_dump(mode="json", exclude_defaults=True)), prompt),
        "from_web": outside and board.revisions > 0,
    }


def _template(board: Board, prompt: str, masks: Masks) -> Template | None:
    """The plan as it can be used again, where all of it was done."""
    plan, states, _, _ = board.snapshot()
    done = all(states.get(name) in ("done", "skipped") for name in plan.ids)
    if board.files is None or not done or board.stranded:
        return None
    return template_of(masks(plan.model_dump(mode="json", exclude_defaults=True)), prompt, board.files)


def with_feedback(run: Record, memory: Memory) -> Record:
    """What the user has said of a run stays said when the run is gone on with. Raises `MemoryFault`."""
    known = memory.get([run.id], run.scope)
    said = known[0].data.get("feedback") if known else None
    return run.model_copy(update={"data": run.data | {"feedback": said}}) if said else run


def uses_of(recalled: Recalled) -> tuple[events.Remembered, ...]:
    """What each recalled run is used for, as it is told."""
    told = [
        events.Remembered(run=run.run, prompt=run.shown, use=run.use, reason=_reason(run))
        for run in recalled.runs
    ]
    return (*told, *(events.Remembered(run=run, use="withheld") for run in recalled.withheld))


def _reason(run: RecalledRun) -> str:
    if run.vote is None:
        return run.reason
    return f"you called it {run.vote}" + (f": {run.why}" if run.why else "")
