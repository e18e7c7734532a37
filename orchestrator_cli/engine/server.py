"""One local Prefect server per home: started on demand, shared by concurrent and later runs of one user.

A run that finds no server opens the server's port, passes the open socket and the held lock to a new process,
and writes down its address. So requests wait in the socket until the server is up, two runs never start two
servers, and a dead server releases its lock. It stops by itself after a set time without requests.

Any user of the machine can connect to a port. So each server has a password of its own, which it gets in its
environment, and which is in `server.json`, a file that only its owner can read. Each run reserves the
server's port (`_reserve`), so that its requests cannot reach another user's process, even if the server has
died and someone is waiting to bind its port.

A browser keeps what a page leaves behind, such as a service worker, for the next server at the same
address. So each server has a random host name below `localhost` for browsers, which they resolve to
loopback themselves. They try ::1 first, so the server also holds its port there.

Not covered: Windows (no inherited locks).
"""

import base64
import contextlib
import errno
import hmac
import importlib
import importlib.util
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator_cli.cancellation import Cancellation, run_beside
from orchestrator_cli.durable.files import write_atomic
from orchestrator_cli.durable.locks import LockUnsupported, try_lock
from orchestrator_cli.environment import is_of_prefect, take_from_libraries
from orchestrator_cli.errors import RunFailed
from orchestrator_cli.http_requests import send

ADDRESS = "127.0.0.1"
"""Where the server listens, and from where it is asked."""
PORTS_TRIED = 50
"""How many free ports of 127.0.0.1 are tried until one is also free at ::1."""
PORTS_S = 10.0
"""How long a free port is waited for, to ask from."""
STOP_S = 15.0
"""Time for a server that shuts down to close its connections."""
SERVING = "orchestrator_cli.engine.serving"
"""The module that is the server's process."""
START_S = 120.0
"""A first start migrates a database, which takes most of a minute on a slow laptop."""
LAST_LINES = 8
"""How much of its log is shown if it ends."""
TICKET_S = 300.0
"""How long an address that logs in can be used, once."""


@dataclass(frozen=True)
class LocalServer:
    """What `server.json` says."""

    url: str
    """Of its API."""
    pid: int
    password: str = field(repr=False)
    host: str = ADDRESS
    """The name for browsers. A server of an earlier version has none of its own."""

    @property
    def page(self) -> str:
        """The address for browsers, which is also the only origin that may use the server."""
        return f"http://{self.host}:{_port(self.url)}"

    @property
    def login_url(self) -> str:
        """A one-time login address for this user's browser, valid for five minutes."""
        text = f"{time.time() + TICKET_S:.0f}.{secrets.token_hex(8)}"
        return f"{self.page}/orch/login#{text}.{signature(self.password, text)}"

    def write_login_page(self, folder: Path) -> Path:
        """Write a page that leads to such an address, for a browser's command line, which others can read.

        `folder` is that of the server, which removes the page when it is used.
        """
        for old in folder.glob(login_page("*.")):
            if old.stat().st_mtime + TICKET_S < time.time():
                old.unlink(missing_ok=True)
        address = self.login_url
        page = folder / login_page(address.partition("#")[2])
        with open(page, "x", encoding="utf-8", opener=_private) as file:
            file.write(f'<meta http-equiv="refresh" content="0; url={address}">\n')
        return page


def login_page(ticket: str) -> str:
    """The name of the page with a ticket. It does not have the signature."""
    return f"login-{ticket.rpartition('.')[0]}.html"


def signature(password: str, text: str) -> str:
    return hmac.digest(password.encode(), text.encode(), "sha256").hex()


def authorization(password: str) -> str:
    """The header that Prefect requires."""
    return f"Basic {base64.b64encode(password.encode()).decode()}"


def ensure_server(home: Path, idle_minutes: float) -> str:
    """The API address of the home's server, which may still be starting. Returns at once.

    Until this process ends, no other user can listen there.
    """
    folder = home / "prefect"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # an earlier version, or the user, may have made it
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        if (url := _start_if_free(folder, idle_minutes)) or (url := _address(folder)):
            return url
        time.sleep(0.05)
    raise RunFailed(
        f"{folder} is locked by a Prefect server whose address is unknown.",
        f"End the process that uses {folder / 'server.lock'}, or set PREFECT_API_URL.",
    )


def _start_if_free(folder: Path, idle_minutes: float) -> str | None:
    """The address of a new server; None if another process holds the lock."""
    with (folder / "server.lock").open("a+") as lock:
        try:
            # The server inherits the lock, so it is not released here.
            return _start(folder, lock.fileno(), idle_minutes) if try_lock(lock.fileno()) else None
        except LockUnsupported:
            return None


