"""What client, resident and worker say to each other: JSON with its length before it."""

import json
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator_cli.resident.rights import has_given_up, rights

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


def is_same(connection: socket.socket) -> bool:
    """Whether the process at the other end has the user and the rights of this one.

    A worker has those of the resident. So a client must have no fewer, and neither end may be under rules
    that cannot be compared.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the folder of the socket lets in no other user
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process, user, _ = struct.unpack("3i", found)
    held = rights()
    theirs = rights(Path(f"/proc/{process}")) if held else ()
    return user == os.geteuid() and theirs == held and not has_given_up(held)


def _length(data: bytes) -> int:
    if not data:
        raise Hungup
    if len(data) < _HEAD.size:
        return 0
    length: int = _HEAD.unpack_from(data)[0]
    if length > MAX_BYTES:
        raise Hungup
    return length
