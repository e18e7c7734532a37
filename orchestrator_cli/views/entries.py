"""The entry of `fileLog.md` for an event: a pure function from an event to Markdown, or to None.

Everything that a model or a program wrote passes through `markdown.py`, so that none of it becomes a
heading, a tag or another entry. Thoughts, pieces of the answer, the start of a subtask and the price of a
single call have no entry; the journal has them.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cache, singledispatch
from pathlib import Path
from typing import NamedTuple

import yaml

from orchestrator_cli import events
from orchestrator_cli.durable.lengths import length_text
from orchestrator_cli.events import Event
from orchestrator_cli.plan import Plan, Route, Subtask
from orchestrator_cli.values import ANSWERED_BY, Remembered
from orchestrator_cli.views.graph import patch_lines, plan_diff
from orchestrator_cli.views.markdown import bullets, code, fence, prose, said, table
from orchestrator_cli.views.text import (
    NO_SANDBOX,
    call_form,
    clean,
    duration,
    file_name,
    one_line,
    short_run,
    size,
    spent,
    value_text,
)

WHOLE = 60_000
"""Characters of a source, a prompt or an answer that are shown before it is cut."""


class _EntryText(NamedTuple):
    """A title and a body in Markdown. A title alone makes a single line."""

    title: str
    body: str = ""


def entry_for(event: Event, before: Plan | None = None) -> str | None:
    """The entry of an event without its seal; None for an event that has none.

    `before` is the plan that a revision changed. Without it the entry still names what was
    added, replaced and removed, but not the fields that were replaced.
    """
    if isinstance(event.data, events.RunStarted):
        return _section(event, event.data)
    if isinstance(event.data, events.RunResumed):
        return _resumption(event, event.data)
    if isinstance(event.data, events.PlanRevised):
        entry: _EntryText | None = _plan_revised(event.data, before)
    else:
        entry = _entry(event.data)
    if entry is None:
        return None
    origin = f"run {code(short_run(event.run))} · {_time(event)}"
    if not entry.body:
        return f"**{event.seq}** · {origin} · {entry.title}"
    return f"### {event.seq} · {entry.title}\n\n{origin}\n\n{entry.body}"


@cache
def form() -> str:
    """A hash of the code that words the entries, so equal for equal words. Empty if it cannot be read."""
    sources = (Path(__file__).with_name(f"{name}.py") for name in ("entries", "graph", "markdown", "text"))
    try:
        return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    except OSError:
        return ""


def plan_after(before: Plan | None, event: Event) -> Plan | None:
    """The plan that the next revision after this event changes."""
    match event.data:
        case events.PlanProposed(plan=plan) | events.PlanApproved(plan=plan) | events.PlanRevised(plan=plan):
            return plan
        case events.PlanRepaired(plan=Plan() as plan):
            return plan
        case events.RunFinished():
            return None
    return before


def _time(event: Event) -> str:
    return f"{event.time:%Y-%m-%d %H:%M:%S %Z}".rstrip()


def _section(event: Event, fact: events.RunStarted) -> str:
    models = ", ".join(f"{prose(role)} {code(model)}" for role, model in fact.models.items())
    about = [
        f"- workspace {code(fact.workspace)}",
        f"- models: {models or 'none'}",
        *_found(fact.found),
        _sandbox(fact.sandbox),
        f"- orch {code(fact.version)}",
    ]
    about += _given(fact.guidance)
    about += [
        f"- attached {code(one.name)}: {prose(one.line)}, SHA-256 {code(one.sha256)}, from {code(one.path)}"
        for one in fact.attachments
    ]
    if fact.occasion:
        about.append(f"- set off by {code(fact.occasion)}")
    if fact.forked_from:
        about.append(f"- goes on from the finished part of run {code(fact.forked_from)}")
    heading = f"## Run {prose(event.run)} — {_time(event)}"
    return "\n\n".join([heading, said(fact.prompt, WHOLE), "\n".join(about)])


def _found(model: str) -> list[str]:
    return [f"- no model is set; found {code(model)}"] if model else []


def _given(guidance: Sequence[str]) -> list[str]:
    return [f"- models are given {', '.join(map(code, guidance))}"] if guidance else []


def _sandbox(description: str) -> str:
    if not description.startswith(NO_SANDBOX):
        return f"- sandbox {code(description)}"
    return f"- **{NO_SANDBOX}**{prose(description.removeprefix(NO_SANDBOX))}"


def _resumption(event: Event, fact: events.RunResumed) -> str:
    """A heading of its own, because another process writes from here on."""
    about = [f"- {prose(name)} {code(str(value))}" for name, value in fact.limits.items()]
    heading = f"## Run {prose(event.run)} goes on — {_time(event)}"
    sandbox = [_sandbox(fact.sandbox)] if fact.sandbox else []
    lines = [*sandbox, *_found(fact.found), f"- orch {code(fact.version)}", *_given(fact.guidance), *about]
    return "\n\n".join([heading, "\n".join(lines)])


@singledispatch
def _entry(fact: events.Fact) -> _EntryText | None:
    match fact:
        case events.PlanReused():
            swapped = "\n".join(f"- {code(one.new)} for {code(one.old)}" for one in fact.swapped)
            return _EntryText(f"plan of run {code(fact.earlier)} used again: {prose(fact.reason)}", swapped)
        case events.FeedbackGiven():
            why = said(fact.why) if fact.why.strip() else ""
            return _EntryText(f"the user called the run {fact.vote}", why)
        case events.PlanRepaired():
            return _EntryText(f"{fact.what} set right", bullets(fact.repairs))
        case events.PlanRefused():
            return _EntryText(f"{fact.what} sent back, round {fact.round}", bullets(fact.faults))
        case events.FilesChanged() if fact.changes:
            title = f"files changed by {code(fact.subtask)}{_attempt(fact.attempt)}"
            return _EntryText(title, _change_table(fact.changes))
        case events.RunUndone():
            state = f"just after {code(fact.to)}" if fact.to else "before it"
            return _EntryText(f"run undone: the workspace is as {state}", _change_table(fact.changes))
        case events.SubtaskFailed():
            after = "for good" if fact.final else "to be tried again"
            title = f"{code(fact.subtask)} failed, attempt {fact.attempt}, {after}"
            return _EntryText(title, said(fact.reason))
        case events.Remarked():
            return _EntryText("the user said", said(fact.text))
        case events.ToolRefused():
            reasons = bullets(fact.reasons) or "- no reason given"
            return _EntryText(f"tool refused: {code(fact.tool)}", reasons)
    title = _title(fact)
    return _EntryText(title) if title else None


def _title(fact: events.Fact) -> str:  # noqa: C901 - a case for each kind
    """The whole entry of a fact that needs one line only; empty for a fact without an entry."""
    match fact:
        case events.ReuseDeclined():
            return f"plan of run {code(fact.earlier)} not used again: {prose(fact.reason)}"
        case events.RevisionDeclined():
            return f"plan kept: {prose(fact.reason)} (asked because: {prose(fact.cause)})"
        case events.FunctionRepeated():
            again = "the same function a third time in this run"
            return f"{code(fact.subtask)} wrote {code(fact.function)}, {again}"
        case events.ToolCalled():
            arguments = (f"{name}={one_line(repr(value), 60)}" for name, value in fact.arguments.items())
            call = code(f"{fact.tool}({', '.join(arguments)})")
            verdict = "gave" if fact.ok else "failed:"
            return f"{code(fact.subtask)} called {call}, which {verdict} {code(fact.outcome, 120)}"
        case events.ResultJudged():
            because = f": {prose(fact.reason)}" if fact.reason.strip() else ""
            verdict = "good" if fact.good else "not good"
            return f"result of {code(fact.subtask)}{_attempt(fact.attempt)} judged {verdict}{because}"
        case events.SubtaskSkipped():
            return f"{code(fact.subtask)} skipped: {prose(fact.reason)}"
        case events.SubtasksReopened():
            return f"done again: {', '.join(map(code, fact.subtasks))}, because {prose(fact.reason)}"
        case events.LateResult():
            return f"late result of {code(fact.result.subtask)}, not used: {prose(fact.result.summary)}"
        case events.SubtaskWaiting():
            return f"{code(fact.subtask)} waits for the answer to {code(fact.approval)}"
        case events.EffectBegun():
            begins = f"{code(fact.subtask)}{_attempt(fact.attempt)} begins, with key {code(fact.key)}"
            return f"{begins}: {prose(fact.what)}"
        case events.EffectEnded():
            verdict = "done" if fact.ok else "failed"
            return f"key {code(fact.key)} {verdict}: {code(value_text(fact.outcome))}"
        case events.ToolNeeded():
            return f"tool {code(fact.tool)} needed by {code(fact.asked_by)}: {prose(fact.purpose)}"
        case events.ToolReused():
            other = f" instead of {code(fact.instead_of)} ({prose(fact.reason)})" if fact.instead_of else ""
            which = f"version {fact.version}, {code(fact.sha256[:12])}"
            return f"tool {code(fact.tool)} reused{other}, {which}: {prose(fact.purpose)}"
        case events.Noticed():
            return f"note: {prose(fact.message)}"
        case events.RunPaused():
            return f"run paused until these are answered: {', '.join(map(code, fact.approvals))}"
        case events.FlowStarted():
            return f"Prefect flow run {code(fact.flow_run)}: {code(fact.url)}"
    return ""


@_entry.register
def _recalled(fact: events.Recalled) -> _EntryText | None:
    parts = [_remembered(one) for one in fact.used] or [prose(run, 200) for run in fact.runs]
    parts += [f"tool {code(tool)}" for tool in fact.tools]
    # Without the words: the log may be given to others.
    shown = ", ".join(
        f"{one.what} {code(one.id[:8])} ({one.score:.2f}, {prose(one.why, 80)})" for one in fact.shown
    )
    parts += [f"shown to the planner: {shown}"] if shown else []
    return _EntryText("recalled from memory", "\n".join(f"- {part}" for part in parts)) if parts else None


def _remembered(one: Remembered) -> str:
    if one.use == "withheld":
        return f"run {code(one.run)} was kept from the planner: what it says may come from the web"
    line = f"{one.use}: {prose(one.prompt, 200)} (run {code(one.run)})"
    return line + (f", because: {prose(one.reason, 200)}" if one.reason else "")


# --- the plan


@_entry.register
def _plan_proposed(fact: events.PlanProposed) -> _EntryText:
    return _EntryText(f"plan, version {fact.plan.version}", _plan(fact.plan))


def _plan(plan: Plan) -> str:
    rows = [
        (
            code(s.id),
            s.kind + (f" {code(s.role)}" if s.role else ""),
            prose(s.title, 200),
            ", ".join(map(code, s.depends_on)),
            ", ".join(map(code, s.tools)),
        )
        for s in plan.subtasks
    ]
    parts = [f"Goal: {prose(plan.goal)}"]
    if plan.why:
        parts.append(f"Why so: {prose(plan.why)}")
    parts.append(table(("subtask", "kind", "title", "depends_on", "tools"), rows))
    if routes := [route for s in plan.subtasks if (route := plan.route_of(s)) is not None]:
        parts.append("Who does it, and why:\n\n" + _routes(routes))
    if plan.new_tools:
        wanted = (f"- {code(tool.name)}: {prose(tool.purpose)}" for tool in plan.new_tools)
        parts.append("Tools to be built:\n\n" + "\n".join(wanted))
    parts.append(_details("What each subtask is asked", plan.subtasks))
    return "\n\n".join(parts)


def _routes(routes: Sequence[Route]) -> str:
    return "\n".join(
        f"- {code(r.subtask)}: {code(r.role)}"
        + (f" on {code(r.model)}" if r.model else "")
        + f", {prose(r.reason)}"
        for r in routes
    )


def _details(summary: str, subtasks: Sequence[Subtask]) -> str:
    """Subtasks with all their fields, in a closed fold."""
    rows = [s.model_dump(mode="json", exclude_defaults=True) for s in subtasks]
    text = yaml.safe_dump(rows, sort_keys=False, allow_unicode=True, width=100)
    return f"<details><summary>{summary}</summary>\n\n{fence(text, 'yaml', WHOLE)}\n\n</details>"


@_entry.register
def _plan_approved(fact: events.PlanApproved) -> _EntryText:
    if not fact.edited:
        return _EntryText(f"plan approved, version {fact.plan.version}")
    return _EntryText(f"plan edited by the user and approved, version {fact.plan.version}", _plan(fact.plan))


def _plan_revised(fact: events.PlanRevised, before: Plan | None) -> _EntryText:
    changes = plan_diff(before, fact.plan, WHOLE) if before is not None else patch_lines(fact.patch)
    reasons = [f"- reason: {prose(fact.patch.reason)}", f"- cause: {prose(fact.cause)}"]
    parts = ["\n".join(reasons), fence("\n".join(changes), "diff", WHOLE)]
    if changed := (*fact.patch.add, *fact.patch.replace):
        parts.append(_details("The subtasks as they are now", changed))
    if fact.patch.routes:
        parts.append("Who does it, and why:\n\n" + _routes(fact.patch.routes))
    title = f"plan revised, version {fact.patch.base_version} to {fact.plan.version}"
    return _EntryText(title, "\n\n".join(parts))


# --- subtasks


def _attempt(number: int) -> str:
    return f", attempt {number}" if number > 1 else ""


@_entry.register
def _code_ran(fact: events.CodeRan) -> _EntryText:
    parts = [fence(fact.code, "python", WHOLE)]
    if clean(fact.output).strip():
        parts += ["Output:", fence(fact.output, "text")]
    if fact.error is not None:
        parts += ["Error:", fence(fact.error, "text")]
    title = f"code run by {code(fact.subtask)}, step {fact.step}{_attempt(fact.attempt)}"
    return _EntryText(title + (", failed" if fact.error is not None else ""), "\n\n".join(parts))


def _change_table(changes: tuple[events.FileChange, ...]) -> str:
    rows = [
        (
            code(file_name(change.path), 1_000),
            change.change,
            f"{_version(change.before_size, change.before_sha256)} → "
            f"{_version(change.after_size, change.after_sha256)}",
        )
        for change in changes
    ]
    return table(("path", "change", "before → after"), rows)


def _version(count: int | None, sha256: str | None) -> str:
    parts = ([size(count)] if count is not None else []) + ([code(sha256[:12])] if sha256 else [])
    return " ".join(parts) or "none"


@_entry.register
def _subtask_finished(fact: events.SubtaskFinished) -> _EntryText:
    result = fact.result
    parts = [said(result.summary)] if result.summary.strip() else []
    if result.surprise:
        parts += ["Not as the plan expected:", said(result.surprise)]
    title = f"{code(fact.subtask)} finished in {duration(fact.seconds)}{_attempt(result.attempt)}"
    return _EntryText(title, "\n\n".join(parts))


# --- people


@_entry.register
def _approval_asked(fact: events.ApprovalAsked) -> _EntryText:
    parts = [said(fact.question)]
    if fact.details.strip():
        parts.append(fence(fact.details, "diff" if fact.what in ("writes", "executes") else "text", WHOLE))
    if fact.result is not None:
        parts += ["The answer has to fit:", fence(json.dumps(fact.result, ensure_ascii=False), "json")]
    if fact.deadline is not None:
        has_default = fact.deadline.default is not None and fact.subject
        in_words = "it gets its default answer" if has_default else "the run stops"
        then = in_words if fact.what == "question" else "the answer is no"
        parts.append(f"It waits {length_text(fact.deadline.within_s)} for a person; then {then}.")
    return _EntryText(
        f"asked about {fact.what}: {code(fact.subject)}, question {code(fact.id)}", "\n\n".join(parts)
    )


@_entry.register
def _approval_given(fact: events.ApprovalGiven) -> _EntryText:
    title = f"question {code(fact.id)}: {fact.decision}, by {ANSWERED_BY[fact.by]}"
    parts = [] if fact.decision != "answered" else [said(value_text(fact.value), WHOLE)]
    parts += ["Because:", said(fact.remark)] if fact.remark.strip() else []
    return _EntryText(title, "\n\n".join(parts))


# --- tools


@_entry.register
def _tool_tried(fact: events.ToolTried) -> _EntryText:
    """A round that passed is one line, because its results are in the entry of the built tool."""
    verdict = "passed" if fact.passed else "failed"
    title = f"tool {code(fact.tool)} tried, round {fact.round}: {verdict}"
    if fact.passed:
        return _EntryText(title)
    source = ["Source of this round:", fence(fact.source, "python", WHOLE)] if fact.source else []
    return _EntryText(title, "\n\n".join([bullets(fact.results), *source]))


@_entry.register
def _tool_built(fact: events.ToolBuilt) -> _EntryText:
    functions = [
        f"{code(call_form(function.name, function.signature), 500)}\n\n{said(function.doc)}"
        for function in fact.functions
    ]
    parts = [
        f"Purpose: {prose(fact.purpose)}",
        *functions,
        f"- permissions: {prose(fact.permissions)}\n- sha256 {code(fact.sha256)}",
        "Trial:",
        bullets(fact.trial) or "- no results",
        "<details><summary>Source</summary>",
        fence(fact.source, "python", WHOLE),
        "</details>",
    ]
    return _EntryText(f"tool built: {code(fact.tool)}, version {fact.version}", "\n\n".join(parts))


# --- the run


@_entry.register
def _transcribed(fact: events.Transcribed) -> _EntryText:
    return _EntryText(f"recording {code(fact.attachment)} written down", said(fact.text))


@_entry.register
def _run_finished(fact: events.RunFinished) -> _EntryText:
    about = [f"- {duration(fact.seconds)} · {spent(fact.usage)} · exit code {fact.exit_code}"]
    if fact.files:
        about.append("- files: " + ", ".join(code(file_name(path), 1_000) for path in fact.files))
    parts = ["\n".join(about)]
    if fact.error:
        parts += ["Error:", said(fact.error)]
    if fact.answer.strip():
        parts += ["Answer:", fence(fact.answer, "markdown", WHOLE)]
    return _EntryText(f"run {fact.outcome}", "\n\n".join(parts))
