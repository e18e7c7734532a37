"""The only module that calls LiteLLM: completions, embeddings, prices and token counts.

Each call runs in its own daemon thread, so that a provider that does not answer cannot block a
cancelled run. One call is one try; `chain` retries. LiteLLM's errors become ours here.

Not covered: audio and image content, and providers' batch interfaces.
"""

import contextlib
import importlib
import json
import logging
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator_cli.cancellation import Cancellation, run_beside
from orchestrator_cli.errors import ProviderError, RequestRefused
from orchestrator_cli.http_bodies import BodyRefused
from orchestrator_cli.models.budget import Quote
from orchestrator_cli.models.client_errors import filtered, translate
from orchestrator_cli.models.model import (
    Completion,
    Embeddings,
    ModelRequest,
    OnDelta,
    ToolCall,
    TransientError,
)
from orchestrator_cli.models.wire import MAX_TOKENS, REPLY_BYTES, guard_clients
from orchestrator_cli.values import Usage

Pieces = queue.SimpleQueue[Any]


class LiteLLMModel:
    """Models by LiteLLM's names; every request must name one. `timeout`: seconds until the last word."""

    def __init__(self, cancellation: Cancellation, *, timeout: float = 180.0) -> None:
        self._cancellation = cancellation
        self._timeout = timeout

    def complete(
        self, request: ModelRequest, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Completion:
        """Raises `TransientError` if a retry may succeed."""
        cancellation, name = cancellation or self._cancellation, request.model or ""
        started = time.monotonic()
        pieces: Pieces = queue.SimpleQueue()
        run_beside(_call, name, request, on_delta is not None, self._timeout, pieces)
        while True:
            cancellation.check()
            if time.monotonic() - started > self._timeout:
                raise TransientError(
                    f"{name} did not answer within {self._timeout:g} s.",
                    "Try again, give it more with ORCH_MODEL_TIMEOUT, or name another model with -m.",
                    unsure=True,
                )
            try:
                piece = pieces.get(timeout=0.05)
            except queue.Empty:
                continue
            if isinstance(piece, str):
                if on_delta is not None:
                    on_delta(piece)
            elif isinstance(piece, Exception):
                raise piece
            else:
                reply: Completion = piece
                return reply.model_copy(update={"seconds": time.monotonic() - started})


IMPORT_LOCK = threading.RLock()
"""Held while a thread imports a large library in the background.

If the imports of two threads need each other's modules, Python avoids the deadlock by handing out
half-imported ones. Hold it for one library at a time: a first model call waits for it.
"""

_IMPORTED: set[str] = set()
"""What was used once, and so imports nothing more."""


@contextlib.contextmanager
def _importing(what: str) -> Iterator[None]:
    """Guards an operation that imports modules the first time."""
    if what in _IMPORTED:
        yield
        return
    with IMPORT_LOCK:
        yield
        _IMPORTED.add(what)


def prepare(*, tools: bool = True) -> None:
    """Import LiteLLM, which takes seconds, so that a background thread can do it early."""
    _litellm()
    if tools:
        _prepare_for_tools()


def _prepare_for_tools() -> None:
    """Import what LiteLLM would import during its first call with tools."""
    with _importing("tools"):
        importlib.import_module("litellm.responses.mcp.chat_completions_handler")


def _prepare_for_call(litellm: Any) -> None:
    """Import what LiteLLM, and OpenAI's client below it, would import during their first call."""
    with _importing("call"):
        litellm.completion(
            model="openai/none", messages=[{"role": "user", "content": "x"}], mock_response="x"
        )
        for name in _OF_A_CALL:
            with contextlib.suppress(ImportError):  # other versions lack some of them
                importlib.import_module(name)


_OF_A_CALL = (
    *("openai.resources", "openai.lib.streaming.chat", "httpcore", "httpx2", "h2.connection", "jiter"),
    "litellm.types.litellm_core_utils.streaming_chunk_builder_utils",
    *("litellm._service_logger", "litellm.integrations.prometheus_services"),
)


def _litellm() -> Any:
    if "litellm" in _IMPORTED:
        return sys.modules["litellm"]
    with _importing("litellm"):
        return _import_litellm()


def _import_litellm() -> Any:
    # Without this LiteLLM fetches its price list over the network at import.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    # Without this it reads a .env file in the folders above its installation.
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.drop_params = True
    # Its embedding call reads 0 retries as unset, and then retries this often.
    litellm.DEFAULT_MAX_RETRIES = 0
    litellm.disable_hf_tokenizer_download = True
    for name in ("LiteLLM", "litellm", "httpx", "openai"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    handlers = importlib.import_module("litellm.llms.custom_httpx.http_handler")
    of_openai = importlib.import_module("litellm.llms.openai.common_utils")
    guard_clients(
        ((handlers.HTTPHandler, "create_client"), (of_openai.BaseOpenAILLM, "_get_sync_http_client"))
    )
    return litellm


def _call(name: str, request: ModelRequest, stream: bool, timeout: float, out: Pieces) -> None:
    """Put the pieces of text, then the `Completion` or the translated error, into `out`."""
    litellm = _litellm()
    options: dict[str, Any] = {"model": name, "messages": list(request.messages), "timeout": timeout}
    options |= {"num_retries": 0, "max_retries": 0, "stream": stream}
    if request.tools:
        _prepare_for_tools()
        options["tools"] = list(request.tools)
    if request.stop:
        options["stop"] = list(request.stop)
    if request.max_tokens is not None:
        options["max_tokens"] = request.max_tokens
    if stream:
        options["stream_options"] = {"include_usage": True}
    try:
        _prepare_for_call(litellm)
        answer = litellm.completion(**options)
        if answer is None:  # what it makes of a 422
            raise RequestRefused(f"{name} refused the request (422).", "Name another model with -m.")
        if stream:
            answer = _gather(litellm, answer, request, out)
        out.put(_reply(litellm, request, answer))
    except Exception as exc:  # translated here, and raised in the waiting thread
        out.put(exc if isinstance(exc, ProviderError) else translate(exc, name))


def _gather(litellm: Any, chunks: Iterator[Any], request: ModelRequest, out: Pieces) -> Any:
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
            out.put(delta.content)
    if getattr(chunks, "received_finish_reason", "stop") is None:
        raise ConnectionError("the reply was cut in the middle")
    return litellm.stream_chunk_builder(seen, messages=list(request.messages))


def _reply(litellm: Any, request: ModelRequest, answer: Any) -> Completion:
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
        usage=_usage(
            litellm, request, answer, said=str(message.content or "") + "".join(c.arguments for c in calls)
        ),
    )


def _usage(litellm: Any, request: ModelRequest, answer: Any, said: str | None) -> Usage:
    """What a call used; counted here if the provider says nothing that can be true.

    `said`: the reply; None for an embedding.
    """
    name, used = request.model or "", getattr(answer, "usage", None)
    sent, received = (_amount(getattr(used, key, 0)) for key in ("prompt_tokens", "completion_tokens"))
    if not sent and not received:
        sent = _count(litellm, request, messages=list(request.messages))
        received = _count(litellm, request, text=said) if said else 0
        answer.usage = litellm.Usage(
            prompt_tokens=sent, completion_tokens=received, total_tokens=sent + received
        )
    cost = _cost(litellm, name, answer, "embedding" if said is None else "completion")
    return Usage(
        calls=1,
        prompt_tokens=sent,
        completion_tokens=received,
        cost=cost or 0.0,
        unpriced=1 if cost is None else 0,
    )


def _amount(value: Any) -> int:
    """A number of tokens that a provider names; 0 if it cannot be true."""
    return value if isinstance(value, int) and 0 <= value <= MAX_TOKENS else 0


def embed(request: ModelRequest, timeout: float) -> Embeddings:
    """One vector for the text of each message, in one try. Raises `ProviderError`."""
    litellm, name, started = _litellm(), request.model or "", time.monotonic()
    texts = [message["content"] for message in request.messages]
    try:
        _prepare_for_call(litellm)
        answer = litellm.embedding(model=name, input=texts, timeout=timeout, num_retries=0, max_retries=0)
        # Providers may change the order, and some leave the index out.
        rows = sorted(enumerate(answer.data), key=lambda row: row[1].get("index", row[0]))
        vectors = tuple(tuple(map(float, row["embedding"])) for _, row in rows)
    except Exception as exc:  # translated here, at the one boundary
        raise translate(exc, name) from exc
    usage = _usage(litellm, request, answer, said=None)
    return Embeddings(vectors=vectors, model=name, usage=usage, seconds=time.monotonic() - started)


def _cost(litellm: Any, name: str, answer: Any, call: str = "completion") -> float | None:
    if not _has_price(litellm, name):
        return None
    try:
        cost = float(litellm.completion_cost(completion_response=answer, model=name, call_type=call))
    except Exception:  # LiteLLM raises a bare Exception if it does not know
        return None
    return cost if math.isfinite(cost) and cost >= 0 else None


# --- prices

TOKENS_MARGIN = 1.35
"""Other tokenizers produce up to a third more tokens than the one that counts here."""
FRAME_TOKENS = 64
"""Tokens that a provider adds around the messages."""
SAMPLE_TOKENS = 1_000


def quote(request: ModelRequest) -> Quote:
    """The worst case of a request that names its model. Takes milliseconds, and no network."""
    with _importing("quote"):
        return _quote(_litellm(), request.model or "", request)


def _quote(litellm: Any, name: str, request: ModelRequest) -> Quote:
    prompt = _prompt_tokens(litellm, request)
    try:
        known = litellm.get_model_info(name)
    except Exception:  # LiteLLM raises a bare Exception for a model that it does not know
        return Quote(prompt_tokens=prompt)
    longest = known.get("max_output_tokens") or known.get("max_tokens")
    if not _has_price(litellm, name):
        return Quote(prompt_tokens=prompt, reply_tokens=longest)
    sent, received = litellm.cost_per_token(model=name, prompt_tokens=prompt, completion_tokens=SAMPLE_TOKENS)
    return Quote(
        prompt_tokens=prompt,
        reply_tokens=longest,
        prompt_cost=sent,
        # A reasoning token can cost more than a token of the reply.
        token_cost=max(received / SAMPLE_TOKENS, known.get("output_cost_per_reasoning_token") or 0.0),
    )


def quote_embedding(request: ModelRequest) -> Quote:
    """The worst case of an embedding request, which has no reply tokens."""
    litellm, name = _litellm(), request.model or ""
    tokens = _prompt_tokens(litellm, request)
    if not _has_price(litellm, name):
        return Quote(prompt_tokens=tokens, reply_tokens=0)
    cost, _ = litellm.cost_per_token(
        model=name, prompt_tokens=tokens, completion_tokens=0, call_type="embedding"
    )
    return Quote(prompt_tokens=tokens, reply_tokens=0, prompt_cost=cost)


def unpriced(names: Iterable[str]) -> list[str]:
    """The models without a price in LiteLLM's list."""
    litellm = _litellm()
    return sorted({name for name in names if not _has_price(litellm, name)})


def _has_price(litellm: Any, name: str) -> bool:
    """Whether LiteLLM knows a price; models served on this machine have one, and it is 0."""
    try:
        known = litellm.get_model_info(name)
    except Exception:  # as above
        return False
    entry = litellm.model_cost.get(known["key"])
    # LiteLLM treats an entry without costs as free.
    return entry is None or any("cost" in key for key in entry)


def _prompt_tokens(litellm: Any, request: ModelRequest) -> int:
    counted = _count(litellm, request, messages=list(request.messages), tools=list(request.tools) or None)
    return math.ceil(TOKENS_MARGIN * counted) + FRAME_TOKENS


def _count(litellm: Any, request: ModelRequest, **content: Any) -> int:
    try:
        return int(litellm.token_counter(model=request.model or "", **content))
    except Exception:  # an odd message must not prevent the call; two bytes a token overestimate
        return len(json.dumps(content).encode()) // 2
