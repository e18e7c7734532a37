"""One Prefect server per home: shared, replaced if it dies, stopped if it is idle."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from engine import end, start_server

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.engine import server as prefect_server
from orchestrator_cli.engine.server import authorization, await_server, ensure_server, running_server
from orchestrator_cli.engine.serving import IdleWatch
from orchestrator_cli.errors import RunFailed
from orchestrator_cli.http_requests import send


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose server, if one is left, is ended."""
    yield tmp_path
    if found := running_server(tmp_path):
        end(found.pid)


@pytest.mark.slow
def test_concurrent_starts_share_a_server_and_a_dead_one_is_replaced(home: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        urls = set(pool.map(lambda _: start_server(home), range(4)))
    assert len(urls) == 1
    await_server(urls.pop(), home, Cancellation())
    first = running_server(home)
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    end(first.pid)
    second = start_server(home)
    assert second != first.url
    await_server(second, home, Cancellation())
    assert running_server(home) is not None


@pytest.mark.thorough
def test_idle_server_stops_and_a_late_request_gets_a_new_one(
    home: Path,
) -> None:
    url = start_server(home, idle_minutes=0.05)
    await_server(url, home, Cancellation())
    found = running_server(home)
    assert found is not None
    deadline = time.monotonic() + 60
    while (home / "prefect" / "server.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    # It has made up its mind; its process is still there, and holds the lock, for a moment.
    second = start_server(home)
    await_server(second, home, Cancellation())
    assert second != url
    assert not Path(f"/proc/{found.pid}").exists()


def test_a_server_that_finds_no_free_port_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr("socket.create_server", full)
    with pytest.raises(RunFailed, match="no port") as raised:
        ensure_server(home, 1)
    assert "ip_local_port_range" in raised.value.remedy
    assert not (home / "prefect" / "server.json").exists()


def test_a_port_that_browsers_would_find_taken_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Browsers ask ::1 first, where another user may wait."""
    create, made = socket.create_server, list[int]()
    with contextlib.ExitStack() as opened:

        def watched(*given: Any, **options: Any) -> socket.socket:
            listener = create(*given, **options)
            made.append(listener.getsockname()[1])
            if len(made) == 1:
                opened.enter_context(socket.socket(socket.AF_INET6)).bind(("::1", made[0]))
            return listener

        monkeypatch.setattr("socket.create_server", watched)
        listener, holder = prefect_server._listen()
        assert holder is not None
        with listener, holder:
            assert [listener.getsockname()[1], holder.getsockname()[1]] == [made[1], made[1]]


def test_no_port_to_ask_from_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    monkeypatch.setattr("socket.create_connection", full)
    monkeypatch.setattr(prefect_server, "PORTS_S", 0.1)
    with pytest.raises(RunFailed, match="no port"):
        await_server("http://127.0.0.1:9/api", home, Cancellation())


def test_a_home_without_a_server_has_none(home: Path) -> None:
    assert running_server(home) is None


def test_failed_server_start_names_its_log(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_server, "START_S", 0.1)
    with pytest.raises(RunFailed, match="did not come up") as raised:
        await_server("http://127.0.0.1:9/api", home, Cancellation())
    assert "server.log" in raised.value.remedy


BROKEN = """
import sys
from pathlib import Path
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.engine import server
server.SERVING = "orchestrator_cli.engine.absent"
home = Path(sys.argv[1])
server.await_server(server.ensure_server(home, 1), home, Cancellation())
"""


def test_a_server_that_ends_at_its_start_is_not_waited_for(home: Path) -> None:
    command = [sys.executable, "-c", BROKEN, str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "RunFailed" in done.stderr
    assert "No module named orchestrator_cli.engine.absent" in done.stderr
    assert "server.log" in done.stderr


def test_cancellation_ends_waiting_for_a_server(home: Path) -> None:
    cancellation = Cancellation()
    cancellation.cancel(KeyError("the run ended"))
    with pytest.raises(KeyError, match="the run ended"):
        await_server("http://127.0.0.1:9/api", home, cancellation)


@pytest.mark.parametrize(("given", "counts"), [("orch:mine", True), ("orch:guess", False), (None, False)])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_only_an_open_request_with_the_password_is_use(kind: str, given: str | None, counts: bool) -> None:
    headers = [] if given is None else [(b"authorization", authorization(given).encode())]

    async def watch() -> None:
        opened = asyncio.Event()

        async def app(scope: object, receive: object, send: object) -> None:
            await opened.wait()

        watching = IdleWatch(app, "orch:mine")
        request = asyncio.create_task(watching({"type": kind, "headers": headers}, None, None))
        await asyncio.sleep(0.05)
        assert (watching.idle_s == 0) == counts
        opened.set()
        await request
        await asyncio.sleep(0.05)
        assert watching.idle_s >= (0.05 if counts else 0.1)

    asyncio.run(watch())


@pytest.mark.thorough
def test_strangers_do_not_keep_an_idle_server(home: Path) -> None:
    url = start_server(home, idle_minutes=0.05)
    await_server(url, home, Cancellation())
    found = running_server(home)
    assert found is not None
    deadline = time.monotonic() + 60
    while (home / "prefect" / "server.json").exists() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            send(f"{url}/health", seconds=2)
        time.sleep(0.2)
    assert not (home / "prefect" / "server.json").exists()
