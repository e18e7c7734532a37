"""What a fault of a Qdrant server means, and what the user can do about it. Pure.

A fault that concerns one request (400, 413, 422) is `MemoryUnavailable`. Every other one concerns the server
as a whole and is `MemoryAway`, or `MemoryBusy` if it asks to be tried again.
"""

import re
import socket
import ssl
from collections.abc import Iterator

import httpx
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from memory.records import MemoryAway, MemoryBusy, MemoryFault, MemoryUnavailable

OLDEST_SERVER = (1, 19)
"""The first version that counts the rarity of words within a search (`idf`)."""

_OF_REQUEST = (400, 413, 422)
_WORDS_CHARS = 200
_ERROR = re.compile(rb'"error"\s*:\s*"((?:[^"\\]|\\.)*)"')


def explained(exc: Exception, url: str, *, has_key: bool) -> MemoryFault:
    """Our error for one that the client raised; a `ValueError` is an answer in no known form."""
    match exc:
        case ResourceExhaustedResponse():
            return _overloaded(url)
        case UnexpectedResponse(status_code=int() as status):
            return _refused(status, exc, url, has_key=has_key)
        case ResponseHandlingException(source=source):
            return MemoryAway(_silent(source, url))
        case ValueError():
            return MemoryAway(_stranger(url))
    return MemoryAway(f"The Qdrant server at {url} failed: {_short(str(exc))}.")


def check_version(version: str, url: str) -> None:
    """Raise `MemoryAway` if a server of that version is too old."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    if found is None:
        raise MemoryAway(_stranger(url))
    if (int(found[1]), int(found[2])) < OLDEST_SERVER:
        oldest = ".".join(map(str, OLDEST_SERVER))
        raise MemoryAway(
            f"The Qdrant server at {url} has version {_short(version)}; memory needs {oldest} or later. "
            "Upgrade the server, or unset memory.url to keep memory in a folder."
        )


def is_missing_collection(exc: UnexpectedResponse) -> bool:
    """Whether the server says that the collection, and not the address, does not exist."""
    return exc.status_code == httpx.codes.NOT_FOUND and b"ollection" in exc.content


def _refused(status: int, exc: UnexpectedResponse, url: str, *, has_key: bool) -> MemoryFault:
    where = f"The Qdrant server at {url}"
    if status in (401, 403):
        what = "does not accept memory.api_key" if has_key else "asks for a key"
        remedy = "Correct the key" if has_key else "Set memory.api_key in your own orch.toml"
        return MemoryAway(f"{where} {what} ({status}). {remedy}.")
    if is_missing_collection(exc):
        return MemoryAway(f"{where} has lost its collection ({status}); it is made again at the next try.")
    if status == 429:
        return _overloaded(url)
    if status in _OF_REQUEST:
        return MemoryUnavailable(f"{where} refused a request ({status}): {_words(exc)}")
    if status >= 500:
        return MemoryAway(f"{where} failed ({status}): {_words(exc)} Look at its log.")
    return MemoryAway(_stranger(url, f" ({status})"))


def _silent(source: BaseException, url: str) -> str:
    """Why a server did not answer, and what to do."""
    causes = list(_causes(source))
    for cause in causes:
        match cause:
            case ssl.SSLCertVerificationError():
                return (
                    f"The certificate of the server at {url} is not valid: {cause.verify_message}. If it is "
                    "your own, name its authority's file in SSL_CERT_FILE."
                )
            case ssl.SSLError():
                return f"The server at {url} does not speak TLS; if it has none, write http:// in memory.url."
            case socket.gaierror():
                return f"The name in {url} is unknown; check memory.url."
    where = f"The Qdrant server at {url}"
    match source:
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return f"{where} cannot be reached: it does not answer. Start it, or check memory.url."
        case httpx.TimeoutException():
            return f"{where} took too long to answer. Look at its load."
        case httpx.RemoteProtocolError():
            return f"{where} broke off; if it uses TLS, write https:// in memory.url."
        case httpx.TransportError():
            last = causes[-1]
            why = last.strerror if isinstance(last, OSError) and last.strerror else str(last)
            return f"{where} cannot be reached ({_short(why)}). Start it, or check memory.url."
    return _stranger(url)


def _stranger(url: str, status: str = "") -> str:
    return f"What answers at {url} is not a Qdrant server{status}; check memory.url."


def _overloaded(url: str) -> MemoryBusy:
    return MemoryBusy(f"The Qdrant server at {url} is overloaded; try again.")


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    """The error and those that led to it."""
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def _words(exc: UnexpectedResponse) -> str:
    """What the server says of the fault, in one line that ends a sentence."""
    found = _ERROR.search(exc.content)
    said = _short((found[1] if found else exc.content).decode("utf-8", "replace"))
    return f"{said or exc.reason_phrase}".rstrip(".") + "."


def _short(text: str) -> str:
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= _WORDS_CHARS else f"{line[:_WORDS_CHARS]}…"
