"""An earlier run, for people and programs: its state, how its plan changed, who did what.

Pure functions from events to plain lines or to JSON values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from orchestrator_cli import events
from orchestrator_cli.approvals.deadlines import left_of
from orchestrator_cli.events import SCHEMA
from orchestrator_cli.plan import Plan
from orchestrator_cli.state import RunState, Version
from orchestrator_cli.values import Remembered, ShownMemory, Usage, seconds_between
from orchestrator_cli.views.envelope import states_of
from orchestrator_cli.views.graph import plan_diff, plan_lines
from orchestrator_cli.views.narration import MOST_FILES
from orchestrator_cli.views.text import (
    calls,
    clean,
    columns,
    counted,
    duration,
    file_name,
    money,
    one_line,
    spent,
)

WIDE, ANSWER_LINES = 100, 40


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
    schedule: str = ""
    """The schedule that started it; empty if a person did."""
    approvals: tuple[events.ApprovalAsked, ...] = ()
    undone: bool = False
    """Whether some of its changes were taken back."""

    @property
    def left_s(self) -> float | None:
        """How long the first of its questions still waits for a person; None if none has a deadline."""
        return min((left for one in self.approvals if (left := left_of(one.deadline))), default=None)

    @classmethod
    def of_plan(cls, prompt: str) -> "Summary":
        """Of a plan that has not run."""
        return cls("", "planned", prompt, "", None, 0.0, Usage())

    def as_json(self) -> dict[str, Any]:
        """Keys: `run`, `state`, `prompt`, `workspace`, `began`, `seconds`, `calls`, `failed_calls`,
        `stopped_calls`, `cost`, `pid`, `forked_from`, `schedule`, `answer_within_s`. `calls` are those that
        were answered; `cost` is null if a model had no known price, and `answer_within_s` if no question
        waits until a deadline.
        """
        return {
            "run": self.run,
            "state": self.state,
            "prompt": self.prompt,
            "workspace": self.workspace,
            "began": self.began.isoformat() if self.began else None,
            "seconds": self.seconds,
            "calls": self.usage.calls,
            "failed_calls": self.usage.failed,
            "stopped_calls": self.usage.stopped,
            "cost": None if self.usage.unpriced else self.usage.cost,
            "pid": self.pid,
            "forked_from": self.forked_from,
            "schedule": self.schedule,
            "answer_within_s": self.left_s,
        }


# --- lines


def runs_lines(rows: Sequence[Summary], *, everywhere: bool = False) -> list[str]:
    """Two lines per run: id, state, age and cost, and its prompt."""
    now, lines = datetime.now(UTC), []
    for row in rows:
        age = duration(seconds_between(row.began, now)) if row.began else "?"
        where = f"  schedule {row.schedule}" if row.schedule else ""
        where += f"  {one_line(row.workspace)}" if everywhere else ""
        where += "  undone" if row.undone else ""
        where += f"  asks, {duration(left)} left to answer" if (left := row.left_s) else ""
        line = f"{row.run}  {row.state:<11} {age + ' ago':>12}  {_cost(row.usage)}{where}"
        lines += [line, f"    {one_line(row.prompt, WIDE)}"]
    return lines


def show_lines(summary: Summary, state: RunState) -> list[str]:
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
    if state.started and state.started.guidance:
        given = ", ".join(one_line(label, 2 * WIDE) for label in state.started.guidance)
        lines.append(f"  guidance   {given}")
    if state.url:
        lines.append(f"  watch      {one_line(state.url)}")
    lines += _afterwards_lines(state)
    lines += _memory_lines(state)
    if state.has_plan:
        lines += ["", f"plan, version {state.plan.version}: {one_line(state.plan.goal, 2 * WIDE)}"]
        lines += [f"  {line}" for line in plan_lines(state.plan, states_of(state))]
    lines += _version_lines(state.versions)
    lines += _work_lines(state)
    lines += _answer_lines(state)
    lines += _file_lines(state)
    for asked in summary.approvals:
        lines += ["", f"open question {asked.id} about {asked.what}: {one_line(asked.question, 4 * WIDE)}"]
        lines += [f"  {duration(left)} left to answer"] if (left := left_of(asked.deadline)) else []
    if summary.approvals:
        lines.append(f"  answer it with: orch approve {summary.run}")
    if summary.state in ("died", "interrupted", "paused", "failed"):
        lines += ["", f"go on with: orch resume {summary.run}"]
    if summary.state == "planned" and summary.run:
        lines += ["", f"run it with: orch resume {summary.run}"]
    return lines


def _afterwards_lines(state: RunState) -> list[str]:
    """What its user did with the finished run."""
    lines = [f"  undone     what it had changed: orch diff {state.run}"] if state.undone else []
    if state.feedback:
        why = f": {one_line(state.feedback.why, 4 * WIDE)}" if state.feedback.why else ""
        lines.append(f"  feedback   {state.feedback.vote}{why}")
    return lines


def _answer_lines(state: RunState) -> list[str]:
    if state.finished is None or not state.finished.answer:
        return []
    answer = clean(state.finished.answer).strip().split("\n")
    more = len(answer) - ANSWER_LINES
    left_out = [f"  … {counted(more, 'more line')} …"] if more > 0 else []
    return ["", "answer", *(f"  {line}" for line in answer[:ANSWER_LINES]), *left_out]


def _file_lines(state: RunState) -> list[str]:
    """The files that the run has made, changed or deleted, as they are counted at its end."""
    changes = list(state.changes.values())
    more = [f"  … and {counted(len(changes) - MOST_FILES, 'more file')}"] if len(changes) > MOST_FILES else []
    lines = [f"  {one.change:<9} {file_name(one.path)}" for one in changes[:MOST_FILES]]
    return ["", "files", *lines, *more] if lines else []


def _memory_lines(state: RunState) -> list[str]:
    """Which memories changed the plan, and how."""
    recalled = state.recalled or events.Recalled()
    lines = [_remembered_line(one) for one in recalled.used]
    explained = {one.line for one in recalled.shown}
    # Journals of earlier versions have only the texts of facts.
    lines += [f"fact about you: {one_line(text, WIDE)}" for text in recalled.facts if text not in explained]
    lines += [_shown_line(one) for one in recalled.shown]
    if recalled.tools:
        lines.append(f"tools offered: {', '.join(one_line(tool) for tool in recalled.tools)}")
    for declined in state.declined:
        lines.append(f"plan of run {declined.earlier} not used again: {one_line(declined.reason, 2 * WIDE)}")
    if state.reused is not None:
        swaps = ", ".join(f"{one_line(s.new, 60)} for {one_line(s.old, 60)}" for s in state.reused.swapped)
        lines.append(f"plan of run {state.reused.earlier} used again" + (f" with {swaps}" if swaps else ""))
    return ["", "from memory:", *(f"  {line}" for line in lines)] if lines else []


def _remembered_line(one: Remembered) -> str:
    if one.use == "withheld":
        return (
            f"run {one.run} kept from the planner: what it says may come from the web; call it good to use it"
        )
    line = f"{one.use}: run {one.run}, {one_line(one.prompt, WIDE)}"
    return line + (f" ({one_line(one.reason, WIDE)})" if one.reason else "")


def _shown_line(one: ShownMemory) -> str:
    what = "fact about you" if one.what == "fact" else "said before"
    near = f"{one.score:.2f}, " if one.score else ""
    return f"{what}: {one_line(one.line, 2 * WIDE)} ({near}{one_line(one.why, WIDE)}; {one.id[:8]})"


def _version_lines(versions: Sequence[Version]) -> list[str]:
    lines = []
    for before, version in pairwise(versions):
        lines += ["", f"version {version.plan.version}: {one_line(version.reason, 4 * WIDE)}"]
        if version.cause:
            lines.append(f"  because: {one_line(version.cause, 4 * WIDE)}")
        lines += [f"  {line}" for line in plan_diff(before.plan, version.plan)]
    return lines


def _work_lines(state: RunState) -> list[str]:
    known = [subtask for version in state.versions for subtask in version.plan.subtasks]
    labels = {subtask.id: one_line(subtask.role or subtask.kind, 24) for subtask in known}
    rows = [("who", "what", "attempts", "time", "cost")]
    for name, work in state.work.items():
        who, what = (labels[name], name) if name in labels else (name, "")  # a role, for the run as a whole
        time = "" if work.seconds is None else duration(work.seconds)
        cost = _cost(work.usage) if work.usage.tries else ""
        models = f" ({', '.join(one_line(model, 40) for model in work.models)})" if work.models else ""
        rows.append((who, what, str(work.attempts or ""), time, cost + models))
    return ["", *columns(rows)] if len(rows) > 1 else []


def _cost(usage: Usage) -> str:
    return f"{calls(usage)}, {money(usage)}"


# --- JSON


def show_json(summary: Summary, state: RunState) -> dict[str, Any]:
    """What `orch runs` tells of the run, and besides: `schema`, `url`, `plan` (the newest version, or
    null), `states`, `versions` (with reason, cause and diff), `work` (by subtask, else by role:
    attempts, seconds, usage, models), `approvals` (the open questions), `memory` (which memories changed
    the plan: `used`, `shown` (with ids, scores and reasons), `tools`, `reused` or null, `declined`),
    `guidance` (the instructions and skills that models were given) and `feedback` (or null).
    """
    plan = state.plan if state.has_plan else None
    recalled = state.recalled or events.Recalled()
    before: list[Plan | None] = [None, *(version.plan for version in state.versions)]
    return {
        "schema": SCHEMA,
        **summary.as_json(),
        "url": state.url or None,
        "plan": plan.model_dump(mode="json") if plan else None,
        "states": states_of(state),
        "versions": [
            {
                "version": version.plan.version,
                "reason": version.reason,
                "cause": version.cause,
                "diff": plan_diff(old, version.plan) if old is not None else [],
            }
            for old, version in zip(before, state.versions, strict=False)
        ],
        "work": {
            name: {
                "attempts": work.attempts,
                "seconds": work.seconds,
                "usage": work.usage.model_dump(mode="json"),
                "models": list(work.models),
            }
            for name, work in state.work.items()
        },
        "memory": {
            "used": [one.model_dump(mode="json") for one in recalled.used],
            "facts": list(recalled.facts),
            "shown": [one.model_dump(mode="json") for one in recalled.shown],
            "tools": list(recalled.tools),
            "reused": _plain(state.reused),
            "declined": [_plain(declined) for declined in state.declined],
        },
        "guidance": list(state.started.guidance) if state.started else [],
        "feedback": _plain(state.feedback),
        "approvals": [asked.model_dump(mode="json", exclude={"kind"}) for asked in summary.approvals],
    }


def _plain(fact: events.Fact | None) -> dict[str, Any] | None:
    return fact.model_dump(mode="json", exclude={"kind"}) if fact is not None else None
