"""What memory brought to a run, as its event says it: what was shown, from where, how near it is, and why."""

from memory import RecalledRun, RecallResult
from orchestrator_cli import events
from orchestrator_cli.values import Remembered, ShownMemory


def recalled_event(recalled: RecallResult) -> events.Recalled:
    """The event of what was recalled."""
    return events.Recalled(
        runs=tuple(one.prompt for one in recalled.runs),
        tools=tuple(tool.name for tool in recalled.tools),
        facts=recalled.facts,
        used=uses_of(recalled),
        shown=shown_of(recalled),
    )


def uses_of(recalled: RecallResult) -> tuple[Remembered, ...]:
    """What each recalled run is used for, as an event says it."""
    used = [
        Remembered(run=run.run, prompt=run.shown, use=run.use, reason=_reason(run)) for run in recalled.runs
    ]
    return (*used, *(Remembered(run=run, use="withheld") for run in recalled.withheld))


def shown_of(recalled: RecallResult) -> tuple[ShownMemory, ...]:
    """The facts and findings, as an event says them."""
    facts = (
        ShownMemory(what="fact", id=str(f.id), text=f.text, origin=f.origin, score=f.score, why=f.why)
        for f in recalled.known
    )
    said = (
        ShownMemory(
            what="said",
            id=str(f.id),
            text=f.text,
            origin=f.origin,
            score=f.score,
            why=f"it shares {', '.join(f.shares)}" if f.shares else "its meaning is near",
        )
        for f in recalled.findings
    )
    return (*facts, *said)


def _reason(run: RecalledRun) -> str:
    if run.vote is None:
        return run.reason or ("you undid it" if run.undone else "")
    return f"you called it {run.vote}" + (f": {run.why}" if run.why else "")
