"""What the console says about an event: a pure function from an event to lines of plain text.

Foreign text is cleaned and kept to one line here. The console wraps and colours the lines.
"""

import shlex
from collections.abc import Callable, Iterator
from functools import singledispatch
from pathlib import Path
from typing import NamedTuple

from orchestrator_cli import events
from orchestrator_cli.durable.text import listed, truncate
from orchestrator_cli.events import Event
from orchestrator_cli.plan import Plan, whole_name
from orchestrator_cli.state import RunState
from orchestrator_cli.values import Attachment
from orchestrator_cli.views.graph import patch_lines, plan_diff, plan_lines
from orchestrator_cli.views.text import (
    NO_SANDBOX,
    call_form,
    choices,
    clean,
    counted,
    duration,
    file_name,
    numbered,
    one_line,
    short_run,
    size,
    spent,
    value_text,
)

ANSWERED_BY = {
    "user": "",
    "page": " (on Prefect's page)",
    "flag": " (-y)",
    "settings": " (allowed in the settings)",
    "deadline": " (by the deadline)",
}
LONG = 400
"""Characters of a reason or a summary."""
NOTICE = 4_000
"""Characters of a notice: a sentence of ours with paths in it, and the remedy comes last."""
DETAIL_LINES = 120
"""Lines of the details of a question; fileLog.md has all of them."""
MOST_FILES = 20
"""Files that are listed after an answer."""
OUTCOMES = {
    "completed": ("done", "bold green"),
    "failed": ("failed", "bold red"),
    "interrupted": ("interrupted", "bold yellow"),
    "paused": ("paused", "bold magenta"),
    "cancelled": ("cancelled", "bold yellow"),
    "planned": ("planned", "bold green"),
}


class Line(NamedTuple):
    """`sign` is in front of `text`, which is indented if it is wrapped."""

    sign: str
    text: str
    style: str = ""
    sign_style: str = ""

    def __str__(self) -> str:
        return self.sign + self.text


DETAILS = (events.AgentStepped, events.CodeRan, events.ToolCalled, events.Spent, events.LateResult)
"""Facts that only `--verbose` shows."""


def narrate(event: Event, before: RunState, *, live: bool = False, verbose: bool = False) -> list[Line]:
    """The lines for an event, given the run before it; none for one not worth saying.

    `live`: the screen has a table of the subtasks, so that starts are not shown again.
    """
    if isinstance(event.data, events.RunStarted):
        place = f"run {short_run(event.run)} in {one_line(event.data.workspace)}{_found(event.data.found)}"
        given = (*_guidance(event.data.guidance), *map(_attached, event.data.attachments))
        return [*_warning(event.data.sandbox), Line("", place, "dim"), *given]
    if not verbose and _is_detail(event.data, live):
        return []
    plan = before.plan if before.has_plan else None
    match event.data:
        case events.PlanRevised() as fact:
            return _plan_revised(fact, plan)
        case events.RunResumed() as fact:
            return _run_resumed(event, fact, before)
        case events.PlanApproved(edited=True) as fact if plan is not None:
            head = Line("plan  ", "approved, as you changed it:", sign_style="bold")
            return [head, *_diff_lines(plan_diff(plan, fact.plan))]
        case events.RunFinished() as fact:
            return _run_finished(fact, before)
    return _lines(event.data)


def _found(model: str) -> str:
    """The model that no one has set."""
    return f", asks {one_line(model)}" if model else ""


def _is_detail(fact: events.Fact, live: bool) -> bool:
    if live and isinstance(fact, events.SubtaskStarted | events.SubtaskWaiting):
        return True
    if isinstance(fact, events.SubtaskStarted | events.SubtaskFinished):
        return whole_name(fact.subtask) != fact.subtask
    return isinstance(fact, DETAILS)


def _warning(sandbox: str) -> list[Line]:
    return [Line("", one_line(sandbox, LONG), "bold red")] if sandbox.startswith(NO_SANDBOX) else []


