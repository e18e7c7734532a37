"""One attempt at one subtask: checkout, work, accept, commit; or fail and leave no trace."""

import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
from pydantic import JsonValue

from orchestrator_cli import events
from orchestrator_cli.approvals.questions import subtask_question, writes_question
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.execution.context import RunContext
from orchestrator_cli.plan import Result, Subtask
from orchestrator_cli.planning.answer import summarise
from orchestrator_cli.planning.expressions import ExpressionFailed, holds
from orchestrator_cli.planning.judge import judge
from orchestrator_cli.settings import Settings
from orchestrator_cli.usage import Usage
from orchestrator_cli.workspace import Checkout
from toolsmith.permissions import Permissions


class SubtaskTimedOut(TimeoutError):
    """An attempt took longer than its subtask allows. Prefect shows it as `TimedOut`."""


def run_subtask(
    context: RunContext,
    subtask: Subtask,
    *,
    attempt: int,
    plan_version: int,
    inputs: Mapping[str, JsonValue],
    failure: str,
) -> Result:
    """Do a subtask once and commit its changes.

    Args:
        inputs: its inputs with all references resolved.
        failure: why the attempt before this one failed; empty for the first.

    Raises `SubtaskTimedOut`, `Conflict`, `AttemptFailed`, `NotAllowed`, `ApprovalNeeded`, and the
    errors of models and tools.
    """
    started = time.monotonic()
    context.emit(
        events.SubtaskStarted(
            subtask=subtask.id, title=subtask.title, attempt=attempt, plan_version=plan_version
        )
    )
    context.gate.network_for(subtask)
    if context.toolbox.servers is not None:
        context.toolbox.servers.allow(subtask, context.effects, context.workspace.written)
    seconds = time_limit(subtask, context.settings)
    with context.cancellation.limited(seconds, lambda: SubtaskTimedOut(_too_long(seconds))) as cancellation:
        work = _Attempt(context, subtask, attempt, plan_version, inputs, failure, cancellation)
        result = work.do()
    context.emit(
        events.SubtaskFinished(subtask=subtask.id, result=result, seconds=time.monotonic() - started)
    )
    return result


def time_limit(subtask: Subtask, settings: Settings) -> float:
    """The seconds of one attempt: for a process, those that the user has set for it."""
    process = settings.processes.get(subtask.process or "") if subtask.kind == "process" else None
    return process.timeout_s if process is not None and process.timeout_s else subtask.timeout_s


