"""Which addresses of the network are public: the one rule for the proxy and for `fetch_url`.

The tables follow IANA's registries of special-purpose addresses. They are written out because `ipaddress`
answers differently in each version of Python, and counts some of these as global.

Not covered: a network that translates a prefix of its own to IPv4 addresses (NAT64 with another prefix than
the registered ones), and public addresses of other machines on the same site.
"""

import errno
import ipaddress
import socket

_IPV4_SPECIAL = tuple(
    map(
        ipaddress.IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            # Services of Azure, IBM and Equinix for their machines, from which code could get credentials and
            # settings. Those of other clouds are in the networks above.
            *("168.63.129.16/32", "161.26.0.0/16", "192.80.8.124/32"),
        ),
    )
)
_IPV6_GLOBAL = ipaddress.IPv6Network("2000::/3")
# Teredo is within 2001::/23. A tunnel (6to4 is 2002::/16) can lead to any IPv4 address, so none is public.
_IPV6_SPECIAL = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_ISATAP = (0x5EFE, 0x200_5EFE)
"""The bits 64 to 95 of an IPv6 address that represents the IPv4 address in the last 32, in any network."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def public(address: str) -> bool:
    """Whether an address is in the public network; one that represents an IPv4 address is judged as that."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        carried = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF) if found in _NAT64 else found.ipv4_mapped
        if carried is None:
            scoped = found.scope_id is not None
            special = any(found in network for network in _IPV6_SPECIAL)
            if not (found in _IPV6_GLOBAL and not scoped and not special):
                return False
            if int(found) >> 32 & 0xFFFFFFFF not in _ISATAP:
                return True
            carried = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        found = carried
    return not any(found in network for network in _IPV4_SPECIAL)


def reachable(address: str) -> bool:
    """Whether code may connect to an address: it is public, and not one of this machine's own."""
    if not public(address):
        return False
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as attempt:
        try:
            attempt.bind((address, 0))  # works only for an address of this machine
        except OSError as exc:
            return exc.errno == errno.EADDRNOTAVAIL  # another fault, such as no free port, says nothing
    return False


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name, the preferred one first. Raises OSError."""
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


def public_address(host: str, port: int) -> str:
    """The address to connect to. Raises ValueError if any address of the name is not reachable; OSError."""
    found = resolve(host, port)
    for address in found:
        if not reachable(address):
            raise ValueError(f"{host} resolves to {address}, which is not a public address")
    return found[0]
