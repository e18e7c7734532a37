"""Faults of a memory server: each is named with what to do, by the kind of error that callers act on."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from qdrant_client.http.exceptions import ResponseHandlingException
from qdrant_face import QdrantFace

from memory import MemoryAway, MemoryBusy, MemoryFault, MemoryUnavailable, Record, Scope, open_store
from memory.address import check_address, sends_openly
from memory.server import ServerStore
from memory.server_errors import explained

ME = Scope()
pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")


@pytest.fixture
def face() -> Iterator[QdrantFace]:
    with QdrantFace() as serving:
        yield serving


def fault_of(url: str, key: str | None = None) -> MemoryFault:
    with closing(ServerStore(url, key)) as store, pytest.raises(MemoryFault) as caught:
        store.count((), ME)
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, b"", MemoryAway, "memory.api_key"),
        (403, b"forbidden", MemoryAway, "memory.api_key"),
        (404, b"<html>no such page</html>", MemoryAway, "memory.url"),
        (301, b"", MemoryAway, "memory.url"),
        (200, b"<html>hello</html>", MemoryAway, "memory.url"),
        (200, b'{"title": "x", "version": "new"}', MemoryAway, "memory.url"),
        (400, b'{"status": {"error": "Wrong input: \x1b[31mno\\u0000"}}', MemoryUnavailable, "Wrong input"),
        (500, b'{"status": {"error": "disk is full"}}', MemoryAway, "disk is full"),
        (503, b"", MemoryAway, "503"),
        (429, b"", MemoryBusy, "overloaded"),
    ],
)
def test_an_answer_that_is_a_fault_is_explained(
    face: QdrantFace, status: int, body: bytes, kind: type[MemoryFault], words: str
) -> None:
    face.fault = status, body
    fault = fault_of(face.url)
    assert type(fault) is kind
    assert words in str(fault)
    assert face.url in str(fault)
    assert str(fault).isprintable()


def test_a_key_is_asked_for_or_refused(face: QdrantFace) -> None:
    face.api_key = "right"
    assert "Set memory.api_key" in str(fault_of(face.url))
    assert "does not accept" in str(fault_of(face.url, "wrong"))
    with closing(ServerStore(face.url, "right")) as store:
        assert store.count((), ME) == 0


@pytest.mark.parametrize(
    ("version", "works"), [("1.18.9", False), ("0.11", False), ("1.19.0", True), ("2.0", True)]
)
def test_a_server_before_1_19_is_too_old(face: QdrantFace, version: str, works: bool) -> None:
    face.version = version
    if works:
        with closing(ServerStore(face.url)) as store:
            assert store.count((), ME) == 0
    else:
        fault = fault_of(face.url)
        assert isinstance(fault, MemoryAway)
        assert "1.19" in str(fault)


def test_a_server_that_is_not_there_is_named_at_once(face: QdrantFace) -> None:
    with face.stopped():
        began = time.monotonic()
        fault = fault_of(face.url)
    assert isinstance(fault, MemoryAway)
    assert "Connection refused" in str(fault)
    assert time.monotonic() - began < 2


def test_a_server_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory.server._SHORT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        store = open_store(tmp_path, url=f"http://127.0.0.1:{listening.getsockname()[1]}")
        began = time.monotonic()
        for _ in range(5):
            with pytest.raises(MemoryAway, match="too long"):
                store.count((), ME)
    assert time.monotonic() - began < 2


def test_tls_to_a_plain_server_is_explained(face: QdrantFace) -> None:
    assert "write http://" in str(fault_of(face.url.replace("http://", "https://")))


def test_plain_http_to_a_tls_server_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def alert() -> None:
            for _ in range(3):
                with listening.accept()[0] as peer:
                    peer.recv(100)
                    peer.sendall(b"\x15\x03\x03\x00\x02\x02\x46")

        threading.Thread(target=alert, daemon=True).start()
        assert "write https://" in str(fault_of(f"http://127.0.0.1:{listening.getsockname()[1]}"))


def test_a_certificate_that_is_not_valid_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with QdrantFace(tls=context) as face:
        assert "SSL_CERT_FILE" in str(fault_of(face.url))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with closing(ServerStore(face.url)) as store:
            assert store.count((), ME) == 0


def test_an_unknown_name_is_explained() -> None:
    source = httpx.ConnectError("failed")
    source.__cause__ = socket.gaierror(-2, "Name or service not known")
    fault = explained(ResponseHandlingException(source), "https://memory.example", has_key=False)
    assert isinstance(fault, MemoryAway)
    assert "unknown" in str(fault)


def test_a_request_is_sent_again_if_the_server_asks_for_it(face: QdrantFace) -> None:
    with closing(ServerStore(face.url)) as store:
        store.count((), ME)
        face.fault = 503, b""
        threading.Timer(0.05, lambda: setattr(face, "fault", None)).start()
        assert store.count((), ME) == 0


def test_a_collection_that_was_removed_is_made_again(face: QdrantFace) -> None:
    with closing(ServerStore(face.url)) as store:
        store.add([Record(kind="run", key="a", text="rivers")])
        face.drop_collection()
        with pytest.raises(MemoryAway):
            store.count((), ME)
        assert store.count((), ME) == 0


@pytest.mark.parametrize(
    "url",
    ["", "localhost:6333", "ftp://host", "http://", "http://host:port", "http://u:p@host", "http://h/?a=b"],
)
def test_what_is_not_an_address_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_address(url)
    with pytest.raises(MemoryUnavailable):
        open_store(tmp_path, url=url)


@pytest.mark.parametrize(
    ("url", "openly"),
    [
        ("http://memory.example:6333", True),
        ("http://10.0.0.7", True),
        ("https://memory.example", False),
        ("http://localhost:6333", False),
        ("http://127.8.8.8", False),
        ("http://[::1]:6333", False),
        ("http://localhost.example", True),
    ],
)
def test_a_key_over_plain_http_to_another_machine_is_warned_about(url: str, openly: bool) -> None:
    assert sends_openly(url) is openly
    said: list[str] = []
    ServerStore(url, warn=said.append).close()
    assert said == []
    # Once for all stores of a process.
    for _ in range(2):
        ServerStore(url, "key", warn=said.append).close()
    assert len(said) == openly


def note(key: str, text: str = "some text", **fields: object) -> Record:
    return Record.model_validate({"kind": "run", "key": key, "text": text, **fields})


def waiting(folder: Path) -> list[Path]:
    return sorted(folder.glob("waiting/*/*.json"))


def test_writes_wait_for_the_server_and_are_sent_in_order(face: QdrantFace, tmp_path: Path) -> None:
    said: list[str] = []
    with face.stopped():
        store = open_store(tmp_path, url=face.url, warn=said.append)
        store.add([note("a", "first"), note("b")])
        store.add([note("a", "second")])
        assert len(waiting(tmp_path)) == 2
        assert len(said) == 1
        with pytest.raises(MemoryAway, match="2 writes wait"):
            store.all((), ME)
    # Another process, which finds the server back.
    other = open_store(tmp_path, url=face.url)
    assert {record.key: record.text for record in other.all((), ME)} == {"a": "second", "b": "some text"}
    assert waiting(tmp_path) == []


def test_what_waits_is_sent_once_by_all_that_find_the_server_back(face: QdrantFace, tmp_path: Path) -> None:
    with face.stopped():
        store = open_store(tmp_path, url=face.url, warn=lambda _: None)
        for n in range(20):
            store.add([note(f"k{n}")])
    stores = [open_store(tmp_path, url=face.url) for _ in range(4)]
    readers = [threading.Thread(target=each.count, args=((), ME)) for each in stores]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert face.requests.count(("PUT", "/collections/orch_mem/points")) == face.points == 20


def test_what_waits_is_private(face: QdrantFace, tmp_path: Path) -> None:
    with face.stopped():
        open_store(tmp_path, url=face.url, warn=lambda _: None).add([note("a")])
    (batch,) = waiting(tmp_path)
    assert batch.stat().st_mode & 0o777 == 0o600
    assert batch.parent.stat().st_mode & 0o777 == 0o700


def test_what_may_wait_is_limited(face: QdrantFace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory.waiting.MAX_WAITING_BYTES", 2_000)
    with face.stopped():
        store = open_store(tmp_path, url=face.url, warn=lambda _: None)
        store.add([note("a", "x" * 1_000)])
        with pytest.raises(MemoryUnavailable):
            store.add([note("b", "x" * 1_000)])


def test_a_server_that_is_away_is_not_asked_by_every_read(face: QdrantFace, tmp_path: Path) -> None:
    face.fault = 500, b""
    store = open_store(tmp_path, url=face.url, warn=lambda _: None)
    for _ in range(5):
        with pytest.raises(MemoryAway):
            store.all((), ME)
    assert len(face.requests) == 1
    store.add([note("a")])
    assert len(face.requests) == 1


def test_a_write_that_waited_does_not_replace_a_newer_one(face: QdrantFace, tmp_path: Path) -> None:
    then = datetime(2026, 1, 1, tzinfo=UTC)
    with face.stopped():
        open_store(tmp_path, url=face.url, warn=lambda _: None).add(
            [note("a", "old", created=then), note("b", created=then)]
        )
    with closing(ServerStore(face.url)) as elsewhere:
        elsewhere.add([note("a", "new", created=then + timedelta(days=1))])
    store = open_store(tmp_path, url=face.url)
    assert {record.key: record.text for record in store.all((), ME)} == {"a": "new", "b": "some text"}


def test_a_deleted_record_does_not_come_back_from_what_waits(face: QdrantFace, tmp_path: Path) -> None:
    with face.stopped():
        open_store(tmp_path, url=face.url, warn=lambda _: None).add([note("a")])
    store = open_store(tmp_path, url=face.url)
    assert store.delete([note("a").id], ME) == 1
    assert store.all((), ME) == []


def test_what_the_server_refuses_does_not_hold_up_the_rest(
    face: QdrantFace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with face.stopped():
        store = open_store(tmp_path, url=face.url, warn=said.append)
        store.add([note("bad")])
        store.add([note("good")])
    face.refuses = b"bad"
    store = open_store(tmp_path, url=face.url, warn=said.append)
    assert [record.key for record in store.all((), ME)] == ["good"]
    (aside,) = tmp_path.glob("waiting/*/*.unreadable")
    assert str(aside) in said[-1]


def test_a_store_without_an_outbox_raises(face: QdrantFace, tmp_path: Path) -> None:
    with face.stopped(), pytest.raises(MemoryAway):
        open_store(tmp_path, url=face.url, waits=False).add([note("a")])
    assert waiting(tmp_path) == []
