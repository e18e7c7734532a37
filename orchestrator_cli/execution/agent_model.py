"""Our model behind smolagents' model."""

import dataclasses
from typing import Any

from smolagents import Model as SmolModel
from smolagents import Tool as SmolTool
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

from orchestrator_cli.execution.attempt import Attempt
from orchestrator_cli.models.model import ModelRequest
from orchestrator_cli.prompts import as_data
from orchestrator_cli.roles import Role


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
        rows = get_clean_message_list(
            [_marked(message) for message in messages if not self._is_echo(message)],
            role_conversions=tool_role_conversions,
            flatten_messages_as_text=True,
        )
        request = ModelRequest(
            role="agent",
            subject=self._attempt.subtask.id,
            model=self._role.model,
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

    def _is_echo(self, message: Any) -> bool:
        """smolagents says a code agent's code a second time, as if it had called a tool."""
        return self._role.agent == "code" and message.role == MessageRole.TOOL_CALL


def _marked(message: Any) -> Any:
    """What a step gave, marked as data: it can hold text of files and pages."""
    if message.role != MessageRole.TOOL_RESPONSE:
        return message
    text = "\n".join(part["text"] for part in message.content if part["type"] == "text")
    if not text.startswith("Observation:"):
        return message
    marked = f'<untrusted source="what the step gave">\n{as_data(text)}\n</untrusted>'
    return dataclasses.replace(message, content=[{"type": "text", "text": marked}])
