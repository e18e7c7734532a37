"""A run as frozen rows, for a page: what it was asked and answered, who did what, and what that took.

Pure functions from the state and the events of a run. Texts are as they were written, at most cut: the page
makes them harmless.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

from orchestrator_cli import events
from orchestrator_cli.events import Event
from orchestrator_cli.plan import State, Subtask, whole_name
from orchestrator_cli.state import RunState, Work, usage_of
from orchestrator_cli.values import Attachment, Usage
from orchestrator_cli.views.diagram import GraphNode, nodes_of
from orchestrator_cli.views.envelope import states_of
from orchestrator_cli.views.graph import SIGNS, plan_diff
from orchestrator_cli.views.history import Summary
from orchestrator_cli.views.text import cut, duration, money, size, spent, value_text
from orchestrator_cli.views.timeline import Timeline, clocked, timeline_of

VALUE_CHARS = 4_000
ANSWER_CHARS = 200_000
SOURCE_CHARS = 40_000


class VersionRow(NamedTuple):
    """A version of the plan, and what it changed."""

    version: int
    reason: str
    cause: str
    diff: tuple[tuple[str, str], ...]
    """The sign of a line, `+`, `!` or `-`, and the rest of it."""


class CostRow(NamedTuple):
    """What one role spent on one model."""

    role: str
    model: str
    usage: Usage
    seconds: float
    """How long its calls took."""


class SubtaskRow(NamedTuple):
    subtask: Subtask
    state: State
    sign: str
    attempts: int
    seconds: float | None
    cost: str
    models: tuple[str, ...]
    outcome: str
    """Its summary, or why it failed or was skipped."""
    value: str
    files: tuple[str, ...]


class FileRow(NamedTuple):
    path: str
    change: str
    sizes: str
    """Before and after."""
    by: tuple[str, ...]
    """The subtasks that changed it, each with how."""


class UsedTool(NamedTuple):
    """A tool that was called, built, borrowed or refused."""

    name: str
    origin: str
    calls: int
    failed: int
    remark: str
    """Its purpose, or why it was refused."""
    built: events.ToolBuilt | None = None


class QuestionRow(NamedTuple):
    asked: events.ApprovalAsked
    answer: str
    """Empty if there is none."""


class NoticeRow(NamedTuple):
    at: float
    """In seconds of work."""
    who: str
    text: str


class PageImages(NamedTuple):
    """Images as `data:` addresses."""

    attached: Mapping[str, str] = MappingProxyType({})
    """By the names of attachments."""
    written: Mapping[str, str] = MappingProxyType({})
    """By paths in the workspace."""


class Report(NamedTuple):
    summary: Summary
    facts: tuple[tuple[str, str], ...]
    """What there is to know at a glance: a name and a value."""
    answer: str
    error: str
    goal: str
    nodes: tuple[GraphNode, ...]
    timeline: Timeline
    versions: tuple[VersionRow, ...]
    """All but the first."""
    costs: tuple[CostRow, ...]
    subtasks: tuple[SubtaskRow, ...]
    attachments: tuple[Attachment, ...]
    files: tuple[FileRow, ...]
    tools: tuple[UsedTool, ...]
    questions: tuple[QuestionRow, ...]
    notices: tuple[NoticeRow, ...]
    until: datetime | None
    """The time of the last event."""


def report_of(summary: Summary, state: RunState, found: Sequence[Event]) -> Report:
    """Everything that the page shows; `found` are all events of the run, and `state` what they add up to."""
    end, timeline = state.finished, timeline_of(state, found)
    worked = {lane.name: lane.seconds for lane in timeline.lanes if lane.key[0] == "subtask"}
    subtasks = state.plan.subtasks if state.has_plan else ()
    return Report(
        summary=summary,
        facts=_facts(summary, state),
        answer=cut(end.answer, ANSWER_CHARS) if end else "",
        error=(end.error or "") if end else "",
        goal=state.plan.goal if state.has_plan else "",
        nodes=nodes_of([version.plan for version in state.versions], states_of(state)),
        timeline=timeline,
        versions=_versions(state),
        costs=_costs(found),
        subtasks=tuple(_subtask(state, subtask, worked.get(subtask.id)) for subtask in subtasks),
        attachments=state.attachments,
        files=_files(state, found),
        tools=_tools(state, found),
        questions=tuple(_question(state, asked) for asked in state.asked.values()),
        notices=tuple(_notices(found)),
        until=found[-1].time if found else None,
    )


def _facts(summary: Summary, state: RunState) -> tuple[tuple[str, str], ...]:
    if state.started is None:
        return ()
    models = dict.fromkeys(state.started.models.values())
    rows = [
        ("began", f"{state.began:%Y-%m-%d %H:%M:%S %Z}".strip() if state.began else ""),
        ("took", duration(summary.seconds)),
        ("spent", spent(summary.usage)),
        ("workspace", summary.workspace),
        ("models", ", ".join(models)),
        ("sandbox", state.started.sandbox),
        ("orch", state.started.version),
        ("shares", f"the finished part of run {summary.forked_from}" if summary.forked_from else ""),
        ("session", state.started.session),
        ("guidance", ", ".join(state.started.guidance)),
        ("plan", f"that of run {state.reused.earlier}" if state.reused else ""),
        ("recalled", ", ".join(f"run {one.run} ({one.use})" for one in _recalled(state).used)),
        ("feedback", f"{state.feedback.vote} {state.feedback.why}".strip() if state.feedback else ""),
        ("undone", "some of its changes were taken back" if state.undone else ""),
    ]
    return tuple((name, value) for name, value in rows if value)


def _recalled(state: RunState) -> events.Recalled:
    return state.recalled or events.Recalled()


def _versions(state: RunState) -> tuple[VersionRow, ...]:
    return tuple(
        VersionRow(
            after.plan.version,
            after.reason,
            after.cause,
            tuple((line[0], line[2:]) for line in plan_diff(before.plan, after.plan, limit=300)),
        )
        for before, after in pairwise(state.versions)
    )


def _costs(found: Sequence[Event]) -> tuple[CostRow, ...]:
    """The dearest first, and of equal ones that with the most tokens."""
    rows: dict[tuple[str, str], CostRow] = {}
    for event in found:
        if isinstance(fact := event.data, events.Spent):
            key = (fact.role, fact.model)
            known = rows.get(key, CostRow(*key, Usage(), 0.0))
            rows[key] = CostRow(*key, known.usage + usage_of(fact), known.seconds + fact.seconds)
    return tuple(sorted(rows.values(), key=lambda row: (-row.usage.cost, -row.usage.prompt_tokens)))


def _subtask(state: RunState, subtask: Subtask, seconds: float | None) -> SubtaskRow:
    name, work = subtask.id, state.work.get(subtask.id, Work())
    result, is_in = state.results.get(name), state.state_of(name)
    return SubtaskRow(
        subtask,
        is_in,
        SIGNS[is_in],
        work.attempts,
        seconds,
        money(work.usage) if work.usage.tries else "",
        work.models,
        result.summary if result else state.failures.get(name, ""),
        cut(value_text(result.value), VALUE_CHARS) if result and result.value is not None else "",
        result.files if result else (),
    )


def _files(state: RunState, found: Sequence[Event]) -> tuple[FileRow, ...]:
    by: dict[str, dict[str, None]] = {}
    known = [subtask for version in state.versions for subtask in version.plan.subtasks]
    kinds = {s.id: f"{s.kind} {s.role or s.process or ''}".strip() for s in known}
    for event in found:
        if isinstance(fact := event.data, events.FilesChanged):
            how = kinds.get(whole_name(fact.subtask), "")
            for change in fact.changes:
                by.setdefault(change.path, {})[f"{fact.subtask} ({how}, {change.change})"] = None
    return tuple(
        FileRow(path, change.change, _sizes(change), tuple(by.get(path, ())))
        for path, change in sorted(state.changes.items())
    )


def _sizes(change: events.FileChange) -> str:
    before, after = change.before_size, change.after_size
    return " → ".join(size(count) for count in (before, after) if count is not None)


def _tools(state: RunState, found: Sequence[Event]) -> tuple[UsedTool, ...]:
    """Built ones first, then by the number of calls."""
    calls: dict[str, list[bool]] = {}
    lent: dict[str, events.ToolReused] = {}
    refused: dict[str, events.ToolRefused] = {}
    for event in found:
        match event.data:
            case events.ToolCalled(tool=name, ok=ok):
                calls.setdefault(name, []).append(ok)
            case events.ToolReused() as fact:
                lent[fact.tool] = fact
            case events.ToolRefused() as fact:
                refused[fact.tool] = fact
    built = {one.tool: one for one in state.built}
    names = dict.fromkeys([*built, *lent, *refused, *sorted(calls, key=lambda name: -len(calls[name]))])
    return tuple(_tool(name, calls.get(name, []), built, lent, refused) for name in names)


def _tool(
    name: str,
    calls: list[bool],
    built: Mapping[str, events.ToolBuilt],
    lent: Mapping[str, events.ToolReused],
    refused: Mapping[str, events.ToolRefused],
) -> UsedTool:
    origin, remark = "given", ""
    if name in built:
        origin, remark = f"built, version {built[name].version}", built[name].purpose
    elif name in lent:
        fact = lent[name]
        instead = f" (instead of {fact.instead_of}: {fact.reason})" if fact.instead_of else ""
        origin, remark = f"from the library, version {fact.version}", fact.purpose + instead
    elif name in refused:
        origin, remark = "could not be built", "; ".join(refused[name].reasons)
    return UsedTool(name, origin, len(calls), calls.count(False), remark, built.get(name))


def _question(state: RunState, asked: events.ApprovalAsked) -> QuestionRow:
    given = state.given.get(asked.id)
    if given is None:
        return QuestionRow(asked, "")
    said = given.decision if given.decision != "answered" else value_text(given.value)
    return QuestionRow(asked, f"{said}{given.reason}" + ("" if given.by == "user" else f" (by {given.by})"))


def _notices(found: Sequence[Event]) -> list[NoticeRow]:
    rows = []
    for at, event in clocked(found):
        match event.data:
            case events.Noticed(message=text):
                rows.append(NoticeRow(at, "notice", text))
            case events.Remarked(text=text):
                rows.append(NoticeRow(at, "you", text))
            case events.PlanRefused(what=what, faults=faults):
                rows.append(NoticeRow(at, f"{what} sent back", "\n".join(faults)))
            case events.PlanRepaired(what=what, repairs=repairs):
                rows.append(NoticeRow(at, f"{what} repaired", "\n".join(repairs)))
            case events.RevisionDeclined(reason=reason, cause=cause):
                rows.append(NoticeRow(at, "plan kept", f"{reason}\nbecause: {cause}"))
            case events.RunResumed():
                rows.append(NoticeRow(at, "resumed", "Another process went on with the run."))
            case events.SubtaskFailed(subtask=name, attempt=attempt, reason=reason):
                rows.append(NoticeRow(at, "failure", f"{name}, attempt {attempt}: {reason}"))
            case events.LateResult(result=result):
                rows.append(NoticeRow(at, "late result", f"{result.subtask} is no part of the plan any more"))
    return rows
