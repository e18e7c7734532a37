"""Fetches web pages, only from allowed domains and public addresses.

It connects to the address that was checked, so a name that resolves differently the second time gains
nothing. Redirects are followed only within the allowed domains. HTML is converted in a process with limits.
Not covered: pages that need a browser.
"""

import codecs
import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.http_bodies import ACCEPT_ENCODING, BodyDecoder
from orchestrator_cli.http_clients import trace_to
from orchestrator_cli.http_requests import ExchangeLimit
from orchestrator_cli.subprocesses.limited import CallLimits, LimitedCalls, Uncomputed
from orchestrator_cli.tools.html_text import html_text
from toolsmith.sandbox.addresses import public_address
from toolsmith.sandbox.proxy import grants_of_setting, plain_host

MAX_BYTES = 2_000_000
MAX_CHARS = 60_000
MAX_REDIRECTS = 5
WAIT_S = 20.0
"""For a connection, and for each piece of a page."""
WHOLE_S = 120.0
"""For a page."""
CONVERSION = CallLimits(call_s=30, whole_s=30, cpu_s=15, memory_mb=1024)
"""For the text of a page of HTML."""
ENCODINGS = frozenset(
    (
        *("ascii", "utf-8", "utf-16", "utf-16-le", "utf-16-be"),
        *("koi8-r", "koi8-u", "mac-roman", "mac-cyrillic"),
        *("gb2312", "gbk", "gb18030", "big5", "big5hkscs", "euc_jp", "iso2022_jp", "shift_jis", "euc_kr"),
        *(f"iso8859-{number}" for number in range(1, 17)),
        *(f"cp{number}" for number in (866, 874, 932, 949, *range(1250, 1259))),
    )
)
"""What a browser reads too, by Python's names. Other codecs of Python are not for pages, and may be slow."""
_CHARSET = re.compile(r"""charset=["']?([\w.:-]+)""", re.ASCII | re.IGNORECASE)

Resolve = Callable[[str, int], str]
"""From host and port to the address to connect to. Raises `ValueError`."""
Granted = Callable[[str, int], bool]
"""Whether a host and port outside the domains may be reached."""


def web_tools(
    domains: Sequence[str],
    resolve: Resolve = public_address,
    *,
    granted: Granted = lambda _host, _port: False,
    named: Sequence[str] = (),
    cancellation: Cancellation | None = None,
) -> dict[str, Callable[..., Any]]:
    """`fetch_url` for these domains and those below them on HTTP's ports, and what is `granted`,
    described as `named`.

    A `cancellation` ends the conversion of a page. Without any domain, as while planning, its description
    says what it needs, and it refuses every address.
    """
    reachable = [*domains, *named]

    def fetch_url(url: str) -> str:
        """Fetch a web page and return its text; needs the page's domain in the subtask's network.

        Args:
            url: An http or https address on one of the allowed domains.
        """
        for _ in range(MAX_REDIRECTS):
            url = in_plain_letters(url)
            _check(url, domains, granted, reachable)
            reply = _get(url, resolve, MAX_BYTES)
            if not reply.location:
                return _text(reply, url, cancellation)
            url = urljoin(url, reply.location)
        raise ValueError(f"{url} redirects more than {MAX_REDIRECTS} times")

    if reachable:
        fetch_url.__doc__ = (fetch_url.__doc__ or "").replace(
            "Fetch a web page and return its text; needs the page's domain in the subtask's network.",
            f"Fetch a web page on {', '.join(reachable)} and return its text.",
        )
    return {"fetch_url": fetch_url}


