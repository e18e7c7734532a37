"""A subtask on the run's side: permissions and checkout before an attempt; approval and commit after it."""

import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from memory.findings import concerning
from orchestrator_cli import events
from orchestrator_cli.approvals.broker import Question
from orchestrator_cli.approvals.effects import EffectCall, EffectOutcome
from orchestrator_cli.approvals.permissions import NotAllowed
from orchestrator_cli.approvals.questions import (
    allowed_to_execute,
    executes_questions,
    named_in_plan,
    writes_questions,
)
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.durable.encodings import not_kept
from orchestrator_cli.errors import WorkspaceFault, storage_faults
from orchestrator_cli.execution.attempt import (
    GIVEN,
    AttemptFailed,
    AttemptOutcome,
    AttemptSpec,
    CheckoutRef,
    EffectGrant,
    Host,
    HostTool,
    SubtaskTimedOut,
)
from orchestrator_cli.execution.processes import allow_process, check_program
from orchestrator_cli.execution.run import Run
from orchestrator_cli.models.model import Completion, ModelRequest, OnDelta
from orchestrator_cli.plan import READ_IMAGE, NewTool, Result, Subtask
from orchestrator_cli.planning.answer import summarise
from orchestrator_cli.planning.routing import chosen_model
from orchestrator_cli.recall.attachments import AGENT_CHARS, MAX_CHARS
from orchestrator_cli.recall.instructions import fitting
from orchestrator_cli.settings import Settings
from orchestrator_cli.state.run_state import OVER
from orchestrator_cli.tools.files import FILE_TOOLS
from orchestrator_cli.workspace import Checkout
from toolsmith.built import BuiltTool
from toolsmith.library.status import Judgement
from toolsmith.permissions import Permissions


def run_subtask(
    run: Run,
    subtask: Subtask,
    *,
    attempt: int,
    plan_version: int,
    inputs: Mapping[str, JsonValue],
    failure: str,
) -> Result:
    """Make one attempt at a subtask and commit its changes.

    Args:
        inputs: its inputs with all references resolved.
        failure: why the attempt before this one failed; empty for the first.

    Raises `SubtaskTimedOut`, `Conflict`, `AttemptFailed`, `NotAllowed`, `ApprovalNeeded`, and the errors of
    models and tools; `StorageFault` instead of what the machine's storage caused.
    """
    started = time.monotonic()
    run.workspace.check()  # programs and servers are given its path
    run.gate.network_for(subtask)
    if run.registry.servers is not None:
        run.registry.servers.allow(subtask, run.effects, run.workspace.written)
    if subtask.kind == "process":
        allow_process(run, subtask)
    spec = AttemptSpec(
        run=run.id,
        subtask=subtask,
        attempt=attempt,
        plan_version=plan_version,
        inputs=dict(inputs),
        failure=failure,
        max_steps=run.settings.max_steps,
        allow_protected=run.settings.allow_protected,
        process=run.settings.processes.get(subtask.process or ""),
        **_agent(run, subtask),
    )
    if spec.writes_code:
        spec = spec.model_copy(update={"packages": run.gate.packages_for(subtask)})
    seconds = time_limit(subtask, run.settings)
    timed_out = f"took longer than its {seconds:g} s"
    with run.cancellation.limited(seconds, lambda: SubtaskTimedOut(timed_out)) as cancellation:
        if subtask.kind in ("answer", "human"):
            result = _result(run, spec, attempt_value(run, spec, None, cancellation), ())
        else:
            with storage_faults(), run.workspace.checkout(subtask.id, attempt) as checkout:
                result = _on(run, spec, checkout, cancellation)
    run.emit(events.SubtaskFinished(subtask=subtask.id, result=result, seconds=time.monotonic() - started))
    return result


def _on(run: Run, spec: AttemptSpec, checkout: Checkout, cancellation: Cancellation) -> Result:
    """An attempt on a checkout, committed."""
    ref = ref_of(checkout, run.workspace.root)
    if spec.process is not None:
        check_program(run, spec.process)
    spec = spec.model_copy(update={"checkout": ref, **_tools(run, spec)})
    # While what the attempt wrote still takes the space that it took.
    with storage_faults(checkout.folder, run.workspace.root, run.settings.home):
        outcome = attempt_value(run, spec, checkout, cancellation)
        cancellation.check()
    changed = checkout.changed_paths()
    if why := not_kept(changed):
        raise WorkspaceFault(why)  # no event can name them
    result = _result(run, spec, outcome, tuple(checkout.written_paths(changed)))
    approved = _ask_for_executed(run, checkout, result)
    _ask_for_writes(run, checkout, result.subtask, changed)
    if changed:
        # After a kill, this and the record of the commit say what was done.
        run.emit(events.SubtaskAccepted(subtask=result.subtask, result=result))
    _commit(run, checkout, result, approved)
    return result