def _guidance(labels: tuple[str, ...]) -> list[Line]:
    named = ", ".join(one_line(label, 200) for label in labels)
    return [Line("", f"models are given {named}", "dim")] if labels else []


def _attached(one: Attachment) -> Line:
    words = f"{file_name(one.name)} · {one.line} · from {file_name(one.path)}"
    return Line("attached  ", one_line(words, NOTICE), sign_style="bold")


@singledispatch
def _lines(fact: events.Fact) -> list[Line]:
    line = _line(fact)
    return [line] if line is not None else []


def _line(fact: events.Fact) -> Line | None:  # noqa: C901 - a case for each kind
    """The line of a fact that needs one only; None for a fact that is not shown."""
    match fact:
        case events.Transcribed():
            words = f"{one_line(fact.attachment, 100)}: {one_line(fact.text, LONG)}"
            return Line("written down  ", words, sign_style="bold")
        case events.PlanReused():
            return Line("", one_line(fact.reason, LONG), "dim")
        case events.ReuseDeclined():
            words = f"the plan of run {fact.earlier} is not used again: {one_line(fact.reason, LONG)}"
            return Line("", words, "dim")
        case events.PlanApproved():
            return Line("plan  ", "approved", "dim", "bold")
        case events.RevisionDeclined():
            return Line("plan kept  ", one_line(fact.reason, LONG), "dim", "dim")
        case events.SubtaskStarted():
            again = f" (attempt {fact.attempt})" if fact.attempt > 1 else ""
            return Line("● ", f"{fact.subtask}{again} · {one_line(fact.title, LONG)}", sign_style="cyan")
        case events.SubtaskFailed():
            then = "" if fact.final else ", trying again"
            words = f"{fact.subtask} failed (attempt {fact.attempt}{then}): {one_line(fact.reason, LONG)}"
            return Line("✗ ", words, sign_style="bold red" if fact.final else "yellow")
        case events.ResultJudged(good=False):
            words = f"{one_line(fact.subtask, 60)}: not good: {one_line(fact.reason, LONG)}"
            return Line("judge  ", words, sign_style="yellow")
        case events.SubtaskSkipped():
            return Line("– ", f"{fact.subtask} skipped: {one_line(fact.reason, LONG)}", "dim", "dim")
        case events.SubtasksReopened():
            words = f"{one_line(', '.join(fact.subtasks), LONG)}: {one_line(fact.reason, LONG)}"
            return Line("again  ", words, sign_style="bold")
        case events.LateResult():
            return Line("– ", f"late result of {fact.result.subtask}, not used", "dim", "dim")
        case events.SubtaskWaiting():
            return Line("? ", f"{fact.subtask} waits for you ({fact.approval})", "dim", "magenta")
        case events.ApprovalGiven():
            answered = fact.decision == "answered"
            decision = f"answered: {value_text(fact.value)}" if answered else fact.decision
            remark = f", because {one_line(fact.remark, LONG)}" if fact.remark else ""
            whose = ANSWERED_BY[fact.by]
            return Line("  ", f"{fact.id} {one_line(decision, LONG)}{remark}{whose}", "dim")
        case events.Remarked():
            return Line("you  ", one_line(fact.text, LONG), sign_style="bold magenta")
        case events.EffectBegun():
            words = f"{one_line(fact.subtask, 60)} begins: {one_line(fact.what, LONG)}"
            return Line("effect  ", words, "dim", "dim")
        case events.EffectEnded(ok=False):
            words = f"failed: {one_line(value_text(fact.outcome), LONG)}"
            return Line("effect  ", words, sign_style="yellow")
        case events.ToolNeeded():
            asked = "the plan" if fact.asked_by == "plan" else one_line(fact.asked_by, 40)
            does_not = f"{one_line(fact.tool, 60)} does not exist yet"
            return _of_tool(f"{does_not}, {asked} asks for it: {one_line(fact.purpose, LONG)}")
        case events.ToolReused():
            served = f" instead of {one_line(fact.instead_of, 60)}" if fact.instead_of else ""
            tool = one_line(fact.tool, 60)
            return _of_tool(f"{tool} reused from the library{served}, version {fact.version}")
        case events.FunctionRepeated():
            return _of_tool(f"would serve: {one_line(fact.function, 60)} was written a third time")
        case events.AgentStepped() if fact.thought.strip():
            sign = f"  {fact.subtask} {fact.step}: "
            return Line(sign, one_line(fact.thought, LONG), "italic", "dim")
        case events.ToolCalled():
            arguments = ", ".join(f"{k}={one_line(repr(value), 60)}" for k, value in fact.arguments.items())
            verdict = "→" if fact.ok else "failed:"
            words = one_line(f"{fact.tool}({arguments}) {verdict} {fact.outcome}", LONG)
            return Line(f"  {fact.subtask} called ", words, sign_style="dim")
        case events.Spent():
            subject = f" for {one_line(fact.subtask, 40)}" if fact.subtask else ""
            who = f"{one_line(fact.role, 40)}{subject}, {one_line(fact.model, 60)}"
            tokens = counted(fact.prompt_tokens + fact.completion_tokens, "token")
            tokens += f" ({fact.cached_tokens:,} cached)" if fact.cached_tokens else ""
            cost = "unpriced" if fact.cost is None else f"${fact.cost:.4f}"
            came_to = one_line(fact.fault, LONG) if fact.fault else f"{tokens} · {cost}"
            call = "model call" + (" stopped" if fact.stopped else " failed" if fact.fault else "")
            return Line("  ", f"{call}: {who} · {duration(fact.seconds)} · {came_to}", "dim")
        case events.Noticed():
            return Line("note  ", one_line(fact.message, NOTICE), sign_style="yellow")
        case events.RunPaused():
            words = f"{counted(len(fact.approvals), 'question')} open: {', '.join(fact.approvals)}"
            return Line("paused  ", words, sign_style="bold magenta")
        case events.FlowStarted() if fact.url:
            return Line("watch  ", one_line(fact.url), "dim", "dim")
    return None


