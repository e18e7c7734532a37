"""Connections by grant: what reaches a server on the loopback through the proxy, and what never does."""

import http.server
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from toolsmith.sandbox import SandboxError, SandboxExecutor, SandboxUnavailable, choose_backend
from toolsmith.sandbox.backends import Seatbelt
from toolsmith.sandbox.processes import tree
from toolsmith.sandbox.proxy import Dialer, parse_grants

DENIED = r"PermissionError|OSError"


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._say(f"{self.command} {self.path} host={self.headers['Host']}".encode())

    def do_POST(self) -> None:
        self._say(self.rfile.read(int(self.headers["Content-Length"])))

    def _say(self, body: bytes) -> None:
        self.server.seen.append(dict(self.headers))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Any]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.seen = []  # type: ignore[attr-defined]
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[Any]:
    with serving() as running:
        yield running


LOOPBACK = Dialer(resolve=lambda host, port: ["127.0.0.1"], allowed=lambda address: True)


@pytest.fixture
def online(make_sandbox: Any, server: Any) -> SandboxExecutor:
    """May reach api.example.org, whose name leads to the server on the loopback."""
    grants = [f"api.example.org:{server.server_port}", f".below.example:{server.server_port}"]
    sandbox: SandboxExecutor = make_sandbox(given={"network": grants, "dialer": LOOPBACK})
    sandbox.send_variables({"port": server.server_port})
    return sandbox


ASYNCHRONOUS = """
import asyncio, httpx
async def fetch():
    async with httpx.AsyncClient(timeout=5) as client:
        return (await client.get(url)).text
asyncio.run(fetch())"""
CURL = """
import subprocess
subprocess.run(['curl', '-sS', '-m5', url], check=True, capture_output=True, text=True).stdout"""
FETCHES = {
    "urllib": "import urllib.request\nurllib.request.urlopen(url, timeout=5).read().decode()",
    "requests": "import requests\nrequests.get(url, timeout=5).text",
    "httpx": "import httpx\nhttpx.get(url, timeout=5).text",
    "httpx, asynchronous": ASYNCHRONOUS,
    "curl": CURL,
}


@pytest.mark.parametrize("client", FETCHES)
def test_a_granted_name_is_reached_by_ordinary_clients(
    online: SandboxExecutor, client: str, server: Any
) -> None:
    if client == "curl" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    fetched = online(f"url = f'http://api.example.org:{{port}}/a?b=c'\n{FETCHES[client]}").output
    assert fetched == f"GET /a?b=c host=api.example.org:{server.server_port}"
    assert not any(name.lower().startswith("proxy-") for name in server.seen[0])


def test_bodies_are_passed_on_whole(online: SandboxExecutor) -> None:
    code = "import requests\nbody = b'x' * 3_000_000\nurl = f'http://api.example.org:{port}/'\n"
    assert online(f"{code}requests.post(url, data=body, timeout=9).content == body").output is True


def test_another_name_is_refused_and_the_refusal_says_what_is_granted(online: SandboxExecutor) -> None:
    names = ["evil.example", "sub.api.example.org", "api.example.org.evil.example", "xapi.example.org"]
    online.send_variables({"names": names})
    code = """
import requests
answers = [requests.get(f'http://{name}:{port}', timeout=5) for name in names]
[(answer.status_code, answer.text) for answer in answers]"""
    answers = online(code).output
    assert [status for status, _ in answers] == [403] * len(names)
    assert all("was not granted; granted: api.example.org, .below.example" in text for _, text in answers)


def test_a_leading_dot_grants_the_names_below_too(online: SandboxExecutor) -> None:
    online.send_variables({"names": ["below.example", "one.below.example", "a.b.below.example"]})
    code = "import requests\n[requests.get(f'http://{name}:{port}', timeout=5).status_code for name in names]"
    assert online(code).output == [200, 200, 200]


def test_another_port_is_refused(online: SandboxExecutor) -> None:
    code = "import requests\nrequests.get('http://api.example.org:' + str(port + 1), timeout=5).status_code"
    assert online(code).output == 403


