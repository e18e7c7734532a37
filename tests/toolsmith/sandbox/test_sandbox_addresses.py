"""Which addresses are public, against IANA's registries of special-purpose addresses."""

import socket

import pytest

from toolsmith.sandbox.addresses import public, public_address, reachable

SPECIAL = [
    *("0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.255"),
    *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.0.9", "192.0.0.170"),
    *("192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1"),
    *("203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    # IPv6: unspecified, loopback, dummy, documentation, segment routing, private, link, site, multicast
    *("::", "::1", "100::1", "100:0:0:1::1", "2001:db8::1", "3fff::1", "3fff:fff::1", "5f00::1"),
    *("fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "feff::1", "ff02::1", "ff0e::1"),
    # protocol assignments, benchmarking, ORCHID, tunnels, and prefixes that nobody has been given
    *("2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:10::1", "2001:20::1"),
    *("2002:7f00:1::", "2002:c0a8:101::1", "2002:808:808::1", "4000::1", "8000::1", "1::1", "200::1"),
    # addresses that stand for an IPv4 address
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::10.0.0.1"),
    *(
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::7f00:1",
        "64:ff9b:1::808:808",
    ),
    *("64:ff9b:0:1::8.8.8.8", "::ffff:0:127.0.0.1"),
    # the services of clouds for their machines, of which Azure's is in a public network
    *("168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::168.63.129.16"),
    *("100.100.100.200", "192.0.0.192", "169.254.170.2", "fd00:ec2::254", "fd20:ce::254"),
    *("161.26.0.10", "192.80.8.124", "::ffff:161.26.0.7"),
    # interface ids that stand for an IPv4 address (ISATAP)
    *("2600::5efe:10.0.0.1", "2600:1::200:5efe:169.254.169.254", "2600::5efe:161.26.0.10"),
    # no addresses
    *("", "example.org", "127.1", "0x7f000001", "2130706433", "8.8.8.8.", "2600::1%eth0"),
]
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1"),
    *("192.0.1.1", "198.17.0.1", "198.20.0.1", "223.255.255.254", "2001:200::1", "2001:4860:4860::8888"),
    *("2606:4700::1111", "2a00:1450:4001::1", "3ffe::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"),
    *("161.25.0.1", "192.80.8.123", "2600::5efe:8.8.8.8", "2600::5eff:10.0.0.1"),
]


@pytest.mark.parametrize("address", SPECIAL)
def test_special_address_is_not_public(address: str) -> None:
    assert not public(address)
    assert not reachable(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_ordinary_address_is_public(address: str) -> None:
    assert public(address)


def test_one_address_that_is_not_public_refuses_the_name() -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1, which is not a public address"):
        public_address("127.0.0.1", 80)
    assert public_address("1.1.1.1", 443) == "1.1.1.1"


def test_address_of_this_machine_is_not_reachable() -> None:
    own = socket.gethostbyname_ex(socket.gethostname())[2]
    assert not any(map(reachable, own))
