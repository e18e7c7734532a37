"""A provider's answer becomes a `Completion`: whole, or gathered from its pieces."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from orchestrator_cli.http_bodies import BodyRefused
from orchestrator_cli.models.client_errors import filtered
from orchestrator_cli.models.endings import CHARS_PER_TOKEN, finish_reason
from orchestrator_cli.models.library import litellm
from orchestrator_cli.models.model import Completion, FinishReason, ModelRequest, ToolCall
from orchestrator_cli.models.pricing import usage_of
from orchestrator_cli.models.repetition import RepetitionWatch
from orchestrator_cli.models.thoughts import ThoughtSplitter, split_thoughts
from orchestrator_cli.models.wire import REPLY_BYTES


def gather(
    chunks: Iterator[Any],
    request: ModelRequest,
    put: Callable[[str], None],
    *,
    longest: int,
    until: float = math.inf,
) -> Any:
    """The whole answer; `put` receives its text as it arrives, without thoughts that have a tag.

    Args:
        longest: tokens after which the rest is not read, for a model that may not have been given a limit.
        until: the same for a time of `time.monotonic`.

    Raises `BodyRefused` and `ConnectionError`.
    """
    seen: list[Any] = []
    parts = _Parts(longest, until)
    for chunk in chunks:
        seen.append(chunk)
        if chunk.choices and (text := parts.add(chunk.choices[0].delta)):
            put(text)
        if parts.cut:
            _hang_up(chunks)
            break
    if not parts.cut and getattr(chunks, "received_finish_reason", "stop") is None:
        raise ConnectionError("the reply was cut in the middle")
    if rest := parts.splitter.end():
        put(rest)
    if not any(getattr(chunk, "usage", None) for chunk in seen):
        # Or LiteLLM would count, for which it fetches lists of words from the network. See `usage_of`.
        seen[-1].usage = litellm().Usage(prompt_tokens=0, completion_tokens=0, total_tokens=0)
    answer = litellm().stream_chunk_builder(seen, messages=list(request.messages))
    choice = answer.choices[0]
    choice.message.refusal = parts.refusal
    choice.finish_reason = parts.cut or choice.finish_reason
    return answer


class _Parts:
    """What a reply consists of so far."""

    def __init__(self, longest: int, until: float) -> None:
        self.splitter = ThoughtSplitter()
        self.refusal = ""
        self.cut: FinishReason = ""
        """Why the rest of the reply is not read."""
        self._longest = longest
        self._until = until
        self._length = 0
        self._pieces = 0
        self._watches = {part: RepetitionWatch() for part in ("text", "thoughts", "calls")}

    def add(self, delta: Any) -> str:
        """The text that is certain by now. Raises `BodyRefused`."""
        content = delta.content or ""
        calls = "".join(call.function.arguments or "" for call in delta.tool_calls or ())
        thoughts = getattr(delta, "reasoning_content", None) or ""
        self.refusal += getattr(delta, "refusal", None) or ""
        self._length += len(content) + len(calls) + len(thoughts)
        self._pieces += bool(content or calls or thoughts)
        if self._length > REPLY_BYTES:
            raise BodyRefused(f"it is longer than {REPLY_BYTES:,} characters")
        found = {"text": content, "thoughts": thoughts, "calls": calls}
        if any(self._watches[part].feed(text) for part, text in found.items() if text):
            self.cut = "repetition"
        elif self._pieces > self._longest or self._length > CHARS_PER_TOKEN * self._longest:
            self.cut = "length"  # longer than any reply of so many tokens; a piece has one at least
        elif self._pieces > 0 and time.monotonic() > self._until:
            self.cut = "time"
        return self.splitter.feed(content)


def _hang_up(chunks: Any) -> None:
    """End a stream, so that its server need not go on."""
    with suppress(Exception):  # each of LiteLLM's providers has a stream of its own kind
        chunks.completion_stream.close()


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
    content = str(message.content or "")
    split = split_thoughts(content)
    thoughts = [str(getattr(message, "reasoning_content", None) or ""), split.thoughts]
    refusal = _refusal(message)
    return Completion(
        text=split.text,
        reasoning="\n".join(filter(None, thoughts)),
        finish_reason="refusal" if refusal else finish_reason(choice.finish_reason),
        refusal=refusal,
        tool_calls=calls,
        model=name,
        usage=usage_of(request, answer, said=content + "".join(c.arguments for c in calls)),
    )


def _refusal(message: Any) -> str:
    fields = getattr(message, "provider_specific_fields", None) or {}
    return str(getattr(message, "refusal", None) or fields.get("refusal") or "")
