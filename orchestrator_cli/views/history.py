"""A run that was begun before, for people and programs: how it stands, how its plan changed, who did what.

Pure functions from events to plain lines or to JSON values.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from orchestrator_cli import events
from orchestrator_cli.events import SCHEMA, Event
from orchestrator_cli.plan import Plan, whole_name
from orchestrator_cli.usage import Usage
from orchestrator_cli.views.board import Board, after
from orchestrator_cli.views.graph import plan_diff, plan_lines
from orchestrator_cli.views.text import counted, duration, one_line, spent

WIDE = 100


@dataclass(frozen=True)
class Summary:
    """A run in one line."""

    run: str
    state: str
    prompt: str
    workspace: str
    began: datetime | None
    seconds: float
    usage: Usage
    pid: int | None = None
    forked_from: str | None = None
    approvals: tuple[events.ApprovalAsked, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Keys: `run`, `state`, `prompt`, `workspace`, `began`, `seconds`, `calls`, `cost`, `pid`,
        `forked_from`. `cost` is null where a model had no known price.
        """
        return {
            "run": self.run,
            "state": self.state,
            "prompt": self.prompt,
            "workspace": self.workspace,
            "began": self.began.isoformat() if self.began else None,
            "seconds": self.seconds,
            "calls": self.usage.calls,
            "cost": None if self.usage.unpriced else self.usage.cost,
            "pid": self.pid,
            "forked_from": self.forked_from,
        }


@dataclass(frozen=True)
class Version:
    plan: Plan
    reason: str = ""
    cause: str = ""


@dataclass(frozen=True)
class Work:
    """What was done for a subtask, a tool, or by one of those who ask a model about the run."""

    attempts: int = 0
    seconds: float | None = None
    usage: Usage = field(default_factory=Usage)
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class History:
    board: Board = field(default_factory=Board)
    versions: tuple[Version, ...] = ()
    work: dict[str, Work] = field(default_factory=dict)
    """By subtask; model calls for none by their role."""
    recalled: events.Recalled = field(default_factory=events.Recalled)
    reused: events.PlanReused | None = None
    declined: tuple[events.ReuseDeclined, ...] = ()
    feedback: events.FeedbackGiven | None = None


def history_of(found: Iterable[Event]) -> History:
    history = History()
    for event in found:
        history = _after(history, event)
    return history


def _after(history: History, event: Event) -> History:
    history = replace(history, board=after(history.board, event, event.time.timestamp()))
    match event.data:
        case events.PlanProposed(plan=plan):
            return replace(history, versions=(Version(plan),))
        case events.PlanRepaired(plan=Plan() as plan) if history.versions:
            repaired = replace(history.versions[-1], plan=plan)
            return replace(history, versions=(*history.versions[:-1], repaired))
        case events.PlanApproved(plan=plan, edited=True):
            return replace(history, versions=(*history.versions, Version(plan, "edited by the user")))
        case events.PlanRevised(plan=plan, patch=patch, cause=cause):
            return replace(history, versions=(*history.versions, Version(plan, patch.reason, cause)))
        case events.SubtaskStarted(subtask=name):
            work = history.work.get(whole_name(name), Work())
            return _with(history, name, replace(work, attempts=work.attempts + 1))
        case events.SubtaskFinished(subtask=name, seconds=seconds) if whole_name(name) == name:
            return _with(history, name, replace(history.work.get(name, Work()), seconds=seconds))
        case events.Spent():
            return _spent(history, event.data)
    return _learned(history, event.data)


def _learned(history: History, fact: events.Fact) -> History:
    match fact:
        case events.Recalled():
            return replace(history, recalled=fact, reused=None, declined=())
        case events.PlanReused():
            return replace(history, reused=fact)
        case events.ReuseDeclined():
            return replace(history, declined=(*history.declined, fact))
        case events.FeedbackGiven():
            return replace(history, feedback=fact)
    return history


def _spent(history: History, fact: events.Spent) -> History:
    name = whole_name(fact.subtask) if fact.subtask and fact.role == "agent" else fact.role
    work = history.work.get(name, Work())
    one = Usage(
        calls=0 if fact.fault else 1,
        prompt_tokens=fact.prompt_tokens,
        completion_tokens=fact.completion_tokens,
        cost=fact.cost or 0.0,
        unpriced=int(fact.cost is None and not fact.fault),
        failed=int(bool(fact.fault)),
    )
    models = work.models if fact.model in work.models else (*work.models, fact.model)
    return _with(history, name, replace(work, usage=work.usage + one, models=models))


def _with(history: History, name: str, work: Work) -> History:
    return replace(history, work={**history.work, whole_name(name): work})


# --- lines


def runs_lines(rows: Sequence[Summary], *, everywhere: bool = False) -> list[str]:
    """Two lines per run: id, state, age and cost, and its prompt."""
    now, lines = datetime.now(UTC), []
    for row in rows:
        age = duration((now - row.began).total_seconds()) if row.began else "?"
        where = f"  {one_line(row.workspace)}" if everywhere else ""
        told = f"{row.run}  {row.state:<11} {age + ' ago':>12}  {_cost(row.usage)}{where}"
        lines += [told, f"    {one_line(row.prompt, WIDE)}"]
    return lines


