"""smolagents agents made from roles: our models behind their model, our sandbox behind their interpreter.

An agent gets the tools its subtask names, `final_answer`, `report_surprise` and `request_tool`,
and no others. What it gives to `final_answer` is accepted when it fits the subtask's schema and
check; the first refusal goes back to the agent, the second ends the attempt. After a reported
surprise the first one does: the agent has said why it can do no better.

Not covered: images and sound, agents that manage agents, and smolagents' own planning steps
(planning is the orchestrator's).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue
from smolagents import CodeAgent, LogLevel, MultiStepAgent, ToolCallingAgent
from smolagents import Model as SmolModel
from smolagents import Tool as SmolTool
from smolagents._function_type_hints_utils import get_json_schema
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
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.execution.context import RunContext
from orchestrator_cli.execution.roles import Role
from orchestrator_cli.execution.toolbox import ToolUnavailable
from orchestrator_cli.models.model import Model, Request
from orchestrator_cli.planning.plan import NewTool, Subtask
from orchestrator_cli.prompts import render, source
from orchestrator_cli.usage import Usage
from toolsmith.sandbox import Backend, Limits
from toolsmith.sandbox.executor import SandboxExecutor
from toolsmith.sandboxed import SandboxedTool

STEP_WALL_S = 120.0
SHOWN_CHARS = 2_000
REFUSALS = 2


class AttemptFailed(Exception):
    """The attempt did not bring what the subtask asks for; the message says why."""


@dataclass
class Session:
    """One attempt of one agent: what it may use, and what it said on the side."""

    context: RunContext
    subtask: Subtask
    attempt: int
    executor: SandboxExecutor
    host_tools: Mapping[str, Callable[..., Any]]
    cancellation: Cancellation
    accept: Callable[[JsonValue], str | None]
    """Why a value is not accepted, or None."""
    surprises: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    refusals: list[str] = field(default_factory=list)


def new_executor(root: Any, backend: Backend, timeout_s: float) -> SandboxExecutor:
    """A sandbox on a checkout, whose steps may not outlast the attempt."""
    return SandboxExecutor(root, limits=Limits(wall_s=min(STEP_WALL_S, timeout_s)), backend=backend)


def run_agent(session: Session, role: Role, inputs: Mapping[str, JsonValue], failure: str) -> JsonValue:
    """Let an agent do a subtask and return its value.

    Raises `AttemptFailed` where it does not come to one, and whatever ended its model calls.
    """
    agent = _make(session, role)
    if role.agent == "code":
        agent.state.update(inputs)
    task = render(
        "agent_task",
        title=session.subtask.title,
        instruction=session.subtask.instruction,
        inputs=_pretty(inputs) if inputs else "",
        result=_pretty(session.subtask.result) if session.subtask.result else "",
        check=session.subtask.check or "",
        failure=failure,
        max_steps=agent.max_steps,
    )
    try:
        return _drive(agent, session, task)
    except Exception as exc:
        # smolagents wraps what a model raises; the reason is ours and has its own exit code.
        cause = exc.__cause__
        if type(exc).__name__ == "AgentGenerationError" and isinstance(cause, Exception):
            raise cause from None
        raise


def _drive(agent: MultiStepAgent, session: Session, task: str) -> JsonValue:
    last = ""
    for item in agent.run(task, stream=True):
        session.cancellation.check()
        if isinstance(item, FinalAnswerStep):
            return as_json(item.output)
        if not isinstance(item, ActionStep):
            continue
        _tell(item, session, isinstance(agent, CodeAgent))
        last = str(item.error) if item.error else ""
        if session.refusals and (session.surprises or len(session.refusals) >= REFUSALS):
            raise AttemptFailed(_with_surprises(session.refusals[-1], session))
        if item.step_number >= agent.max_steps and not item.is_final_answer:
            break
        _add_requested(agent, session)
    reason = f"it did not finish within {agent.max_steps} steps"
    reason = f"{reason}; the last error was: {last}" if last else reason
    raise AttemptFailed(_with_surprises(reason, session))


def _with_surprises(reason: str, session: Session) -> str:
    """What an agent said it could not foresee explains a failure better than the failure does."""
    return f"{reason}; the agent reported: {' '.join(session.surprises)}" if session.surprises else reason


def _make(session: Session, role: Role) -> MultiStepAgent:
    context = session.context
    tools = [_tool(name, session) for name in session.subtask.tools]
    extra = {"report_surprise": _report_surprise(session), "request_tool": _request_tool(session)}
    tools += [HostTool(name, function, session) for name, function in extra.items()]
    prompt = source("agent_code" if role.agent == "code" else "agent_tools")
    common: dict[str, Any] = {
        "tools": tools,
        "model": AgentModel(session, writes_code=role.agent == "code"),
        "prompt_templates": _templates(prompt),
        "instructions": role.instructions,
        "max_steps": context.settings.max_steps,
        "verbosity_level": LogLevel.OFF,
        "final_answer_checks": [_acceptable(session)],
    }
    if role.agent == "code":
        return CodeAgent(executor=session.executor, additional_authorized_imports=["*"], **common)
    return ToolCallingAgent(**common)


def _tool(name: str, session: Session) -> SmolTool:
    if name in session.host_tools:
        return HostTool(name, session.host_tools[name], session)
    built = session.context.toolbox.built(name)
    if built is None:
        raise AttemptFailed(f"there is no tool {name}")
    return SandboxedTool(built, _Told(session, name))


@dataclass(frozen=True)
class _Told:
    """The sandbox as a built tool sees it: each call from the host is an event."""

    session: Session
    name: str

    def call_tool(self, source: str, function: str, arguments: dict[str, Any]) -> Any:
        call = self.session.executor.call_tool
        return told(self.session, self.name, arguments, lambda: call(source, function, arguments))


class HostTool(SmolTool):  # type: ignore[misc]  # smolagents ships no types
    """A hand-written function as a smolagents tool; each call is an event."""

    skip_forward_signature_validation = True

    def __init__(self, name: str, function: Callable[..., Any], session: Session) -> None:
        schema = get_json_schema(function)["function"]
        self.name = name
        self.description = schema["description"]
        self.inputs = schema["parameters"]["properties"]
        self.output_type = schema["return"]["type"]
        self._function = function
        self._session = session
        super().__init__()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        arguments = dict(zip(self.inputs, args, strict=False)) | kwargs
        return told(self._session, self.name, arguments, lambda: self._function(**arguments))


def told(session: Session, name: str, arguments: Mapping[str, Any], call: Callable[[], Any]) -> Any:
    """Make a tool call and emit what came of it."""
    try:
        value = call()
    except Exception as exc:
        _emit_call(session, name, arguments, f"{type(exc).__name__}: {exc}", ok=False)
        raise
    _emit_call(session, name, arguments, value if isinstance(value, str) else _pretty(value), ok=True)
    return value


def _emit_call(session: Session, name: str, arguments: Mapping[str, Any], outcome: str, *, ok: bool) -> None:
    session.context.emit(
        events.ToolCalled(
            subtask=session.subtask.id,
            attempt=session.attempt,
            tool=name,
            arguments={key: as_json(value) for key, value in arguments.items()},
            outcome=outcome[:SHOWN_CHARS],
            ok=ok,
        )
    )


# --- the two tools every agent has


def _report_surprise(session: Session) -> Callable[..., Any]:
    def report_surprise(text: str) -> str:
        """Tell the orchestrator something the task did not expect and that may change the plan.

        Args:
            text: What was found, and what it means for the work that follows.
        """
        session.surprises.append(text)
        return "noted; now call final_answer with what there is"

    return report_surprise


def _request_tool(session: Session) -> Callable[..., Any]:
    def request_tool(name: str, purpose: str) -> str:
        """Ask for a tool that does not exist. It can be called from the next step on.

        Args:
            name: The function's name.
            purpose: What it does, what it takes and what it gives back.
        """
        if not name.isidentifier():
            raise ValueError(f"{name!r} is no function name")
        try:
            tool = session.context.toolbox.ensure(
                NewTool(name=name, purpose=purpose),
                asked_by=session.subtask.id,
                context=session.subtask.instruction,
                cancellation=session.cancellation,
            )
        except ToolUnavailable as exc:
            return f"Not available: {exc}"
        session.requested.append(name)
        return f"From the next step on you can call {tool.spec.signature}: {tool.spec.purpose}"

    return request_tool


def _add_requested(agent: MultiStepAgent, session: Session) -> None:
    """Tools asked for in the step that ended; smolagents sends tools to the sandbox only once by itself."""
    if not session.requested:
        return
    for name in session.requested:
        agent.tools[name] = _tool(name, session)
    session.requested.clear()
    if isinstance(agent, CodeAgent):
        session.executor.send_tools(agent.tools)


# --- what comes in, what goes out


class AgentModel(SmolModel):  # type: ignore[misc]  # smolagents ships no types
    """Our model as smolagents wants one."""

    def __init__(self, session: Session, *, writes_code: bool) -> None:
        super().__init__(model_id=session.subtask.id)
        self._session = session
        self._writes_code = writes_code
        self._model: Model = session.context.model

    def generate(
        self,
        messages: list[Any],
        stop_sequences: list[str] | None = None,
        response_format: dict[str, str] | None = None,  # noqa: ARG002 - smolagents' signature
        tools_to_call_from: list[SmolTool] | None = None,
        **_: Any,
    ) -> ChatMessage:
        rows = get_clean_message_list(
            [message for message in messages if not self._is_echo(message)],
            role_conversions=tool_role_conversions,
            flatten_messages_as_text=True,
        )
        request = Request(
            role="agent",
            subject=self._session.subtask.id,
            messages=tuple({"role": str(row["role"].value), "content": row["content"]} for row in rows),
            tools=tuple(get_tool_json_schema(tool) for tool in tools_to_call_from or ()),
            stop=tuple(stop_sequences or ()),
        )
        reply = self._model.complete(request, cancellation=self._session.cancellation)
        self._session.usage += reply.usage
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

    def _is_echo(self, message: Any) -> bool:
        """smolagents says a code agent's code a second time, as if it had called a tool."""
        return self._writes_code and message.role == MessageRole.TOOL_CALL


