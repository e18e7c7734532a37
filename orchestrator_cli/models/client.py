"""Asks LiteLLM: one try of a completion or an embedding.

Each call runs in its own daemon thread, so that a provider that does not answer cannot block a
cancelled run. One call is one try; `chain` retries. Only a parameter that the model
refuses is left out at once, see `parameters`. LiteLLM's errors become ours here.

Not covered: replies of images and sound, and providers' batch interfaces. Recordings: see `media`.
"""

import queue
import time
from collections.abc import Callable
from typing import Any

from orchestrator_cli.cancellation import Cancellation, run_beside
from orchestrator_cli.errors import OrchError
from orchestrator_cli.models.client_errors import translate
from orchestrator_cli.models.endings import longest_reply
from orchestrator_cli.models.library import litellm, prepare_for_call
from orchestrator_cli.models.local_servers import check_stranger
from orchestrator_cli.models.model import Completion, Embeddings, ModelRequest, OnDelta, TransientError
from orchestrator_cli.models.own_keys import without_keys
from orchestrator_cli.models.parameters import Asking
from orchestrator_cli.models.pricing import longest_of, usage_of
from orchestrator_cli.models.replies import completion_of, gather
from toolsmith.sandbox.redaction import Secrets

Pieces = queue.SimpleQueue[Any]
STREAM_SHARE = 0.95
"""Of the time for a reply: one that is still arriving then is cut, instead of being asked for again."""
NO_KEYS = Secrets({})
MORE_TIME = "Give it more with ORCH_MODEL_TIMEOUT, or name another model with -m."


class LiteLLMModel:
    """Models by LiteLLM's names; every request must name one.

    Replies are streamed, so that one that does not end can be cut. The first one of a model is passed on as a
    whole: it shows whether its template opens thoughts, which can be seen at their end only.

    Args:
        timeout: seconds until the last word.
        notice: receives a line for each parameter that a model refuses, and for a model that is too slow.
        keys: are masked in every request.
    """

    def __init__(
        self,
        cancellation: Cancellation,
        *,
        timeout: float = 180.0,
        notice: Callable[[str], None] = lambda _: None,
        keys: Secrets = NO_KEYS,
    ) -> None:
        self._cancellation = cancellation
        self._timeout = timeout
        self._plain: set[str] = set()
        """The models whose last reply was as it had arrived."""
        self._slow: set[str] = set()
        """The models of which it was said that they need more time."""
        self._notice = notice
        self._asking = Asking(notice)
        self._keys = keys

    def complete(
        self, request: ModelRequest, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Completion:
        """Raises `TransientError` if a retry may succeed."""
        cancellation, name = cancellation or self._cancellation, request.model or ""
        started, arrived = time.monotonic(), ""
        is_live = on_delta is not None and name in self._plain
        pieces: Pieces = queue.SimpleQueue()
        run_beside(_call, self._asking, without_keys(request, self._keys), self._timeout, pieces)
        while True:
            cancellation.check()
            if time.monotonic() - started > self._timeout:
                raise TransientError(
                    f"{name} did not answer within {self._timeout:g} s.",
                    MORE_TIME,
                    unsure=True,
                )
            try:
                piece = pieces.get(timeout=0.05)
            except queue.Empty:
                continue
            if isinstance(piece, str):
                arrived += piece
                if on_delta is not None and is_live:
                    on_delta(piece)
            elif isinstance(piece, Exception):
                raise piece
            else:
                reply: Completion = piece
                if reply.text:
                    (self._plain.add if arrived == reply.text else self._plain.discard)(name)
                    if on_delta is not None and not is_live:
                        on_delta(reply.text)
                if reply.finish_reason == "time" and name not in self._slow:
                    self._slow.add(name)
                    self._notice(f"{name} did not end its reply within {self._timeout:g} s. {MORE_TIME}")
                return reply.model_copy(update={"seconds": time.monotonic() - started})


def _call(asking: Asking, request: ModelRequest, timeout: float, out: Pieces) -> None:
    """Put the pieces of text, then the `Completion` or the translated error, into `out`."""
    started, name = time.monotonic(), request.model or ""
    try:
        check_stranger(name)
        prepare_for_call()
        of_model = longest_of(name)
        longest = request.max_tokens or longest_reply(request.role, of_model)
        # A model that is not in the list may have a small context, for which this would be too much to ask.
        if of_model is not None:
            request = request.model_copy(update={"max_tokens": longest})
        answer, is_stream = asking.ask(request, stream=True, timeout=timeout)
        if is_stream:
            answer = gather(answer, request, out.put, longest=longest, until=started + STREAM_SHARE * timeout)
        reply = completion_of(request, answer)
        if not is_stream and reply.text:
            out.put(reply.text)
        out.put(reply)
    except Exception as exc:  # translated here, and raised in the waiting thread
        out.put(exc if isinstance(exc, OrchError) else _translated(exc, name))


def _translated(exc: Exception, name: str) -> Exception:
    try:
        return translate(exc, name)
    except Exception as fault:  # LiteLLM, whose errors are looked at, cannot be imported
        return fault


def embed(request: ModelRequest, timeout: float) -> Embeddings:
    """One vector for the text of each message, in one try. Raises `ProviderError`."""
    name, started = request.model or "", time.monotonic()
    texts = [message["content"] for message in request.messages]
    check_stranger(name)
    try:
        prepare_for_call()
        answer = litellm().embedding(model=name, input=texts, timeout=timeout, num_retries=0, max_retries=0)
        # Providers may change the order, and some leave the index out.
        rows = sorted(enumerate(answer.data), key=lambda row: row[1].get("index", row[0]))
        vectors = tuple(tuple(map(float, row["embedding"])) for _, row in rows)
    except Exception as exc:  # translated here, at the one boundary
        raise translate(exc, name) from exc
    usage = usage_of(request, answer, said=None)
    return Embeddings(vectors=vectors, model=name, usage=usage, seconds=time.monotonic() - started)
