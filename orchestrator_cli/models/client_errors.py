"""What LiteLLM and the network raise during a model call, as errors of ours."""

import ast
import contextlib
import json
import math
import re
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from orchestrator_cli.durable.text import truncate
from orchestrator_cli.errors import ProviderError, RequestRefused
from orchestrator_cli.http_bodies import BodyRefused
from orchestrator_cli.models.local_servers import bare_address
from orchestrator_cli.models.model import TransientError
from orchestrator_cli.models.wire import RedirectRefused

TRY_AGAIN = "Try again, or name another model with -m."
NAME_A_PROVIDER = (
    "Name a model with its provider, such as anthropic/claude-sonnet-4-6; "
    "one of the server at OPENAI_BASE_URL begins with openai/."
)


def translate(exc: Exception, name: str) -> ProviderError:
    """LiteLLM's and the network's errors as ours."""
    import httpx

    # LiteLLM reports a connection that was never made as a server error.
    kinds = (httpx.ConnectError, httpx.ConnectTimeout)
    if unmade := next((e for e in _causes(exc) if isinstance(e, kinds)), None):
        return _unreachable(name, str(unmade) or "it did not answer", _address_of(unmade))
    for cause in _causes(exc):
        if isinstance(cause, BodyRefused):
            return RequestRefused(
                f"The reply of {name} was not read: {cause}", "Name another model with -m.", unsure=True
            )
        if isinstance(cause, RedirectRefused | httpx.TooManyRedirects):
            return ProviderError(
                f"{name} cannot be reached: {cause}", "Set OPENAI_BASE_URL to its own address."
            )
        if isinstance(cause, httpx.UnsupportedProtocol | httpx.LocalProtocolError | UnicodeEncodeError):
            return ProviderError(
                f"{name} cannot be asked: its key or its address cannot be sent.",
                "Set the provider's key and address again, without quotes or line ends.",
            )
    words = _words(exc)
    if "missing credentials" in words.lower():
        return ProviderError(
            f"There is no API key for {name}.",
            "Export the provider's key, such as OPENAI_API_KEY (any text for a local server), "
            "or name another model with -m.",
        )
    return _of_litellm(exc, name, words)


def _of_litellm(exc: Exception, name: str, words: str) -> ProviderError:
    status = _status(exc)
    return (
        _of_the_request(exc, name, words, status)
        or _of_the_account(exc, name, words, status)
        or _passing(exc, name, words, status)
    )


def _of_the_request(exc: Exception, name: str, words: str, status: int) -> ProviderError | None:
    import litellm.exceptions as foreign

    match exc:
        case foreign.ContextWindowExceededError():
            return RequestRefused(
                f"The request is too long for {name}: {words}", "Name a model with a larger context with -m."
            )
        case foreign.ContentPolicyViolationError():
            return filtered(name, words)
        case foreign.BadRequestError() if "LLM Provider NOT provided" in words:
            return ProviderError(f"No provider of {name} is known.", NAME_A_PROVIDER)
        case _ if status in (400, 413, 422) and not _has_no_credit(exc, words):
            return RequestRefused(f"{name} refused the request: {words}", "Name another model with -m.")
    return None


def _of_the_account(exc: Exception, name: str, words: str, status: int) -> ProviderError | None:
    import litellm.exceptions as foreign

    match exc:
        case _ if status == 402 or _has_no_credit(exc, words):
            return ProviderError(
                f"The account at the provider of {name} is used up: {words}",
                "Add credit there, or name another model with -m.",
            )
        case _ if status in (401, 403) or isinstance(exc, foreign.AuthenticationError):
            return ProviderError(
                f"The provider of {name} refused the key: {words}",
                "Check the provider's API key in the environment, or name another model with -m.",
            )
        case foreign.NotFoundError():
            return ProviderError(f"There is no model {name}: {words}", "Name another one with -m.")
        case foreign.LiteLLMUnknownProvider():
            return ProviderError(f"The provider of {name} refused: {words}", "Name another model with -m.")
    return None


def _passing(exc: Exception, name: str, words: str, status: int) -> TransientError:
    import httpx
    import litellm.exceptions as foreign

    match exc:
        case foreign.RateLimitError():
            return TransientError(
                f"The provider of {name} is limiting requests (429): {words}",
                "Wait a little, or set fallbacks in orch.toml.",
                retry_after=_retry_after(exc),
            )
        case foreign.Timeout():
            return TransientError(f"{name} did not answer in time: {words}", TRY_AGAIN, unsure=True)
        case _ if not status and _is_unreadable(exc, words):
            return TransientError(f"{name} sent a reply that cannot be read.", TRY_AGAIN, unsure=True)
        case foreign.APIConnectionError() | ConnectionError() | OSError():
            return _unreachable(name, words, _address_of(exc), unsure=True)
        case _:
            # If an open connection was lost, the provider may have begun to answer.
            was_cut = any(isinstance(e, httpx.TransportError) for e in _causes(exc))
            return TransientError(
                f"The provider of {name} failed{f' ({status})' if status else ''}: {words}",
                TRY_AGAIN,
                unsure=was_cut,
                retry_after=_retry_after(exc),
            )


