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

MOST_WRITTEN = 40
"""How many objects of a reply are looked at for calls."""


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
        return most is None or _bytes_of(sent) <= most * share

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
        """A tool's schema; smolagents calls any value a string, and knows the first level only."""
        schema: dict[str, Any] = get_tool_json_schema(tool)
        parameters = schema["function"]["parameters"]
        for name, given in tool.inputs.items():
            if given["type"] == "any":
                del parameters["properties"][name]["type"]
        if (whole := getattr(tool, "parameters", None)) is not None:
            schema["function"]["parameters"] = whole
        if tool.name == "final_answer":
            answer = {"description": "The value the task asks for."} | (self._attempt.subtask.result or {})
            parameters["properties"]["answer"] = answer
        return schema


IMAGE_BYTES = 6_000
"""What an image takes of a context: some 2,000 tokens, whatever its file has."""


def _bytes_of(sent: list[Any]) -> int:
    images = [
        len(part["image_url"]["url"])
        for row in sent
        if isinstance(row.get("content"), list)
        for part in row["content"]
        if part["type"] == "image_url"
    ]
    whole = len(json.dumps(sent, ensure_ascii=False).encode())
    return whole - sum(images) + IMAGE_BYTES * len(images)


def written_calls(text: str) -> list[ChatMessageToolCall]:
    """The calls of a reply that writes several as JSON objects; smolagents reads one at most."""
    decoder, found, at = json.JSONDecoder(), [], text.find("{")
    for _ in range(MOST_WRITTEN):
        if at < 0:
            break
        try:
            row, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            row, end = None, at + 1
        if isinstance(row, dict) and isinstance(row.get("name"), str) and "arguments" in row:
            found.append(ChatMessageToolCallFunction(name=row["name"], arguments=row["arguments"]))
        at = text.find("{", end)
    calls = [ChatMessageToolCall(id="", type="function", function=one) for one in found]
    return calls if len(calls) > 1 else []


def _calls(reply: Completion) -> list[ChatMessageToolCall]:
    return [
        ChatMessageToolCall(
            id=call.id,
            type="function",
            function=ChatMessageToolCallFunction(name=call.name, arguments=call.arguments),
        )
        for call in reply.tool_calls
    ]
