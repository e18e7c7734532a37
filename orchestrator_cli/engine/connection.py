"""The way to the Prefect server of a run: the home's own, or one that the user names.

The home's own server is started if none runs, also when it has died during the run. A server of the user is
checked before the run costs anything, because an address or a password that is wrong stays wrong.
"""

import hashlib
import importlib.metadata
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.engine import server
from orchestrator_cli.engine.local_api import unused_tls
from orchestrator_cli.engine.outbox import REQUEST_S, send_unsent
from orchestrator_cli.environment import prefect_headers, prefect_tls
from orchestrator_cli.errors import ConfigError, OrchError
from orchestrator_cli.http_clients import httpx_options
from orchestrator_cli.http_requests import send

NOWHERE = "http://127.0.0.1:9/api"
"""An address for Prefect's settings if no server can be started: without one, Prefect starts its own."""
CHECK_S = 10.0
SHORT_S = 2.0
EXCHANGE_S = 30.0
"""For a whole request of Prefect's client, which waits `REQUEST_S` for each part of it."""
REPLY_BYTES = 16 << 20
PUT_OFF = ("retry-after", "prefect-maintenance")
"""Headers for which Prefect's client would sleep as long as a server likes."""
MANY_FAILURES = 3
"""A server that has not come up so often is not started again."""
CLOUD = "prefect.cloud"
REMEDY = "Mend PREFECT_API_URL, or unset it: orch then uses a server of its own."


class PrefectConnection:
    """The server of one run. `open` returns at once; `client` waits until the server answers."""

    def __init__(self, url: str | None, home: Path, idle_minutes: float, cancellation: Cancellation) -> None:
        """`url`: the API of the user's own server; None for that of `home`.

        Raises `ConfigError` if the user's own server cannot be used.
        """
        # A run that this one is part of has set the address for all that it starts.
        self._url = url if url and not server.is_of_home(url, home) else None
        if self._url:
            cancellation.waiting_for(partial(check_server, self._url))
        self._home = home
        self._idle_minutes = idle_minutes
        self._cancellation = cancellation
        self._failures = 0
        self._is_open = False
        self.url = NOWHERE
        """Of the API of the server that is used now."""

    @property
    def is_own(self) -> bool:
        """Whether the server is the home's own, which only who has its password can use."""
        return self._url is None

    @property
    def unsent(self) -> Path:
        """Where messages are kept that could not be sent to this server."""
        folder = self._home / "prefect" / "unsent"
        return folder / hashlib.sha256(self._url.encode()).hexdigest()[:16] if self._url else folder

    def open(self) -> str:
        """Start the server, if need be, and name it to Prefect; its address. Raises why that fails."""
        self.url = self._url or server.ensure_server(self._home, self._idle_minutes)
        server.configure_client(self.url, self._home, own=bool(self._url))
        self._is_open = True
        return self.url

    def open_or_do_without(self) -> None:
        """As `open`. A server that cannot be started is tried again beside the run."""
        try:
            self.open()
        except (OrchError, OSError):
            server.configure_client(NOWHERE, self._home)

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A client of Prefect. Raises why the server cannot be reached."""
        if self._failures >= MANY_FAILURES:
            raise ConnectionError(f"its server has failed to start {MANY_FAILURES} times")
        if not self._is_open:
            self.open()
        self._is_open = False  # if this ends, it is for a fault, and the server may be another one then
        if not self._url:
            self._failures += 1
            server.await_server(self.url, self._home, self._cancellation)
            self._failures = 0
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

        options = {"timeout": REQUEST_S, **httpx_options(REPLY_BYTES, EXCHANGE_S, drops=PUT_OFF)}
        if self.url.startswith("http:"):
            options["verify"] = unused_tls()
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings=options) as client,
        ):
            yield client

    def send_unsent(self) -> None:
        """Send what earlier runs could not, if there is any. What is refused again is left for later."""
        if any(self.unsent.glob("*.json")):
            self.open()
            server.import_prefect()
            with suppress(Exception), self.client() as client:
                send_unsent(self.unsent, client)


def plain_request(url: str | None, home: Path) -> Callable[[str, str, Any], Any] | None:
    """A function that makes a request of a Prefect server and returns its JSON, without a client of Prefect.

    `url`: the API of the user's own server; None for that of `home`, if it runs. The function takes a method,
    a path and JSON, waits at most `SHORT_S` for the whole reply, and raises `OSError` and `ValueError`.
    """
    headers, tls = {"content-type": "application/json"}, None
    if url and not server.is_of_home(url, home):
        headers |= prefect_headers()
        tls = prefect_tls()
    else:
        own = server.running_server(home)
        if own is None:
            return None
        url = own.url
        headers["Authorization"] = server.authorization(own.password)
    base = url.rstrip("/")

    def request(method: str, path: str, body: Any) -> Any:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(base + path, data, headers, method=method)
        content = send(asked, seconds=SHORT_S, most=REPLY_BYTES, tls=tls)
        return json.loads(content) if content else None

    return request


def check_server(url: str) -> None:
    """Raise `ConfigError` if no Prefect server of our version answers at an address, or it refuses access."""
    try:
        parts = urllib.parse.urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ConfigError(
            f"PREFECT_API_URL is not an address: {url}.", f"{REMEDY} Such as http://HOST:4200/api."
        )
    try:
        request = urllib.request.Request(f"{url.rstrip('/')}/admin/version", headers=prefect_headers())
        # Prefect's client follows no redirect, so it would reach nothing where one is needed.
        reply = send(request, seconds=CHECK_S, most=REPLY_BYTES, tls=prefect_tls(), follows=False)
        theirs = str(json.loads(reply))
    except urllib.error.HTTPError as exc:
        if exc.code in (401, 403):
            raise ConfigError(
                f"The Prefect server at {url} refuses access: {exc.code} {exc.reason}.",
                "Set PREFECT_API_AUTH_STRING or PREFECT_API_KEY, or unset PREFECT_API_URL.",
            ) from exc
        if parts.hostname and parts.hostname.endswith(CLOUD):
            return  # it is always compatible, and does not name its version
        raise ConfigError(f"No Prefect server answers at {url}: {exc.code} {exc.reason}.", REMEDY) from exc
    except (OSError, ValueError) as exc:
        why = getattr(exc, "reason", exc)
        raise ConfigError(f"No Prefect server answers at {url}: {why}.", REMEDY) from exc
    ours = importlib.metadata.version("prefect")
    if theirs.partition(".")[0] != ours.partition(".")[0]:
        raise ConfigError(f"The Prefect server at {url} has version {theirs[:40]}, and orch {ours}.", REMEDY)
