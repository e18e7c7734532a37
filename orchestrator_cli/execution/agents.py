"""smolagents agents made from roles: our models behind their model, our sandbox behind their interpreter.

An agent gets the tools its subtask names, `final_answer`, `report_surprise`, `give_up` and
`request_tool`, and no others. What it gives to `final_answer` is accepted when it fits the
subtask's schema and check; the first refusal goes back to the agent, the second ends the attempt.
What a step is: `agent_steps`. What the model reads: `agent_messages`.

Not covered: sound, agents that manage agents, and smolagents' own planning steps
(planning is the orchestrator's).
"""

import ast
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pydantic import JsonValue
from smolagents import LogLevel, MultiStepAgent
from smolagents.agents import AgentGenerationError
from smolagents.local_python_executor import CodeOutput
from smolagents.memory import ActionStep, FinalAnswerStep
from smolagents.utils import truncate_content

from orchestrator_cli import events
from orchestrator_cli.durable.expressions import names_in
from orchestrator_cli.durable.python_text import parse_expression
from orchestrator_cli.errors import OrchError, storage_fault
from orchestrator_cli.execution.agent_messages import NOT_HANDED_OVER
from orchestrator_cli.execution.agent_model import AgentModel
from orchestrator_cli.execution.agent_outputs import Room
from orchestrator_cli.execution.agent_steps import CallingAgent, CodingAgent
from orchestrator_cli.execution.agent_tools import ToolCalls, agent_tools, output_reader, sandboxed_tool
from orchestrator_cli.execution.attempt import SHOWN_CHARS, Attempt, AttemptFailed, as_json, misfit, pretty
from orchestrator_cli.execution.code_block import thought_of
from orchestrator_cli.execution.sandboxes import Sandboxes, step_seconds
from orchestrator_cli.planning.structured_output import coerce_to_schema
from orchestrator_cli.prompts import render, source
from orchestrator_cli.roles import Role
from toolsmith.sandbox.backends import TMPFS_BYTES
from toolsmith.sandbox.spec import Limits

REFUSALS = 2


def run_in_sandbox(attempt: Attempt) -> JsonValue:
    """The value of a subtask of kind tool (one call, no model) or agent.

    Raises `AttemptFailed` if it does not come to one, and whatever ended its model calls.
    """
    sandboxes = Sandboxes(attempt)
    calls = ToolCalls(attempt, sandboxes)
    with sandboxes, attempt.cancellation.calling(sandboxes.interrupt):
        try:
            if attempt.subtask.kind == "tool":
                return _call(calls)
            return _run_agent(calls)
        except Exception:
            # The sandbox was ended by the time limit or Ctrl-C: that is the reason, not its echo.
            attempt.cancellation.check()
            raise


def _call(calls: ToolCalls) -> JsonValue:
    attempt = calls.attempt
    value = as_json(calls.call_named(attempt.subtask.tools[0], attempt.spec.inputs))
    if reason := attempt.refusal(value):
        raise AttemptFailed(reason)
    return value


def _run_agent(calls: ToolCalls) -> JsonValue:
    spec = calls.attempt.spec
    role, inputs = spec.role, spec.inputs
    if role is None:
        raise AttemptFailed(f"there is no role {spec.subtask.role}")
    agent = _make(calls, role)
    if role.agent == "code":
        agent.state.update(inputs)
    task = render(
        "agent_task",
        title=spec.subtask.title,
        instruction=spec.subtask.instruction,
        inputs=pretty(inputs) if inputs else "",
        result=pretty(spec.subtask.result) if spec.subtask.result else "",
        check=spec.subtask.check or "",
        names=names_in(spec.subtask.check) if spec.subtask.check else (),
        failure=spec.failure,
        here=spec.surroundings,
        guidance=spec.guidance,
        known=spec.known,
        attached=spec.attached,
        max_steps=agent.max_steps,
    )
    try:
        return _drive(agent, calls, task)
    except AgentGenerationError as exc:
        # smolagents wraps what a model raises; the reason is ours and has its own exit code.
        if isinstance(exc.__cause__, Exception):
            raise exc.__cause__ from None
        raise


def _drive(agent: MultiStepAgent, calls: ToolCalls, task: str) -> JsonValue:
    last, attempt = "", calls.attempt
    with stepping(agent, task) as steps:
        for item in steps:
            attempt.cancellation.check()
            if isinstance(item, FinalAnswerStep):
                return coerce_to_schema(as_json(item.output), attempt.subtask.result)
            if not isinstance(item, ActionStep):
                continue
            _emit_step(item, calls, agent)
            last = str(item.error) if item.error else ""
            # What code in the sandbox says about an error is only text; that the disk is full shows here.
            if item.error and (fault := storage_fault(item.error, attempt.spec.place.folder)):
                raise fault
            _check_end(calls)
            calls.end_step()
            if item.step_number >= agent.max_steps and not item.is_final_answer:
                break
            _add_requested(agent, calls)
    reason = f"it did not finish within {agent.max_steps} steps"
    reason = f"{reason}; the last error was: {last}" if last else reason
    raise AttemptFailed(_with_surprises(reason, attempt))


def _check_end(calls: ToolCalls) -> None:
    """Raise what ends the attempt after a step."""
    if calls.broken is not None:
        raise calls.broken
    if calls.gave_up is not None:
        raise AttemptFailed(f"it cannot be done as it was put: {calls.gave_up}")
    if len(calls.refusals) >= REFUSALS:
        raise AttemptFailed(_with_surprises(calls.refusals[-1], calls.attempt))
    if calls.loops.found is not None:
        raise AttemptFailed(_with_surprises(calls.loops.found, calls.attempt))