def filtered(name: str, text: str, *, unsure: bool = False) -> RequestRefused:
    return RequestRefused(
        f"The content filter of {name} refused it: {text}",
        "Put the prompt another way, or name another model with -m.",
        unsure=unsure,
    )


def _unreachable(name: str, fault: str, address: str, *, unsure: bool = False) -> TransientError:
    where = f" at {address}" if address else ""
    return TransientError(
        f"{name} cannot be reached{where}: {fault}",
        "Check that its server runs and that OPENAI_BASE_URL or the network is right.",
        unsure=unsure,
    )


def _address_of(exc: BaseException) -> str:
    """Where a request was sent, without what may be a key; empty if that is unknown."""
    import httpx

    for cause in _causes(exc):
        if isinstance(cause, httpx.RequestError):
            with contextlib.suppress(RuntimeError):  # it does not know its request
                return bare_address(str(cause.request.url))
    return ""


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def refusal_of(exc: Exception) -> tuple[str, str]:
    """The parameter that a provider says it refuses, and its words; two empty texts for any other fault."""
    import litellm.exceptions as foreign

    others = (foreign.ContextWindowExceededError, foreign.ContentPolicyViolationError)
    if isinstance(exc, others) or _status(exc) not in (400, 422):
        return "", ""
    named = next((str(param) for e in _causes(exc) if (param := getattr(e, "param", None))), "")
    return named, _words(exc)


def _status(exc: Exception) -> int:
    """The HTTP status; 0 if no server answered. LiteLLM reports some under another number."""
    import httpx

    found = [e.response.status_code for e in _causes(exc) if isinstance(e, httpx.HTTPStatusError)]
    # What LiteLLM refuses itself has only the number that it gives it.
    return found[-1] if found else 400 if getattr(exc, "status_code", None) == 400 else 0


_NO_CREDIT = ("insufficient_quota", "credit balance is too low")


def _has_no_credit(exc: Exception, words: str) -> bool:
    """Whether the account has to be paid for first. "Quota" alone can also be one of a minute."""
    said = [words, *(str(getattr(e, key, "")) for e in _causes(exc) for key in ("code", "type", "message"))]
    return any(sign in text for sign in _NO_CREDIT for text in said)


_LIBRARY_WORDS = re.compile(
    r"^(?:(?:litellm\.)?[A-Za-z_]\w*(?:Error|Exception)\b[\s:-]*)+(?:Error code: \d+ - )?"
    r"|(?<!\.)\.* Handle with `litellm\.\w+`\.$"
)


_BYTES = re.compile(r"b'.*'|b\".*\"", re.DOTALL)


def _words(exc: Exception) -> str:
    """What the provider says, on one line, without what libraries put around it."""
    bodies = [body for e in _causes(exc) if isinstance(body := getattr(e, "body", None), dict)]
    text = str(getattr(exc, "message", "") or exc).strip()
    text = _message_in(bodies[0]) if bodies else text
    text = _LIBRARY_WORDS.sub("", text).strip()
    if _BYTES.fullmatch(text):  # what LiteLLM makes of a fault that answers a request for a stream
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            text = ast.literal_eval(text).decode(errors="replace")
    with contextlib.suppress(ValueError, RecursionError):
        text = _message_in(json.loads(text)) or text
    # LiteLLM puts a traceback below.
    return truncate(text.partition("\n")[0].strip() or "it gives no reason", 240)


def _message_in(body: object) -> str:
    """The message of a fault, as OpenAI, Anthropic and others write it; empty if there is none."""
    while isinstance(body, dict):
        body = body.get("error") or body.get("message") or body.get("detail")
    return body if isinstance(body, str) else ""


def _is_unreadable(exc: Exception, words: str) -> bool:
    """Whether a library stumbled over the reply."""
    kinds = (LookupError, TypeError, AttributeError, ValueError)
    return words.startswith("LiteLLM: ") or any(isinstance(e, kinds) for e in _causes(exc))


def _retry_after(exc: Exception) -> float | None:
    """The seconds that the provider asks to wait, two minutes at most. The header has seconds or a date."""
    headers = getattr(exc, "litellm_response_headers", None)
    asked = str(
        (headers or getattr(getattr(exc, "response", None), "headers", None) or {}).get("retry-after")
    )
    try:
        seconds = float(asked)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(asked).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(0.0, seconds), 120.0) if math.isfinite(seconds) else None
