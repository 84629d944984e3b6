"""Which endpoints a grant covers, and which addresses a name may stand for."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnibase.core.sandbox.egress.allowlist import (
    Allowlist,
    TargetError,
    is_public,
    parse_address,
    target,
)
from omnibase.core.sandbox.spec import EgressGrant
from omnibase.core.security.host_patterns import HostPattern


def allow(*patterns: str) -> Allowlist:
    parsed = [HostPattern.parse(pattern) for pattern in patterns]
    return Allowlist(
        EgressGrant(host=p.host, low=p.low, high=p.high, capability=f"NETWORK_CONNECT:{p}")
        for p in parsed
    )


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        (b"api.example.com", "api.example.com"),
        (b"API.Example.COM", "api.example.com"),
        (b"_dmarc.example.com", "_dmarc.example.com"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"192.0.2.7", "192.0.2.7"),
        (b"[2001:db8::1]", "[2001:db8::1]"),
        (b"[::1]", "[::1]"),
        (b"a" * 63 + b".b", "a" * 63 + ".b"),
    ],
)
def test_a_plain_host_has_one_form(host: bytes, canonical: str) -> None:
    assert target(host, 443).host == canonical
    assert str(target(host, 443)) == f"{canonical}:443"


@pytest.mark.parametrize(
    "host",
    [
        b"", b".", b"a.", b".a", b"a..b", b"a b", b"a\0.com", b"a\n.com", b"a\x7f.com", b"a%2ecom",
        b"user@example.com", b"example.com/x", b"http://example.com", b"exa\xcc\x81mple.com",
        b"\xd0\xb5\xd1\x85ample.com", b"-a.com", b"a-.com", b"a" * 64 + b".com",
        b"a." * 126 + b"abc",
        b"*.example.com", b"*", b"127.1", b"2130706433", b"0x7f000001", b"0177.0.0.1", b"0x7f.1",
        b"1.2.3.4.5", b"256.1.1.1", b"01.2.3.4", b"example.1", b"::1", b"[::1", b"::1]", b"[]",
        b"[::ffff:127.0.0.1]", b"[::ffff:7f00:1]", b"[fe80::1%eth0]", b"[fe80::1%1]",
        b"[0:0:0:0:0:0:0:1]", b"[2001:DB8:0::1]", b"[127.0.0.1]", b"[::1].example.com", b"a,b",
        b"a:80",
    ],
)  # fmt: skip
def test_another_spelling_is_refused(host: bytes) -> None:
    with pytest.raises(TargetError):
        target(host, 443)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_is_one_that_exists(port: int) -> None:
    with pytest.raises(TargetError):
        target(b"a.example", port)


@given(
    st.one_of(
        st.binary(max_size=40),
        st.text("abx0127.-_*[]:%fF", max_size=20).map(str.encode),
        st.ip_addresses().map(lambda a: f"[{a}]" if a.version == 6 else str(a)).map(str.encode),
    ),
    st.integers(0, 65536),
)
def test_what_the_policy_refuses_to_read_is_no_target(host: bytes, port: int) -> None:
    """The broker's reading of a host is never wider than the grammar of capabilities."""
    text = f"{host.decode('latin-1')}:{port}"
    try:
        found = target(host, port)
    except TargetError:
        assert not HostPattern.parse(f"*:{port}" if 0 < port < 65536 else "*:1").matches(text) or (
            # RFC 5952 in another spelling: the grammar makes it canonical, the wire must be it.
            host.startswith(b"[")
        )
    else:
        assert HostPattern.parse(text).text == str(found)


_PATTERNS = st.lists(
    st.sampled_from(
        ["a.example:80", "*.a.example:80-90", "*.example:443", "*:8443", "127.0.0.1:80",
         "[::1]:1-100", "b.a.example:*"]
    ),
    max_size=4,
)  # fmt: skip
_HOSTS = st.sampled_from(
    ["a.example", "b.a.example", "c.b.a.example", "example", "xa.example", "127.0.0.1", "[::1]",
     "[::2]", "203.0.113.9"]
)  # fmt: skip


@given(_PATTERNS, _HOSTS, st.sampled_from([1, 79, 80, 85, 90, 91, 100, 101, 443, 8443]))
def test_a_grant_covers_what_its_pattern_matches(patterns: list[str], host: str, port: int) -> None:
    found = allow(*patterns).find(target(host.encode(), port))
    matching = [p for p in patterns if HostPattern.parse(p).matches(f"{host}:{port}")]
    assert (found is not None) == bool(matching)
    if found is not None:
        assert found.capability.removeprefix("NETWORK_CONNECT:") in matching


def test_the_narrowest_grant_answers() -> None:
    listed = allow("*:443", "*.example:443", "a.example:443")
    found = listed.find(target(b"a.example", 443))
    assert found is not None
    assert found.host == "a.example"


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("a.example", True), ("b.example", True), ("c.b.example", True), ("example", False),
        ("127.0.0.1", False), ("évil.example", False), ("", False), ("a\0.example", False),
    ],
)  # fmt: skip
def test_names_that_may_be_looked_up(name: str, known: bool) -> None:
    assert allow("a.example:443", "*.example:80", "127.0.0.1:80").knows(name) is known


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
        "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192",
        "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
        "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1",
        "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
        "64:ff9b::a00:1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "::7f00:1",
        "fec0::1",
    ],
)  # fmt: skip
class TestSpecialAddresses:
    def test_no_name_may_stand_for_one(self, address: str) -> None:
        found = parse_address(address)
        assert found is not None
        assert not is_public(found)
        assert not allow("a.example:80", "*:80").admits(target(b"a.example", 80), found)

    def test_but_for_one_that_a_grant_names(self, address: str) -> None:
        found = ip_address(address)
        if getattr(found, "ipv4_mapped", None):
            return  # has no spelling in a grant
        literal = f"[{found}]" if found.version == 6 else str(found)
        listed = allow("a.example:80-81", f"{literal}:80")
        assert listed.admits(target(b"a.example", 80), found)
        assert not listed.admits(target(b"a.example", 81), found)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1", "2a00:1450::5"]
)
def test_a_name_may_stand_for_a_public_address(address: str) -> None:
    assert allow("a.example:80").admits(target(b"a.example", 80), ip_address(address))


@pytest.mark.parametrize("text", ["", "x", "fe80::1%eth0", "1.2.3", "1.2.3.4.5", "g::1"])
def test_what_is_no_address(text: str) -> None:
    assert parse_address(text) is None