def ref_of(checkout: Checkout, workspace: Path | None = None) -> CheckoutRef:
    return CheckoutRef(
        folder=checkout.folder, root=checkout.root, workspace=workspace, entrance=checkout.entrance
    )


def attempt_value(
    run: Run, spec: AttemptSpec, checkout: Checkout | None, cancellation: Cancellation
) -> AttemptOutcome:
    """Have the attempt made. Raises what it failed with."""
    services = RunServices(run, spec, checkout, cancellation)
    outcome = run.make_attempt(spec, services, Host(run.backend, run.gate.dialer, cancellation))
    if outcome.error is not None:
        raise outcome.error.error()
    return outcome


def time_limit(subtask: Subtask, settings: Settings) -> float:
    """The seconds of one attempt: for a process, those that the user has set for it."""
    process = settings.processes.get(subtask.process or "") if subtask.kind == "process" else None
    return process.timeout_s if process is not None and process.timeout_s else subtask.timeout_s


def _agent(run: Run, subtask: Subtask) -> dict[str, Any]:
    """The role of an agent, with the model that was chosen for it, and what it and a process are given."""
    if subtask.kind == "process":
        return {"surroundings": run.surroundings}
    role = run.roles.get(subtask.role or "")
    if role is None or subtask.kind != "agent":
        return {}
    images = {one.name for one in run.state.attachments if one.kind == "image"} & {*subtask.attachments}
    model = chosen_model(run.state.plan, subtask, run.alternatives)
    if model and (not images or run.sees(model)):
        role = role.model_copy(update={"model": model})
    name = role.model or run.model_names["agent"]
    sees = bool(run.sees(name))
    if images and not sees:
        raise AttemptFailed(
            f"{', '.join(sorted(images))}: the model of {role.name}, {name}, does not see images"
        )
    context = run.source.context_tokens(name) or run.settings.context_tokens
    return {
        "sees": sees,
        "attached": run.attached(name, _text_chars(context), subtask.attachments),
        "role": role,
        "surroundings": run.surroundings,
        "guidance": fitting(run.guidance, context),
        "known": concerning(run.state.shown, f"{subtask.title}.\n{subtask.instruction}"),
        "skills": run.skills,
        "context_tokens": context,
    }


def _text_chars(context_tokens: int | None) -> int:
    """How much text of attachments an agent is shown: what is left is for its work."""
    return AGENT_CHARS if context_tokens is None else min(MAX_CHARS, context_tokens)


def _tools(run: Run, spec: AttemptSpec) -> dict[str, object]:
    """What the attempt is given of the tools that the subtask names."""
    names, registry = spec.subtask.tools, run.registry
    if spec.subtask.kind == "agent":
        names = (*names, *GIVEN)
    hosted = registry.hosted(spec.subtask, spec.attempt, run.effects, run.cancellation)
    ours = {*hosted, *FILE_TOOLS, READ_IMAGE}
    others = [name for name in spec.subtask.tools if name not in ours]
    built = {name: registry.built(name) for name in others}
    return {
        "tools": tuple(tool for tool in built.values() if tool is not None),
        "unusable": {
            name: registry.built_tools.stopped(name) or f"there is no tool {name}"
            for name, tool in built.items()
            if tool is None
        },
        "host_tools": tuple(
            HostTool(name=name, form=_form(function) if spec.subtask.kind == "agent" else {})
            for name, function in hosted.items()
            if name in names
        ),
    }


def _form(function: object) -> dict[str, object]:
    from orchestrator_cli.execution.agent_tools import form_of  # smolagents, for agents only

    return form_of(function)  # type: ignore[arg-type]


def _result(run: Run, spec: AttemptSpec, outcome: AttemptOutcome, files: tuple[str, ...]) -> Result:
    value = run.masks(outcome.value)
    return Result(
        subtask=spec.subtask.id,
        attempt=spec.attempt,
        plan_version=spec.plan_version,
        value=value,
        summary=summarise(value),
        files=files,
        surprise=run.masks(outcome.surprise),
        usage=outcome.usage,
    )


def _ask_for_executed(run: Run, checkout: Checkout, result: Result) -> frozenset[str]:
    """Ask before files change that are executed or obeyed later; returns what is allowed.

    Raises `NotAllowed` and `ApprovalNeeded`.
    """
    from orchestrator_cli.workspace.diff import pending_diffs

    executed = run.workspace.executed(checkout)
    allowed = allowed_to_execute(run.state.asked, run.state.given)
    open_ones = [one for one in executed if one.root not in allowed]
    if open_ones:
        plan = [one for one in run.state.plan.subtasks if run.state.state_of(one.id) not in OVER]
        named = {root: why for root, why in named_in_plan(plan).items() if root not in allowed}
        paths = {path for one in open_ones for path in one.paths}
        with run.workspace.tree() as tree:
            diffs = pending_diffs(checkout, tree, paths, run.cancellation)
        questions = executes_questions(result.subtask, open_ones, named, diffs)
        # One that another subtask waits for may be about the same files.
        waiting = [one for one in run.broker.open if one.what == "executes"]
        roots = {one.root for one in open_ones}
        same = [
            next((one for one in waiting if roots.intersection(question.items) <= {*one.items}), question)
            for question in questions
        ]
        _ask_all(run, list({one.id: one for one in same}.values()), f"change {', '.join(sorted(roots))}")
    return frozenset(one.root for one in executed)


