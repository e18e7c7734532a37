"""The domains that code inside may be granted, and the addresses it may never reach. Pure rules.

A grant is a domain: `api.example.org` covers that name alone, `.example.org` also all names below it. Ports
are 80 and 443, or the given one: `api.example.org:8443`. Addresses, names without a dot and whole top-level
domains cannot be granted.

Not covered: what a granted server does with a request, such as passing it on to another (domain fronting);
and a domain that changes its owner.
"""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_PORTS = frozenset({80, 443})
_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+(?=[a-z])(?:{_LABEL})")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")


@dataclass(frozen=True)
class Grant:
    """One domain; with `below`, also the names below it."""

    domain: str
    below: bool
    ports: frozenset[int] = _PORTS

    def covers(self, host: str, port: int) -> bool:
        named = host == self.domain or (self.below and host.endswith(f".{self.domain}"))
        return named and port in self.ports


def parse_grants(texts: Sequence[str]) -> tuple[Grant, ...]:
    """The grants that `texts` name. Raises ValueError."""
    return tuple(map(_parse, texts))


def _parse(text: str) -> Grant:
    name, colon, port = text.strip().partition(":")
    host = plain_host(name.removeprefix("."))
    if host is None:
        raise ValueError(f"{text!r} is not a domain that can be granted; write it like api.example.org")
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r} has a malformed port; write it like api.example.org:8443")
    return Grant(host, name.startswith("."), frozenset({int(port)}) if colon else _PORTS)


def plain_host(name: str) -> str | None:
    """A domain in its canonical spelling; None for addresses and malformed names."""
    try:
        name = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return None
    host = name.lower().removesuffix(".")
    return host if len(host) < 254 and _DOMAIN.fullmatch(host) else None


def public(address: str) -> bool:
    """Whether an address is in the public network, and so are the IPv4 addresses it carries."""
    try:
        meanings = list(_meanings(ipaddress.ip_address(address)))
    except ValueError:  # such as fe80::1%eth0
        return False
    return all(
        one.is_global and not (one.is_multicast or one.is_reserved or one.is_unspecified or one.is_link_local)
        for one in meanings
    )


def _meanings(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The address itself, or the IPv4 addresses that an IPv6 address carries."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
    elif address in _NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    elif address in _LOCAL_NAT64:
        yield ipaddress.IPv4Address("127.0.0.1")
    elif address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    else:
        yield address
        yield from filter(None, (address.sixtofour, *(address.teredo or ())))
