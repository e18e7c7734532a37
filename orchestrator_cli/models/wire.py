"""What a provider sends, before LiteLLM reads it: bounded, from where it was asked, with a usage that counts.

LiteLLM reads a body of any length, decompresses it in one go, follows redirects to other hosts with the
provider's key, and fails a reply for a usage that is text or not finite. Its clients are given a hook here
that sees each response before its body is read.

Not covered: clients that LiteLLM does not make itself, such as those of Google's and Amazon's own libraries.
"""

import functools
import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from orchestrator_cli.http_bodies import ACCEPT_ENCODING, BodyRefused
from orchestrator_cli.http_clients import bound_body
from orchestrator_cli.http_requests import MAX_REDIRECTS, is_elsewhere

REPLY_BYTES = 10_000_000
"""The longest reply."""
STREAM_BYTES = 20 * REPLY_BYTES
"""The longest stream: its characters come a few at a time, in frames of some hundred bytes."""
MAX_TOKENS = 100_000_000
"""More tokens than any call can use."""


class RedirectRefused(ValueError):
    """A provider's server redirects to another host, which would be sent what was meant for this one."""


def guard_clients(made_by: Iterable[tuple[type, str]]) -> None:
    """Guard every HTTP client that these methods return, given as class and name."""
    for owner, name in made_by:
        static = isinstance(vars(owner)[name], staticmethod)
        guarded = _guarding(getattr(owner, name))
        setattr(owner, name, staticmethod(guarded) if static else guarded)


def _guarding(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def guarded(*args: Any, **options: Any) -> Any:
        client = make(*args, **options)
        hooks = client.event_hooks
        if guard_response not in hooks["response"]:
            client.headers["accept-encoding"] = ACCEPT_ENCODING
            client.max_redirects = MAX_REDIRECTS
            client.event_hooks = {**hooks, "response": [*hooks["response"], guard_response]}
        return client

    return guarded


def guard_response(response: Any) -> None:
    """Have the body of a response bounded while it is read. Raises `RedirectRefused` and `BodyRefused`."""
    if response.has_redirect_location:
        _check_redirect(response)
    checked = _CHECKS.get(response.headers.get("content-type", "").partition(";")[0].strip().lower(), iter)
    most = REPLY_BYTES if checked is _checked_whole else STREAM_BYTES
    if checked is _checked_whole and response.is_success and _asks_for_stream(response.request):
        checked = _checked_as_events
    bound_body(response, most, checked)


def _check_redirect(response: Any) -> None:
    here = response.url
    there = here.join(response.headers["location"])
    if is_elsewhere(str(here), str(there)):
        raise RedirectRefused(f"{here.host} redirects to {there.scheme}://{there.netloc.decode()}")


def _asks_for_stream(request: Any) -> bool:
    try:
        return json.loads(request.content).get("stream") is True
    except (ValueError, AttributeError, RuntimeError):  # httpx raises the last for a body that it streamed
        return False


def _checked_as_events(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A whole reply to a request for a stream, as a stream: some servers know no other."""
    text = _checked_json(b"".join(pieces))
    try:
        value = json.loads(text)
        choice = value["choices"][0]
        delta = choice["message"]
        for index, call in enumerate(delta.get("tool_calls") or ()):
            call["index"] = index
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        yield text
        return
    frame = {**value, "object": "chat.completion.chunk", "usage": None}
    end = {"index": 0, "delta": {}, "finish_reason": choice.get("finish_reason")}
    for row in (
        frame | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        frame | {"choices": [end]},
        frame | {"choices": [], "usage": value.get("usage")},
    ):
        yield _checked_line(b"data: " + json.dumps(row).encode()) + b"\n\n"
    yield b"data: [DONE]\n\n"


# --- usage


def _checked_whole(pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield _checked_json(b"".join(pieces))


def _checked_events(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a stream, as soon as each is complete."""
    parts: list[bytes] = []
    length = 0
    for piece in pieces:
        head, newline, rest = piece.rpartition(b"\n")
        if newline:
            whole, parts, length = b"".join(parts) + head, [], 0
            yield b"".join(_checked_line(line) + b"\n" for line in whole.split(b"\n"))
        parts.append(rest)
        length += len(rest)
        if length > REPLY_BYTES:
            raise BodyRefused(f"it sent a line of more than {REPLY_BYTES:,} bytes")
    if parts:
        yield _checked_line(b"".join(parts))


_CHECKS: dict[str, Callable[[Iterable[bytes]], Iterator[bytes]]] = {
    "application/json": _checked_whole,
    "text/event-stream": _checked_events,
}
"""By media type; other bodies are bounded and not looked into."""


def _checked_line(line: bytes) -> bytes:
    if not line.startswith(b"data:"):
        return line
    return b"data: " + _with_refusal(_checked_json(line.removeprefix(b"data:").strip()))


def _with_refusal(text: bytes) -> bytes:
    """The same piece of a reply; a refusal is where LiteLLM, which drops it, passes it on."""
    if b'"refusal"' not in text:
        return text
    try:
        value = json.loads(text)
        deltas = [choice["delta"] for choice in value["choices"] if choice["delta"].get("refusal")]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return text
    for delta in deltas:
        delta["provider_specific_fields"] = {"refusal": delta["refusal"]}
    return json.dumps(value).encode() if deltas else text


def _checked_json(text: bytes) -> bytes:
    """The same JSON; a usage that cannot be true is null in it."""
    if b'"usage' not in text:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    rows = [
        row for row in (value, _part(value, "message"), _part(value, "response")) if isinstance(row, dict)
    ]
    wrong = [
        (row, name) for row in rows for name in ("usage", "usageMetadata") if not is_usage(row.get(name))
    ]
    for row, name in wrong:
        row[name] = None
    return json.dumps(value).encode() if wrong else text


def _part(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def is_usage(value: Any) -> bool:
    """Whether what a provider says of a call's usage can be true. None, for nothing said, can."""
    return value is None or (isinstance(value, dict) and all(_is_true(*item) for item in value.items()))


def _is_true(name: str, value: Any) -> bool:
    if isinstance(value, dict):
        return is_usage(value)
    if isinstance(value, int | float):
        return math.isfinite(value) and 0 <= value <= MAX_TOKENS
    # Texts say other things than amounts, such as which tier of a service was used.
    return value is None or not name.lower().endswith(("tokens", "tokencount"))
