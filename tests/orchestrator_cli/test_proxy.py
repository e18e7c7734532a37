"""A proxy of the environment sees nothing of what goes to this machine."""

import importlib.util
import socket
import threading
from collections.abc import Iterator

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, coder, plan

from orchestrator_cli.models.discovery import find_model


class Counting:
    """A proxy that counts who comes, and hangs up."""

    def __init__(self) -> None:
        self.seen = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.seen += 1
            connection.close()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def proxy() -> Iterator[Counting]:
    counting = Counting()
    yield counting
    counting.close()


@pytest.mark.slow  # a cold process, because libraries read the environment at import: 10 s
def test_a_run_reaches_its_servers_on_loopback_without_the_proxy(
    orch: Orch, endpoint: Endpoint, proxy: Counting
) -> None:
    step = "Thought: on with it.\n<code>\nfinal_answer('one is done')\n</code>"
    endpoint.reply = Cast(planner=[plan(coder("one"))], agents={"Do one": [step]})
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy")
    done = orch.cold(
        "ask",
        "Do it.",
        timeout=60,
        **dict.fromkeys(names, proxy.url),
        NO_PROXY="example.org, [::1],fe80::/10,*.test",
    )
    assert (done.code, proxy.seen) == (0, 0), done.err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SSL_CERT_FILE", "/nowhere.pem"),
        ("SSL_CERT_FILE", "/"),
        ("SSL_CERT_FILE", "/dev/null"),
        ("SSL_CERT_FILE", __file__),
        ("SSL_CERT_DIR", "/nowhere"),
        ("REQUESTS_CA_BUNDLE", "/nowhere.pem"),
        ("SSLKEYLOGFILE", "/nowhere/keys"),
        ("ALL_PROXY", "socks5://127.0.0.1:1"),
        ("https_proxy", "ftp://127.0.0.1:1"),
        ("http_proxy", "http://"),
    ],
)
def test_certificates_and_proxies_that_are_none_are_named_before_a_run(
    orch: Orch, endpoint: Endpoint, name: str, value: str
) -> None:
    if importlib.util.find_spec("socksio") and "socks" in value:
        pytest.skip("socksio is installed")
    endpoint.reply = Cast(planner=[])
    done = orch("ask", "Do it.", **{name: value})
    assert (done.code, endpoint.exchanges, orch.remains()) == (3, [], [])
    assert name.upper() in done.error


def test_a_model_server_on_loopback_is_looked_for_without_the_proxy(
    endpoint: Endpoint, proxy: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    assert (find_model().model, proxy.seen) == ("openai/found", 0)
