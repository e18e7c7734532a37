"""A model for tests: an OpenAI-compatible HTTP endpoint on loopback whose replies a function gives.

`reply(request, n)` is given the JSON of the n-th chat completion (from 1) and returns the text of
the assistant's message, or a dict:

    content, tool_calls, finish_reason      an assistant message (`call` makes a tool call)
    reasoning_content, refusal              what some providers send beside it
    whole                                   True: in one piece, also if a stream was asked for
    status, headers, body                   a fault instead of a message
    sleep                                   seconds to wait before anything is sent
    cut                                     True: the connection ends in the middle of the reply

Both streamed and whole replies are spoken. Every exchange is kept with the times at which its
request arrived and its reply began.

`embed(request)` is given the JSON of a request for vectors and returns one for each text, or a dict
as above; without one, such requests are refused. They are kept apart, in `embeddings`. So it is with
`hear(fields)` for recordings, which is given the fields of the form and returns what is said, and with
`speak(request)`, which returns the bytes of a sound; they are kept in `recordings` and `speeches`.

Not covered: more than one choice.
"""

import base64
import contextlib
import email
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BESIDE = ("reasoning_content", "refusal")
Reply = str | dict[str, Any]
Play = Callable[[dict[str, Any], int], Reply]
Embed = Callable[[dict[str, Any]], list[list[float]] | dict[str, Any]]


@dataclass(frozen=True)
class Exchange:
    """One request and what was answered; times are seconds of `time.monotonic`."""

    n: int
    request: dict[str, Any]
    reply: dict[str, Any]
    arrived: float
    answered: float

    @property
    def model(self) -> str:
        return str(self.request.get("model"))

    @property
    def text(self) -> str:
        return texts_of(self.request)


class Endpoint:
    """The endpoint; `reply` may be replaced between runs. As a context manager it serves until it is left."""

    def __init__(self, reply: Play | None = None) -> None:
        self.reply: Play = reply or _no_reply
        self.embed: Embed = lambda _: fault(404, "no embeddings here")
        self.hear: Callable[[dict[str, bytes]], str | dict[str, Any]] = lambda _: fault(404, "no ears here")
        self.speak: Callable[[dict[str, Any]], bytes | dict[str, Any]] = lambda _: fault(404, "no voice here")
        self.recordings: list[dict[str, bytes]] = []
        self.speeches: list[dict[str, Any]] = []
        self.models: list[dict[str, Any]] = [{"id": "found", "object": "model"}]
        self.keys: set[str | None] = set()
        """What requests were authorized with."""
        self.exchanges: list[Exchange] = []
        self.embeddings: list[dict[str, Any]] = []
        """The requests for vectors."""
        self.arrived = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> "Endpoint":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def of(self, model: str) -> list[Exchange]:
        """The exchanges of one model name, in the order of their arrival."""
        return sorted((e for e in self.exchanges if e.model == model), key=lambda e: e.n)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Decide a reply, wait as long as it says, and keep the exchange."""
        arrived = time.monotonic()
        with self._lock:
            self.arrived += 1
            n = self.arrived
        found = self.reply(request, n)
        reply = {"content": found} if isinstance(found, str) else found
        self._closing.wait(float(reply.get("sleep", 0)))
        with self._lock:
            self.exchanges.append(Exchange(n, request, reply, arrived, time.monotonic()))
        return reply

    def answer_embedding(self, request: dict[str, Any]) -> dict[str, Any]:
        self.embeddings.append(request)
        found = self.embed(request)
        if isinstance(found, dict):
            self._closing.wait(float(found.get("sleep", 0)))
            return found
        rows = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(found)]
        tokens = sum(len(text) // 4 + 1 for text in request["input"])
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        # In another order than they were asked in, which a provider may do.
        body = {"object": "list", "model": request["model"], "data": rows[::-1], "usage": usage}
        return {"status": 200, "body": body}


def images_of(request: dict[str, Any]) -> list[bytes]:
    """The images that a request sends, in order."""
    contents = (message.get("content") for message in request["messages"])
    parts = (part for content in contents if isinstance(content, list) for part in content)
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [base64.b64decode(url.partition(";base64,")[2], validate=True) for url in urls]


def texts_of(request: dict[str, Any]) -> str:
    """All text that a request sends, in order."""
    return "\n".join(_text(message.get("content")) for message in request.get("messages", ()))


def call(name: str, arguments: dict[str, Any], ident: str = "call_1") -> dict[str, Any]:
    """A message that calls one tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"content": None, "tool_calls": [{"id": ident, "type": "function", "function": function}]}


