"""A provider's answer becomes a `Completion`: whole, or gathered from its pieces."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator_cli.http_bodies import BodyRefused
from orchestrator_cli.models.client_errors import filtered
from orchestrator_cli.models.library import litellm
from orchestrator_cli.models.model import Completion, ModelRequest, ToolCall
from orchestrator_cli.models.pricing import usage_of
from orchestrator_cli.models.wire import REPLY_BYTES


def gather(chunks: Iterator[Any], request: ModelRequest, put: Callable[[str], None]) -> Any:
    """The whole answer; `put` receives its text as it arrives. Raises `BodyRefused` and `ConnectionError`."""
    seen, length = [], 0
    for chunk in chunks:
        seen.append(chunk)
        if not chunk.choices:
            continue
        delta = chunk.choices[0].delta
        length += len(delta.content or "")
        length += sum(len(call.function.arguments or "") for call in delta.tool_calls or ())
        if length > REPLY_BYTES:
            raise BodyRefused(f"it is longer than {REPLY_BYTES:,} characters")
        if delta.content:
            put(delta.content)
    if getattr(chunks, "received_finish_reason", "stop") is None:
        raise ConnectionError("the reply was cut in the middle")
    return litellm().stream_chunk_builder(seen, messages=list(request.messages))


def completion_of(request: ModelRequest, answer: Any) -> Completion:
    choice, name = answer.choices[0], request.model or ""
    message = choice.message
    if choice.finish_reason == "content_filter":
        raise filtered(name, "the reply was withheld", unsure=True)
    calls = tuple(
        ToolCall(
            id=call.id or f"call_{n}",
            name=call.function.name or "",
            arguments=given if isinstance(given := call.function.arguments, str) else json.dumps(given),
        )
        for n, call in enumerate(message.tool_calls or ())
    )
    return Completion(
        text=message.content or "",
        tool_calls=calls,
        model=name,
        usage=usage_of(
            request, answer, said=str(message.content or "") + "".join(c.arguments for c in calls)
        ),
    )
