"""Our model as smolagents wants one."""

import json
from typing import Any

from smolagents import Model as SmolModel
from smolagents import Tool as SmolTool
from smolagents.models import (
    ChatMessage,
    ChatMessageToolCall,
    ChatMessageToolCallFunction,
    MessageRole,
    get_tool_json_schema,
)
from smolagents.monitoring import TokenUsage

from orchestrator_cli.execution.agent_outputs import Room
from orchestrator_cli.execution.attempt import Attempt
from orchestrator_cli.models.model import Completion, Message, ModelRequest
from orchestrator_cli.roles import Role


class AgentModel(SmolModel):  # type: ignore[misc]  # smolagents ships no types
    """The model of an attempt's role. No stop sequence is sent: honest content can hold any."""

    def __init__(self, attempt: Attempt, role: Role, room: Room) -> None:
        super().__init__(model_id=attempt.subtask.id)
        self._attempt = attempt
        self._role = role
        self._room = room

    def has_room(self, messages: tuple[Message, ...], tools: list[SmolTool] | None, share: float) -> bool:
        """Whether a request fills at most this share of the context, as far as that is known."""
        most = self._room.prompt_bytes
        sent = [*messages, *(self._schema(tool) for tool in tools or ())]
        return most is None or len(json.dumps(sent, ensure_ascii=False).encode()) <= most * share

    def generate(
        self, messages: tuple[Message, ...], tools_to_call_from: list[SmolTool] | None = None, **_: Any
    ) -> ChatMessage:
        """The reply, with our `Completion` as its `raw`."""
        request = ModelRequest(
            role="agent",
            subject=self._attempt.subtask.id,
            model=self._role.model,
            parameters=self._role.parameters,
            messages=messages,
            tools=tuple(self._schema(tool) for tool in tools_to_call_from or ()),
        )
        reply = self._attempt.services.complete(request, cancellation=self._attempt.cancellation)
        self._attempt.usage += reply.usage
        return ChatMessage(
            role=MessageRole.ASSISTANT,
            content=reply.text,
            tool_calls=_calls(reply) or None,
            raw=reply,
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


def _calls(reply: Completion) -> list[ChatMessageToolCall]:
    return [
        ChatMessageToolCall(
            id=call.id,
            type="function",
            function=ChatMessageToolCallFunction(name=call.name, arguments=call.arguments),
        )
        for call in reply.tool_calls
    ]