def fault(status: int, message: str = "it is broken", **headers: str) -> dict[str, Any]:
    """An HTTP fault; an underscore in a header's name is a dash."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"status": status, "headers": named, "body": {"error": {"message": message, "code": status}}}


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def _no_reply(_request: dict[str, Any], n: int) -> Reply:
    return fault(400, f"the test gave no reply to request {n}")


def _usage(request: dict[str, Any], reply: dict[str, Any]) -> dict[str, int]:
    """Tokens at four characters each."""
    asked = max(1, len(texts_of(request)) // 4)
    said = max(1, len(str(reply.get("content") or reply.get("tool_calls"))) // 4)
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _finish(reply: dict[str, Any]) -> str:
    return str(reply.get("finish_reason") or ("tool_calls" if reply.get("tool_calls") else "stop"))


class LoopbackServer(ThreadingHTTPServer):
    """On a port of 127.0.0.1. When it is closed it ends its connections too, which clients may have kept."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._connections: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for request in list(self._connections):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


class _Server(LoopbackServer):
    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(_Requests)
        self.endpoint = endpoint

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed has hung up; that is not worth a traceback."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Requests(BaseHTTPRequestHandler):
    server: "_Server"
    protocol_version = "HTTP/1.1"
    # Headers and body are written apart: without this the second waits for the first to be acknowledged.
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        known = self.path.endswith("/models")
        self.server.endpoint.keys.add(self.headers["authorization"])
        self._send(200 if known else 404, {"data": self.server.endpoint.models} if known else {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if "/audio/" in self.path:
            with contextlib.suppress(ConnectionError):
                self._sound(body)
            return
        request = json.loads(body)
        with contextlib.suppress(ConnectionError):
            is_embedding = self.path.endswith("/embeddings")
            ours = self.server.endpoint
            reply = ours.answer_embedding(request) if is_embedding else ours.answer(request)
            if "status" in reply:
                self._send(reply["status"], reply.get("body", {}), reply.get("headers"))
            elif request.get("stream") and not reply.get("whole"):
                self._stream(request, reply)
            else:
                self._whole(request, reply)

    def _sound(self, body: bytes) -> None:
        ours = self.server.endpoint
        found: Any
        if self.path.endswith("/speech"):
            ours.speeches.append(json.loads(body))
            found = ours.speak(ours.speeches[-1])
        else:
            ours.recordings.append(_fields(self.headers["content-type"], body))
            found = ours.hear(ours.recordings[-1])
        if isinstance(found, dict):
            self._send(found["status"], found.get("body", {}), found.get("headers"))
        elif isinstance(found, bytes):
            self.send_response(200)
            self.send_header("content-type", "audio/mpeg")
            self.send_header("content-length", str(len(found)))
            self.end_headers()
            self.wfile.write(found)
        else:
            self._send(200, {"text": found})

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None, cut: bool = False) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut

    def _whole(self, request: dict[str, Any], reply: dict[str, Any]) -> None:
        message = {"role": "assistant", "content": reply.get("content")}
        message |= {key: reply[key] for key in (*BESIDE, "tool_calls") if reply.get(key)}
        choice = {"index": 0, "message": message, "finish_reason": _finish(reply)}
        body = _frame(request, "chat.completion") | {"choices": [choice], "usage": _usage(request, reply)}
        self._send(200, body, cut=bool(reply.get("cut")))

    def _stream(self, request: dict[str, Any], reply: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for row in _pieces(request, reply):
            self.wfile.write(b"data: " + json.dumps(row).encode() + b"\n\n")
            self.wfile.flush()
        if not reply.get("cut"):
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True


def _fields(kind: str, body: bytes) -> dict[str, bytes]:
    """The fields of a form; the name of a file is the field `filename`."""
    form = email.message_from_bytes(b"content-type: " + kind.encode() + b"\r\n\r\n" + body)
    found: dict[str, bytes] = {}
    for part in form.walk():
        name = part.get_param("name", header="content-disposition")
        if isinstance(name, str):
            found[name] = bytes(part.get_payload(decode=True))  # type: ignore[arg-type]
            if file := part.get_filename():
                found["filename"] = file.encode()
    return found


def _frame(request: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": request.get("model")}


def _pieces(request: dict[str, Any], reply: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The chunks of a streamed reply; one that is cut has half of its text and no end."""
    frame = _frame(request, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return frame | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    for key in BESIDE:
        for word in str(reply.get(key) or "").split(" "):
            yield chunk({key: f"{word} "} if word else {})
    text = str(reply.get("content") or "")
    text = text[: len(text) // 2] if reply.get("cut") else text
    yield chunk({"role": "assistant", "content": ""})
    for start in range(0, len(text), 24):
        yield chunk({"content": text[start : start + 24]})
    if reply.get("cut"):
        return
    for index, made in enumerate(reply.get("tool_calls") or ()):
        yield chunk({"tool_calls": [{"index": index, **made}]})
    yield chunk({}, _finish(reply))
    yield frame | {"choices": [], "usage": _usage(request, reply)}