def await_server(url: str, home: Path, cancellation: Cancellation) -> None:
    """Return when the server answers. Raises `RunFailed` if it does not, or the reason of a cancellation."""
    folder = home / "prefect"
    log = folder / "server.log"
    remedy = f"See {log}, or name a server of your own in PREFECT_API_URL."
    server = _recorded(folder)
    own = server if server and server.url == url else None
    started = time.monotonic()
    while True:
        try:
            if _answers(url, own):
                return
        except RunFailed:
            if time.monotonic() > started + PORTS_S:
                raise
        cancellation.wait(0.1)
        if own and not _alive(own.pid):
            said = log.read_text(errors="replace").splitlines()[-LAST_LINES:] if log.is_file() else []
            raise RunFailed(
                f"The Prefect server at {url} has ended. Its log ends: {' | '.join(said)}", remedy
            )
        if time.monotonic() > started + START_S:
            raise RunFailed(f"The Prefect server at {url} did not come up within {START_S:g} s.", remedy)


ACCESS = (
    *("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_CLIENT_CUSTOM_HEADERS"),
    *("PREFECT_API_SSL_CERT_FILE", "PREFECT_API_TLS_INSECURE_SKIP_VERIFY"),
)
"""Settings that a server of the user may need besides its address."""


def configure_client(url: str, home: Path, *, own: bool = False) -> None:
    """Set the variables that Prefect reads at import: the server's address, and no logs on the terminal.

    The user's own variables of these kinds are removed. `own`: the server is the user's, so its access
    settings are kept. The password of the home's server is no variable, because programs that a
    run starts get them all: Prefect is given it by `import_prefect`.
    """
    given = {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_LOGGING_SETTINGS_PATH": str(Path(__file__).with_name("prefect_logging.yml")),
    }
    # Set before the others are removed: a thread may be reading them, when the server has changed in a run.
    os.environ.update(given)
    kept = {*ACCESS} if own else set()
    take_from_libraries(lambda name: is_of_prefect(name) and name not in given and name.upper() not in kept)
    os.environ.setdefault("DO_NOT_TRACK", "1")
    context: Any = sys.modules.get("prefect.context")
    # The server of an earlier run in this process may have stopped.
    if hasattr(context, "GLOBAL_SETTINGS_CONTEXT") and context.get_settings_context().settings.api.url != url:
        context.refresh_global_settings_context()


def import_prefect() -> None:
    """Import Prefect with settings from the environment, and the password from the home, alone.

    By default it also reads `.env`, `prefect.toml` and `pyproject.toml` of the current folder, which
    may be untrusted or invalid, each time it creates its settings.
    """
    if context := sys.modules.get("prefect.context"):
        # A program that uses orch may have imported it before.
        if sys.modules["prefect.settings"].Settings.model_config["env_file"]:
            _read_no_files()
            context.refresh_global_settings_context()
        return
    spec = importlib.util.find_spec("prefect")
    assert spec is not None
    assert spec.loader is not None
    # The package creates its settings when it is executed, so their classes are changed before that.
    package = importlib.util.module_from_spec(spec)
    sys.modules["prefect"] = package
    try:
        _read_no_files()
        spec.loader.exec_module(package)
    except BaseException:
        del sys.modules["prefect"]
        raise


def _read_no_files() -> None:
    base: Any = importlib.import_module("prefect.settings.base").PrefectBaseSettings

    def sources(
        cls: Any, _model: object, /, init_settings: Any, env_settings: Any, **_files: Any
    ) -> tuple[Any, ...]:
        # Aliases without the prefix, such as `url`, are for code, not for variables.
        given = {name: value for name, value in env_settings.env_vars.items() if name.startswith("prefect_")}
        if cls.model_config["env_prefix"] == "PREFECT_API_":
            server = _recorded(Path(given.get("prefect_home", "")))
            if server and server.url == given.get("prefect_api_url"):
                given["prefect_api_auth_string"] = server.password
        env_settings.env_vars = given
        return init_settings, env_settings

    models = [base]
    for model in models:
        models += model.__subclasses__()
        model.model_config["env_file"] = None
        if "settings_customise_sources" in vars(model):
            model.settings_customise_sources = classmethod(sources)
    # It would warn about the ignored files.
    base._settings_warn_unused_config_keys = staticmethod(lambda *_: None)


_pages: dict[str, str] = {}
"""Addresses for browsers, by those of the APIs, of the local servers that this process has found."""


def ui_address(url: str) -> str:
    """The address for browsers of the server that has this API."""
    return _pages.get(url, url.removesuffix("/api"))


def is_of_home(url: str, home: Path) -> bool:
    """Whether this is the address of the home's server."""
    server = _recorded(home / "prefect")
    return server is not None and server.url == url


def running_server(home: Path) -> LocalServer | None:
    """The home's server, or None if none is running."""
    server = _recorded(home / "prefect")
    return server if server and _reserve(server.url) and _answers(server.url, server) else None


def requires_password(server: LocalServer) -> bool:
    """Whether a server refuses a request that does not have its password. Raises `OSError`."""
    try:
        send(f"{server.url}/admin/version", seconds=5.0)
        return False
    except urllib.error.HTTPError as exc:
        return exc.code == 401


def _recorded(folder: Path) -> LocalServer | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        server = LocalServer(**json.loads((folder / "server.json").read_text()))
        _pages[server.url] = server.page
        return server
    return None


