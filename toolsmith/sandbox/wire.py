"""The wire format between the host and the worker: JSON frames. The same module runs on both sides.

A frame is a four-byte big-endian length and a JSON object. Python values travel as tagged JSON: values that
JSON lacks are `{"$": tag, "v": payload}`. Nothing is ever pickled, and decoding builds plain values only.

Not covered: identity and cycles (a cycle becomes the text `...`), subclasses (they arrive as their plain
base), and objects of any other type, which arrive as their text, cut after 20,000 characters.
"""

import binascii
import datetime
import json
import os
import re
import struct
from collections.abc import Callable
from typing import Any

Json = Any

MAX_FRAME = 8 << 20
MAX_DEPTH = 40
MAX_VALUES = 1_000_000
MAX_TEXT = 20_000
_SAFE_BITS = 2**12  # json writes decimal digits, which Python refuses beyond 4,300 of them


class OrderedTextSet(set[Any]):
    """A set whose text has the same order in every process, because texts are recorded."""

    def __repr__(self) -> str:
        return "{" + ", ".join(sorted(map(repr, self))) + "}" if self else "set()"


class OrderedTextFrozenset(frozenset[Any]):
    """A frozenset whose text has the same order in every process."""

    def __repr__(self) -> str:
        return f"frozenset({OrderedTextSet(self)!r})" if self else "frozenset()"


# Callers show the type of a value to people, who know these by the names they had inside.
OrderedTextSet.__name__ = "set"
OrderedTextFrozenset.__name__ = "frozenset"

_CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "set": OrderedTextSet,
    "frozenset": OrderedTextFrozenset,
}
_DATES: dict[str, Callable[[str], Any]] = {
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
}
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,16}(?=>)")


class WireError(ValueError):
    """A value too large to send, or bytes that are not a valid frame."""


def encode(value: Any, text: Callable[[str], str] = str) -> Json:
    """`value` as tagged JSON; `text` is applied to every string. Raises WireError beyond a million parts."""
    return _Encoder(text).encode(value, 0)


class _Encoder:
    def __init__(self, text: Callable[[str], str]) -> None:
        self.text = text
        self.left = MAX_VALUES
        self.active: set[int] = set()

    def encode(self, value: Any, depth: int) -> Json:
        self.left -= 1
        if self.left < 0:
            raise WireError(f"the value holds more than {MAX_VALUES:,} parts")
        if depth > MAX_DEPTH or id(value) in self.active:
            return "..."
        if isinstance(value, list | tuple | set | frozenset | dict):
            self.active.add(id(value))
            try:
                return self._container(value, depth + 1)
            finally:
                self.active.discard(id(value))
        if isinstance(value, str):
            return self.text(str.__str__(value))
        plain = _scalar(value)
        if plain is not NotImplemented:
            return plain
        if type(value).__module__ == "numpy" and hasattr(value, "tolist") and value.size <= 10_000:
            return self.encode(value.tolist(), depth + 1)
        return {"$": "text", "v": self.text(text_of(value))}

    def _container(self, value: Any, depth: int) -> Json:
        if isinstance(value, dict):
            pairs = [[self.encode(k, depth), self.encode(v, depth)] for k, v in value.items()]
            return {"$": "dict", "v": pairs}
        items = [self.encode(item, depth) for item in value]
        if isinstance(value, list):
            return items
        tag = "tuple" if isinstance(value, tuple) else "set" if isinstance(value, set) else "frozenset"
        return {"$": tag, "v": items}


def _scalar(value: Any) -> Json:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if value.bit_length() < _SAFE_BITS else {"$": "int", "v": hex(value)}
    if isinstance(value, float) and type(value).__module__ != "numpy":
        return float(value)
    if isinstance(value, bytes | bytearray):
        return {"$": "bytes", "v": binascii.b2a_base64(bytes(value), newline=False).decode()}
    for tag, kind in (("datetime", datetime.datetime), ("date", datetime.date), ("time", datetime.time)):
        if isinstance(value, kind):
            return {"$": tag, "v": value.isoformat()}
    return NotImplemented


def text_of(value: Any) -> str:
    """`str(value)` without memory addresses, cut; a `__str__` that fails gives a text that says so."""
    try:
        return _ADDRESS.sub("", str(value)[:MAX_TEXT])
    except Exception as exc:
        return f"<{type(value).__name__}: its text failed with {type(exc).__name__}>"


def decode(data: Json, text: Callable[[str], str] = str, raw: Callable[[bytes], bytes] = bytes) -> Any:
    """The plain value behind tagged JSON. Raises WireError.

    `text` is applied to every string, `raw` to all bytes.
    """
    try:
        return _decode(data, text, raw)
    except WireError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        raise WireError(f"malformed value: {type(exc).__name__}") from exc


def _decode(data: Json, text: Callable[[str], str], raw: Callable[[bytes], bytes]) -> Any:
    if isinstance(data, str):
        return text(data)
    if isinstance(data, list):
        return [_decode(item, text, raw) for item in data]
    if not isinstance(data, dict):
        return data
    tag, payload = data["$"], data["v"]
    if tag == "dict":
        return {_decode(key, text, raw): _decode(value, text, raw) for key, value in payload}
    if tag in _CONTAINERS:
        return _CONTAINERS[tag](_decode(item, text, raw) for item in payload)
    if tag in _DATES:
        return _DATES[tag](payload)
    if tag == "bytes":
        return raw(binascii.a2b_base64(payload))
    if tag == "int":
        return int(payload, 16)
    if tag == "text":
        return text(str(payload))
    raise WireError(f"unknown tag {str(tag)[:40]!r}")


def pack(message: Json) -> bytes:
    """One frame. Raises WireError beyond MAX_FRAME bytes."""
    body = json.dumps(message).encode()
    if len(body) > MAX_FRAME:
        raise WireError(f"the value takes {len(body) >> 20} MB; at most {MAX_FRAME >> 20} MB can be passed")
    return struct.pack(">I", len(body)) + body


def unpack(buffer: bytearray) -> dict[str, Any] | None:
    """Removes one message from the front of `buffer`; returns None while it is incomplete.

    The bytes are not trusted: a length beyond MAX_FRAME or a body that is not an object with a text field
    "t" raises WireError.
    """
    if len(buffer) < 4:
        return None
    length: int = struct.unpack(">I", buffer[:4])[0]
    if length > MAX_FRAME:
        raise WireError("oversized frame")
    if len(buffer) < 4 + length:
        return None
    body = bytes(buffer[4 : 4 + length])
    del buffer[: 4 + length]
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise WireError("malformed frame") from exc
    if not isinstance(message, dict) or not isinstance(message.get("t"), str):
        raise WireError("malformed frame")
    return message


def read_frame(fd: int) -> dict[str, Any] | None:
    """Blocks for one message from `fd`; None if the other side has closed it."""
    buffer = bytearray()
    missing = 4
    while missing:
        chunk = os.read(fd, missing)
        if not chunk:
            return None
        buffer += chunk
        missing -= len(chunk)
        if not missing and len(buffer) == 4:
            missing = struct.unpack(">I", buffer)[0]
    return unpack(buffer)


def write_frame(fd: int, message: Json) -> None:
    """Blocks until all of `message` is written."""
    rest = memoryview(pack(message))
    while rest:
        rest = rest[os.write(fd, rest) :]
