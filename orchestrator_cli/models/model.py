"""The one door to models: LiteLLM behind a small protocol, its faults translated into ours.

A call is made in a thread of its own that nobody waits for at exit, because a provider that
does not answer must not hold a run that was cancelled. One call is one try: who tries again, and
when, is for `persistent` to say. Prices and counts of tokens are LiteLLM's too.

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
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, JsonValue

from orchestrator_cli.cancellation import Cancellation, run_beside
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.errors import ProviderError
from orchestrator_cli.models.limits import Quote
from orchestrator_cli.usage import Usage

Message = dict[str, Any]
OnDelta = Callable[[str], None]


class ToolCall(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    arguments: str
    """JSON, as the model wrote it."""


class Request(BaseModel):
    """One model call. `role` and `subject` say for whom: they choose the model and name the call."""

    model_config = ConfigDict(frozen=True)

    role: str
    subject: str = ""
    """The subtask or tool it is about; empty for the run as a whole."""
    model: str | None = None
    """Asked instead of the role's model, where an agent's role file names one."""
    messages: tuple[Message, ...]
    tools: tuple[dict[str, JsonValue], ...] = ()
    """OpenAI's function schemas."""
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    """The longest reply that is asked for."""


class Reply(BaseModel):
    model_config = ConfigDict(frozen=True)

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    model: str
    usage: Usage
    seconds: float = 0.0


class Embedded(BaseModel):
    """What a model of embeddings made of the texts of a request, one vector for each, in their order."""

    model_config = ConfigDict(frozen=True)

    vectors: tuple[tuple[float, ...], ...]
    model: str
    usage: Usage
    seconds: float = 0.0