def in_plain_letters(url: str) -> str:
    """An address with its domain in ASCII, so that a person sees that it is no other that looks alike."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return url
    plain = None if host.isascii() else plain_host(host)
    return url if plain is None else parts._replace(netloc=f"{plain}:{port}" if port else plain).geturl()


def _text(reply: "HttpResponse", url: str, cancellation: Cancellation | None) -> str:
    """What a reader sees. Raises `ValueError` if a page of HTML takes too much to convert."""
    body = reply.body.decode(reply.encoding, "replace")
    if "html" not in reply.media:
        return body[:MAX_CHARS]
    try:
        with LimitedCalls(html_text, CONVERSION, cancellation) as convert:
            return str(convert(body, MAX_CHARS))
    except Uncomputed as exc:
        raise ValueError(
            f"{url} could not be converted to text: the conversion {exc}. "
            "Fetch another form of it, such as plain text, JSON or a shorter page"
        ) from exc


def _encoding(media: str) -> str:
    """The encoding that a media type names, by Python's name, or UTF-8 if that is none of `ENCODINGS`."""
    label = _CHARSET.search(media[:1000])
    try:
        name = codecs.lookup(label[1]).name if label else ""
    except LookupError:
        name = ""
    return name if name in ENCODINGS else "utf-8"


def _check(url: str, domains: Sequence[str], granted: Granted, reachable: Sequence[str]) -> None:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower().rstrip(".")
    if parts.scheme not in ("http", "https") or not host or "\0" in url:
        raise ValueError(f"{url!r} is no http or https address")
    port = _port(url)
    allowed = any(grant.covers(host, port) for grant in grants_of_setting(domains))
    if not (allowed or granted(host, port)):
        asked = host if parts.port is None else f"{host}:{port}"
        raise ValueError(f"{asked} is not allowed: allowed are {', '.join(reachable) or 'no domains at all'}")


def _port(url: str) -> int:
    """Raises `ValueError` if the port is malformed."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def fetch(url: str, resolve: Resolve = public_address, most: int = MAX_BYTES) -> "HttpResponse":
    """Fetch an address that the user named; redirects are followed to public addresses only.

    Reads at most `most` bytes of the body. Raises `ValueError`, `OSError` and what httpx raises.
    """
    for _ in range(MAX_REDIRECTS):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "\0" in url:
            raise ValueError(f"{url!r} is no http or https address")
        reply = _get(url, resolve, most)
        if not reply.location:
            return reply
        url = urljoin(url, reply.location)
    raise ValueError(f"{url} redirects more than {MAX_REDIRECTS} times")


def _get(url: str, resolve: Resolve, most: int) -> "HttpResponse":
    """The response with at most `most` bytes of body, from the address that was checked."""
    import httpx

    parts = urlsplit(url)
    host, port = parts.hostname or "", _port(url)
    address = resolve(host, port)
    netloc = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    headers = {"host": parts.netloc, "user-agent": "orch", "accept-encoding": ACCEPT_ENCODING}
    too_long, limit = ValueError(f"{url} took longer than {WHOLE_S:g} s"), ExchangeLimit(WHOLE_S)
    limit.begin()
    try:
        with (
            contextlib.closing(limit),
            httpx.Client(timeout=WAIT_S, trust_env=False) as client,
            client.stream(
                "GET",
                parts._replace(netloc=netloc).geturl(),
                headers=headers,
                extensions={"sni_hostname": host, "trace": trace_to(limit)},
            ) as reply,
        ):
            if reply.status_code >= 400:
                raise ValueError(f"{url} answered {reply.status_code}")
            body = bytearray()
            decoder = BodyDecoder(reply.headers.get("content-encoding", ""))
            for piece in (part for raw in reply.iter_raw() for part in decoder.read(raw)):
                body += piece
                if len(body) > most or limit.is_late:
                    break
    except httpx.TransportError as exc:
        if limit.is_late:
            raise too_long from exc
        raise
    if limit.is_late:
        raise too_long
    return HttpResponse(
        bytes(body[:most]),
        media=reply.headers.get("content-type", ""),
        encoding=_encoding(reply.headers.get("content-type", "")),
        location=reply.headers.get("location", ""),
    )


@dataclass(frozen=True)
class HttpResponse:
    """The response of an address; `location` if it redirects."""

    body: bytes
    media: str
    encoding: str
    location: str
