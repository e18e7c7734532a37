"""What `fileLog.md` says about an event: a pure function from an event to Markdown, or to nothing.

Everything that a model or a program wrote passes through `markdown.py`, so that no text of
theirs becomes a heading, a tag or a further entry. Thoughts, pieces of the answer, the start
of a subtask and the price of a single call get no entry: the journal has them.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cache, singledispatch
from pathlib import Path
from typing import NamedTuple

import yaml

from orchestrator_cli import events
from orchestrator_cli.events import Event
from orchestrator_cli.plan import Plan, Route, Subtask
from orchestrator_cli.views.graph import patch_lines, plan_diff
from orchestrator_cli.views.markdown import bullets, code, fence, prose, said, table
from orchestrator_cli.views.text import (
    NO_SANDBOX,
    call_form,
    clean,
    duration,
    one_line,
    short_run,
    size,
    spent,
    value_text,
)

WHOLE = 60_000
"""Characters of a source, a prompt or an answer that are shown before it is cut."""


class Entry(NamedTuple):
    """One entry: a title alone makes a single line."""

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
        return _resumed(event, event.data)
    if isinstance(event.data, events.PlanRevised):
        entry = _plan_revised(event.data, before)
    else:
        found = _entry(event.data)
        if found is None:
            return None
        entry = found
    origin = f"run {code(short_run(event.run))} · {_time(event)}"
    if not entry.body:
        return f"**{event.seq}** · {origin} · {entry.title}"
    return f"### {event.seq} · {entry.title}\n\n{origin}\n\n{entry.body}"


@cache
def form() -> str:
    """By what the words of an entry are the same: the code that makes them; empty where it cannot be read."""
    sources = (Path(__file__).with_name(f"{name}.py") for name in ("entries", "graph", "markdown", "text"))
    try:
        return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    except OSError:
        return ""


def plan_after(before: Plan | None, event: Event) -> Plan | None:
    """The plan that a revision after this event changes."""
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
        _sandbox(fact.sandbox),
        f"- orch {code(fact.version)}",
    ]
    if fact.forked_from:
        about.append(f"- goes on from the finished part of run {code(fact.forked_from)}")
    heading = f"## Run {prose(event.run)} — {_time(event)}"
    return "\n\n".join([heading, said(fact.prompt, WHOLE), "\n".join(about)])


def _sandbox(told: str) -> str:
    if not told.startswith(NO_SANDBOX):
        return f"- sandbox {code(told)}"
    return f"- **{NO_SANDBOX}**{prose(told.removeprefix(NO_SANDBOX))}"


def _resumed(event: Event, fact: events.RunResumed) -> str:
    """A heading of its own: from here on, another process wrote."""
    about = [f"- {prose(name)} {code(str(value))}" for name, value in fact.limits.items()]
    heading = f"## Run {prose(event.run)} goes on — {_time(event)}"
    sandbox = [_sandbox(fact.sandbox)] if fact.sandbox else []
    return "\n\n".join([heading, "\n".join([*sandbox, f"- orch {code(fact.version)}", *about])])


@singledispatch
def _entry(fact: events.Fact) -> Entry | None:  # noqa: ARG001 - the kinds that have no entry
    return None


@_entry.register
def _recalled(fact: events.Recalled) -> Entry | None:
    parts = [_remembered(one) for one in fact.used] or [prose(run, 200) for run in fact.runs]
    parts += [f"tool {code(tool)}" for tool in fact.tools]
    return Entry("recalled from memory", "\n".join(f"- {part}" for part in parts)) if parts else None


def _remembered(one: events.Remembered) -> str:
    if one.use == "withheld":
        return f"run {code(one.run)} was kept from the planner: what it says may come from the web"
    told = f"{one.use}: {prose(one.prompt, 200)} (run {code(one.run)})"
    return told + (f", because: {prose(one.reason, 200)}" if one.reason else "")


@_entry.register
def _plan_reused(fact: events.PlanReused) -> Entry:
    swapped = "\n".join(f"- {code(one.new)} for {code(one.old)}" for one in fact.swapped)
    return Entry(f"plan of run {code(fact.earlier)} used again: {prose(fact.reason)}", swapped)


@_entry.register
def _reuse_declined(fact: events.ReuseDeclined) -> Entry:
    return Entry(f"plan of run {code(fact.earlier)} not used again: {prose(fact.reason)}")


@_entry.register
def _feedback_given(fact: events.FeedbackGiven) -> Entry:
    return Entry(f"the user called the run {fact.vote}", said(fact.why) if fact.why.strip() else "")


# --- the plan


@_entry.register
def _plan_proposed(fact: events.PlanProposed) -> Entry:
    return Entry(f"plan, version {fact.plan.version}", _plan(fact.plan))


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
    """Subtasks with all their fields, folded away."""
    rows = [s.model_dump(mode="json", exclude_defaults=True) for s in subtasks]
    text = yaml.safe_dump(rows, sort_keys=False, allow_unicode=True, width=100)
    return f"<details><summary>{summary}</summary>\n\n{fence(text, 'yaml', WHOLE)}\n\n</details>"


@_entry.register
def _plan_approved(fact: events.PlanApproved) -> Entry:
    if not fact.edited:
        return Entry(f"plan approved, version {fact.plan.version}")
    return Entry(f"plan edited by the user and approved, version {fact.plan.version}", _plan(fact.plan))


@_entry.register
def _plan_repaired(fact: events.PlanRepaired) -> Entry:
    return Entry(f"{fact.what} set right", bullets(fact.repairs))


@_entry.register
def _plan_refused(fact: events.PlanRefused) -> Entry:
    return Entry(f"{fact.what} sent back, round {fact.round}", bullets(fact.faults))


def _plan_revised(fact: events.PlanRevised, before: Plan | None) -> Entry:
    changes = plan_diff(before, fact.plan, WHOLE) if before is not None else patch_lines(fact.patch)
    reasons = [f"- reason: {prose(fact.patch.reason)}", f"- cause: {prose(fact.cause)}"]
    parts = ["\n".join(reasons), fence("\n".join(changes), "diff", WHOLE)]
    if changed := (*fact.patch.add, *fact.patch.replace):
        parts.append(_details("The subtasks as they are now", changed))
    if fact.patch.routes:
        parts.append("Who does it, and why:\n\n" + _routes(fact.patch.routes))
    title = f"plan revised, version {fact.patch.base_version} to {fact.plan.version}"
    return Entry(title, "\n\n".join(parts))


@_entry.register
def _revision_declined(fact: events.RevisionDeclined) -> Entry:
    return Entry(f"plan kept: {prose(fact.reason)} (asked because: {prose(fact.cause)})")


# --- subtasks


def _attempt(number: int) -> str:
    return f", attempt {number}" if number > 1 else ""


@_entry.register
def _code_ran(fact: events.CodeRan) -> Entry:
    parts = [fence(fact.code, "python", WHOLE)]
    if clean(fact.output).strip():
        parts += ["Output:", fence(fact.output, "text")]
    if fact.error is not None:
        parts += ["Error:", fence(fact.error, "text")]
    title = f"code run by {code(fact.subtask)}, step {fact.step}{_attempt(fact.attempt)}"
    return Entry(title + (", failed" if fact.error is not None else ""), "\n\n".join(parts))


@_entry.register
def _function_repeated(fact: events.FunctionRepeated) -> Entry:
    return Entry(
        f"{code(fact.subtask)} wrote {code(fact.function)}, the same function a third time in this run"
    )


@_entry.register
def _tool_called(fact: events.ToolCalled) -> Entry:
    arguments = ", ".join(f"{name}={one_line(repr(value), 60)}" for name, value in fact.arguments.items())
    verdict = "gave" if fact.ok else "failed:"
    call = code(f"{fact.tool}({arguments})")
    return Entry(f"{code(fact.subtask)} called {call}, which {verdict} {code(fact.outcome, 120)}")


@_entry.register
def _files_changed(fact: events.FilesChanged) -> Entry | None:
    if not fact.changes:
        return None
    title = f"files changed by {code(fact.subtask)}{_attempt(fact.attempt)}"
    return Entry(title, _change_table(fact.changes))


@_entry.register
def _run_undone(fact: events.RunUndone) -> Entry:
    state = f"just after {code(fact.to)}" if fact.to else "before it"
    return Entry(f"run undone: the workspace is as {state}", _change_table(fact.changes))


def _change_table(changes: tuple[events.FileChange, ...]) -> str:
    rows = [
        (
            code(change.path, 1_000),
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
def _subtask_finished(fact: events.SubtaskFinished) -> Entry:
    result = fact.result
    parts = [said(result.summary)] if result.summary.strip() else []
    if result.surprise:
        parts += ["Not as the plan expected:", said(result.surprise)]
    title = f"{code(fact.subtask)} finished in {duration(fact.seconds)}{_attempt(result.attempt)}"
    return Entry(title, "\n\n".join(parts))


@_entry.register
def _subtask_failed(fact: events.SubtaskFailed) -> Entry:
    after = "for good" if fact.final else "to be tried again"
    return Entry(f"{code(fact.subtask)} failed, attempt {fact.attempt}, {after}", said(fact.reason))


@_entry.register
def _result_judged(fact: events.ResultJudged) -> Entry:
    verdict = "good" if fact.good else "not good"
    because = f": {prose(fact.reason)}" if fact.reason.strip() else ""
    return Entry(f"result of {code(fact.subtask)}{_attempt(fact.attempt)} judged {verdict}{because}")


@_entry.register
def _subtask_skipped(fact: events.SubtaskSkipped) -> Entry:
    return Entry(f"{code(fact.subtask)} skipped: {prose(fact.reason)}")


@_entry.register
def _late_result(fact: events.LateResult) -> Entry:
    return Entry(f"late result of {code(fact.result.subtask)}, not used: {prose(fact.result.summary)}")


# --- people


@_entry.register
def _approval_asked(fact: events.ApprovalAsked) -> Entry:
    parts = [said(fact.question)]
    if fact.details.strip():
        parts.append(fence(fact.details, "diff" if fact.what == "writes" else "text", WHOLE))
    if fact.result is not None:
        parts += ["The answer has to fit:", fence(json.dumps(fact.result, ensure_ascii=False), "json")]
    return Entry(
        f"asked about {fact.what}: {code(fact.subject)}, question {code(fact.id)}", "\n\n".join(parts)
    )


@_entry.register
def _approval_given(fact: events.ApprovalGiven) -> Entry:
    whose = {"user": "the user", "flag": "the flag -y", "settings": "the settings"}[fact.by]
    title = f"question {code(fact.id)}: {fact.decision}, by {whose}"
    parts = [] if fact.decision != "answered" else [said(value_text(fact.value), WHOLE)]
    parts += ["Because:", said(fact.remark)] if fact.remark.strip() else []
    return Entry(title, "\n\n".join(parts))


@_entry.register
def _remarked(fact: events.Remarked) -> Entry:
    return Entry("the user said", said(fact.text))


@_entry.register
def _subtask_waiting(fact: events.SubtaskWaiting) -> Entry:
    return Entry(f"{code(fact.subtask)} waits for the answer to {code(fact.approval)}")


@_entry.register
def _effect_begun(fact: events.EffectBegun) -> Entry:
    return Entry(
        f"{code(fact.subtask)}{_attempt(fact.attempt)} begins, with key {code(fact.key)}: {prose(fact.what)}"
    )


@_entry.register
def _effect_ended(fact: events.EffectEnded) -> Entry:
    verdict = "done" if fact.ok else "failed"
    return Entry(f"key {code(fact.key)} {verdict}: {code(value_text(fact.outcome))}")


# --- tools


@_entry.register
def _tool_needed(fact: events.ToolNeeded) -> Entry:
    return Entry(f"tool {code(fact.tool)} needed by {code(fact.asked_by)}: {prose(fact.purpose)}")


@_entry.register
def _tool_tried(fact: events.ToolTried) -> Entry:
    """A round that passed is a single line: the results follow with the built tool."""
    verdict = "passed" if fact.passed else "failed"
    title = f"tool {code(fact.tool)} tried, round {fact.round}: {verdict}"
    if fact.passed:
        return Entry(title)
    source = ["Source of this round:", fence(fact.source, "python", WHOLE)] if fact.source else []
    return Entry(title, "\n\n".join([bullets(fact.results), *source]))


@_entry.register
def _tool_built(fact: events.ToolBuilt) -> Entry:
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
    return Entry(f"tool built: {code(fact.tool)}, version {fact.version}", "\n\n".join(parts))


@_entry.register
def _tool_reused(fact: events.ToolReused) -> Entry:
    digest = code(fact.sha256[:12])
    served = f" instead of {code(fact.instead_of)} ({prose(fact.reason)})" if fact.instead_of else ""
    told = f"tool {code(fact.tool)} reused{served}, version {fact.version}, {digest}: {prose(fact.purpose)}"
    return Entry(told)


@_entry.register
def _tool_refused(fact: events.ToolRefused) -> Entry:
    return Entry(f"tool refused: {code(fact.tool)}", bullets(fact.reasons) or "- no reason given")


# --- the run


@_entry.register
def _noticed(fact: events.Noticed) -> Entry:
    return Entry(f"note: {prose(fact.message)}")


@_entry.register
def _run_paused(fact: events.RunPaused) -> Entry:
    return Entry(f"run paused until these are answered: {', '.join(map(code, fact.approvals))}")


@_entry.register
def _flow_started(fact: events.FlowStarted) -> Entry:
    return Entry(f"Prefect flow run {code(fact.flow_run)}: {code(fact.url)}")


@_entry.register
def _run_finished(fact: events.RunFinished) -> Entry:
    about = [f"- {duration(fact.seconds)} · {spent(fact.usage)} · exit code {fact.exit_code}"]
    if fact.files:
        about.append("- files: " + ", ".join(code(path, 1_000) for path in fact.files))
    parts = ["\n".join(about)]
    if fact.error:
        parts += ["Error:", said(fact.error)]
    if fact.answer.strip():
        parts += ["Answer:", fence(fact.answer, "markdown", WHOLE)]
    return Entry(f"run {fact.outcome}", "\n\n".join(parts))