@_lines.register
def _recalled(fact: events.Recalled) -> list[Line]:
    parts = [counted(len(fact.runs), "earlier run")] if fact.runs else []
    parts += [counted(len(fact.tools), "tool")] if fact.tools else []
    parts += [f"{counted(len(fact.facts), 'fact')} about you"] if fact.facts else []
    said = len(fact.findings)
    parts += [f"{counted(said, 'exchange')} of other conversations and runs"] if said else []
    lines = [Line("", f"recalled {listed(parts)}", "dim")] if parts else []
    kept = sum(one.use == "withheld" for one in fact.used)
    note = f"{counted(kept, 'earlier run')} kept from the planner: what is said there may come from the web"
    return [*lines, Line("", note, "dim")] if kept else lines


# --- the plan


@_lines.register
def _plan_proposed(fact: events.PlanProposed) -> list[Line]:
    head = f"{counted(len(fact.plan.subtasks), 'subtask')} for: {one_line(fact.plan.goal, LONG)}"
    return [Line("plan  ", head, sign_style="bold"), *graph_lines(plan_lines(fact.plan))]


def graph_lines(lines: list[str]) -> list[Line]:
    """Lines of `plan_lines`, indented, with the drawing as the sign."""
    drawn = [len(line) - len(line[7:].lstrip()) for line in lines]
    return [
        Line(f"  {line[:end]}", line[end:], sign_style="cyan") for line, end in zip(lines, drawn, strict=True)
    ]


@_lines.register
def _plan_repaired(fact: events.PlanRepaired) -> list[Line]:
    head = Line("", f"{fact.what} set right:", "dim")
    return [head, *(Line("  - ", one_line(repair, LONG), "dim", "dim") for repair in fact.repairs)]


@_lines.register
def _plan_refused(fact: events.PlanRefused) -> list[Line]:
    head = Line("", f"{fact.what} sent back, round {fact.round}:", "yellow")
    return [head, *(Line("  - ", one_line(fault, LONG)) for fault in fact.faults)]