def show_lines(summary: Summary, history: History) -> list[str]:
    """All there is to know at a glance."""
    began = f"{summary.began:%Y-%m-%d %H:%M:%S %Z}".strip() if summary.began else "?"
    lines = [
        f"run {summary.run} · {summary.state}" + (f" in process {summary.pid}" if summary.pid else ""),
        f"  prompt     {one_line(summary.prompt, 4 * WIDE)}",
        f"  workspace  {one_line(summary.workspace)}",
        f"  began      {began} · {duration(summary.seconds)} · {spent(summary.usage)}",
    ]
    if summary.forked_from:
        lines.append(f"  shares     the finished part of run {summary.forked_from}")
    if history.board.url:
        lines.append(f"  watch      {one_line(history.board.url)}")
    if history.feedback:
        why = f": {one_line(history.feedback.why, 4 * WIDE)}" if history.feedback.why else ""
        lines.append(f"  feedback   {history.feedback.vote}{why}")
    lines += _memory_lines(history)
    if history.versions:
        newest = history.versions[-1].plan
        lines += ["", f"plan, version {newest.version}: {one_line(newest.goal, 2 * WIDE)}"]
        lines += [f"  {line}" for line in plan_lines(newest, history.board.states)]
    lines += _version_lines(history.versions)
    lines += _work_lines(history)
    for asked in summary.approvals:
        lines += ["", f"open question {asked.id} about {asked.what}: {one_line(asked.question, 4 * WIDE)}"]
    if summary.approvals:
        lines.append(f"  answer it with: orch approve {summary.run}")
    return [*lines, *_what_next(summary)]


def _memory_lines(history: History) -> list[str]:
    """Which memories changed the plan, and how."""
    lines = [_remembered_line(one) for one in history.recalled.used]
    lines += [f"fact about you: {one_line(told, WIDE)}" for told in history.recalled.facts]
    if history.recalled.tools:
        lines.append(f"tools offered: {', '.join(one_line(tool) for tool in history.recalled.tools)}")
    for declined in history.declined:
        lines.append(f"plan of run {declined.earlier} not used again: {one_line(declined.reason, 2 * WIDE)}")
    if history.reused is not None:
        told = ", ".join(f"{one_line(s.new, 60)} for {one_line(s.old, 60)}" for s in history.reused.swapped)
        lines.append(f"plan of run {history.reused.earlier} used again" + (f" with {told}" if told else ""))
    return ["", "from memory:", *(f"  {line}" for line in lines)] if lines else []


def _remembered_line(one: events.Remembered) -> str:
    if one.use == "withheld":
        return (
            f"run {one.run} kept from the planner: what it says may come from the web; call it good to use it"
        )
    told = f"{one.use}: run {one.run}, {one_line(one.prompt, WIDE)}"
    return told + (f" ({one_line(one.reason, WIDE)})" if one.reason else "")


def _version_lines(versions: Sequence[Version]) -> list[str]:
    lines = []
    for before, version in pairwise(versions):
        lines += ["", f"version {version.plan.version}: {one_line(version.reason, 4 * WIDE)}"]
        if version.cause:
            lines.append(f"  because: {one_line(version.cause, 4 * WIDE)}")
        lines += [f"  {line}" for line in plan_diff(before.plan, version.plan)]
    return lines


def _work_lines(history: History) -> list[str]:
    rows = [("who", "what", "attempts", "time", "cost")]
    for name, work in history.work.items():
        row = history.board.rows.get(name)
        who = row.label if row else "a model"
        time = "" if work.seconds is None else duration(work.seconds)
        cost = _cost(work.usage) if work.usage.calls or work.usage.failed else ""
        models = f" ({', '.join(one_line(model, 40) for model in work.models)})" if work.models else ""
        rows.append((who, name, str(work.attempts or ""), time, cost + models))
    if len(rows) == 1:
        return []
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return ["", *("  ".join(cells).rstrip() for cells in padded)]


def _what_next(summary: Summary) -> list[str]:
    if summary.state in ("died", "interrupted", "paused", "failed"):
        return ["", f"go on with: orch resume {summary.run}"]
    return []


def _cost(usage: Usage) -> str:
    cost = "unpriced" if usage.unpriced else f"${usage.cost:.4f}"
    return f"{counted(usage.calls, 'call')}, {cost}"


# --- JSON


def show_json(summary: Summary, history: History) -> dict[str, Any]:
    """What `orch runs` tells of the run, and besides: `schema`, `url`, `plan` (the newest version, or
    null), `states`, `versions` (with reason, cause and diff), `work` (by subtask, else by role:
    attempts, seconds, usage, models), `approvals` (the open questions), `memory` (which memories changed
    the plan: `used`, `tools`, `reused` or null, `declined`) and `feedback` (or null).
    """
    plan = history.versions[-1].plan if history.versions else None
    before: list[Plan | None] = [None, *(version.plan for version in history.versions)]
    return {
        "schema": SCHEMA,
        **summary.as_json(),
        "url": history.board.url or None,
        "plan": plan.model_dump(mode="json") if plan else None,
        "states": history.board.states,
        "versions": [
            {
                "version": version.plan.version,
                "reason": version.reason,
                "cause": version.cause,
                "diff": plan_diff(old, version.plan) if old is not None else [],
            }
            for old, version in zip(before, history.versions, strict=False)
        ],
        "work": {
            name: {
                "attempts": work.attempts,
                "seconds": work.seconds,
                "usage": work.usage.model_dump(mode="json"),
                "models": list(work.models),
            }
            for name, work in history.work.items()
        },
        "memory": {
            "used": [one.model_dump(mode="json") for one in history.recalled.used],
            "facts": list(history.recalled.facts),
            "tools": list(history.recalled.tools),
            "reused": _plain(history.reused),
            "declined": [_plain(declined) for declined in history.declined],
        },
        "feedback": _plain(history.feedback),
        "approvals": [asked.model_dump(mode="json", exclude={"kind"}) for asked in summary.approvals],
    }


def _plain(fact: events.Fact | None) -> dict[str, Any] | None:
    return fact.model_dump(mode="json", exclude={"kind"}) if fact is not None else None
