"""What LiteLLM and the network raise during a model call, as errors of ours."""

from collections.abc import Iterator

from orchestrator_cli.durable.text import truncate
from orchestrator_cli.errors import ProviderError, RequestRefused
from orchestrator_cli.http_bodies import BodyRefused
from orchestrator_cli.models.model import TransientError
from orchestrator_cli.models.wire import RedirectRefused

TRY_AGAIN = "Try again, or name another model with -m."


def translate(exc: Exception, name: str) -> ProviderError:
    """LiteLLM's and the network's errors as ours."""
    import httpx

    # LiteLLM reports a connection that was never made as a server error.
    kinds = (httpx.ConnectError, httpx.ConnectTimeout)
    if unmade := next((e for e in _causes(exc) if isinstance(e, kinds)), None):
        return _unreachable(name, str(unmade) or "it did not answer")
    for cause in _causes(exc):
        if isinstance(cause, BodyRefused):
            return RequestRefused(
                f"The reply of {name} was not read: {cause}", "Name another model with -m.", unsure=True
            )
        if isinstance(cause, RedirectRefused | httpx.TooManyRedirects):
            return ProviderError(
                f"{name} cannot be reached: {cause}", "Set OPENAI_BASE_URL to its own address."
            )
    text = str(getattr(exc, "message", "") or exc).strip() or type(exc).__name__
    text = truncate(text.splitlines()[0].removeprefix("litellm."), 240)
    if "missing credentials" in text.lower():
        return ProviderError(
            f"There is no API key for {name}.",
            "Export the provider's key, such as OPENAI_API_KEY (any text for a local server), "
            "or name another model with -m.",
        )
    return _of_litellm(exc, name, text)


def _of_litellm(exc: Exception, name: str, text: str) -> ProviderError:
    import httpx
    import litellm.exceptions as foreign

    match exc:
        case foreign.AuthenticationError() | foreign.PermissionDeniedError():
            return ProviderError(
                f"The provider of {name} refused the key: {text}",
                "Check the provider's API key in the environment, or name another model with -m.",
            )
        case foreign.NotFoundError():
            return ProviderError(f"There is no model {name}: {text}", "Name another one with -m.")
        case foreign.PaymentRequiredError() | foreign.LiteLLMUnknownProvider():
            return ProviderError(f"The provider of {name} refused: {text}", "Name another model with -m.")
        case foreign.ContextWindowExceededError():
            return RequestRefused(
                f"The request is too long for {name}: {text}", "Name a model with a larger context with -m."
            )
        case foreign.ContentPolicyViolationError():
            return filtered(name, text)
        case foreign.RateLimitError():
            return TransientError(
                f"The provider of {name} is limiting requests (429): {text}",
                "Wait a little, or set fallbacks in orch.toml.",
                retry_after=_retry_after(exc),
            )
        case foreign.Timeout():
            return TransientError(f"{name} did not answer in time: {text}", TRY_AGAIN, unsure=True)
        case (
            foreign.BadRequestError() | foreign.UnprocessableEntityError() | foreign.APIError(status_code=413)
        ):
            return RequestRefused(f"{name} refused the request: {text}", "Name another model with -m.")
        case foreign.APIConnectionError() | ConnectionError() | OSError():
            return _unreachable(name, text, unsure=True)
        case _:
            # If an open connection was lost, the provider may have begun to answer.
            was_cut = any(isinstance(e, httpx.TransportError) for e in _causes(exc))
            return TransientError(f"The provider of {name} failed: {text}", TRY_AGAIN, unsure=was_cut)


def filtered(name: str, text: str, *, unsure: bool = False) -> RequestRefused:
    return RequestRefused(
        f"The content filter of {name} refused it: {text}",
        "Put the prompt another way, or name another model with -m.",
        unsure=unsure,
    )


def _unreachable(name: str, fault: str, *, unsure: bool = False) -> TransientError:
    return TransientError(
        f"{name} cannot be reached: {fault}",
        "Check that its server runs and that OPENAI_BASE_URL or the network is right.",
        unsure=unsure,
    )


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def _retry_after(exc: Exception) -> float | None:
    """The seconds a 429 asks to wait, two minutes at most."""
    headers = getattr(getattr(exc, "response", None), "headers", None) or {}
    headers = getattr(exc, "litellm_response_headers", None) or headers
    try:
        return min(max(0.0, float(headers["retry-after"])), 120.0)
    except (LookupError, TypeError, ValueError):
        return None