def _plan_revised(fact: events.PlanRevised, before: Plan | None) -> list[Line]:
    changes = plan_diff(before, fact.plan) if before is not None else patch_lines(fact.patch)
    return [
        Line(f"plan {fact.plan.version}  ", one_line(fact.patch.reason, LONG), sign_style="bold yellow"),
        Line("  because: ", one_line(fact.cause, LONG), "dim", "dim"),
        *_diff_lines(changes),
    ]


def _diff_lines(changes: list[str]) -> Iterator[Line]:
    styles = {"+": "green", "!": "yellow", "-": "red"}
    return (Line(f"  {line[:2]}", line[2:], sign_style=styles[line[0]]) for line in changes)


# --- subtasks


@_lines.register
def _subtask_finished(fact: events.SubtaskFinished) -> list[Line]:
    summary = f" · {one_line(fact.result.summary, LONG)}" if fact.result.summary.strip() else ""
    lines = [Line("✓ ", f"{fact.subtask} · {duration(fact.seconds)}{summary}", sign_style="green")]
    if fact.result.surprise:
        lines.append(Line("  surprise: ", one_line(fact.result.surprise, LONG), sign_style="yellow"))
    return lines


@_lines.register
def _files_changed(fact: events.FilesChanged) -> list[Line]:
    return [_change_line(change, f" · {fact.subtask}") for change in fact.changes]


@_lines.register
def _run_undone(fact: events.RunUndone) -> list[Line]:
    state = f"just after {one_line(fact.to, 40)}" if fact.to else "before the run"
    head = Line("undo  ", f"the workspace is as {state}", sign_style="bold")
    return [head, *(_change_line(change, "") for change in fact.changes)]


def _change_line(change: events.FileChange, whose: str) -> Line:
    styles = {"created": "green", "modified": "yellow", "deleted": "red"}
    known = [size(count) for count in (change.before_size, change.after_size) if count is not None]
    sizes = f" ({' → '.join(known)})" if known else ""
    return Line(
        f"  {change.change} ", f"{file_name(change.path)}{sizes}{whose}", sign_style=styles[change.change]
    )


# --- people


@_lines.register
def _approval_asked(fact: events.ApprovalAsked) -> list[Line]:
    details = fact.details
    if fact.what == "plan" and details.startswith("#"):
        # The plan has just been shown; only its faults are left to show.
        details = "\n".join(line[2:] for line in details.split("\n") if line.startswith("# - "))
    is_diff = fact.what in ("writes", "executes")
    styles = {"+": "green", "-": "red"} if is_diff else {}
    default = "dim" if is_diff else ""
    lines = [
        Line("    ", line, styles.get(line[:1], default), "dim") for line in _shown(details, DETAIL_LINES)
    ]
    # Not cut: it names what a yes allows.
    asked = Line("? ", f"{one_line(fact.question)} ({fact.id})", sign_style="bold magenta")
    return [*lines, asked, *(Line("    ", choice) for choice in numbered(choices(fact.result)))]


# --- tools


@_lines.register
def _tool_tried(fact: events.ToolTried) -> list[Line]:
    """Passed cases are counted here and listed in the log; failed ones are shown."""
    verdict = "passed" if fact.passed else "failed"
    failures = [result for result in fact.results if not result.startswith("passed: ")]
    head = f"{one_line(fact.tool, 60)} tried, round {fact.round}: {verdict}"
    if passed := len(fact.results) - len(failures):
        head = f"{head} ({passed} of {len(fact.results)} hold)"
    style = "green" if fact.passed else "yellow"
    return [_of_tool(head), *(Line("  - ", one_line(result, LONG), sign_style=style) for result in failures)]


@_lines.register
def _tool_built(fact: events.ToolBuilt) -> list[Line]:
    head = f"{one_line(fact.tool, 60)} built, version {fact.version}: {one_line(fact.purpose, LONG)}"
    functions = [
        Line("  ", one_line(call_form(function.name, function.signature), LONG), "dim")
        for function in fact.functions
    ]
    return [_of_tool(head), *functions, Line("  may: ", one_line(fact.permissions, LONG), "dim", "dim")]


