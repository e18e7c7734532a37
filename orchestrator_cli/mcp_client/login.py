"""Logins to MCP servers by OAuth: one in a browser, by `orch login`, and its tokens for the runs after it.

The mcp library speaks the protocol. A run uses tokens and renews them; it never opens a browser. Tokens are
in `mcp/` of the data folder, in a file for each address that only the user can read. A login is asked for at
the server's own host, or by https. The browser gets an address with https, or one on loopback if the server
is there too; its answer comes to a port on loopback, and counts if it has the state that was sent. The port
serves this user only: others can read the state from the browser's command line, and could send the answer to
a login of their own.

Not covered: two runs that renew the same tokens at once, of which a strict server ends one login; and logins
without a browser.
"""

import hashlib
import json
import queue
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from orchestrator_cli.durable.files import read_whole, write_atomic
from orchestrator_cli.durable.foreign import foreign_line
from orchestrator_cli.durable.peers import is_of_another
from orchestrator_cli.errors import RecoverableError

LOGIN_S = 300.0
"""How long a person may take in the browser."""
TOKENS_BYTES = 1 << 18
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class LoginFailed(RecoverableError):
    """There is no login, and the message says why."""


class TokenFile:
    """The tokens for one address, as the mcp library wants them stored."""

    def __init__(
        self, home: Path, url: str, mask: Callable[[str, str], None] = lambda _name, _value: None
    ) -> None:
        """`mask` is called with the name and the value of each token."""
        self.path = home / "mcp" / f"login-{hashlib.sha256(url.encode()).hexdigest()[:32]}.json"
        self._mask = mask
        self.context: Any = None
        """The library's, from which its metadata are kept too: it needs them to renew tokens."""

    @property
    def is_there(self) -> bool:
        return "tokens" in self._kept()

    def forget(self) -> bool:
        """Remove the tokens. Returns whether there were any."""
        there = self.path.exists()
        self.path.unlink(missing_ok=True)
        return there

    def restore(self, context: Any) -> None:
        """Have the library know what it knew when the tokens were kept."""
        from mcp.shared.auth import OAuthMetadata, ProtectedResourceMetadata

        self.context, kept = context, self._kept()
        context.token_expiry_time = kept.get("expires")
        context.auth_server_url = kept.get("server")
        for name, kind in (
            ("oauth_metadata", OAuthMetadata),
            ("protected_resource_metadata", ProtectedResourceMetadata),
        ):
            if kept.get(name):
                setattr(context, name, kind.model_validate(kept[name]))

    async def get_tokens(self) -> Any:
        from mcp.shared.auth import OAuthToken

        kept = self._kept().get("tokens")
        return self._masked(OAuthToken.model_validate(kept)) if kept else None

    async def set_tokens(self, tokens: Any) -> None:
        seconds, context = self._masked(tokens).expires_in, self.context
        self._keep(
            tokens=tokens.model_dump(mode="json"),
            expires=None if seconds is None else time.time() + seconds,
            server=context.auth_server_url,
            oauth_metadata=context.oauth_metadata and context.oauth_metadata.model_dump(mode="json"),
            protected_resource_metadata=context.protected_resource_metadata
            and context.protected_resource_metadata.model_dump(mode="json"),
        )

    async def get_client_info(self) -> Any:
        from mcp.shared.auth import OAuthClientInformationFull

        kept = self._kept().get("client")
        return self._hidden(OAuthClientInformationFull.model_validate(kept)) if kept else None

    async def set_client_info(self, client_info: Any) -> None:
        self._keep(client=self._hidden(client_info).model_dump(mode="json"))

    def _masked(self, tokens: Any) -> Any:
        self._mask("ACCESS_TOKEN", tokens.access_token)
        if tokens.refresh_token:
            self._mask("REFRESH_TOKEN", tokens.refresh_token)
        return tokens

    def _hidden(self, client: Any) -> Any:
        if client.client_secret:
            self._mask("CLIENT_SECRET", client.client_secret)
        return client

    def _kept(self) -> dict[str, Any]:
        try:
            kept = json.loads(read_whole(self.path, TOKENS_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        return kept if isinstance(kept, dict) else {}

    def _keep(self, **changes: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(self.path, json.dumps(self._kept() | changes), mode=0o600)


class Browser:
    """Sends the user's browser to a login, and takes what comes back."""

    def __init__(self, port: int, show: Callable[[str], None]) -> None:
        self.redirect_uri = f"http://127.0.0.1:{port}/callback"
        self._show = show
        self._state = ""
        self._answers: queue.Queue[dict[str, str]] = queue.Queue()

    async def open(self, url: str) -> None:
        import anyio

        self._state = parse_qs(urlsplit(url).query).get("state", [""])[0]
        self._show(url)
        await anyio.to_thread.run_sync(webbrowser.open, url)

    async def answer(self) -> Any:
        import anyio
        from mcp.shared.auth import AuthorizationCodeResult

        try:
            found = await anyio.to_thread.run_sync(self._answers.get, True, LOGIN_S, abandon_on_cancel=True)
        except queue.Empty:
            raise LoginFailed(f"no one logged in within {LOGIN_S:g} s") from None
        if "code" not in found:
            raise LoginFailed(f"the login was refused: {found.get('error', 'without a reason')}")
        return AuthorizationCodeResult(code=found["code"], state=found["state"], iss=found.get("iss"))

    def take(self, target: str) -> bool:
        """Have what a browser was sent back with. Returns whether it belongs to this login."""
        parts = urlsplit(target)
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path != "/callback" or not self._state or given.get("state") != self._state:
            return False
        self._answers.put(given)
        return True


@contextmanager
def browser_on_loopback(show: Callable[[str], None]) -> Iterator[Browser]:
    """A browser whose answers come to a free port on loopback. `show` is given the address of the login."""

    class Requests(BaseHTTPRequestHandler):
        timeout = 10

        def log_message(self, *_: object) -> None:
            """Silent."""

        def do_GET(self) -> None:
            text = b"You can close this page." if browser.take(self.path) else b""
            self.send_response(200 if text else 404)
            self.send_header("content-type", "text/plain")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    class OwnPort(ThreadingHTTPServer):
        def verify_request(self, _request: object, client_address: Any) -> bool:
            return not is_of_another(client_address, self.socket.getsockname())

    with OwnPort(("127.0.0.1", 0), Requests) as server:
        server.daemon_threads = True
        browser = Browser(server.server_address[1], show)
        threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True).start()
        try:
            yield browser
        finally:
            server.shutdown()


def authorization(url: str, tokens: TokenFile, browser: Browser | None) -> Any:
    """What adds the tokens to requests; without a browser, no login is begun."""
    from mcp.client.auth import OAuthClientProvider
    from mcp.shared.auth import OAuthClientMetadata
    from pydantic import AnyUrl

    async def refused(*_: object) -> Any:
        raise LoginFailed("its login is not valid any more: log in again")

    async def opened(address: str) -> None:
        if browser is not None:
            check_login_address(address, url)
            await browser.open(address)
        else:
            await refused()

    redirect_uri = browser.redirect_uri if browser is not None else "http://127.0.0.1/callback"
    made = OAuthClientProvider(
        url,
        OAuthClientMetadata(client_name="orch", redirect_uris=[AnyUrl(redirect_uri)]),
        tokens,
        redirect_handler=opened,
        callback_handler=browser.answer if browser is not None else refused,
    )
    tokens.restore(made.context)
    return made


def check_login_address(address: str, server: str) -> None:
    """Raise `LoginFailed` if a login would go to an address that is neither safe nor the server's own.

    Also if it begins with a name before an `@`, or has a backslash: it could pass for one of another host.
    """
    parts, own = urlsplit(address), urlsplit(server)
    if ("@" in parts.netloc and parts.netloc != own.netloc) or "\\" in address or not parts.hostname:
        host = foreign_line(parts.hostname or "none", 100)
        raise LoginFailed(f"the login goes to an address that hides its host, {host}")
    is_own = (parts.scheme, parts.hostname) == (own.scheme, own.hostname)
    is_local = parts.scheme == "http" and parts.hostname in LOOPBACK and own.hostname in LOOPBACK
    if not (parts.scheme == "https" or is_own or is_local):
        raise LoginFailed(f"the login goes to {parts.scheme}://{parts.hostname}, which has no https")