class _Attempt:
    """The steps of one attempt, which share all of this."""

    def __init__(
        self,
        context: RunContext,
        subtask: Subtask,
        attempt: int,
        plan_version: int,
        inputs: Mapping[str, JsonValue],
        failure: str,
        cancellation: Cancellation,
    ) -> None:
        self.context = context
        self.subtask = subtask
        self.attempt = attempt
        self.plan_version = plan_version
        self.inputs = inputs
        self.failure = failure
        self.cancellation = cancellation
        self.judging = Usage()
        """What it cost to have the value judged."""

    def do(self) -> Result:
        if self.subtask.kind == "answer":
            return self._result(self.subtask.instruction, ())
        if self.subtask.kind == "human":
            return self._result(self._answered(), ())
        with self.context.workspace.checkout(self.subtask.id, self.attempt) as checkout:
            if self.subtask.kind == "process":
                value, surprise, usage = self._process(checkout), None, Usage()
            else:
                value, surprise, usage = self._work(checkout)
            self.cancellation.check()
            files = tuple(checkout.written_paths())
            result = self._result(value, files, surprise, usage + self.judging)
            self._ask_for_writes(checkout, result)
            self._commit(checkout, result)
            return result

    def _answered(self) -> JsonValue:
        """What the person said who was asked before this started."""
        question = subtask_question(self.subtask, self.inputs)
        return self.context.broker.ask(question, self.cancellation).value

    def _work(self, checkout: Checkout) -> tuple[JsonValue, str | None, Usage]:
        # smolagents takes half a second to import, and is not needed for a subtask of kind answer.
        from orchestrator_cli.execution import attempt as attempts
        from orchestrator_cli.execution.agents import run_agent

        executor, apart = self._sandbox(checkout), self._sandboxes_apart(checkout)
        attempt = attempts.Attempt(
            context=self.context,
            subtask=self.subtask,
            number=self.attempt,
            executor=executor,
            apart=apart,
            host_tools=self._host_tools(checkout),
            cancellation=self.cancellation,
            accept=lambda value: self._refusal(value, checkout),
        )
        with (
            executor,
            contextlib.closing(apart),
            self.cancellation.calling(executor.interrupt),
            self.cancellation.calling(apart.interrupt),
        ):
            try:
                if self.subtask.kind == "tool":
                    value = self._call(attempt)
                else:
                    role = self.context.roles[self.subtask.role or ""]
                    if model := self.context.model_of(self.subtask):
                        role = role.model_copy(update={"model": model})
                    value = run_agent(attempt, role, self.inputs, self.failure)
            except Exception:
                # The sandbox was ended by the time limit or Ctrl-C: that is the reason, not its echo.
                self.cancellation.check()
                raise
        return value, "\n".join(attempt.surprises) or None, attempt.usage

    def _host_tools(self, checkout: Checkout) -> dict[str, Any]:
        toolbox = self.context.toolbox
        found: dict[str, Any] = toolbox.host_tools(checkout.root, self.subtask.network)
        if toolbox.servers is None:
            return found
        effects, cancellation = self.context.effects, self.cancellation
        return found | toolbox.servers.functions(self.subtask, self.attempt, effects, cancellation)

    def _process(self, checkout: Checkout) -> JsonValue:
        """A subtask of kind process: what the user registered, on the host."""
        from orchestrator_cli.execution.attempt import AttemptFailed
        from orchestrator_cli.execution.processes import run_process

        value = run_process(
            self.context,
            self.subtask,
            self.inputs,
            attempt=self.attempt,
            checkout=checkout,
            cancellation=self.cancellation,
        )
        registered = self.context.settings.processes[self.subtask.process or ""]
        if reason := _misfit(registered.result, value) or self._refusal(value, checkout):
            raise AttemptFailed(reason)
        return value

    def _refusal(self, value: JsonValue, checkout: Checkout) -> str | None:
        """Why a value is not what the subtask asks for, or None; a model is asked last, if at all."""
        reason = _refusal(self.subtask, value, checkout.written_paths)
        if reason is not None or self.subtask.judge is None:
            return reason
        verdict = judge(
            self.subtask,
            self.context.masks(value),
            checkout.written_paths(),
            model=self.context.model,
            cancellation=self.cancellation,
        )
        self.judging += verdict.usage
        self.context.emit(
            events.ResultJudged(
                subtask=self.subtask.id, attempt=self.attempt, good=verdict.good, reason=verdict.reason
            )
        )
        return None if verdict.good else f"it was judged not to be good: {verdict.reason}"

    def _sandbox(self, checkout: Checkout) -> Any:
        """Where the agent's code runs; the subtask's network is for that code, and for no built tool."""
        from orchestrator_cli.execution import attempt as attempts

        role = self.context.roles.get(self.subtask.role or "")
        writes_code = self.subtask.kind == "agent" and role is not None and role.agent == "code"
        return attempts.new_executor(
            checkout.folder,
            attempts.within(checkout, self.context.backend),
            self.subtask.timeout_s,
            given=Permissions(self.subtask.network if writes_code else ()),
            dialer=self.context.gate.dialer,
        )

    def _sandboxes_apart(self, checkout: Checkout) -> Any:
        from orchestrator_cli.execution import attempt as attempts
        from orchestrator_cli.execution.sandboxes import Apart

        def make(folder: Path | None, *, writable: bool, given: Permissions) -> Any:
            backend = self.context.backend
            return attempts.new_executor(
                folder or checkout.folder,
                backend if folder else attempts.within(checkout, backend),
                self.subtask.timeout_s,
                writable=writable,
                given=given,
                dialer=self.context.gate.dialer,
            )

        permit = self.context.gate.permit_tool
        return Apart(lambda tool: permit(tool.spec, self.cancellation, tool.lock), make)

    def _call(self, attempt: Any) -> JsonValue:
        """A subtask of kind tool: one call, no model."""
        from orchestrator_cli.execution.attempt import AttemptFailed, as_json, told

        name = self.subtask.tools[0]
        if name in attempt.host_tools:
            tool = partial(attempt.host_tools[name], **self.inputs)
            value = told(attempt, name, self.inputs, lambda: self.cancellation.waiting_for(tool))
        else:
            shelf, built = self.context.toolbox.shelf, self.context.toolbox.built(name)
            if built is None:
                raise AttemptFailed(shelf.stopped(name) or f"there is no tool {name}")

            def call() -> Any:
                return attempt.sandbox_of(built).call_tool(built.source, name, dict(self.inputs))

            value = told(attempt, name, self.inputs, lambda: shelf.use(built, self.inputs, call))
        value = as_json(value)
        if reason := attempt.accept(value):
            raise AttemptFailed(reason)
        return value

    def _ask_for_writes(self, checkout: Checkout, result: Result) -> None:
        """Show the person what would be committed, where they want that. Raises `NotAllowed`."""
        from orchestrator_cli.approvals.permissions import NotAllowed
        from orchestrator_cli.workspace.diff import pending_lines

        broker = self.context.broker
        if not broker.needs("writes") or not result.files:
            return
        lines = "\n".join(pending_lines(checkout, self.context.workspace.root))
        question = writes_question(self.subtask.id, result.files, lines)
        # The time in which a person thinks is not the attempt's: this waits through the run's own end only.
        given = broker.ask(question, self.context.cancellation)
        if given.decision == "no":
            raise NotAllowed(f"the user did not allow it to change files{given.reason}")

    def _commit(self, checkout: Checkout, result: Result) -> None:
        for name in checkout.refused_paths():
            message = f"{self.subtask.id} wrote {name}, which no subtask may change; it was not kept"
            self.context.emit(events.Noticed(message=message))
        if result.files:
            # Whoever goes on after a kill reads in this, and the record of the commit, what was done.
            self.context.emit(events.SubtaskAccepted(subtask=self.subtask.id, result=result))
        changes = checkout.commit()
        if changes:
            self.context.emit(
                events.FilesChanged(subtask=self.subtask.id, attempt=self.attempt, changes=changes)
            )

    def _result(
        self,
        value: JsonValue,
        files: tuple[str, ...],
        surprise: str | None = None,
        usage: Usage = Usage(),  # noqa: B008
    ) -> Result:
        value = self.context.masks(value)
        return Result(
            subtask=self.subtask.id,
            attempt=self.attempt,
            plan_version=self.plan_version,
            value=value,
            summary=summarise(value),
            files=files,
            surprise=self.context.masks(surprise),
            usage=usage,
        )