def test_tls_is_spoken_with_the_server_itself(make_sandbox: Any, workspace: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", workspace / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "2", "-subj", "/CN=api.example.org", "-addext", "subjectAltName=DNS:api.example.org"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(context) as server:
        grant = f"api.example.org:{server.server_port}"
        sandbox = make_sandbox(given={"network": [grant], "dialer": LOOPBACK})
        code = f"url = 'https://{grant}/x'\nimport requests, httpx, ssl\n"
        code += "trust = ssl.create_default_context(cafile='certificate.pem')\n"
        both = "[requests.get(url, verify='certificate.pem').text, httpx.get(url, verify=trust).text]"
        assert sandbox(code + both).output == [f"GET /x host={grant}"] * 2


ADDRESSES = [
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
    *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1"),
    *("::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::"),
]


def test_addresses_that_are_not_public_are_refused_also_behind_a_granted_name(
    make_sandbox: Any, server: Any
) -> None:
    left = list(ADDRESSES)
    dialer = Dialer(resolve=lambda host, port: [left.pop(0)])
    grant = f"api.example.org:{server.server_port}"
    sandbox = make_sandbox(given={"network": [grant], "dialer": dialer})
    code = f"""
import requests
answers = [requests.get('http://{grant}/', timeout=5) for i in range({len(ADDRESSES)})]
{{(answer.status_code, answer.text) for answer in answers}}"""
    assert sandbox(code).output == {(403, "api.example.org resolves to an address that is not public\n")}
    assert (left, server.seen) == ([], [])


def test_one_address_that_is_not_public_is_enough_for_a_refusal(make_sandbox: Any) -> None:
    dialer = Dialer(resolve=lambda host, port: ["93.184.216.34", "127.0.0.1"])
    sandbox = make_sandbox(given={"network": ["api.example.org"], "dialer": dialer})
    code = "import requests\nrequests.get('http://api.example.org/', timeout=5).status_code"
    assert sandbox(code).output == 403


def test_the_address_that_was_checked_is_the_one_connected_to(make_sandbox: Any, server: Any) -> None:
    """A name that leads elsewhere the second time gains nothing: it is resolved once for each connection."""
    answers = iter(["127.0.0.1", "10.0.0.1"])
    allowed = {"127.0.0.1"}
    dialer = Dialer(resolve=lambda host, port: [next(answers)], allowed=allowed.__contains__)
    grant = f"api.example.org:{server.server_port}"
    sandbox = make_sandbox(given={"network": [grant], "dialer": dialer})
    fetch = f"import requests\nrequests.get('http://{grant}/', timeout=5).status_code"
    assert [sandbox(fetch).output, sandbox(fetch).output] == [200, 403]


RAW = """
import socket
def ask(data):
    with socket.create_connection(("192.0.2.1", 80), 5) as made:
        made.sendall(data)
        answer = b""
        while chunk := made.recv(65536):
            answer += chunk
        return answer.decode()
"""
HERE = b"http://api.example.org:PORT/ HTTP/1.1\r\n"


MALFORMED = [
    (b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n\r\n", "403"),
    (b"CONNECT [::1]:22 HTTP/1.1\r\n\r\n", "403"),
    (b"CONNECT 2130706433:80 HTTP/1.1\r\n\r\n", "403"),
    (b"CONNECT 0x7f.1:80 HTTP/1.1\r\n\r\n", "403"),
    (b"CONNECT localhost:80 HTTP/1.1\r\n\r\n", "403"),
    (b"CONNECT evil.example\0.api.example.org:80 HTTP/1.1\r\n\r\n", "400"),
    (b"CONNECT evil.example#api.example.org:80 HTTP/1.1\r\n\r\n", "403"),
    (b"GET http://evil.example@api.example.org/ HTTP/1.1\r\n\r\n", "400"),
    (b"GET http://api.example.org:PORT@evil.example/ HTTP/1.1\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: api.example.org:PORT\r\n\r\n", "400"),
    (b"GET file:///etc/passwd HTTP/1.1\r\n\r\n", "400"),
    (b"GET ftp://api.example.org:PORT/ HTTP/1.1\r\n\r\n", "400"),
    (b"GET " + HERE + b" folded: x\r\n\r\n", "400"),
    (b"GET " + HERE + b"X: y\r\n folded\r\n\r\n", "400"),
    (b"GET " + HERE + b"X: y\nContent-Length: 5\r\n\r\n", "400"),
    (b"GET " + HERE + b"X: y\rContent-Length: 5\r\n\r\n", "400"),
    (b"GET " + HERE + b"X: a control \x01 character\r\n\r\n", "400"),
    (b"GET " + HERE + b"X : y\r\n\r\n", "400"),
    (b"GET " + HERE.replace(b"1.1", b"9.9") + b"\r\n", "400"),
    (b"POST " + HERE + b"Content-Length: 1, 1\r\n\r\n", "400"),
    (b"POST " + HERE + b"Transfer-Encoding: chunked\r\n\r\n", "411"),
    (b"POST " + HERE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "400"),
    (b"\x16\x03\x01 a TLS greeting to some address", "400"),
    (b"GET " + HERE + b"X: " + b"y" * 70_000, "431"),
]


def test_a_request_that_is_not_what_it_should_be_is_refused(online: SandboxExecutor, server: Any) -> None:
    port = str(server.server_port).encode()
    online.send_variables({"asked": [asked.replace(b"PORT", port) for asked, _ in MALFORMED]})
    answers = online(f"{RAW}\n[ask(each).split()[1] for each in asked]").output
    assert answers == [status for _, status in MALFORMED]
    assert server.seen == []


def test_a_second_request_on_a_plain_connection_goes_nowhere(online: SandboxExecutor, server: Any) -> None:
    asked = b"GET " + HERE + b"Host: evil.example\r\n\r\nGET /second HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    online.send_variables({"asked": asked.replace(b"PORT", str(server.server_port).encode())})
    answer = online(f"{RAW}\nask(asked)").output
    assert answer.count("HTTP/1.1 200") == 1
    assert [headers["Host"] for headers in server.seen] == [f"api.example.org:{server.server_port}"]


OTHER_SOCKETS = {
    "udp": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "raw": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "unix": "socket.socket(socket.AF_UNIX)",
    "netlink": "socket.socket(16, socket.SOCK_RAW)",
    "listening": "socket.create_server(('127.0.0.1', 0))",
}


def test_with_a_grant_other_sockets_stay_denied(online: SandboxExecutor) -> None:
    for code in OTHER_SOCKETS.values():
        with pytest.raises(SandboxError, match=DENIED):
            online(f"import socket\n{code}")


def test_a_direct_connection_ends_at_the_proxy(online: SandboxExecutor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        code = f"import socket\nmade = socket.create_connection(('127.0.0.1', {port}), 5)\n"
        assert online(code + "made.sendall(b'hello')\nmade.recv(12)").output == b"HTTP/1.1 400"
        with pytest.raises(TimeoutError):
            listener.accept()


def test_without_a_grant_nothing_of_it_exists(make_sandbox: Any) -> None:
    sandbox = make_sandbox()
    assert sandbox("import os\n[name for name in os.environ if 'proxy' in name.lower()]").output == []
    assert "sandbox-proxy" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(SandboxError, match=DENIED):
        sandbox("import socket\nsocket.create_connection(('127.0.0.1', 3128), 1)")


def test_connections_work_after_a_rollback_and_after_a_restart(online: SandboxExecutor) -> None:
    fetch = "import requests\nrequests.get(f'http://api.example.org:{port}/', timeout=5).status_code"
    with pytest.raises(SandboxError, match="SIGSEGV"):
        online("import ctypes\nctypes.string_at(0)")
    assert online(fetch).output == 200
    with pytest.raises(SandboxError, match="restarted"):
        online("import os, sys\nos.write(int(sys.argv[2]), b'\\xff' * 8)\nwhile True: pass")
    assert online(fetch).output == 200


def test_too_many_connections_at_once_are_refused(online: SandboxExecutor) -> None:
    code = """
import socket, errno
made = []
try:
    for i in range(100):
        made.append(socket.socket())
except OSError as error:
    reason = errno.errorcode[error.errno]
[len(made), reason]"""
    assert online(code).output == [32, "EMFILE"]


def test_nothing_is_left_when_the_sandbox_ends(make_sandbox: Any) -> None:
    def held() -> tuple[set[str], set[threading.Thread], set[int]]:
        files = {os.fspath(link) for link in Path("/proc/self/fd").iterdir()}
        return files, set(threading.enumerate()), set(tree(os.getpid())[1:])

    def new() -> list[object]:
        """What was not there before; what others have left may end meanwhile."""
        return [found for was, now in zip(before, held(), strict=True) for found in now - was]

    before = held()
    sandbox = make_sandbox(given={"network": ["api.example.org"], "dialer": LOOPBACK})
    sandbox("import socket\nopen_ones = [socket.create_connection(('192.0.2.1', 80)) for i in range(5)]")
    sandbox.cleanup()
    deadline = time.monotonic() + 2
    while left := new():
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


GRANTS = [
    *("127.0.0.1", "localhost", "org", ".org", "*.example.org", "http://example.org", "a b.example"),
    *("1.2", "", "[::1]", "example.org/path", "example.org\0.evil.example", "example.org:0"),
]


@pytest.mark.parametrize("grant", GRANTS)
def test_malformed_grant_is_refused(grant: str) -> None:
    with pytest.raises(ValueError, match=r"not a domain|malformed port"):
        parse_grants([grant])


def test_backend_without_connections_refuses_a_grant(workspace: Path) -> None:
    with pytest.raises(SandboxUnavailable, match=r"cannot be granted connections \(api.example.org\)"):
        SandboxExecutor(workspace, backend=Seatbelt(), network=["api.example.org"])


def test_without_a_sandbox_a_grant_changes_nothing(workspace: Path) -> None:
    with SandboxExecutor(workspace, backend=choose_backend("unsafe"), network=["api.example.org"]) as sandbox:
        assert sandbox("import os\nos.environ.get('HTTP_PROXY')").output is None
