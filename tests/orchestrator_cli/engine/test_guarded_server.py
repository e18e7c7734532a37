"""The local Prefect server serves its owner alone, and what a run sends reaches no other user."""

import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from command import Orch
from endpoint import Endpoint
from engine import Engine, authorization, end, start_server
from scripted_model import Cast, plan, process
from websockets import Subprotocol
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.cli.commands.doctor import examine
from orchestrator_cli.durable import peers
from orchestrator_cli.durable.peers import user_of
from orchestrator_cli.engine import server as prefect_server
from orchestrator_cli.engine.server import LocalServer, ensure_server, running_server
from orchestrator_cli.errors import RunFailed
from orchestrator_cli.settings import load_settings

STRANGER = 65534
by_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture
def server(engine: Engine) -> LocalServer:
    found = running_server(engine.home)
    assert found is not None
    return found


def of_a_stranger() -> socket.socket:
    """A socket as another user would have it."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    os.fchown(made.fileno(), STRANGER, STRANGER)
    return made


def port_of(url: str) -> int:
    return urllib.parse.urlsplit(url).port or 0


def host_of(server: LocalServer) -> dict[str, str]:
    """What a browser sends to the server's page."""
    return {"host": server.page.removeprefix("http://")}


def fetch(url: str, path: str, head: Mapping[str, str], body: bytes | None = None) -> httpx.Response:
    """A reply from the server's port, whatever host is asked for."""
    address = f"http://127.0.0.1:{port_of(url)}{path}"
    return httpx.request(
        "GET" if body is None else "POST", address, headers=head, content=body, trust_env=False
    )


def status(
    url: str, path: str, head: Mapping[str, str], body: str = "", by: socket.socket | None = None
) -> int:
    """The status of a reply to a request with just these headers."""
    with by or socket.socket() as client:
        client.settimeout(20)
        client.connect(("127.0.0.1", port_of(url)))
        lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in head.items())]
        length = [f"content-length: {len(body)}"] if body else []
        client.sendall("\r\n".join([*lines, *length, "", body]).encode())
        return int(client.recv(12).split()[1])


# --- who is served


@pytest.mark.parametrize("path", ["/", "/orch/login", "/api/admin/version"])
def test_a_browser_is_told_what_a_page_may_load(server: LocalServer, path: str) -> None:
    reply = fetch(server.url, path, host_of(server))
    rules = dict(rule.split(" ", 1) for rule in reply.headers["content-security-policy"].split("; "))
    assert (rules["frame-ancestors"], rules["img-src"]) == ("'none'", "'self' data:")
    # The graph needs functions from text. Scripts from elsewhere, or in the page, stay refused.
    own, digest, evaluated = rules["script-src"].split()
    assert (own, digest[:8], evaluated) == ("'self'", "'sha256-", "'unsafe-eval'")
    assert rules["connect-src"] == f"'self' ws://{host_of(server)['host']}"
    assert reply.headers["x-frame-options"] == "DENY"
    for script in re.findall(r"<script>(.*?)</script>", reply.text, re.DOTALL):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in rules["script-src"]


@pytest.mark.parametrize(
    "path",
    ["admin/version", "admin/settings", "flow_runs/0", "csrf-token"],
)
@pytest.mark.parametrize("password", [None, "", "orch:guess"])
def test_nothing_is_served_without_the_password(server: LocalServer, path: str, password: str | None) -> None:
    host = {"host": f"127.0.0.1:{port_of(server.url)}"}
    given = base64.b64encode((password or "").encode()).decode()
    access = {} if password is None else {"authorization": f"Basic {given}"}
    assert status(server.url, f"/api/{path}", host | access) == 401


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/redoc", "/docs/oauth2-redirect", "/api/docs"])
def test_the_schema_needs_the_password(server: LocalServer, path: str) -> None:
    """It is computed for each request, by the server's only thread."""
    assert status(server.url, path, host_of(server)) == 401
    assert status(server.url, path, host_of(server) | {"authorization": "Basic b3JjaDpndWVzcw=="}) == 401


@pytest.mark.parametrize("path", ["/", "/ui-settings", "/api/health"])
def test_the_page_is_served_without_the_password(server: LocalServer, path: str) -> None:
    assert status(server.url, path, host_of(server)) == 200