def _ask_for_writes(run: Run, checkout: Checkout, subtask: str, changed: Sequence[str]) -> None:
    """Show the person what would be committed, if they want that. Raises `NotAllowed`."""
    from orchestrator_cli.workspace.diff import pending_diffs

    if run.broker.needs("writes") and changed:
        with run.workspace.tree() as tree:
            diffs = pending_diffs(checkout, tree, cancellation=run.cancellation)
        _ask_all(run, writes_questions(subtask, changed, diffs), "change files")


def _ask_all(run: Run, questions: Sequence[Question], what: str) -> None:
    """Wait until all are answered with yes. Raises `NotAllowed` and `ApprovalNeeded`."""
    # If no person is attached, all of them have to be open before the run pauses.
    first = [] if run.broker.attended else [run.broker.request(question) for question in questions]
    answers = chain(filter(None, first), (run.broker.ask(one, run.cancellation) for one in questions))
    # The time in which a person thinks is not the attempt's: this waits through the run's own end only.
    refused = next((given for given in answers if given.decision == "no"), None)
    if refused is not None:
        if not run.broker.attended:
            for question in questions:
                run.broker.withdraw(question)
        raise NotAllowed(f"the user did not allow it to {what}{refused.reason}")


def _commit(run: Run, checkout: Checkout, result: Result, approved: Container[str]) -> None:
    for name in checkout.refused_paths():
        run.notice(f"{result.subtask} wrote {name}, which no subtask may change; it was not kept")
    changes = checkout.commit(approved)
    if changes:
        run.emit(events.FilesChanged(subtask=result.subtask, attempt=result.attempt, changes=changes))


@dataclass(frozen=True)
class RunServices:
    """What an attempt asks of its run, answered by the run's process: `AttemptServices`."""

    run: Run
    spec: AttemptSpec
    checkout: Checkout | None
    cancellation: Cancellation
    """That of the attempt."""

    def complete(
        self, request: ModelRequest, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Completion:
        return self.run.model.complete(request, on_delta, cancellation or self.cancellation)

    def ask(self, question: Question) -> events.ApprovalGiven:
        return self.run.broker.ask(question, self.cancellation)

    def emit(self, fact: events.Fact) -> None:
        self.run.emit(fact)
        if isinstance(fact, events.CodeRan):
            for repeated in self.run.duplicates.note(fact):
                self.run.emit(repeated)

    def changed_files(self) -> list[str]:
        return self.checkout.changed_paths() if self.checkout is not None else []

    def written_files(self) -> list[str]:
        return self.checkout.written_paths() if self.checkout is not None else []

    def check_room(self) -> None:
        if self.checkout is not None:
            self.run.workspace.check_room(self.checkout)

    def call_tool(self, name: str, arguments: dict[str, JsonValue]) -> JsonValue:
        if all(tool.name != name for tool in self.spec.host_tools):
            raise ValueError(f"{name!r} is not a tool of this attempt.")
        value: JsonValue = self._hosted[name](**arguments)
        return value

    @cached_property
    def _hosted(self) -> Mapping[str, Callable[..., Any]]:
        """Made once for an attempt, because what a search finds counts in later calls."""
        run = self.run
        return run.registry.hosted(self.spec.subtask, self.spec.attempt, run.effects, self.cancellation)

    def request_tool(self, tool: NewTool) -> BuiltTool:
        subtask = self.spec.subtask
        return self.run.registry.ensure(
            tool, asked_by=subtask.id, context=subtask.instruction, cancellation=self.cancellation
        )

    def permit_tool(self, tool: BuiltTool) -> Permissions:
        return self.run.registry.permit(tool, self.cancellation)

    def stopped_tool(self, name: str, version: int) -> str:
        return self.run.registry.built_tools.stopped(name, version)

    def note_use(self, tool: BuiltTool, judgement: Judgement, seconds: float) -> None:
        self.run.registry.built_tools.note_use(tool, judgement, seconds)

    def begin_effect(self, call: EffectCall) -> EffectGrant:
        begun = self.run.effects.begin(call)
        return EffectGrant(key=begun) if isinstance(begun, str) else EffectGrant(value=begun.value)

    def end_effect(self, key: str, ok: bool, outcome: EffectOutcome | None) -> None:
        self.run.effects.end(key, ok, outcome)