def _refusal(subtask: Subtask, value: JsonValue, changed: Callable[[], list[str]]) -> str | None:
    """Why a value is not what the subtask asks for, or None."""
    if reason := _misfit(subtask.result, value):
        return reason
    if subtask.check is None:
        return None
    names = {"value": value, "summary": summarise(value), "files": changed()}
    try:
        if holds(subtask.check, names):
            return None
    except ExpressionFailed as exc:
        return f"the check {subtask.check!r} cannot be evaluated: {exc}"
    return f"the check {subtask.check!r} does not hold (files: {', '.join(names['files']) or 'none'})"  # type: ignore[arg-type]


def _misfit(schema: dict[str, JsonValue] | None, value: JsonValue) -> str | None:
    """In what a value does not fit a schema, or None."""
    if schema is None:
        return None
    found = jsonschema.Draft202012Validator(schema).iter_errors(value)
    faults = [f"{'.'.join(map(str, e.absolute_path)) or 'the value'}: {_shortened(e.message)}" for e in found]
    return f"the value does not fit the schema: {'; '.join(faults[:5])}" if faults else None


def _shortened(message: str) -> str:
    """jsonschema puts the value first and what is wrong with it last."""
    return message if len(message) <= 240 else f"{message[:100]} … {message[-140:]}"


def _too_long(seconds: float) -> str:
    return f"took longer than its {seconds:g} s"