@pytest.mark.parametrize("given", ["Basic w6k=", "Basic é", "Basic", "Bearer x", ""])
def test_a_password_of_any_kind_is_refused_as_wrong(server: LocalServer, given: str) -> None:
    for path in ("/api/admin/version", "/ui-settings"):
        assert status(server.url, path, host_of(server) | {"authorization": given}) == 401


def test_no_reply_tells_the_name_for_browsers(server: LocalServer) -> None:
    api = {"host": f"127.0.0.1:{port_of(server.url)}"}
    for path, head in (("/api/admin/version", api), ("/api/health", api), ("/", {"host": "evil.example"})):
        reply = fetch(server.url, path, head)
        assert "frame-ancestors" in reply.headers["content-security-policy"]
        assert server.host not in f"{reply.headers} {reply.text}"


@pytest.mark.parametrize("path", ["/api/events/in", "/api/events/out", "/api/logs/out"])
def test_no_websocket_is_opened_without_the_password(server: LocalServer, path: str) -> None:
    upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    key = {"sec-websocket-key": base64.b64encode(bytes(16)).decode()}
    host = {"host": f"127.0.0.1:{port_of(server.url)}"}
    assert status(server.url, path, host | upgrade | key) == 403


@pytest.mark.parametrize("path", ["/", "/api/health", "/api/admin/version", "/orch/login", "/api/events/in"])
@pytest.mark.parametrize(
    "host",
    [
        *("evil.example:{port}", "localhost:{port}", "127.0.0.1", "127.0.0.1:1", ""),
        *("orch-0123456789abcdef.localhost:{port}", "x.{name}:{port}", "{name}", "{name}:1"),
    ],
)
def test_only_its_own_address_is_served(server: LocalServer, path: str, host: str) -> None:
    upgrade = {}
    if path.endswith("/in"):
        upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
        upgrade["sec-websocket-key"] = base64.b64encode(bytes(16)).decode()
    named = {"host": host.format(port=port_of(server.url), name=server.host)}
    assert status(server.url, path, named | upgrade) == 421


@pytest.mark.parametrize("path", ["/", "/api/health", "/api/admin/version", "/orch/login", "/api/events/in"])
def test_only_its_own_address_is_answered(server: LocalServer, path: str) -> None:
    """A client at 127.0.0.2 may use the port of one at 127.0.0.1, whatever user has that."""
    head = {"host": f"127.0.0.1:{port_of(server.url)}"}
    if path.endswith("/in"):
        head |= {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
        head["sec-websocket-key"] = base64.b64encode(bytes(16)).decode()
    with socket.socket() as other:
        other.bind(("127.0.0.2", 0))
        assert status(server.url, path, head, by=other) == 403


@pytest.mark.parametrize("path", ["/", "/orch/login", "/runs/flow-run/0", "/health", "/api", "/apis/x"])
def test_pages_are_served_at_the_name_for_browsers_alone(server: LocalServer, path: str) -> None:
    """An earlier page at 127.0.0.1 and this port, maybe of another user, can have left a service worker."""
    assert re.fullmatch(r"orch-[0-9a-f]{16}\.localhost", server.host)
    old = fetch(server.url, path, {"host": f"127.0.0.1:{port_of(server.url)}"})
    assert (old.status_code, "orch ui" in old.text) == (421, True)
    assert '"storage"' in old.headers["clear-site-data"]
    assert fetch(server.url, path, host_of(server)).status_code != 421


def test_programs_reach_the_api_at_the_address(server: LocalServer) -> None:
    access = authorization(server.password)
    for host in ({"host": f"127.0.0.1:{port_of(server.url)}"}, host_of(server)):
        assert fetch(server.url, "/api/admin/version", host | access).status_code == 200


def test_the_login_leaves_and_finds_nothing_in_the_browser(server: LocalServer) -> None:
    reply = fetch(server.url, "/orch/login", host_of(server))
    assert reply.headers["cache-control"] == "no-store"
    assert '"storage"' in reply.headers["clear-site-data"]
    assert "service-worker-allowed" not in reply.headers


def test_the_page_asks_the_api_of_its_own_origin(server: LocalServer) -> None:
    assert fetch(server.url, "/ui-settings", host_of(server)).json()["api_url"] == f"{server.page}/api"


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://localhost:4200", "null", "http://127.0.0.1:{port}", "http://{name}"],
)
def test_a_page_of_another_origin_may_read_nothing(server: LocalServer, origin: str) -> None:
    named = origin.format(port=port_of(server.url), name=server.host)
    for host in ({"host": f"127.0.0.1:{port_of(server.url)}"}, host_of(server)):
        foreign = fetch(server.url, "/api/health", host | {"origin": named})
        assert (foreign.status_code, "access-control-allow-origin" in foreign.headers) == (403, False)
        own = fetch(server.url, "/api/health", host | {"origin": server.page})
        assert own.headers["access-control-allow-origin"] == server.page
    ticket = server.login_url.partition("#")[2].encode()
    assert fetch(server.url, "/orch/login", host_of(server) | {"origin": named}, ticket).status_code == 403
    assert fetch(server.url, "/orch/login", host_of(server) | {"origin": server.page}, ticket).is_success


