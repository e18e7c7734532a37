"""One local Prefect server per home: started on demand, shared by concurrent and later runs.

A run that finds no server opens the server's port, passes the open socket and the held lock to a
new process, and writes down its address. So the address is known at once, requests wait in the
socket until the server is up, two runs never start two servers, and a dead server releases its
lock. The server stops by itself after a set time without requests.

Not covered: Windows (no inherited locks), and moving the database when Prefect is upgraded
(Prefect migrates it at start).
"""

import contextlib
import importlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from orchestrator_cli.cancellation import Cancellation, run_beside
from orchestrator_cli.durable.files import write_atomic
from orchestrator_cli.durable.locks import LockUnsupported, try_lock
from orchestrator_cli.environment import urlopen
from orchestrator_cli.errors import RunFailed

STOP_S = 15.0
"""Time for a server that shuts down to close its connections."""
START_S = 120.0
"""A first start migrates a database, which takes most of a minute on a slow laptop."""


def ensure_server(home: Path, idle_minutes: float) -> str:
    """The API address of the home's server, which may still be starting. Returns at once."""
    folder = home / "prefect"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
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
    deadline = time.monotonic() + START_S
    while not _answers(url):
        cancellation.wait(0.1)
        if time.monotonic() > deadline:
            raise RunFailed(
                f"The Prefect server at {url} did not come up within {START_S:g} s.",
                f"See {home / 'prefect' / 'server.log'}, or name a server of your own in PREFECT_API_URL.",
            )


ACCESS = (
    *("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_CLIENT_CUSTOM_HEADERS"),
    *("PREFECT_API_SSL_CERT_FILE", "PREFECT_API_TLS_INSECURE_SKIP_VERIFY"),
)
"""Settings that a server of the user may need besides its address."""


def configure_client(url: str, home: Path, *, own: bool = False) -> None:
    """Set the variables that Prefect reads at import: the server's address, and no logs on the terminal.

    The user's own Prefect variables are removed. `own`: the server is the user's, so its access
    settings are kept.
    """
    kept = ACCESS if own else ()
    for name in [*os.environ]:
        if name.upper().startswith("PREFECT_") and name.upper() not in kept:
            del os.environ[name]
    os.environ["PREFECT_API_URL"] = url
    os.environ["PREFECT_HOME"] = str(home / "prefect")
    os.environ["PREFECT_LOGGING_SETTINGS_PATH"] = str(Path(__file__).with_name("prefect_logging.yml"))
    os.environ.setdefault("DO_NOT_TRACK", "1")


def import_prefect() -> None:
    """Import Prefect with settings from the environment alone.

    By default it also reads `.env`, `prefect.toml` and `pyproject.toml` of the current folder, which
    may be untrusted or invalid, each time it creates its settings.
    """
    if "prefect" in sys.modules:
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
        _cls: object, _model: object, /, init_settings: Any, env_settings: Any, **_files: Any
    ) -> tuple[Any, ...]:
        # Aliases without the prefix, such as `url`, are for code, not for variables.
        env_settings.env_vars = {
            name: value for name, value in env_settings.env_vars.items() if name.startswith("prefect_")
        }
        return init_settings, env_settings

    models = [base]
    for model in models:
        models += model.__subclasses__()
        model.model_config["env_file"] = None
        if "settings_customise_sources" in vars(model):
            model.settings_customise_sources = classmethod(sources)
    # It would warn about the ignored files.
    base._settings_warn_unused_config_keys = staticmethod(lambda *_: None)


def ui_address(url: str) -> str:
    return url.removesuffix("/api")


def running_server(home: Path) -> tuple[str, int] | None:
    """Address and process id of the home's server, or None if none is running."""
    with contextlib.suppress(OSError, ValueError, LookupError):
        row = json.loads((home / "prefect" / "server.json").read_text())
        if _answers(row["url"]):
            return str(row["url"]), int(row["pid"])
    return None


def _address(folder: Path) -> str | None:
    """The address of the server that holds the lock; None before it is written, and during shutdown."""
    with contextlib.suppress(OSError, ValueError, LookupError):
        row = json.loads((folder / "server.json").read_text())
        if _alive(int(row["pid"])):
            # A request resets its idle time, so it will not stop before the run uses it.
            run_beside(_answers, str(row["url"]))
            return str(row["url"])
    return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _start(folder: Path, lock_fd: int, idle_minutes: float) -> str:
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    fds = (lock_fd, listener.fileno())
    with listener, (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", __name__, str(listener.fileno()), str(idle_minutes)],
            pass_fds=fds,
            env=_server_environment(folder, port),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    write_atomic(folder / "server.json", json.dumps({"url": url, "pid": server.pid}), sync=False)
    return url


def _server_environment(folder: Path, port: int) -> dict[str, str]:
    # The user's own Prefect settings are for another server.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "DO_NOT_TRACK": "1",
    }


def _answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/health", timeout=2.0) as reply:
            return bool(reply.status == 200)
    except (OSError, ValueError):
        return False


# --- the server process

App = Callable[[MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[..., Awaitable[None]]], Any]


class IdleWatch:
    """An ASGI layer that measures the time since the last request."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._open = 0
        self._last = time.monotonic()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        self._open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= 1
            self.reset()

    def reset(self) -> None:
        """Measure from now on."""
        self._last = time.monotonic()

    @property
    def idle_s(self) -> float:
        return 0.0 if self._open else time.monotonic() - self._last


def _serve(listener_fd: int, idle_minutes: float, folder: Path) -> None:
    import uvicorn
    from prefect.server.api.server import create_app

    watch = IdleWatch(create_app(final=True))
    server = uvicorn.Server(uvicorn.Config(watch, log_level="warning", timeout_graceful_shutdown=5))

    def stop_when_idle() -> None:
        while not server.started:  # which may take longer than the idle time
            time.sleep(0.2)
        watch.reset()
        while watch.idle_s < idle_minutes * 60:
            time.sleep(1.0)
        # From here on no run finds this server; a run that needs one waits for the lock.
        (folder / "server.json").unlink(missing_ok=True)
        server.should_exit = True

    threading.Thread(target=stop_when_idle, daemon=True).start()
    server.run(sockets=[socket.socket(fileno=listener_fd)])


if __name__ == "__main__":
    _serve(int(sys.argv[1]), float(sys.argv[2]), Path.cwd())
