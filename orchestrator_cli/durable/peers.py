"""Which user of this machine has made a connection of TCP, or listens at a port.

The kernel is asked about the one connection. Some kernels have only the table of all connections, which has
to be read from its start each time, and which another user can make long.
"""

import os
import socket
import struct
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

End = tuple[str, int]
"""An IPv4 address and a port."""

_SOCK_DIAG, _BY_FAMILY, _REQUEST = 4, 20, 1
"""The protocol of netlink, its message, and the flag of a request."""
_HEAD = struct.Struct("=IHHII")
_WANTED = struct.Struct("=BBBxI")
_FOUND = struct.Struct("=xB62xI")
"""The state, and behind the ends and the queues the user."""
_ANY_COOKIE = b"\0" * 4 + b"\xff" * 8
_TABLE = Path("/proc/net/tcp")
_TABLE_6 = Path("/proc/net/tcp6")
_ESTABLISHED, _LISTENS = 1, 10
_LISTENERS_BYTES = 4_000_000
"""Read of a table, which begins with those who listen."""


def is_of_owner(client: End, server: End) -> bool:
    """Whether this user, or root, has made the connection; not so if that is unknown."""
    return user_of(client, server) in (os.getuid(), 0)


def is_of_another(client: End, server: End) -> bool:
    """Whether a connection is to be refused: it is not the owner's, on a system that knows such things."""
    return _TABLE.exists() and not is_of_owner(client, server)


def user_of(client: End, server: End) -> int | None:
    """The user who has made an open connection between two ends; None if that is unknown.

    Both ends are compared with their addresses: 127.0.0.2 may use a port that is also one of 127.0.0.1.
    """
    if _answers():
        return _by_asking(client, server)
    return _by_table(client, server) if _TABLE.exists() else None


def listeners(port: int) -> frozenset[int] | None:
    """The users who listen at a port of loopback or of every address; None if that is unknown."""
    ends = ("127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1")
    wanted = {_packed_in_table(address, port) for address in ends}
    found = set()
    try:
        for table in filter(Path.exists, (_TABLE, _TABLE_6)):
            with table.open("rb") as file:
                rows = (row.split() for row in file.read(_LISTENERS_BYTES).decode("ascii").splitlines())
            found |= {
                int(row[7])
                for row in rows
                if len(row) > 7 and row[1] in wanted and row[3] == f"{_LISTENS:02X}"
            }
    except (OSError, ValueError):
        return None
    return frozenset(found) if _TABLE.exists() else None


@cache
def _answers() -> bool:
    """Whether the kernel can be asked; whether it knows a connection does not show that."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.connect(server.getsockname())
        return _by_asking(client.getsockname(), server.getsockname()) == os.getuid()


def _by_asking(client: End, server: End) -> int | None:
    ports = struct.pack("!HH", client[1], server[1])
    addresses = (socket.inet_aton(address).ljust(16, b"\0") for address, _ in (client, server))
    wanted = _WANTED.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFFFFFFF)
    body = b"".join((wanted, ports, *addresses, _ANY_COOKIE))
    with suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        kernel.settimeout(1.0)
        kernel.send(_HEAD.pack(_HEAD.size + len(body), _BY_FAMILY, _REQUEST, 0, 0) + body)
        reply = kernel.recv(8192)
        if _HEAD.unpack_from(reply)[1] == _BY_FAMILY:
            state, user = _FOUND.unpack_from(reply, _HEAD.size)
            # One that is being closed has no user any more, which reads as 0.
            return int(user) if state == _ESTABLISHED else None
    return None


def _by_table(client: End, server: End) -> int | None:
    # One search, not line by line.
    wanted = f" {_in_table(client)} {_in_table(server)} {_ESTABLISHED:02} "
    _, found, rest = _TABLE.read_text(encoding="ascii").partition(wanted)
    return int(rest.split(maxsplit=4)[3]) if found else None


def _in_table(end: End) -> str:
    return _packed_in_table(*end)


def _packed_in_table(address: str, port: int) -> str:
    """An end as the table has it: the address as numbers of this machine of 32 bits, and the port, in hex."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    words = (packed[n : n + 4] for n in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{port:04X}"