@pytest.mark.parametrize("address", ["::1", "::"])
def test_no_other_user_has_the_port_where_browsers_try_first(server: LocalServer, address: str) -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind((address, port_of(server.url)))


def test_a_server_of_an_earlier_version_keeps_its_address(home: Path) -> None:
    record(home, 4200)
    found = prefect_server._recorded(home / "prefect")
    assert found is not None
    assert found.page == "http://127.0.0.1:4200"


def open_socket(server: LocalServer, token: str | None) -> ClientConnection:
    """A WebSocket to the events, which shows a password, or is silent."""
    address = server.url.replace("http", "ws", 1) + "/events/out"
    opened = connect(address, subprotocols=[Subprotocol("prefect")], proxy=None)
    if token is not None:
        opened.send(json.dumps({"type": "auth", "token": token}))
    return opened


def test_a_silent_connection_is_closed(server: LocalServer) -> None:
    with open_socket(server, None) as silent, open_socket(server, server.password) as known:
        assert json.loads(known.recv(20))["type"] == "auth_success"
        with socket.create_connection(("127.0.0.1", port_of(server.url)), 20) as unused:
            assert unused.recv(1) == b""
        with pytest.raises(ConnectionClosed):
            silent.recv(20)
        with pytest.raises(TimeoutError):
            known.recv(1)


