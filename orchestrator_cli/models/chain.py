"""The models of a run, from the outside in: retries and fallbacks → throttle → metering → one try.

A failure that may pass is retried after the time that the provider asks for, or after a growing pause.
Then the next fallback is asked; then the error is raised. Every try is a call of the model below, so the
meter counts them all. Recorded replies are only metered: they have no provider that could fail.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import tenacity

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import ConfigError, ProviderError
from orchestrator_cli.events import Fact, Noticed
from orchestrator_cli.model_settings import ModelParameters
from orchestrator_cli.models.budget import MeteredModel, call_event
from orchestrator_cli.models.client import NO_KEYS, LiteLLMModel, embed
from orchestrator_cli.models.library import prepare
from orchestrator_cli.models.media import sees
from orchestrator_cli.models.model import (
    Completion,
    Embeddings,
    Model,
    ModelRequest,
    OnDelta,
    TransientError,
    has_images,
)
from orchestrator_cli.models.own_keys import own_keys, without_keys
from orchestrator_cli.models.parameters import with_parameters
from orchestrator_cli.models.pricing import quote, quote_embedding, unpriced
from orchestrator_cli.settings import Settings
from orchestrator_cli.values import Usage
from toolsmith.sandbox.redaction import Secrets

Emit = Callable[[Fact], None]
OnWait = Callable[[ModelRequest, str], None]
EMBEDDING_ROLE = "memory"
"""The role of embedding calls in events."""
EMBEDDING_WAIT_S = 20.0


@dataclass(frozen=True)
class ModelChain:
    model: Model
    """The outermost model, which the run asks."""
    meter: MeteredModel
    """Holds what its calls cost."""


def open_models(
    settings: Settings,
    names: Mapping[str, str],
    cancellation: Cancellation,
    emit: Emit,
    *,
    used: Usage = Usage(),  # noqa: B008 - it is frozen
    run: str = "",
) -> ModelChain:
    """Live models: `names` per role. `used` and `run` are as in `MeteredModel`."""

    def notice(text: str) -> None:
        emit(Noticed(message=text))

    def wait(request: ModelRequest, waits_for: str) -> None:
        emit(call_event(request, waits_for))

    keys = own_keys(settings)
    once = LiteLLMModel(cancellation, timeout=settings.model_timeout, notice=notice, keys=keys)
    meter = MeteredModel(once, settings, emit, quote=quote, used=used, run=run)
    model = RetryingModel(
        ThrottledModel(meter, settings.max_parallel_models, cancellation, wait),
        names,
        cancellation,
        fallbacks=settings.fallbacks,
        parameters={str(role): chosen for role, chosen in settings.parameters.items()},
        retries=settings.model_retries,
        notice=notice,
        on_wait=wait,
        sees=lambda name: name in settings.vision_models or bool(sees(name)),
    )
    return ModelChain(model, meter)


def recorded_models(
    model: Model,
    settings: Settings,
    emit: Emit,
    *,
    used: Usage = Usage(),  # noqa: B008 - it is frozen
    run: str = "",
) -> ModelChain:
    """A recording in place of live models."""
    meter = MeteredModel(model, settings, emit, used=used, run=run)
    return ModelChain(meter, meter)


def check_prices(settings: Settings, names: Iterable[str], cancellation: Cancellation) -> None:
    """Raise `ConfigError` if cost is limited and a model has no price, so that the limit cannot hold.

    Waits for LiteLLM's import; returns at once if cost is not limited.
    """
    if settings.max_cost is None or settings.allow_unpriced:
        return
    if unknown := cancellation.waiting_for(lambda: unpriced([*names, *settings.fallbacks])):
        several = len(unknown) > 1
        raise ConfigError(
            f"The limit of ${settings.max_cost:g} cannot hold: no price is known of {', '.join(unknown)}.",
            f"Name {'models' if several else 'a model'} with a price, limit calls or tokens instead "
            "(--max-calls, --max-tokens), or let them pass uncounted with --allow-unpriced.",
        )


class RetryingModel:
    """Chooses the model of a request by its role, and retries until there is a reply.

    Args:
        model: makes one try of a request that names its model.
        names: model name per role.
        parameters: of the requests, per role.
        fallbacks: names asked in turn when a provider fails.
        retries: further tries after a transient failure.
        notice: receives one line for each retry and fallback.
        on_wait: receives each request that waits to be tried again, and what it waits for.
        sees: whether a model takes images; a fallback that does not is not asked about any.
    """

    def __init__(
        self,
        model: Model,
        names: Mapping[str, str],
        cancellation: Cancellation,
        *,
        fallbacks: Sequence[str] = (),
        parameters: Mapping[str, ModelParameters] = {},
        retries: int = 2,
        notice: Callable[[str], None] = lambda _: None,
        on_wait: OnWait = lambda _request, _what: None,
        sees: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._model = model
        self._sees = sees
        self._names = names
        self._cancellation = cancellation
        self._fallbacks = tuple(fallbacks)
        self._parameters = parameters
        self._retries = retries
        self._notice = notice
        self._on_wait = on_wait

    def complete(
        self, request: ModelRequest, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Completion:
        cancellation = cancellation or self._cancellation
        request = with_parameters(request, self._parameters.get(request.role))
        others = [one for one in self._fallbacks if not has_images(request) or self._sees(one)]
        names = [request.model or self._names[request.role], *others]
        for name, following in zip(names, [*names[1:], None], strict=True):
            asked = request.model_copy(update={"model": name})
            try:
                return self._retrying(cancellation)(self._model.complete, asked, on_delta, cancellation)
            except ProviderError as exc:
                if following is None:
                    raise
                self._notice(f"{exc.message} Asking {following} instead.")
        raise AssertionError("there is always a last model")

    def _retrying(self, cancellation: Cancellation) -> tenacity.Retrying:
        def before_sleep(state: tenacity.RetryCallState) -> None:
            exc = state.outcome.exception() if state.outcome else None
            what = exc.message if isinstance(exc, ProviderError) else "The model call failed."
            stop = "" if what.endswith((".", "!", "?")) else "."
            self._notice(f"{what}{stop} Trying again in {state.upcoming_sleep:.1f} s.")
            self._on_wait(state.args[0], "its next try")

        return tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._retries + 1),
            retry=tenacity.retry_if_exception_type(TransientError),
            wait=_wait,
            sleep=cancellation.wait,
            before_sleep=before_sleep,
            reraise=True,
        )


def _wait(state: tenacity.RetryCallState) -> float:
    exc = state.outcome.exception() if state.outcome else None
    asked = exc.retry_after if isinstance(exc, TransientError) else None
    return asked if asked is not None else tenacity.wait_exponential_jitter(initial=0.5, max=20)(state)


class ThrottledModel:
    """Limits how many calls of one model run at once; Ctrl-C also ends the waiting.

    Args:
        most: calls at once per model name; other models are not limited.
        on_wait: receives each request that has to wait, and what it waits for.
    """

    def __init__(
        self,
        model: Model,
        most: Mapping[str, int],
        cancellation: Cancellation,
        on_wait: OnWait = lambda _request, _what: None,
    ) -> None:
        self._model = model
        self._most = most
        self._cancellation = cancellation
        self._on_wait = on_wait
        self._under_way: Counter[str] = Counter()
        self._changed = threading.Condition()

    def complete(
        self, request: ModelRequest, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Completion:
        name = request.model or ""
        if self._is_full(name):
            self._on_wait(request, f"its turn at {name}")
        with self._slot(name, cancellation or self._cancellation):
            return self._model.complete(request, on_delta, cancellation)

    def _is_full(self, name: str) -> bool:
        return self._under_way[name] >= self._most.get(name, self._under_way[name] + 1)

    @contextmanager
    def _slot(self, name: str, cancellation: Cancellation) -> Iterator[None]:
        with self._changed:
            while self._is_full(name):
                cancellation.check()
                # Short waits, because on some systems the main thread takes Ctrl-C only between them.
                self._changed.wait(0.1)
            cancellation.check()
            self._under_way[name] += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way[name] -= 1
                self._changed.notify_all()


class EmbeddingModel:
    """Turns texts into vectors with the model `name`, in one try and within `wait_s` seconds.

    A vector that is missing can be made later, so there are no retries. `meter` belongs to the run
    that asks. Not covered: models that distinguish questions from documents.
    """

    def __init__(
        self,
        name: str,
        cancellation: Cancellation,
        meter: MeteredModel | None = None,
        wait_s: float = EMBEDDING_WAIT_S,
        keys: Secrets = NO_KEYS,
    ) -> None:
        self._name = name
        self._cancellation = cancellation
        self._meter = meter
        self._wait_s = wait_s
        self._keys = keys
        self.used = Usage()

    def __call__(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """One vector for each text. Raises `ProviderError`, `LimitReached`, and what ends the run."""
        messages = tuple({"role": "user", "content": text} for text in texts)
        request = ModelRequest(role=EMBEDDING_ROLE, model=self._name, messages=messages)
        # The import takes seconds that do not count against the provider.
        self._cancellation.waiting_for(lambda: prepare(tools=False))
        if self._meter is not None:
            answer = self._meter.count(request, quote_embedding, lambda: self._ask(request))
        else:
            answer = self._ask(request)
        self.used += answer.usage
        return answer.vectors

    def _ask(self, request: ModelRequest) -> Embeddings:
        late = TransientError(f"{self._name} made no vectors within {self._wait_s:g} s.", unsure=True)
        with self._cancellation.limited(self._wait_s, lambda: late) as limited:
            # LiteLLM's own limit only ends what nothing waits for any more.
            return limited.waiting_for(lambda: embed(without_keys(request, self._keys), 2 * self._wait_s))
