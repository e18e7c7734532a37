"""The address of a memory server, as a rule without effects."""

import ipaddress
from urllib.parse import urlsplit


def check_address(url: str) -> str:
    """The address. Raises `ValueError` with what is wrong with it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        raise ValueError(f"{url!r} is not an address: {exc}") from exc
    if parts.username or parts.password:
        raise ValueError("the address holds a name or a password; give the key as memory.api_key")
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{url!r} is not the address of a server, such as http://localhost:6333")
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r} holds a query; give the address alone")
    return url


def sends_openly(url: str) -> bool:
    """Whether what is sent there, such as a key, can be read on its way: plain HTTP to another machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
