"""smolagents agents made from roles: our models behind their model, our sandbox behind their interpreter.

An agent gets the tools its subtask names, `final_answer`, `report_surprise`, `give_up` and
`request_tool`, and no others. What it gives to `final_answer` is accepted when it fits the
subtask's schema and check; the first refusal goes back to the agent, the second ends the attempt.

Not covered: images and sound, agents that manage agents, and smolagents' own planning steps
(planning is the orchestrator's).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import jinja2
from pydantic import JsonValue
from smolagents import CodeAgent, LogLevel, MultiStepAgent, ToolCallingAgent
from smolagents import Model as SmolModel
from smolagents import Tool as SmolTool
from smolagents.agents import AgentGenerationError
from smolagents.memory import ActionStep, FinalAnswerStep
from smolagents.models import (
    ChatMessage,
    ChatMessageToolCall,
    ChatMessageToolCallFunction,
    MessageRole,
    get_clean_message_list,
    get_tool_json_schema,
    remove_content_after_stop_sequences,
    tool_role_conversions,
)
from smolagents.monitoring import TokenUsage

from orchestrator_cli import events
from orchestrator_cli.durable.foreign import as_data, first_line
from orchestrator_cli.errors import OrchError, storage_fault
from orchestrator_cli.execution.agent_tools import ToolCalls, agent_tools, sandboxed_tool
from orchestrator_cli.execution.attempt import SHOWN_CHARS, Attempt, AttemptFailed, as_json, pretty
from orchestrator_cli.execution.sandboxes import Sandboxes
from orchestrator_cli.models.model import ModelRequest
from orchestrator_cli.planning.structured_output import coerce_to_schema
from orchestrator_cli.prompts import render, source
from orchestrator_cli.roles import Role
from toolsmith.library.status import judge_inner_call
from toolsmith.sandbox.session import InsideCall
from toolsmith.smolagents_tools import SandboxedTool

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
    calls.sandboxes.own.on_calls = functools.partial(_count, agent, calls)
    if role.agent == "code":
        agent.state.update(inputs)
    task = render(
        "agent_task",
        title=spec.subtask.title,
        instruction=spec.subtask.instruction,
        inputs=pretty(inputs) if inputs else "",
        result=pretty(spec.subtask.result) if spec.subtask.result else "",
        check=spec.subtask.check or "",
        failure=spec.failure,
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
            _emit_step(item, calls, isinstance(agent, CodeAgent))
            last = str(item.error) if item.error else ""
            # What code in the sandbox says about an error is only text; that the disk is full shows here.
            if item.error and (fault := storage_fault(item.error, attempt.spec.place.folder)):
                raise fault
            _check_end(calls)
            calls.loops.end_step()
            if item.step_number >= agent.max_steps and not item.is_final_answer:
                break
            _withdraw_stopped(agent, calls)
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
    attempt = calls.attempt
    prompt = source("agent_code" if role.agent == "code" else "agent_tools")
    common: dict[str, Any] = {
        "tools": agent_tools(calls),
        "model": AgentModel(attempt, role),
        "prompt_templates": _templates(prompt, attempt.subtask.network),
        "instructions": role.instructions,
        "max_steps": attempt.spec.max_steps,
        "verbosity_level": LogLevel.OFF,
        "final_answer_checks": [_acceptable(calls)],
    }
    if role.agent == "code":
        return _CodeAgent(executor=calls.sandboxes.own, additional_authorized_imports=["*"], **common)
    return _ToolCallingAgent(**common)


class _Prompted:
    """smolagents compiles the template of a system prompt twice for each agent; here it is done once.

    It comes to the same text.
    """

    tools: dict[str, Any]
    instructions: str | None
    prompt_templates: Any

    def initialize_system_prompt(self) -> str:
        return _compiled(self.prompt_templates["system_prompt"]).render(
            tools=self.tools,
            custom_instructions=self.instructions,
            network=self.prompt_templates["network"],
            managed_agents={},
            authorized_imports="You can import from any package you want.",
            code_block_opening_tag="<code>",
            code_block_closing_tag="</code>",
        )


class _CodeAgent(_Prompted, CodeAgent):  # type: ignore[misc]  # smolagents ships no types
    """smolagents' code agent."""


class _ToolCallingAgent(_Prompted, ToolCallingAgent):  # type: ignore[misc]
    """smolagents' agent that calls tools."""


@functools.cache
def _compiled(template: str) -> jinja2.Template:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.filters["first_line"] = first_line
    return environment.from_string(template)


def _add_requested(agent: MultiStepAgent, calls: ToolCalls) -> None:
    """Tools asked for in the step that ended; smolagents sends tools to the sandbox only once by itself."""
    if not calls.requested:
        return
    for tool in calls.requested:
        agent.tools[tool.name] = sandboxed_tool(tool, calls)
    calls.requested.clear()
    if isinstance(agent, CodeAgent):
        calls.sandboxes.own.send_tools(agent.tools)


def _count(agent: MultiStepAgent, calls: ToolCalls, inside: tuple[InsideCall, ...]) -> None:
    """Keep how the built tools did that the agent's code has called."""
    built = {name: tool.built for name, tool in agent.tools.items() if isinstance(tool, SandboxedTool)}
    for call in inside:
        if (tool := built.get(call.name)) is not None:
            judgement = judge_inner_call(tool.spec, call.error, call.type)
            calls.attempt.services.note_use(tool, judgement, call.seconds)