class Model(Protocol):
    def complete(
        self, request: Request, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Reply:
        """Answer one request; `on_delta` is called with pieces of the text as they arrive.

        `cancellation` is that of an attempt, where it is narrower than the run's. Raises
        `ProviderError`, or the reason of the cancellation.
        """
        ...


class LiteModel:
    """Models by LiteLLM's names; a request has to name its own. `timeout` is from request to last word."""

    def __init__(self, cancellation: Cancellation, *, timeout: float = 180.0) -> None:
        self._cancellation = cancellation
        self._timeout = timeout

    def complete(
        self, request: Request, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Reply:
        """Raises `PassingFault` where another try may go better."""
        cancellation, name = cancellation or self._cancellation, request.model or ""
        started = time.monotonic()
        pieces: queue.SimpleQueue[Any] = queue.SimpleQueue()
        run_beside(_call, name, request, on_delta is not None, self._timeout, pieces)
        while True:
            cancellation.check()
            if time.monotonic() - started > self._timeout:
                raise PassingFault(
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
                reply: Reply = piece
                return reply.model_copy(update={"seconds": time.monotonic() - started})


TRY_AGAIN = "Try again, or name another model with -m."


class PassingFault(ProviderError):
    """A fault that may have passed when the call is made again.

    `unsure`: the provider had begun to answer, or may have, and may bill it.
    """

    def __init__(
        self, message: str, remedy: str = "", *, unsure: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message, remedy)
        self.unsure = unsure
        self.retry_after = retry_after


IMPORTING = threading.RLock()
"""Held by whoever imports large libraries beside other work.

Two threads whose imports need each other's modules meet half-imported ones: Python then rather goes on than
waits for ever. Take it for one library at a time, because a first call waits for it.
"""

_IMPORTED: set[str] = set()
"""What has been used once, and imports nothing more."""


@contextlib.contextmanager
def _importing(what: str) -> Iterator[None]:
    """Around what imports when it is first done."""
    if what in _IMPORTED:
        yield
        return
    with IMPORTING:
        yield
        _IMPORTED.add(what)


def prepare(*, tools: bool = True) -> None:
    """Import LiteLLM: seconds of work that can happen beside everything else."""
    _litellm()
    if tools:
        _prepare_for_tools()


def _prepare_for_tools() -> None:
    """Import what LiteLLM imports in the middle of its first call with tools."""
    with _importing("tools"):
        importlib.import_module("litellm.responses.mcp.chat_completions_handler")


def _prepare_for_call(litellm: Any) -> None:
    """Import what LiteLLM and OpenAI's client, which serves most providers, import in their first call."""
    with _importing("call"):
        litellm.completion(
            model="openai/none", messages=[{"role": "user", "content": "x"}], mock_response="x"
        )
        for name in _OF_A_CALL:
            with contextlib.suppress(ImportError):  # a version that has none imports none
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
    # And without this it reads the .env of a folder that it is installed below.
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.drop_params = True
    # Its call for vectors takes no retries for none said, and then makes this many.
    litellm.DEFAULT_MAX_RETRIES = 0
    litellm.disable_hf_tokenizer_download = True
    for name in ("LiteLLM", "litellm", "httpx", "openai"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm


def _call(name: str, request: Request, stream: bool, timeout: float, out: "queue.SimpleQueue[Any]") -> None:
    """Make the call and put its text pieces, then its `Reply` or its translated error, into `out`."""
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
        if stream:
            answer = _gather(litellm, answer, request, out)
        out.put(_reply(litellm, name, answer))
    except Exception as exc:  # translated here, at the one boundary, for whoever waits
        out.put(_translate(exc, name))


def _gather(litellm: Any, chunks: Iterator[Any], request: Request, out: "queue.SimpleQueue[Any]") -> Any:
    seen = []
    for chunk in chunks:
        seen.append(chunk)
        if chunk.choices and (text := chunk.choices[0].delta.content):
            out.put(text)
    if getattr(chunks, "received_finish_reason", "stop") is None:
        raise ConnectionError("the reply was cut in the middle")
    return litellm.stream_chunk_builder(seen, messages=list(request.messages))


def _reply(litellm: Any, name: str, answer: Any) -> Reply:
    message = answer.choices[0].message
    usage = getattr(answer, "usage", None)
    cost = _cost(litellm, name, answer)
    calls = tuple(
        ToolCall(id=c.id or f"call_{i}", name=c.function.name or "", arguments=_as_text(c.function.arguments))
        for i, c in enumerate(message.tool_calls or ())
    )
    return Reply(
        text=message.content or "",
        tool_calls=calls,
        model=name,
        usage=Usage(
            calls=1,
            prompt_tokens=getattr(usage, "prompt_tokens", 0) or 0,
            completion_tokens=getattr(usage, "completion_tokens", 0) or 0,
            cost=cost or 0.0,
            unpriced=1 if cost is None else 0,
        ),
    )


def embed(request: Request, timeout: float) -> Embedded:
    """A vector for the text of each message: one try. Raises `ProviderError`."""
    litellm, name, started = _litellm(), request.model or "", time.monotonic()
    texts = [message["content"] for message in request.messages]
    try:
        _prepare_for_call(litellm)
        answer = litellm.embedding(model=name, input=texts, timeout=timeout, num_retries=0, max_retries=0)
        # Providers may answer in another order, and some leave the number out.
        rows = sorted(enumerate(answer.data), key=lambda row: row[1].get("index", row[0]))
        vectors = tuple(tuple(map(float, row["embedding"])) for _, row in rows)
    except Exception as exc:  # translated here, at the one boundary
        raise _translate(exc, name) from exc
    cost = _cost(litellm, name, answer, "embedding")
    usage = Usage(
        calls=1,
        prompt_tokens=getattr(getattr(answer, "usage", None), "prompt_tokens", 0) or 0,
        cost=cost or 0.0,
        unpriced=1 if cost is None else 0,
    )
    return Embedded(vectors=vectors, model=name, usage=usage, seconds=time.monotonic() - started)


def _cost(litellm: Any, name: str, answer: Any, call: str = "completion") -> float | None:
    if not _has_price(litellm, name):
        return None
    try:
        return float(litellm.completion_cost(completion_response=answer, model=name, call_type=call))
    except Exception:  # LiteLLM raises a bare Exception where it cannot tell
        return None


# --- what a call can come to

TOKENS_MARGIN = 1.35
"""Other tokenizers make up to a third more of the same text than the one that counts here."""
FRAME_TOKENS = 64
"""What a provider puts around the messages."""
SAMPLE_TOKENS = 1_000


def quote(request: Request) -> Quote:
    """The worst case of a request that names its model: some milliseconds, and no network."""
    with _importing("quote"):
        return _quote(request)


def _quote(request: Request) -> Quote:
    litellm, name = _litellm(), request.model or ""
    prompt = math.ceil(TOKENS_MARGIN * _count(litellm, name, request)) + FRAME_TOKENS
    try:
        known = litellm.get_model_info(name)
    except Exception:  # LiteLLM raises a bare Exception for a model that it does not know
        return Quote(prompt_tokens=prompt)
    longest = known.get("max_output_tokens") or known.get("max_tokens")
    if not _has_price(litellm, name):
        return Quote(prompt_tokens=prompt, reply_tokens=longest)
    said, told = litellm.cost_per_token(model=name, prompt_tokens=prompt, completion_tokens=SAMPLE_TOKENS)
    return Quote(
        prompt_tokens=prompt,
        reply_tokens=longest,
        prompt_cost=said,
        # A token of hidden thought may be dearer than one of the reply.
        token_cost=max(told / SAMPLE_TOKENS, known.get("output_cost_per_reasoning_token") or 0.0),
    )


def quote_embedding(request: Request) -> Quote:
    """The same of a request for vectors, to which there is no reply in words."""
    litellm, name = _litellm(), request.model or ""
    tokens = math.ceil(TOKENS_MARGIN * _count(litellm, name, request)) + FRAME_TOKENS
    if not _has_price(litellm, name):
        return Quote(prompt_tokens=tokens, reply_tokens=0)
    cost, _ = litellm.cost_per_token(
        model=name, prompt_tokens=tokens, completion_tokens=0, call_type="embedding"
    )
    return Quote(prompt_tokens=tokens, reply_tokens=0, prompt_cost=cost)


def unpriced(names: Iterable[str]) -> list[str]:
    """Those of the models whose price LiteLLM's list does not know."""
    litellm = _litellm()
    return sorted({name for name in names if not _has_price(litellm, name)})


def _has_price(litellm: Any, name: str) -> bool:
    """Whether there is a price; models of a server on this machine have one, and it is 0."""
    try:
        known = litellm.get_model_info(name)
    except Exception:  # as above
        return False
    entry = litellm.model_cost.get(known["key"])
    # LiteLLM takes an entry that says nothing of money for free.
    return entry is None or any("cost" in key for key in entry)


def _count(litellm: Any, name: str, request: Request) -> int:
    messages, tools = list(request.messages), list(request.tools) or None
    try:
        return int(litellm.token_counter(model=name, messages=messages, tools=tools))
    except Exception:  # an odd message is no reason to make no call: two bytes a token are plenty
        return len(json.dumps([messages, tools]).encode()) // 2


def _as_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _translate(exc: Exception, name: str) -> ProviderError:
    """LiteLLM's and the network's errors in our words."""
    import litellm.exceptions as foreign

    if fault := _unconnected(exc):
        return _unreachable(name, fault)
    said = _first_line(exc)
    if "missing credentials" in said.lower():
        return ProviderError(
            f"There is no API key for {name}.",
            "Export the provider's key, such as OPENAI_API_KEY (any text for a local server), "
            "or name another model with -m.",
        )
    match exc:
        case foreign.AuthenticationError() | foreign.PermissionDeniedError():
            return ProviderError(
                f"The provider of {name} refused the key: {said}",
                "Check the provider's API key in the environment, or name another model with -m.",
            )
        case foreign.NotFoundError():
            return ProviderError(f"There is no model {name}: {said}", "Name another one with -m.")
        case foreign.ContextWindowExceededError():
            return ProviderError(
                f"The request is too long for {name}: {said}", "Name a model with a larger context with -m."
            )
        case foreign.RateLimitError():
            return PassingFault(
                f"The provider of {name} is limiting requests (429): {said}",
                "Wait a little, or set fallbacks in orch.toml.",
                retry_after=_retry_after(exc),
            )
        case foreign.Timeout():
            return PassingFault(f"{name} did not answer in time: {said}", TRY_AGAIN, unsure=True)
        case foreign.BadRequestError() | foreign.UnprocessableEntityError():
            return ProviderError(f"{name} refused the request: {said}", "Name another model with -m.")
        case foreign.APIConnectionError() | ConnectionError() | OSError():
            return _unreachable(name, said, unsure=True)
        case _:
            return PassingFault(f"The provider of {name} failed: {said}", TRY_AGAIN, unsure=_was_cut(exc))


def _unreachable(name: str, fault: str, *, unsure: bool = False) -> PassingFault:
    return PassingFault(
        f"{name} cannot be reached: {fault}",
        "Check that its server runs and that OPENAI_BASE_URL or the network is right.",
        unsure=unsure,
    )


def _unconnected(exc: BaseException) -> str:
    """Why no connection was made; empty where one was. LiteLLM calls it an error of the server."""
    import httpx

    found = (e for e in _causes(exc) if isinstance(e, httpx.ConnectError | httpx.ConnectTimeout))
    return next((str(e) or "it did not answer" for e in found), "")


def _was_cut(exc: BaseException) -> bool:
    """Whether the connection was lost once it was there: the provider may have begun to answer."""
    import httpx

    return any(isinstance(e, httpx.TransportError) for e in _causes(exc))


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def _retry_after(exc: Exception) -> float | None:
    """The seconds a 429 asks to wait; at most two minutes are granted."""
    headers = getattr(getattr(exc, "response", None), "headers", None) or {}
    headers = getattr(exc, "litellm_response_headers", None) or headers
    try:
        return min(float(headers["retry-after"]), 120.0)
    except (LookupError, TypeError, ValueError):
        return None


def _first_line(exc: Exception) -> str:
    text = str(getattr(exc, "message", "") or exc).strip() or type(exc).__name__
    return truncate(text.splitlines()[0].removeprefix("litellm."), 240)
