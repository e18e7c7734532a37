"""The wire format between the host and the worker: JSON frames. The same module runs on both sides.

A frame is a four-byte big-endian length and a JSON object. Python values travel as tagged JSON: values that
JSON lacks are `{"$": tag, "v": payload}`. Nothing is ever pickled, and decoding builds plain values only.

Both sides have the same bounds, since what a worker sends may be forged: how many parts a value has, how deep
it is, how long its integers are. Telling the keys of a set or a dict apart is bounded by time.

Not covered: identity and cycles (a cycle becomes the text `...`), subclasses (they arrive as their plain
base), and objects of any other type, which arrive as their text, cut after 20,000 characters.
"""

import binascii
import datetime
import json
import math
import os
import re
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Json = Any

MAX_FRAME = 8 << 20
MAX_DEPTH = 40
MAX_VALUES = 1_000_000
MAX_TEXT = 20_000
MAX_BITS = 14_000  # of an integer: Python refuses to write more than 4,300 decimal digits
MAX_KEYS_S = 1.0
"""How much of the processor's time may go into telling the keys of one value apart."""
_TOO_MANY = f"the value holds more than {MAX_VALUES:,} parts"


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
    """`value` as tagged JSON; `text` is applied to every string. Raises WireError beyond its bounds."""
    return _Encoder(text).encode(value, 0)


def encode_result(value: Any) -> Json:
    """`encode` for what JSON can hold without a loss; raises WireError, with the reason, for anything else.

    Keys that are numbers become texts, tuples and sets lists, dates and paths their text.
    """
    return _ResultEncoder(str).encode(value, 0)


class _Encoder:
    most = 10_000
    """How many parts an array of numpy may have."""

    def __init__(self, text: Callable[[str], str]) -> None:
        self.text = text
        self.left = MAX_VALUES
        self.active: set[int] = set()

    def encode(self, value: Any, depth: int) -> Json:
        self.left -= 1
        if self.left < 0:
            raise WireError(_TOO_MANY)
        if depth > MAX_DEPTH or id(value) in self.active:
            return self._cut(depth)
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
        if type(value).__module__ == "numpy" and hasattr(value, "tolist") and value.size <= self.most:
            return self.encode(value.tolist(), depth + 1)
        return self._other(value)

    def _cut(self, _depth: int) -> Json:
        return "..."

    def _other(self, value: Any) -> Json:
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


class _ResultEncoder(_Encoder):
    most = MAX_VALUES

    def encode(self, value: Any, depth: int) -> Json:
        if isinstance(value, float) and not math.isfinite(value):
            raise WireError(f"{value!r} is not a number in JSON; pass None or a text for it")
        if isinstance(value, datetime.datetime) and value != value:
            raise WireError(f"{value!r} is not a date; pass None or a text for it")
        if isinstance(value, bytes | bytearray):
            raise WireError("bytes are not plain data; decode them, or write them to a file")
        return super().encode(value, depth)

    def _container(self, value: Any, depth: int) -> Json:
        if isinstance(value, dict):
            seen: dict[str, Any] = {}
            for key in value:
                if not isinstance(key, str | int | float | None):
                    raise WireError(f"a key is a {type(key).__name__}; keys are texts or numbers")
                name = key if isinstance(key, str) else json.dumps(key)
                if name in seen:
                    raise WireError(f"the keys {seen[name]!r} and {key!r} are the same in JSON")
                seen[name] = key
        return super()._container(value, depth)

    def _cut(self, depth: int) -> Json:
        deep = f"it is nested more than {MAX_DEPTH} deep"
        raise WireError(deep if depth > MAX_DEPTH else "it contains itself")

    def _other(self, value: Any) -> Json:
        if isinstance(value, os.PathLike):
            return os.fsdecode(value)
        raise WireError(
            f"a {type(value).__name__} is not plain data; make it texts, numbers, lists and dicts, "
            "such as with list(), float() or str()"
        )