@contextmanager
def stepping(agent: MultiStepAgent, task: str) -> Iterator[Iterator[Any]]:
    """What an agent does, as it comes; ended for good however the block is left.

    smolagents gives a step once more when it is closed in the midst of it. Python would print that.
    """
    steps = agent.run(task, stream=True)
    try:
        yield steps
    finally:
        with suppress(RuntimeError):
            steps.close()
        steps.close()


def _with_surprises(reason: str, attempt: Attempt) -> str:
    """What an agent said it could not foresee explains a failure better than the failure does."""
    return f"{reason}; the agent reported: {' '.join(attempt.surprises)}" if attempt.surprises else reason


def _make(calls: ToolCalls, role: Role) -> MultiStepAgent:
    attempt, room = calls.attempt, Room(calls.attempt.spec.context_tokens)
    prompt = source("agent_code" if role.agent == "code" else "agent_tools")
    common: dict[str, Any] = {
        "tools": agent_tools(calls),
        "model": AgentModel(attempt, role, room),
        "shorten": calls.long_outputs.shown,
        "attached": attempt.spec.attached,
        "looked": calls.looked,
        "prompt_templates": _templates(
            prompt,
            network=attempt.subtask.network,
            packages=attempt.spec.packages.lock.versions if attempt.spec.packages else (),
            step_seconds=f"{step_seconds(attempt.subtask.timeout_s):g}",
            disk_mb=Limits().disk_mb,
            scratch_mb=TMPFS_BYTES >> 20,
        ),
        "instructions": role.instructions,
        "max_steps": attempt.spec.max_steps,
        "verbosity_level": LogLevel.OFF,
        "final_answer_checks": [_acceptable(calls)],
    }
    if role.agent == "code":
        return CodingAgent(
            executor=calls.sandboxes.own,
            additional_authorized_imports=["*"],
            observe=_Observer(attempt.subtask.result),
            **common,
        )
    return CallingAgent(**common)


def _add_requested(agent: MultiStepAgent, calls: ToolCalls) -> None:
    """Tools asked for in the step that ended; smolagents sends tools to the sandbox only once by itself."""
    if calls.long_outputs.stored and isinstance(agent, CallingAgent) and "read_file" not in agent.tools:
        agent.tools["read_output"] = output_reader(calls)
    if not calls.requested:
        return
    for tool in calls.requested:
        agent.tools[tool.name] = sandboxed_tool(tool, calls)
    calls.requested.clear()
    if isinstance(agent, CodingAgent):
        calls.sandboxes.own.send_tools(agent.tools)


def _emit_step(step: ActionStep, calls: ToolCalls, agent: MultiStepAgent) -> None:
    spec, emit = calls.attempt.spec, calls.attempt.services.emit
    where: dict[str, Any] = {"subtask": spec.subtask.id, "attempt": spec.attempt, "step": step.step_number}
    text = str(step.model_output or "")
    emit(events.AgentStepped(**where, thought=thought_of(text)[:SHOWN_CHARS]))
    if not (step.code_action or step.tool_calls):
        calls.loops.note("sent the same reply without anything to do", text)
    elif isinstance(agent, CodingAgent):
        output = _shown(agent.output)
        calls.loops.note("ran the same code", step.code_action, output, str(step.error or ""))
        error = str(step.error.message) if step.error else None
        emit(events.CodeRan(**where, code=step.code_action, output=output, error=error))


def _shown(output: CodeOutput) -> str:
    """What a step printed and gave."""
    value = "" if output.output in (None, "") else f"→ {truncate_content(str(output.output))}"
    return f"{output.logs}{value}"


class _Observer:
    """What a coder's model reads of a step's output.

    The first time that a value is shown which could be the result, but is not handed over, it is reminded:
    models take a printed value for an answer.
    """

    def __init__(self, result: dict[str, JsonValue] | None) -> None:
        self._result = result
        self._reminded = False

    def __call__(self, output: CodeOutput) -> str:
        text = f"Execution logs:\n{output.logs}"
        if output.output is not None:
            text += f"Last output from code snippet:\n{output.output}"
        if self._reminded or output.is_final_answer or not self._is_result(output):
            return text
        self._reminded = True
        return f"{text}\n{NOT_HANDED_OVER}"

    def _is_result(self, output: CodeOutput) -> bool:
        values = [output.output] if output.output is not None else list(_read(output.logs.strip()))
        if self._result is None:
            return bool(values)
        return any(misfit(self._result, as_json(value)) is None for value in values)


def _read(printed: str) -> Iterator[Any]:
    """What a printed text can be taken for: itself, JSON, or Python's way to write a value."""
    if printed:
        yield printed
        with suppress(ValueError, RecursionError):
            yield json.loads(printed)
        with suppress(ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            yield ast.literal_eval(parse_expression(printed)[0])


def _acceptable(calls: ToolCalls) -> Callable[..., bool]:
    attempt = calls.attempt

    def on_the_value(value: Any, memory: Any, agent: Any = None) -> bool:  # noqa: ARG001 - smolagents' signature
        try:
            reason = attempt.refusal(coerce_to_schema(as_json(value), attempt.subtask.result))
        except OrchError as exc:
            # smolagents takes whatever is raised here for a refusal and goes on.
            calls.broken = exc
            raise
        if reason:
            calls.refusals.append(reason)
            raise ValueError(reason)
        return True

    return on_the_value


def _templates(system_prompt: str, **said: Any) -> Any:
    """smolagents wants every template; only the first is used here, with what it says of the attempt."""
    return {
        "system_prompt": system_prompt,
        "said": said,
        "planning": {
            "initial_plan": "",
            "update_plan_pre_messages": "",
            "update_plan_post_messages": "",
        },
        "managed_agent": {"task": "", "report": ""},
        "final_answer": {"pre_messages": "", "post_messages": ""},
    }