def _withdraw_stopped(agent: MultiStepAgent, calls: ToolCalls) -> None:
    """What failed too often leaves the sandbox; a call of it from now on says why."""
    stopped = [
        tool
        for tool in agent.tools.values()
        if isinstance(tool, SandboxedTool)
        and hasattr(tool, "sandbox_source")
        and calls.attempt.services.stopped_tool(tool.name, tool.built.version)
    ]
    for tool in stopped:
        del tool.sandbox_source
    if stopped and isinstance(agent, CodeAgent):
        calls.sandboxes.own.send_tools(agent.tools)


def _emit_step(step: ActionStep, calls: ToolCalls, writes_code: bool) -> None:
    spec, emit = calls.attempt.spec, calls.attempt.services.emit
    where: dict[str, Any] = {"subtask": spec.subtask.id, "attempt": spec.attempt, "step": step.step_number}
    text = str(step.model_output or "")
    thought = text.split("<code>")[0].removeprefix("Thought:").strip()
    emit(events.AgentStepped(**where, thought=thought[:SHOWN_CHARS]))
    if writes_code and step.code_action:
        output = _output(step)
        calls.loops.note("ran the same code", step.code_action, output, str(step.error or ""))
        error = str(step.error.message) if step.error else None
        emit(events.CodeRan(**where, code=step.code_action, output=output, error=error))


def _output(step: ActionStep) -> str:
    """What a step printed and gave, without the headings that are meant for the model."""
    logs, _, value = str(step.observations or "").partition("Last output from code snippet:\n")
    logs = logs.removeprefix("Execution logs:\n")
    return logs + (f"→ {value}" if value not in ("", "None") else "")


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


def _templates(system_prompt: str, network: tuple[str, ...]) -> Any:
    """smolagents wants every template; only the first is used here, with the domains that it names."""
    return {
        "system_prompt": system_prompt,
        "network": network,
        "planning": {
            "initial_plan": "",
            "update_plan_pre_messages": "",
            "update_plan_post_messages": "",
        },
        "managed_agent": {"task": "", "report": ""},
        "final_answer": {"pre_messages": "", "post_messages": ""},
    }


class AgentModel(SmolModel):  # type: ignore[misc]  # smolagents ships no types
    """Our model as smolagents wants one."""

    def __init__(self, attempt: Attempt, role: Role) -> None:
        super().__init__(model_id=attempt.subtask.id)
        self._attempt = attempt
        self._role = role

    def generate(
        self,
        messages: list[Any],
        stop_sequences: list[str] | None = None,
        response_format: dict[str, str] | None = None,  # noqa: ARG002 - smolagents' signature
        tools_to_call_from: list[SmolTool] | None = None,
        **_: Any,
    ) -> ChatMessage:
        # smolagents says a code agent's code a second time, as if it had called a tool.
        echo = MessageRole.TOOL_CALL if self._role.agent == "code" else None
        rows = get_clean_message_list(
            [_marked(message) for message in messages if echo is None or message.role != echo],
            role_conversions=tool_role_conversions,
            flatten_messages_as_text=True,
        )
        request = ModelRequest(
            role="agent",
            subject=self._attempt.subtask.id,
            model=self._role.model,
            parameters=self._role.parameters,
            messages=tuple({"role": str(row["role"].value), "content": row["content"]} for row in rows),
            tools=tuple(self._schema(tool) for tool in tools_to_call_from or ()),
            stop=tuple(stop_sequences or ()),
        )
        reply = self._attempt.services.complete(request, cancellation=self._attempt.cancellation)
        self._attempt.usage += reply.usage
        calls = [
            ChatMessageToolCall(
                id=call.id,
                type="function",
                function=ChatMessageToolCallFunction(name=call.name, arguments=call.arguments),
            )
            for call in reply.tool_calls
        ]
        return ChatMessage(
            role=MessageRole.ASSISTANT,
            content=remove_content_after_stop_sequences(reply.text, stop_sequences),
            tool_calls=calls or None,
            token_usage=TokenUsage(
                input_tokens=reply.usage.prompt_tokens, output_tokens=reply.usage.completion_tokens
            ),
        )

    def _schema(self, tool: SmolTool) -> dict[str, Any]:
        """A tool's schema; smolagents calls any value a string, which final_answer's need not be."""
        schema: dict[str, Any] = get_tool_json_schema(tool)
        if tool.name == "final_answer":
            answer = {"description": "The value the task asks for."} | (self._attempt.subtask.result or {})
            schema["function"]["parameters"]["properties"]["answer"] = answer
        return schema


def _marked(message: Any) -> Any:
    """What a step gave, its errors too, marked as data: it can hold text of files and pages."""
    if message.role != MessageRole.TOOL_RESPONSE:
        return message
    text = "\n".join(part["text"] for part in message.content if part["type"] == "text")
    marked = f'<untrusted source="what the step gave">\n{as_data(text)}\n</untrusted>'
    return dataclasses.replace(message, content=[{"type": "text", "text": marked}])
