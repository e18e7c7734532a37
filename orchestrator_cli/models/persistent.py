"""A model call that is not given up at the first fault: tried again, then asked of the next model.

A fault that may pass is tried again after the time that the provider asks for, or after a growing
pause. Then the next of the fallbacks is asked; then the error is the user's. Every try is a call of
the model behind, so whoever counts there counts them all.
"""

from collections.abc import Callable, Mapping, Sequence

import tenacity

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import ProviderError
from orchestrator_cli.models.model import Model, OnDelta, PassingFault, Reply, Request


class PersistentModel:
    """Chooses the model of a request by its role, and asks it until there is a reply.

    Args:
        model: makes one try of a request that names its model.
        names: model name per role.
        fallbacks: names tried in turn when a provider fails.
        retries: further tries of a call that failed in a way that may pass.
        notice: told in one line of each retry and fallback.
    """

    def __init__(
        self,
        model: Model,
        names: Mapping[str, str],
        cancellation: Cancellation,
        *,
        fallbacks: Sequence[str] = (),
        retries: int = 2,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._model = model
        self._names = names
        self._cancellation = cancellation
        self._fallbacks = tuple(fallbacks)
        self._retries = retries
        self._notice = notice

    def complete(
        self, request: Request, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Reply:
        cancellation = cancellation or self._cancellation
        names = [request.model or self._names[request.role], *self._fallbacks]
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
        return tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._retries + 1),
            retry=tenacity.retry_if_exception_type(PassingFault),
            wait=_wait,
            sleep=cancellation.wait,
            before_sleep=lambda state: self._notice(_retry_notice(state)),
            reraise=True,
        )


def _wait(state: tenacity.RetryCallState) -> float:
    exc = state.outcome.exception() if state.outcome else None
    asked = exc.retry_after if isinstance(exc, PassingFault) else None
    return asked if asked is not None else tenacity.wait_exponential_jitter(initial=0.5, max=20)(state)


def _retry_notice(state: tenacity.RetryCallState) -> str:
    exc = state.outcome.exception() if state.outcome else None
    what = exc.message if isinstance(exc, ProviderError) else "The model call failed."
    return f"{what} Trying again in {state.upcoming_sleep:.1f} s."