@_lines.register
def _tool_refused(fact: events.ToolRefused) -> list[Line]:
    reasons = [Line("  - ", one_line(reason, LONG), sign_style="red") for reason in fact.reasons]
    return [Line("✗ ", f"tool {one_line(fact.tool, 60)} refused", sign_style="bold red"), *reasons]


def _of_tool(text: str) -> Line:
    return Line("tool  ", text, sign_style="magenta")


# --- details


@_lines.register
def _code_ran(fact: events.CodeRan) -> list[Line]:
    lines = [Line(f"  {fact.subtask} {fact.step} | ", line, "", "dim") for line in _shown(fact.code)]
    lines += [Line("    > ", line, "dim", "dim") for line in _shown(fact.output)]
    if fact.error is not None:
        lines.append(Line("    ✗ ", one_line(fact.error, LONG), sign_style="yellow"))
    return lines


def _shown(text: str, most: int = 20) -> list[str]:
    """At most `most` lines of a text: its start, its end, and how many are left out between them."""
    lines = clean(text).expandtabs(4).strip("\n").split("\n") if text.strip() else []
    lines = [truncate(line, LONG) for line in lines]
    if len(lines) <= most:
        return lines
    head, tail = most * 3 // 5, most * 2 // 5
    left_out = f"… {counted(len(lines) - head - tail, 'more line')} …"
    return [*lines[:head], left_out, *lines[-tail:]]


# --- the run


def _run_resumed(event: Event, fact: events.RunResumed, before: RunState) -> list[Line]:
    done = sum(state == "done" for state in before.states.values())
    planned = len(before.plan.subtasks) if before.has_plan else 0
    how_far = f"{done} of {counted(planned, 'subtask')} done" if planned else "nothing done yet"
    limits = "".join(f" · {name} {one_line(str(value), 40)}" for name, value in fact.limits.items())
    where = f"run {short_run(event.run)} in {one_line(before.workspace)}{_found(fact.found)}"
    return [
        *_warning(fact.sandbox),
        Line("", where, "dim"),
        *_guidance(fact.guidance),
        Line("resumed  ", f"{how_far}{limits}", sign_style="bold"),
    ]


def file_lines(state: RunState, here: Path, hint: Callable[[str], str] = str) -> list[Line]:
    """The files that a run has made, changed or deleted, each with its whole path; none if there are none.

    `here`: the current folder, in which the commands that are named have to work. `hint` makes a hint at
    commands what can be typed here.
    """
    root, changes = state.workspace.rstrip("/"), list(state.changes.values())
    whole = [one.model_copy(update={"path": f"{root}/{one.path}"}) for one in changes[:MOST_FILES]]
    lines = [_change_line(one, "") for one in whole]
    if (left := len(changes) - len(whole)) > 0:
        lines.append(Line("", f"  … and {left:,} more files", "dim"))
    if lines:
        there = in_folder(root or "/", here)
        # What is copied has no full stop.
        for what, command in (("See the changes", "diff"), ("Take them back", "undo")):
            lines.append(Line("", hint(f"  {what}: orch {command} last{there}"), "dim"))
    return lines


def in_folder(workspace: str, here: Path) -> str:
    """The option that a command needs to be about a workspace; empty if that is the current folder."""
    if Path(workspace) == here:
        return ""
    inside = Path(workspace).is_relative_to(here)
    return f" -C {file_name(shlex.quote(str(Path(workspace).relative_to(here)) if inside else workspace))}"


def _run_finished(fact: events.RunFinished, before: RunState) -> list[Line]:
    words, style = OUTCOMES[fact.outcome]
    lines = [Line(f"{words}  ", f"{duration(fact.seconds)} · {spent(fact.usage)}", sign_style=style)]
    if before.workspace:
        lines.append(Line("log    ", f"{one_line(before.workspace).rstrip('/')}/fileLog.md", "dim", "dim"))
    return lines