def _address(folder: Path) -> str | None:
    """The address of the server that holds the lock; None before it is written, and during shutdown."""
    server = _recorded(folder)
    if server is None:
        _end_open_server(folder)
    elif _alive(server.pid) and _reserve(server.url):
        # An authorized request resets its idle time, so it will not stop before the run uses it.
        run_beside(_use, server)
        return server.url
    return None


def _use(server: LocalServer) -> None:
    with contextlib.suppress(RunFailed):
        _answers(server.url, server)


def _end_open_server(folder: Path) -> None:
    """End a server that an earlier version of orch started without a password, if that holds the lock."""
    with contextlib.suppress(OSError, ValueError, LookupError):
        pid = int(json.loads((folder / "server.json").read_text())["pid"])
        if b"orchestrator_cli.engine.server" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGTERM)


_reserved: set[int] = set()
"""Ports that are bound until this process ends: Prefect's threads send to its very end."""


def _reserve(url: str) -> bool:
    """Keep other users from listening at an address until this process ends; False if one does already.

    The kernel lets sockets share a port only if all ask for that and belong to one user. One that is
    bound and does not listen is given no connections, so the server beside it notices nothing.
    """
    port = _port(url)
    if port not in _reserved:
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            holder.bind((ADDRESS, port))
        except OSError:
            holder.close()
            return False
        holder.detach()  # the kernel closes it, after all else
        _reserved.add(port)
    return True


def _port(url: str) -> int:
    return urllib.parse.urlsplit(url).port or 80


def _listen() -> tuple[socket.socket, socket.socket | None]:
    """A listening socket, and one that keeps others from its port at ::1; None without IPv6.

    Raises `RunFailed` if no port is free.
    """
    for _ in range(PORTS_TRIED):
        try:
            listener = socket.create_server((ADDRESS, 0), backlog=128, reuse_port=True)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
            break
        holder = None
        try:
            holder = socket.socket(socket.AF_INET6)
            holder.bind(("::1", listener.getsockname()[1]))
            return listener, holder
        except OSError as exc:
            if holder:
                holder.close()
            if exc.errno != errno.EADDRINUSE:
                return listener, None
            listener.close()
    raise _no_port()


def _no_port() -> RunFailed:
    return RunFailed(
        f"The Prefect server cannot be reached, because no port of {ADDRESS} is free.",
        "End programs, maybe of another user, that hold many ports, or widen net.ipv4.ip_local_port_range.",
    )


def _alive(pid: int) -> bool:
    """Whether a process of this user runs; one that has ended may still have an entry."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return state.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def _start(folder: Path, lock_fd: int, idle_minutes: float) -> str:
    listener, holder = _listen()
    url = f"http://{ADDRESS}:{listener.getsockname()[1]}/api"
    _reserve(url)
    (folder / "page").mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.match(login_page("*.")):  # for an earlier server
            path.unlink(missing_ok=True)
        elif path.is_file():  # the database and the log of an earlier version
            path.chmod(0o600)
    password = f"orch:{secrets.token_urlsafe(32)}"
    server = LocalServer(url, 0, password, f"orch-{secrets.token_hex(8)}.localhost")
    fds = [lock_fd, listener.fileno(), *([holder.fileno()] if holder else [])]
    with (
        listener,
        holder or contextlib.nullcontext(),
        open(folder / "server.log", "ab", opener=_private) as log,
    ):
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", SERVING, str(listener.fileno()), str(idle_minutes)],
            pass_fds=fds,
            env=_server_environment(folder, server),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = replace(server, pid=process.pid)
    write_atomic(folder / "server.json", json.dumps(asdict(server)), sync=False, mode=0o600)
    return url


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _server_environment(folder: Path, server: LocalServer) -> dict[str, str]:
    # The user's own Prefect settings are for another server.
    kept = {name: value for name, value in os.environ.items() if not is_of_prefect(name)}
    return kept | {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_API_HOST": ADDRESS,
        "PREFECT_SERVER_API_PORT": str(_port(server.url)),
        "PREFECT_SERVER_API_AUTH_STRING": server.password,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": server.page,
        "PREFECT_SERVER_UI_API_URL": f"{server.page}/api",
        # By default the page is copied to where all users of this Python find it, and maybe cannot read it.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(folder / "page"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_RUNS": "14",  # for `orch up`, after a fortnight's absence
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "DO_NOT_TRACK": "1",
    }


def _answers(url: str, server: LocalServer | None = None) -> bool:
    """Whether an API answers; if its server is given, that is use. Raises `RunFailed` without a free port."""
    access = {"Authorization": authorization(server.password)} if server else {}
    try:
        send(urllib.request.Request(f"{url}/health", headers=access), seconds=2.0)
        return True
    except (OSError, ValueError) as exc:
        if getattr(getattr(exc, "reason", exc), "errno", None) == errno.EADDRNOTAVAIL:
            raise _no_port() from exc
        return False