def test_doctor_says_whether_the_server_refuses_strangers(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ORCH_PREFECT_HOME", str(engine.home))
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    (tmp_path / "workspace").mkdir()
    settings = load_settings({}, tmp_path / "workspace")

    def found() -> tuple[bool, str]:
        return next((row.ok, row.detail) for row in examine(settings) if row.name == "prefect")

    ok, detail = found()
    assert ok, detail
    assert "refuses" in detail
    monkeypatch.setattr(prefect_server, "requires_password", lambda _: False)
    assert not found()[0]


# --- the owner's browser


def test_the_address_of_orch_ui_gives_the_password_once(orch: Orch, server: LocalServer) -> None:
    page, _, ticket = orch("ui", "--print").out.strip().partition("#")
    assert page == f"{server.page}/orch/login"
    shown = fetch(server.url, "/orch/login", host_of(server)).text
    assert "prefect-password" in shown
    assert server.password not in shown + ticket
    assert fetch(server.url, "/orch/login", host_of(server), ticket.encode()).text == server.password
    assert fetch(server.url, "/orch/login", host_of(server), ticket.encode()).status_code == 403


def test_a_forged_or_old_ticket_gives_nothing(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    host = host_of(server)
    forged = LocalServer(server.url, server.pid, "orch:guess", server.host).login_url
    later = re.sub(r"#\d", "#9", server.login_url)
    monkeypatch.setattr(prefect_server, "TICKET_S", -1)
    for address in (forged, later, server.login_url, "#", "#a.b", "#é.é"):
        assert status(server.url, "/orch/login", host, address.partition("#")[2] or "none") == 403


def is_shut_out(client: socket.socket, server: LocalServer, within_s: float = 4.0) -> bool:
    """Whether a connection is closed at once, and before the time that an unused one has."""
    client.settimeout(within_s)
    with client, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        client.connect(("127.0.0.1", port_of(server.url)))
        client.sendall(b"GET /api/health HTTP/1.1\r\nhost: %s\r\n\r\n" % host_of(server)["host"].encode())
        return not client.recv(1)
    return True


@by_root
def test_a_connection_of_another_user_is_closed_unread(server: LocalServer) -> None:
    """Many of them would take memory and descriptors, and shut the owner out."""
    assert not is_shut_out(socket.socket(), server)
    assert all(is_shut_out(of_a_stranger(), server) for _ in range(20))
    assert status(server.url, "/api/health", host_of(server)) == 200


FLOOD = """
import os, socket, sys, time
os.setgroups([]), os.setgid({0}), os.setuid({0})
while True:
    opened = [socket.socket() for _ in range(300)]
    for one in opened:
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", int(sys.argv[1])))
    print("made", flush=True)
    time.sleep(0.05)
    for one in opened:
        one.close()
"""


@by_root
def test_a_flood_of_connections_of_another_user_shuts_no_one_out(server: LocalServer) -> None:
    command = [sys.executable, "-c", FLOOD.format(STRANGER), str(port_of(server.url))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/") as flood:
        try:
            assert flood.stdout is not None
            for _ in range(20):
                flood.stdout.readline()
            took = []
            for _ in range(5):
                began = time.monotonic()
                assert status(server.url, "/api/health", host_of(server)) == 200
                took.append(time.monotonic() - began)
        finally:
            flood.kill()
    assert sorted(took)[2] < 2.0
    assert "out of system resource" not in (Path(f"/proc/{server.pid}/fd/2").read_text(errors="replace"))


def test_a_large_message_is_refused_before_the_password(server: LocalServer) -> None:
    with open_socket(server, None) as opened:
        with contextlib.suppress(ConnectionClosed):
            opened.send("x" * (3 << 20))
        with pytest.raises(ConnectionClosed):
            opened.recv(20)
        assert opened.close_code == 1009


def test_the_log_does_not_grow_without_end(engine: Engine) -> None:
    log = engine.home / "prefect" / "server.log"
    with log.open("ab") as file:
        file.write(b"x" * (5 << 20))
    deadline = time.monotonic() + 30
    while log.stat().st_size > 4 << 20:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def beside(connection: socket.socket) -> socket.socket:
    """A socket of another user at 127.0.0.2, with the port of a connection from 127.0.0.1."""
    made = of_a_stranger()
    made.bind(("127.0.0.2", connection.getsockname()[1]))
    return made


@by_root
def test_another_user_is_shut_out_beside_a_connection_of_the_owner(server: LocalServer) -> None:
    with socket.create_connection(("127.0.0.1", port_of(server.url))) as mine:
        assert is_shut_out(beside(mine), server)


@by_root
@pytest.mark.parametrize("is_asked", [True, False])
def test_the_user_of_a_connection_is_found_by_both_ends(
    is_asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_answers", lambda: is_asked)
    # A listener that closes nothing: the real server may have shut the stranger out before the look.
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as mine,
        beside(mine) as theirs,
    ):
        end = listener.getsockname()
        theirs.connect(end)
        assert user_of(mine.getsockname(), end) == os.getuid()
        assert user_of(theirs.getsockname(), end) == STRANGER
        assert user_of(("127.0.0.3", mine.getsockname()[1]), end) is None


def test_a_browser_is_given_the_ticket_in_a_file_that_is_removed(
    orch: Orch, engine: Engine, server: LocalServer, tmp_path: Path
) -> None:
    old = server.write_login_page(engine.home / "prefect")
    os.utime(old, (1, 1))
    browser, given = tmp_path / "browser", tmp_path / "given"
    browser.write_text(f'#!/bin/sh\necho "$@" > {given}\n')
    browser.chmod(0o700)
    done = orch("ui", BROWSER=str(browser))
    assert (done.code, done.out) == (0, "")
    page = Path(given.read_text().strip().removeprefix("file://"))
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    found = re.search(r"/orch/login#(.*)\"", page.read_text())
    assert found is not None
    assert found[1] not in given.read_text()
    assert status(server.url, "/orch/login", host_of(server), found[1]) == 200
    assert [path for path in (page, old) if path.exists()] == []


def test_a_browser_that_cannot_be_started_leaves_no_page(orch: Orch, engine: Engine, tmp_path: Path) -> None:
    done = orch("ui", BROWSER="/bin/false")
    assert "/orch/login#" in done.out
    assert list((engine.home / "prefect").glob("login-*")) == []


def test_orch_ui_opens_a_server_of_the_user_as_it_is(orch: Orch) -> None:
    done = orch("ui", "--print", PREFECT_API_URL="https://prefect.example.org/api")
    assert done.out.strip() == "https://prefect.example.org"


# --- whom a run sends to


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose server, if one is left, is ended."""
    (tmp_path / "prefect").mkdir()
    yield tmp_path
    if found := running_server(tmp_path):
        end(found.pid)


def record(home: Path, port: int) -> None:
    row = {"url": f"http://127.0.0.1:{port}/api", "pid": os.getpid(), "password": "orch:mine"}
    (home / "prefect" / "server.json").write_text(json.dumps(row))


@by_root
def test_nothing_is_sent_to_a_stranger_on_the_port(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_server, "STOP_S", 0.3)
    with of_a_stranger() as stranger, (home / "prefect" / "server.lock").open("a+") as lock:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        stranger.settimeout(0.5)
        assert prefect_server.try_lock(lock.fileno())
        record(home, stranger.getsockname()[1])
        assert running_server(home) is None
        with pytest.raises(RunFailed, match="locked"):
            ensure_server(home, 1)
        with pytest.raises(TimeoutError):
            stranger.accept()


@by_root
def test_no_other_user_gets_the_port_of_a_server_that_died_during_a_run(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as listener:
        port = listener.getsockname()[1]
        record(home, port)
        running_server(home)  # as a run looks for it
    for address in ("127.0.0.1", "0.0.0.0"):
        with of_a_stranger() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                stranger.bind((address, port))


USES = """
import prefect, sys
from pathlib import Path
from orchestrator_cli.engine.server import *
from prefect.client.orchestration import get_client
configure_client(sys.argv[1], Path(sys.argv[2]))
import_prefect()
with get_client(sync_client=True) as client:
    print(client.read_flow_runs(limit=1) is not None)
"""


@pytest.mark.slow
def test_a_program_that_has_imported_prefect_gets_the_password_too(engine: Engine) -> None:
    command = [sys.executable, "-c", USES, engine.url, str(engine.home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "True\n", done.stderr


# --- where the password is


def test_the_password_is_where_only_its_owner_can_read(engine: Engine, server: LocalServer) -> None:
    folder = engine.home / "prefect"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if path.is_file()}
    assert set(modes.values()) == {0o600}, modes
    proc = Path(f"/proc/{server.pid}")
    assert server.password.encode() not in (proc / "cmdline").read_bytes()
    assert stat.S_IMODE((proc / "environ").stat().st_mode) == 0o400
    assert server.password not in (folder / "server.log").read_text()


def test_a_run_neither_shows_nor_keeps_the_password(
    orch: Orch, endpoint: Endpoint, server: LocalServer
) -> None:
    registered = "[processes.environment]\nwhen = 'Print it.'\ncommand = ['env']\neffects = false\n"
    (orch.home / "orch.toml").write_text(registered)
    endpoint.reply = Cast(planner=[plan(process("printing", "environment"))], answer=[])
    done = orch("ask", "Do it.", "--debug")
    assert done.code == 0, done.err
    assert "PREFECT_API_URL" in orch.journal().read_text()
    kept = [path for path in orch.home.parent.rglob("*") if path.is_file()]
    secret = server.password.encode()
    assert [path for path in kept if secret in path.read_bytes()] == []
    assert server.password not in done.out + done.err


# --- servers and folders of earlier versions

OLD = """
import json, os, socket, sys, time
from pathlib import Path
from orchestrator_cli.durable.locks import try_lock
folder = Path(sys.argv[1])
lock = (folder / "server.lock").open("a+")
assert try_lock(lock.fileno())
listener = socket.create_server(("127.0.0.1", 0))
url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
(folder / "server.json").write_text(json.dumps({"url": url, "pid": os.getpid()}))
print("up", flush=True)
time.sleep(60)
"""


@pytest.mark.thorough
@pytest.mark.slow
def test_a_server_without_a_password_is_ended_and_replaced(home: Path) -> None:
    folder = home / "prefect"
    folder.chmod(0o755)
    (folder / "prefect.db").touch(mode=0o644)
    command = [sys.executable, "-c", OLD, str(folder), "orchestrator_cli.engine.server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as old:
        assert old.stdout is not None
        old.stdout.readline()
        url = start_server(home)
        assert old.wait(20) == -signal.SIGTERM
    prefect_server.await_server(url, home, Cancellation())
    server = running_server(home)
    assert server is not None
    assert prefect_server.requires_password(server)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "prefect.db").stat().st_mode) == 0o600
