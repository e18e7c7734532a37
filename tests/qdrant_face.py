"""A Qdrant server for tests: the client's local mode behind the HTTP routes that memory uses.

    with QdrantFace() as face:
        store = ServerStore(face.url)

Bodies are read and answers are written with the client's own models, so a request that a server would refuse
for its form is refused here too. `face.stopped()` closes the port for a while and keeps the data; `fault`
answers every request with an error.

What is not covered: the engine of a real server (ranking, durability, limits), and other routes.
"""

import contextlib
import json
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ValidationError
from qdrant_client import QdrantClient, models

Fault = tuple[int, bytes]


class QdrantFace:
    """Serves on a port of its own from entering on; safe for many clients at once."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.version = "1.19.0"
        self.api_key: str | None = None
        """The key that requests must have; None for none."""
        self.fault: Fault | None = None
        """What every request is answered with instead: status and body."""
        self.refuses: bytes | None = None
        """Points whose request holds this are refused."""
        self.requests: list[tuple[str, str]] = []
        """Method and path of every request so far."""
        self._data = QdrantClient(":memory:")
        # The local mode is not safe for threads.
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._tls = tls
        self._port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def points(self) -> int:
        """How many points there are, of all users."""
        with self._lock:
            return self._data.count("orch_mem").count

    def drop_collection(self) -> None:
        with self._lock:
            self._data.delete_collection("orch_mem")

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        self._stop()
        try:
            yield
        finally:
            self._start()

    def _start(self) -> None:
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.face = self
        self._port = self._server.server_port
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, method: str, path: str, body: bytes, key: str | None) -> tuple[int, bytes]:
        """The status and body of an answer."""
        self.requests.append((method, path))
        if self.fault is not None:
            return self.fault
        if self.api_key is not None and key != self.api_key:
            return 401, b"Must provide an API key or an Authorization bearer token"
        if path == "/":
            return 200, _dumped({"title": "qdrant - vector search engine", "version": self.version})
        if self.refuses is not None and method == "PUT" and self.refuses in body:
            return 400, _dumped({"status": {"error": "Wrong input"}})
        try:
            with self._lock, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = self._result(method, [unquote(part) for part in path.split("/")[2:]], body)
        except ValidationError as exc:
            return 400, _dumped({"status": {"error": str(exc)}})
        except ValueError as exc:
            status = 409 if "already exists" in str(exc) else 404 if "not found" in str(exc) else 400
            return status, _dumped({"status": {"error": str(exc)}})
        return 200, _dumped({"result": result, "status": "ok", "time": 0.0})

    def _result(self, method: str, parts: list[str], body: bytes) -> Any:
        name, *rest = parts
        # The last name is an argument: that of a vector.
        route = " ".join([method, *(["vectors", "NAME"] if rest[:1] == ["vectors"] else rest)])
        if route not in _ROUTES:
            raise ValueError(f"not found: {method} {'/'.join(parts)}")
        result = _ROUTES[route](self._data, name, body, rest[-1] if rest else "")
        return _DONE if result is None else result


Route = Callable[[QdrantClient, str, bytes, str], Any]
"""The answer to a request: client, collection, body, last part of the path. None for a plain success."""


def _create(data: QdrantClient, name: str, body: bytes, _: str) -> bool:
    new = models.CreateCollection.model_validate_json(body)
    return data.create_collection(
        name, vectors_config=new.vectors or {}, sparse_vectors_config=new.sparse_vectors
    )


def _index(data: QdrantClient, name: str, body: bytes, _: str) -> None:
    models.CreateFieldIndex.model_validate_json(body)


def _add_vector(data: QdrantClient, name: str, body: bytes, vector: str) -> None:
    data.create_vector_name(name, vector, models.DenseVectorNameConfig.model_validate_json(body))


def _drop_vector(data: QdrantClient, name: str, body: bytes, vector: str) -> None:
    data.delete_vector_name(name, vector)


def _upsert(data: QdrantClient, name: str, body: bytes, _: str) -> None:
    data.upsert(name, models.PointsList.model_validate_json(body).points)


def _retrieve(data: QdrantClient, name: str, body: bytes, _: str) -> list[models.Record]:
    asked = models.PointRequest.model_validate_json(body)
    return data.retrieve(
        name, asked.ids, with_payload=asked.with_payload or False, with_vectors=asked.with_vector or False
    )


def _update_vectors(data: QdrantClient, name: str, body: bytes, _: str) -> None:
    data.update_vectors(name, models.UpdateVectors.model_validate_json(body).points)


def _delete_vectors(data: QdrantClient, name: str, body: bytes, _: str) -> None:
    asked = models.DeleteVectors.model_validate_json(body)
    assert asked.filter is not None
    data.delete_vectors(name, asked.vector, models.FilterSelector(filter=asked.filter))


def _delete(data: QdrantClient, name: str, body: bytes, _: str) -> None:
    data.delete(name, models.PointIdsList.model_validate_json(body))


def _count(data: QdrantClient, name: str, body: bytes, _: str) -> models.CountResult:
    asked = models.CountRequest.model_validate_json(body)
    return data.count(name, count_filter=asked.filter, exact=bool(asked.exact))


def _scroll(data: QdrantClient, name: str, body: bytes, _: str) -> dict[str, Any]:
    asked = models.ScrollRequest.model_validate_json(body)
    found, offset = data.scroll(
        name,
        scroll_filter=asked.filter,
        limit=asked.limit or 10,
        offset=asked.offset,
        with_payload=asked.with_payload or False,
    )
    return {"points": found, "next_page_offset": offset}


def _query(data: QdrantClient, name: str, body: bytes, _: str) -> models.QueryResponse:
    asked = models.QueryRequest.model_validate_json(body)
    return data.query_points(
        name,
        query=asked.query,
        using=asked.using,
        query_filter=asked.filter,
        search_params=asked.params,
        limit=asked.limit or 10,
        with_payload=asked.with_payload or False,
    )


_ROUTES: dict[str, Route] = {
    "GET": lambda data, name, *_: data.get_collection(name),
    "GET exists": lambda data, name, *_: {"exists": data.collection_exists(name)},
    "PUT": _create,
    "PUT index": _index,
    "PUT vectors NAME": _add_vector,
    "DELETE vectors NAME": _drop_vector,
    "PUT points": _upsert,
    "POST points": _retrieve,
    "PUT points vectors": _update_vectors,
    "POST points vectors delete": _delete_vectors,
    "POST points delete": _delete,
    "POST points count": _count,
    "POST points scroll": _scroll,
    "POST points query": _query,
}
_DONE = {"operation_id": 0, "status": "completed"}


def _dumped(value: Any) -> bytes:
    return json.dumps(value, default=_plain).encode()


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    raise TypeError(type(value))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    face: QdrantFace


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = urlsplit(self.path).path
        status, answer = self.server.face.answer(self.command, path, body, self.headers.get("api-key"))
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Says nothing."""
