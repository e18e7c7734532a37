"""What client, resident and worker say to each other: JSON with its length before it."""

import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

MAX_BYTES = 16 << 20
"""Arguments and environment together; Linux lets a process have 6 MB."""
_HEAD = struct.Struct(">I")


class Hungup(Exception):
    """The other end is gone, or says what cannot be understood."""


def send(connection: socket.socket, message: dict[str, Any], files: Sequence[int] = ()) -> None:
    """Raises `OSError`."""
    body = json.dumps(message).encode()
    data = _HEAD.pack(len(body)) + body
    sent = socket.send_fds(connection, [data[: 1 << 16]], files) if files else 0
    connection.sendall(data[sent:])


def receive(connection: socket.socket, files: int = 0) -> tuple[dict[str, Any], list[int]]:
    """A message, and up to so many open files with it. Raises `Hungup` and `OSError`."""
    if files:
        data, opened, _, _ = socket.recv_fds(connection, 1 << 16, files)
    else:
        data, opened = connection.recv(_HEAD.size), []
    while len(data) < _HEAD.size or len(data) < _HEAD.size + _length(data):
        more = connection.recv(1 << 16 if files else _HEAD.size + _length(data) - len(data))
        if not more:
            raise Hungup
        data += more
    try:
        message = json.loads(data[_HEAD.size :])
    except ValueError as exc:
        raise Hungup from exc
    if not isinstance(message, dict):
        raise Hungup
    return message, list(opened)


def user_of(connection: socket.socket) -> int:
    """The user of the process at the other end."""
    if not hasattr(socket, "SO_PEERCRED"):
        return os.geteuid()  # the folder of the socket lets in no others
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    user: int = struct.unpack("3i", found)[1]
    return user


def _length(data: bytes) -> int:
    if not data:
        raise Hungup
    if len(data) < _HEAD.size:
        return 0
    length: int = _HEAD.unpack_from(data)[0]
    if length > MAX_BYTES:
        raise Hungup
    return length