def _scalar(value: Any) -> Json:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(_bounded(value))
    if isinstance(value, float) and type(value).__module__ != "numpy":
        return float(value)
    if isinstance(value, bytes | bytearray):
        return {"$": "bytes", "v": binascii.b2a_base64(bytes(value), newline=False).decode()}
    for tag, kind in (("datetime", datetime.datetime), ("date", datetime.date), ("time", datetime.time)):
        if isinstance(value, kind):
            # pandas' NaT is a datetime, but no date has its text.
            return {"$": tag if value == value else "text", "v": value.isoformat()}
    return NotImplemented


def _bounded(value: int) -> int:
    if value.bit_length() > MAX_BITS:
        raise WireError(f"an integer has more than {MAX_BITS:,} bits; pass it as a text, such as its hex()")
    return value


def text_of(value: Any) -> str:
    """`str(value)` without memory addresses, cut; a `__str__` that fails gives a text that says so."""
    try:
        return _ADDRESS.sub("", str(value)[:MAX_TEXT])
    except Exception as exc:
        return f"<{type(value).__name__}: its text failed with {type(exc).__name__}>"


def decode(data: Json, text: Callable[[str], str] = str, raw: Callable[[bytes], bytes] = bytes) -> Any:
    """The plain value behind tagged JSON, within the bounds of `encode`. Raises WireError.

    `text` is applied to every string, `raw` to all bytes.
    """
    try:
        return _Decoder(text, raw).decode(data, 0)
    except WireError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        raise WireError(f"malformed value: {type(exc).__name__}") from exc


class _Decoder:
    def __init__(self, text: Callable[[str], str], raw: Callable[[bytes], bytes]) -> None:
        self.text, self.raw = text, raw
        self.left = MAX_VALUES
        self.keys_s = MAX_KEYS_S

    def decode(self, data: Json, depth: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise WireError(_TOO_MANY)
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, int):
            return _bounded(data)
        if not isinstance(data, list | dict):
            return data
        if depth > MAX_DEPTH:
            raise WireError(f"the value is nested more than {MAX_DEPTH} deep")
        if isinstance(data, list):
            return [self.decode(item, depth + 1) for item in data]
        return self._tagged(data["$"], data["v"], depth + 1)

    def _tagged(self, tag: Json, payload: Json, depth: int) -> Any:
        if tag == "dict":
            return self._dict([(self.decode(k, depth), self.decode(v, depth)) for k, v in payload])
        if tag in _CONTAINERS:
            items = [self.decode(item, depth) for item in payload]
            return _CONTAINERS[tag](items if tag == "tuple" else self._set(items))
        if tag in _DATES:
            return _DATES[tag](payload)
        if tag == "bytes":
            return self.raw(binascii.a2b_base64(payload))
        if tag == "text":
            return self.text(str(payload))
        raise WireError(f"unknown tag {str(tag)[:40]!r}")

    def _dict(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, value in self._until_too_slow(pairs, [key for key, _ in pairs]):
            found[key] = value
        return found

    def _set(self, items: list[Any]) -> set[Any]:
        found: set[Any] = set()
        for item in self._until_too_slow(items, items):
            found.add(item)
        return found

    def _until_too_slow(self, items: list[Any], keys: list[Any]) -> Iterable[Any]:
        """`items`, as long as their `keys` take no undue time to tell apart, measured by the processor's.

        The hash of a text is secret. Numbers, and tuples of them, can be chosen so that each is compared with
        all others.
        """
        if all(type(key) is str for key in keys):
            return items
        return self._timed(items)

    def _timed(self, items: list[Any]) -> Iterator[Any]:
        began = time.thread_time()
        for item in items:
            yield item
            if time.thread_time() - began > self.keys_s:
                raise WireError("the keys of a set or a dict have the same hash too often")
        self.keys_s -= time.thread_time() - began


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