def _tell(step: ActionStep, session: Session, writes_code: bool) -> None:
    emit, subtask, attempt = session.context.emit, session.subtask.id, session.attempt
    text = str(step.model_output or "")
    thought = text.split("<code>")[0].removeprefix("Thought:").strip()
    emit(
        events.AgentStepped(
            subtask=subtask, attempt=attempt, step=step.step_number, thought=thought[:SHOWN_CHARS]
        )
    )
    if writes_code and step.code_action:
        emit(
            events.CodeRan(
                subtask=subtask,
                attempt=attempt,
                step=step.step_number,
                code=step.code_action,
                output=_output(step),
                error=str(step.error.message) if step.error else None,
            )
        )


def _output(step: ActionStep) -> str:
    """What a step printed and gave, without the headings that are meant for the model."""
    logs, _, value = str(step.observations or "").partition("Last output from code snippet:\n")
    logs = logs.removeprefix("Execution logs:\n")
    return logs + (f"→ {value}" if value not in ("", "None") else "")


def _acceptable(session: Session) -> Callable[..., bool]:
    def on_the_value(value: Any, memory: Any, agent: Any = None) -> bool:  # noqa: ARG001 - smolagents' signature
        if reason := session.accept(as_json(value)):
            session.refusals.append(reason)
            raise ValueError(reason)
        return True

    return on_the_value


def _templates(system_prompt: str) -> Any:
    """smolagents wants every template; only the first is used here."""
    return {
        "system_prompt": system_prompt,
        "planning": {
            "initial_plan": "",
            "update_plan_pre_messages": "",
            "update_plan_post_messages": "",
        },
        "managed_agent": {"task": "", "report": ""},
        "final_answer": {"pre_messages": "", "post_messages": ""},
    }


def as_json(value: Any) -> JsonValue:
    """A value as plain JSON; what has no JSON form becomes its text."""
    plain: JsonValue = json.loads(json.dumps(value, default=_plain))
    return plain


def _plain(value: Any) -> Any:
    return sorted(value, key=str) if isinstance(value, set | frozenset) else str(value)


def _pretty(value: Any) -> str:
    return json.dumps(as_json(value), ensure_ascii=False, indent=2)
