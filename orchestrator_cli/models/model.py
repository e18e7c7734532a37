"""The one door to models: LiteLLM behind a small protocol, its faults translated into ours.

A call is made in a thread of its own that nobody waits for at exit, because a provider that
does not answer must not hold a run that was cancelled. A fault that may pass (429, 5xx, a
cut or late reply) is tried again, as long as `Retry-After` asks; then the next model of the
fallbacks is asked; then the error is the user's.

Not covered: audio and image content, and providers' batch interfaces.
"""

import importlib
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import tenacity
from pydantic import BaseModel, ConfigDict, JsonValue

from orchestrator_cli.cancellation import Cancellation, run_beside
from orchestrator_cli.errors import ProviderError
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


class Reply(BaseModel):
    model_config = ConfigDict(frozen=True)

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
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


@dataclass(frozen=True)
class _Asked:
    """One request on its way."""

    request: Request
    on_delta: OnDelta | None
    cancellation: Cancellation


class LiteModel:
    """Models by LiteLLM's names.

    Args:
        names: model name per role.
        fallbacks: names tried in turn when a provider fails.
        timeout: seconds for one call, from the request to the last word.
        retries: further tries of a call that failed in a way that may pass.
        notice: told in one line of each retry and fallback.
    """

    def __init__(
        self,
        names: Mapping[str, str],
        cancellation: Cancellation,
        *,
        fallbacks: Sequence[str] = (),
        timeout: float = 180.0,
        retries: int = 2,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._names = names
        self._fallbacks = tuple(fallbacks)
        self._cancellation = cancellation
        self._timeout = timeout
        self._retries = retries
        self._notice = notice

    def complete(
        self, request: Request, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Reply:
        asked = _Asked(request, on_delta, cancellation or self._cancellation)
        names = [request.model or self._names[request.role], *self._fallbacks]
        for name, following in zip(names, [*names[1:], None], strict=True):
            try:
                return self._persistently(name, asked)
            except ProviderError as exc:
                if following is None:
                    raise
                self._notice(f"{exc.message} Asking {following} instead.")
        raise AssertionError("there is always a last model")

    def _persistently(self, name: str, asked: "_Asked") -> Reply:
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._retries + 1),
            retry=tenacity.retry_if_exception(lambda exc: isinstance(exc, _Passing)),
            wait=_wait,
            sleep=asked.cancellation.wait,
            before_sleep=lambda state: self._notice(_retry_notice(state)),
            reraise=True,
        )
        return retrying(self._once, name, asked)

    def _once(self, name: str, asked: "_Asked") -> Reply:
        started = time.monotonic()
        pieces: queue.SimpleQueue[Any] = queue.SimpleQueue()
        run_beside(_call, name, asked.request, asked.on_delta is not None, self._timeout, pieces)
        while True:
            asked.cancellation.check()
            if time.monotonic() - started > self._timeout:
                raise _Passing(
                    f"{name} did not answer within {self._timeout:g} s.",
                    "Try again, give it more with ORCH_MODEL_TIMEOUT, or name another model with -m.",
                )
            try:
                piece = pieces.get(timeout=0.05)
            except queue.Empty:
                continue
            if isinstance(piece, str):
                if asked.on_delta is not None:
                    asked.on_delta(piece)
            elif isinstance(piece, Exception):
                raise piece
            else:
                reply: Reply = piece
                return reply.model_copy(update={"seconds": time.monotonic() - started})


TRY_AGAIN = "Try again, or name another model with -m."


class _Passing(ProviderError):
    """A fault that may have passed when the call is made again."""

    retry_after: float | None = None


def _wait(state: tenacity.RetryCallState) -> float:
    exc = state.outcome.exception() if state.outcome else None
    asked = exc.retry_after if isinstance(exc, _Passing) else None
    return asked if asked is not None else tenacity.wait_exponential_jitter(initial=0.5, max=20)(state)


def _retry_notice(state: tenacity.RetryCallState) -> str:
    exc = state.outcome.exception() if state.outcome else None
    what = exc.message if isinstance(exc, ProviderError) else "The model call failed."
    return f"{what} Trying again in {state.upcoming_sleep:.1f} s."


def prepare() -> None:
    """Import LiteLLM: seconds of work that can happen beside everything else."""
    _litellm()
    _prepare_for_tools()


def _prepare_for_tools() -> None:
    """Import what LiteLLM imports in the middle of its first call with tools.

    Two first calls at once would meet its half-imported modules.
    """
    with _IMPORTING:
        importlib.import_module("litellm.responses.mcp.chat_completions_handler")


_IMPORTING = threading.Lock()


def _litellm() -> Any:
    # Without this LiteLLM fetches its price list over the network at import.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.drop_params = True
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
    if stream:
        options["stream_options"] = {"include_usage": True}
    try:
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
    try:
        cost = float(litellm.completion_cost(completion_response=answer, model=name))
    except Exception:  # LiteLLM raises a bare Exception for a model without a price
        cost = None
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
            passing = _Passing(
                f"The provider of {name} is limiting requests (429): {said}",
                "Wait a little, or set fallbacks in orch.toml.",
            )
            passing.retry_after = _retry_after(exc)
            return passing
        case foreign.Timeout():
            return _Passing(f"{name} did not answer in time: {said}", TRY_AGAIN)
        case foreign.BadRequestError() | foreign.UnprocessableEntityError():
            return ProviderError(f"{name} refused the request: {said}", "Name another model with -m.")
        case foreign.APIConnectionError() | ConnectionError() | OSError():
            return _unreachable(name, said)
        case _:
            return _Passing(f"The provider of {name} failed: {said}", TRY_AGAIN)


def _unreachable(name: str, fault: str) -> _Passing:
    return _Passing(
        f"{name} cannot be reached: {fault}",
        "Check that its server runs and that OPENAI_BASE_URL or the network is right.",
    )


def _unconnected(exc: BaseException | None) -> str:
    """Why no connection was made; empty where one was. LiteLLM calls it an error of the server."""
    import httpx

    while exc is not None:
        if isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout):
            return str(exc) or "it did not answer"
        exc = exc.__cause__ or exc.__context__
    return ""


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
    text = text.splitlines()[0].removeprefix("litellm.")
    return text if len(text) <= 240 else text[:239] + "…"
