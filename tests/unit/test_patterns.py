"""The pattern language, case by case."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from typing import Any

import pytest

from omnibase.core.security import globs
from omnibase.core.security.patterns import (
    DatabasePattern,
    HostPattern,
    NamePattern,
    PathPattern,
    SecretPattern,
    SizePattern,
    literal_pattern,
    parse_host,
    quoted,
)
from omnibase.errors import CapabilityError


def paths(*texts: str) -> tuple[PathPattern, ...]:
    return tuple(PathPattern.parse(text) for text in texts)


def test_quoted_is_short_and_shows_no_control_character() -> None:
    assert quoted("a\x1b[31mé\ud800") == "`a\\x1b[31mé\\ud800`"
    assert quoted("x" * 81) == "`" + "x" * 80 + "…`"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("/", "/"),
        ("/**", "/**"),
        ("/data/**", "/data/**"),
        ("/data/*/x?", "/data/*/x?"),
        ("/a/*?*", "/a/*"),
        ("/a/x*?", "/a/x?*"),
        ("/a b/.hidden/...", "/a b/.hidden/..."),
        ("/größe/日本", "/größe/日本"),
        ("/" + "x" * 255, "/" + "x" * 255),
    ],
)
def test_path_canonical(text: str, canonical: str) -> None:
    pattern = PathPattern.parse(text)
    assert pattern.text == str(pattern) == canonical
    assert PathPattern.parse(canonical) == pattern


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an absolute path"),
        ("data/x", "not an absolute path"),
        ("~/x", "not an absolute path"),
        (" /x", "not an absolute path"),
        ("/data/", "ends with `/`"),
        ("//", "ends with `/`"),
        ("/a//b", "empty segment"),
        ("/a/./b", "segment `.`"),
        ("/data/../etc", "segment `..`"),
        ("/..", "segment `..`"),
        ("/a\0b", "NUL"),
        ("/a\nb", "character `\\n`"),
        ("/a\x7f", "character `\\x7f`"),
        ("/a\u202eb", "character `\\u202e`"),
        ("/a\udcff", "character `\\udcff`"),
        ("/a/**/b", "has `**` elsewhere"),
        ("/a/**/**", "has `**` elsewhere"),
        ("/a/x**", "has `**` elsewhere"),
        ("/a/***", "has `**` elsewhere"),
        ("/" + "x" * 256, "longer than 255 bytes"),
        ("/" + "ü" * 128, "longer than 255 bytes"),
        ("/" + "/".join(["x" * 200] * 21), "longer than 4096 bytes"),
        ("/" + "/".join(["ü" * 100] * 21), "longer than 4096 bytes"),
    ],
)
def test_path_refused(text: str, message: str) -> None:
    with pytest.raises(CapabilityError) as caught:
        PathPattern.parse(text)
    error = caught.value
    assert message in error.message
    assert error.hint
    assert error.message.isprintable()
    assert not error.message.endswith(".")
    assert error.details["resource"].isprintable()
    assert len(error.message) < 200


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/data/**", "/data", False),
        ("/data/**", "/data/x", True),
        ("/data/**", "/data/x/y/z", True),
        ("/data/**", "/data/../etc/passwd", False),
        ("/data/**", "/data/x/", False),
        ("/data/**", "/data//x", False),
        ("/data/**", "/database", False),
        ("/data/**", "/data/a\nb", True),
        ("/data/**", "/data/a\0b", False),
        ("/**", "/", False),
        ("/**", "/x", True),
        ("/*", "/", False),
        ("/", "/", True),
        ("/", "/x", False),
        ("/data/*", "/data/.hidden", True),
        ("/data/*", "/data/.", False),
        ("/data/*", "/data/x/y", False),
        ("/data/?", "/data/*", True),
        ("/data/?", "/data/\n", True),
        ("/data/?", "/data/\udcff", True),
        ("/data/?", "/data/ab", False),
        ("/data/a.c", "/data/abc", False),
        ("/data/a.c", "/data/a.c", True),
        ("/data/*a*b*c", "/data/abbc", True),
        ("/data/*a*b*c", "/data/cba", False),
        ("/A", "/a", False),
        ("/*", "/" + "x" * 256, False),
        ("/*", "/" + "ü" * 128, False),
        ("/**", "/x" * 2049, False),
        ("/x", "x", False),
        ("/x", "", False),
    ],
)
def test_path_matches(pattern: str, path: str, expected: bool) -> None:
    parsed = PathPattern.parse(pattern)
    assert parsed.matches(path) is expected
    assert (PathPattern.finder([(parsed, "found")])(path) == "found") is expected


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ("/data/**", "/data/x", True),
        ("/data/**", "/data/**", True),
        ("/data/**", "/data/x/**", True),
        ("/data/**", "/data", False),
        ("/data/*/**", "/data/**", False),
        ("/data/x/**", "/data/**", False),
        ("/data/x/y", "/data/**", False),
        ("/data/x", "/data/**", False),
        ("/**", "/", False),
        ("/**", "/*", True),
        ("/*", "/**", False),
        ("/a*", "/ab*", True),
        ("/ab*", "/a*", False),
        ("/*a*", "/b?a", True),
        ("/?*", "/*", True),
        ("/.?*", "/.*", True),  # `.` itself is no file name
        ("/.??*", "/..*", True),
        ("/.??*", "/.*", False),
        ("/a/*", "/b/*", False),
        ("/a", "/b", False),
        ("/a/b", "/a", False),
        ("/*a*b*", "/*ab*", True),
        ("/*ab*", "/*a*b*", False),
    ],
)
def test_path_contains(outer: str, inner: str, expected: bool) -> None:
    a, b = paths(outer, inner)
    assert a.contains(b) is expected
    witness = b.outside(a)
    if expected:
        assert witness is None
    else:
        assert witness is not None
        assert b.matches(witness)
        assert not a.matches(witness)


@pytest.mark.parametrize(
    ("one", "two", "both"),
    [
        ("/data/**", "/data/x", ["/data/x"]),
        ("/data/**", "/data", []),
        ("/data/**", "/*/x/**", ["/data/x/**"]),
        ("/data/**", "/other/**", []),
        ("/a/**", "/a/b/c", ["/a/b/c"]),
        ("/a/b/**", "/a/**", ["/a/b/**"]),
        ("/ab*", "/*bc", ["/ab*bc", "/abc"]),
        ("/a*", "/*a", ["/a*a", "/a"]),
        ("/.*", "/*.", ["/.*."]),
        ("/a?", "/?b", ["/ab"]),
        ("/a?", "/b?", []),
        ("/*.txt", "/data*", ["/data*.txt"]),
        ("/*/x", "/y/*", ["/y/x"]),
        ("/a", "/a/b", []),
        ("/????", "/*ab*", ["/??ab", "/?ab?", "/ab??"]),
        ("/aaa*", "/*a*a", ["/aaa*a", "/aaa"]),  # `aaa*a*a` is in the first
    ],
)
def test_path_intersection(one: str, two: str, both: list[str]) -> None:
    a, b = paths(one, two)
    for x, y in ((a, b), (b, a)):
        found = x.intersection(y)
        assert found is not None
        assert {p.text for p in found} == set(both)
        assert x.intersects(y) is bool(both)
        witness = x.witness(y)
        assert (witness is not None) is bool(both)
        if witness is not None:
            assert a.matches(witness)
            assert b.matches(witness)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("/*a*b*", "/*c*d*e*"),  # too many ways to interleave
        ("/*a*b*c*d*", "/*e*f*g*h*i*j*"),  # … even to look for them all
        ("/ab*/ab*/ab*/ab*", "/*bc/*bc/*bc/*bc"),  # few per segment, many together
        ("/a" + "?" * 200 + "*", "/*" + "?" * 200 + "b"),  # too long to look
    ],
)
def test_path_intersection_that_no_few_patterns_say(one: str, two: str) -> None:
    a, b = paths(one, two)
    assert a.intersection(b) is None
    witness = a.witness(b)
    assert witness is not None
    assert a.matches(witness)
    assert b.matches(witness)


def test_names_that_no_file_can_have_are_in_no_language() -> None:
    a, b = paths("/" + "a" * 200 + "*", "/*" + "b" * 200)
    assert not a.intersects(b)
    long = ["x" * 250] * 16
    a, b = paths("/" + "/".join([*long, "a" * 70 + "*"]), "/**")
    assert a.intersects(b)
    a, b = paths("/" + "/".join([*long, "a*"]), "/" + "/".join(["*"] * 16 + ["*" + "b" * 79]))
    assert not a.intersects(b)
    assert a.intersection(b) == ()


def test_intersection_too_long_for_a_file_name_is_dropped() -> None:
    a, b = paths("/" + "a" * 127 + "*", "/*a" + "b" * 127)
    # The piece with the star would have 256 bytes.
    assert a.intersection(b) == paths("/" + "a" * 127 + "b" * 127)


def test_a_comparison_is_bounded() -> None:
    a, b = paths("/*a" + "?" * 30, "/*ba" + "?" * 30)
    start = time.monotonic()
    with pytest.raises(CapabilityError, match="too complex to compare"):
        a.contains(b)
    assert time.monotonic() - start < 10


def test_matching_is_not_exponential() -> None:
    pattern = PathPattern.parse("/" + "*a" * 60 + "b")
    start = time.monotonic()
    assert not pattern.matches("/" + "a" * 255)
    assert time.monotonic() - start < 10  # and not for ever


def test_the_letter_for_all_others_is_none_of_the_globs() -> None:
    every = "abcdefghijklmnopqrstuvwxyz0123456789"
    found = globs.shortest((every + "?",), (every + "a",), empty=False, limit=255)
    assert found == every + "0"  # of the shortest, the first
    found = globs.shortest(("?",), tuple(every), empty=False, limit=255)
    assert found == "à"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/data/x", "/data/x"),
        ("/data/a*b", "/data/a?b"),
        ("/data/a?b", "/data/a?b"),
        ("/data/**", "/data/??"),
        ("/data/a\nb", "/data/a?b"),
        ("/data/\udcff", "/data/?"),
        ("/", "/"),
    ],
)
def test_literal_pattern(path: str, text: str) -> None:
    assert literal_pattern(path) == PathPattern.literal(path) == text
    assert PathPattern.parse(text).matches(path)


@pytest.mark.parametrize("path", ["x", "/a/../b", "/a/", "/\0"])
def test_literal_pattern_refused(path: str) -> None:
    with pytest.raises(CapabilityError):
        literal_pattern(path)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("git", "git"),
        ("/usr/bin/git", "/usr/bin/git"),
        ("sqlite:/var/db.sqlite", "sqlite:/var/db.sqlite"),
        ("postgresql://db.example.com:5432/sales", "postgresql://db.example.com:5432/sales"),
        ("models/*?*/v1", "models/?*/v1"),
        ("a b", "a b"),
    ],
)
def test_name_canonical(text: str, canonical: str) -> None:
    assert NamePattern.parse(text).text == canonical


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" git", "begins or ends with a space"),
        ("git ", "begins or ends with a space"),
        ("a/**", "contains `**`"),
        ("../x", "segment `..`"),
        ("/usr/./x", "segment `.`"),
        ("a\0", "NUL"),
        ("a\tb", "character `\\t`"),
        ("x" * 4097, "longer than 4096"),
    ],
)
def test_name_refused(text: str, message: str) -> None:
    with pytest.raises(CapabilityError) as caught:
        NamePattern.parse(text)
    assert message in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "git", True),
        ("*", "a/b", False),
        ("*", "", False),
        ("*/x", "/x", True),
        ("postgresql://*/sales", "postgresql://db:5432/sales", True),
        ("postgresql://*/sales", "postgresql:///sales", True),
        ("/opt/*/tool", "/opt/../tool", False),
        ("m1-*", "m1-a", True),
        ("m1-*", "m2-a", False),
    ],
)
def test_name_matches(pattern: str, name: str, expected: bool) -> None:
    parsed = NamePattern.parse(pattern)
    assert parsed.matches(name) is expected
    assert (NamePattern.finder([(parsed, 1)])(name) == 1) is expected


def test_name_comparisons() -> None:
    star, some, slash, other = map(NamePattern.parse, ("*", "?*", "*/*", "a/b"))
    assert some.contains(star)  # a whole name is never empty
    assert star.witness(some) == "a"
    assert slash.contains(other)
    assert not NamePattern.parse("?*/x").contains(NamePattern.parse("*/x"))
    assert NamePattern.parse("?*/x").intersection(slash) == (NamePattern.parse("?*/x"),)
    assert NamePattern.parse("a*/x").intersection(NamePattern.parse("*a/x")) == (
        NamePattern.parse("a*a/x"),
        NamePattern.parse("a/x"),
    )


def test_name_literal() -> None:
    assert NamePattern.literal("git") == "git"
    assert NamePattern.literal(" a*\n ") == "?a???"
    with pytest.raises(CapabilityError):
        NamePattern.literal("../x")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("example.com:443", "example.com:443"),
        ("API.Example.COM:443", "api.example.com:443"),
        ("*.Example.com:8000-8010", "*.example.com:8000-8010"),
        ("localhost:80-80", "localhost:80"),
        ("_dns._tcp.example.com:*", "_dns._tcp.example.com:*"),
        ("xn--bcher-kva.example:1-65535", "xn--bcher-kva.example:*"),
        ("*:443", "*:443"),
        ("10.0.0.1:5432", "10.0.0.1:5432"),
        ("0.0.0.0:1", "0.0.0.0:1"),
        ("255.255.255.255:1", "255.255.255.255:1"),
        ("[::1]:443", "[::1]:443"),
        ("[2001:DB8:0:0::1]:443", "[2001:db8::1]:443"),
        ("3com.com:80", "3com.com:80"),
        ("a" * 63 + ".example:1", "a" * 63 + ".example:1"),
    ],
)
def test_host_canonical(text: str, canonical: str) -> None:
    pattern = HostPattern.parse(text)
    assert pattern.text == str(pattern) == canonical
    assert HostPattern.parse(canonical) == pattern


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "has no port", "host:port"),
        ("example.com", "has no port", "host:port"),
        ("10.0.0.0/8", "is a network", "each address"),
        ("10.0.0.0/8:5432", "is a network", "each address"),
        ("[2001:db8::/32]:443", "is a network", "each address"),
        ("[2001:db8::]/32:443", "is a network", "each address"),
        ("2001:db8::/32:443", "is a network", "each address"),
        ("example.com/24:443", "is not a bare host", "host:port"),
        ("[::1]", "has no port", "host:port"),
        ("[::1", "has no port", "host:port"),
        ("[::1:443", "has no port", "host:port"),
        ("::1:443", "is not a host name", "in brackets"),
        (":443", "empty label", "in full"),
        (".example.com:443", "empty label", "in full"),
        ("a..b:443", "empty label", "in full"),
        ("*.:443", "empty label", "in full"),
        ("example.com.:443", "ends with a dot", "without it"),
        ("https://example.com/", "not a bare host", "without scheme"),
        ("https://example.com:443", "not a bare host", "without scheme"),
        ("example.com/x:443", "not a bare host", "without scheme"),
        ("user@example.com:443", "user in front", "host alone"),
        ("ex%61mple.com:443", "percent-encoding", "plainly"),
        ("a.*.com:443", "wildcard inside", "`*.`"),
        ("a*.com:443", "wildcard inside", "`*.`"),
        ("*.*.com:443", "wildcard inside", "`*.`"),
        ("**:443", "wildcard inside", "`*.`"),
        ("a?.com:443", "wildcard inside", "`*.`"),
        ("-a.com:443", "is not a host name", "letters"),
        ("a-.com:443", "is not a host name", "letters"),
        ("a b.com:443", "is not a host name", "letters"),
        ("a" * 64 + ".com:443", "label longer than 63", "no host"),
        (".".join(["a" * 62] * 4) + ".aa:1", "longer than 253", "no host"),
        ("*." + ".".join(["a" * 62] * 4) + ":1", None, ""),
        ("*." + ".".join(["a" * 62] * 4) + "a:1", "longer than 253", "no host"),
        ("exаmple.com:443", "beyond ASCII", "punycode"),  # noqa: RUF001 (a Cyrillic letter)
        ("\u212aelvin.com:443", "beyond ASCII", "punycode"),
        ("127.1:80", "plain form of an IPv4", "four decimal"),
        ("2130706433:80", "plain form of an IPv4", "four decimal"),
        ("0x7f000001:80", "plain form of an IPv4", "four decimal"),
        ("0x7f.0.0.0x1:80", "plain form of an IPv4", "four decimal"),
        ("0177.0.0.1:80", "plain form of an IPv4", "four decimal"),
        ("127.0.0.01:80", "plain form of an IPv4", "four decimal"),
        ("256.0.0.1:80", "plain form of an IPv4", "four decimal"),
        ("1.2.3.4.5:80", "plain form of an IPv4", "four decimal"),
        ("foo.1:80", "plain form of an IPv4", "four decimal"),
        ("*.1.2.3:80", "in front of an address", "by itself"),
        ("*.1.2.3.4:80", "in front of an address", "by itself"),
        ("*.[::1]:80", "is not a host name", "in brackets"),
        ("[::ffff:127.0.0.1]:80", "IPv4 address in IPv6 form", "127.0.0.1"),
        ("[::FFFF:7f00:1]:80", "IPv4 address in IPv6 form", "127.0.0.1"),
        ("[fe80::1%eth0]:80", "zone id", "without"),
        ("[1::2::3]:80", "not an IPv6 address", "in brackets"),
        ("[127.0.0.1]:80", "not an IPv6 address", "in brackets"),
        ("a\0b:80", "character `\\x00`", "remove"),
        ("a\nb:80", "character `\\n`", "remove"),
        ("a:0", "port `0`", "1 to 65535"),
        ("a:65536", "port `65536`", "1 to 65535"),
        ("a:080", "port `080`", "1 to 65535"),
        ("a:", "port ``", "1 to 65535"),
        ("a:80-", "port ``", "1 to 65535"),
        ("a:-80", "port ``", "1 to 65535"),
        ("a:1-2-3", "port `2-3`", "1 to 65535"),
        ("a:http", "port `http`", "1 to 65535"),
        ("a:٣", "port `٣`", "1 to 65535"),
        ("a:90-80", "ends before it begins", "swap"),
    ],
)
def test_host_refused(text: str, message: str | None, hint: str) -> None:
    if message is None:
        HostPattern.parse(text)
        return
    with pytest.raises(CapabilityError) as caught:
        HostPattern.parse(text)
    assert message in caught.value.message
    assert caught.value.hint is not None
    assert hint in caught.value.hint
    assert caught.value.message.isprintable()


def test_a_host_alone_needs_its_closing_bracket() -> None:
    with pytest.raises(CapabilityError, match="lacks the closing bracket"):
        parse_host("[::1")


@pytest.mark.parametrize(
    ("pattern", "endpoint", "expected"),
    [
        ("*.example.com:443", "a.example.com:443", True),
        ("*.example.com:443", "A.B.Example.com:443", True),
        ("*.example.com:443", "example.com:443", False),
        ("*.example.com:443", "badexample.com:443", False),
        ("*.example.com:443", "a.example.com:444", False),
        ("*.example.com:443", "*.example.com:443", False),
        ("*:443", "1.2.3.4:443", True),
        ("*:443", "[::1]:443", True),
        ("*:443", "x:443", True),
        ("*:443", "2130706433:443", False),
        ("*:443", "x.:443", False),
        ("x:8000-8010", "x:8005", True),
        ("x:8000-8010", "x:8011", False),
        ("x:8000-8010", "x:8000-8010", False),
        ("x:*", "x:1", True),
        ("[::1]:1", "[0:0::1]:1", True),
        ("1.2.3.4:1", "1.2.3.4:1", True),
        ("1.2.3.4:1", "1.2.3.5:1", False),
    ],
)
def test_host_matches(pattern: str, endpoint: str, expected: bool) -> None:
    parsed = HostPattern.parse(pattern)
    assert parsed.matches(endpoint) is expected
    assert (HostPattern.finder([(parsed, 1)])(endpoint) == 1) is expected


HOSTS = [
    "*:*", "*:443", "*.com:443", "*.example.com:443", "*.a.com:1-500", "a.com:443", "b.com:400-450",
    "a.a.com:443", "a:443", "b:443", "1.2.3.4:443", "[::1]:443", "a.example.com:80-443",
]  # fmt: skip


@pytest.mark.parametrize("one", HOSTS)
@pytest.mark.parametrize("two", HOSTS)
def test_host_comparisons_have_witnesses(one: str, two: str) -> None:
    a, b = HostPattern.parse(one), HostPattern.parse(two)
    check_comparisons(a, b)


def check_comparisons(a: Any, b: Any) -> None:
    """Checks that what two patterns say of each other can be replayed by matching."""
    both, outside = a.witness(b), a.outside(b)
    assert (both is not None) is a.intersects(b) is b.intersects(a)
    assert (outside is None) is b.contains(a)
    if both is not None:
        assert a.matches(both)
        assert b.matches(both)
    if outside is not None:
        assert a.matches(outside)
        assert not b.matches(outside)
    for part in a.intersection(b):
        assert a.contains(part)
        assert b.contains(part)
        assert part.matches(both)


def test_host_literal() -> None:
    assert HostPattern.literal("A.com:443") == "a.com:443"
    with pytest.raises(CapabilityError, match="not one endpoint"):
        HostPattern.literal("*.a.com:443")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("TOKEN", "TOKEN"), ("a.b-c@API.example.com", "a.b-c@api.example.com"), ("T@*", "T@*")],
)
def test_secret_canonical(text: str, canonical: str) -> None:
    assert SecretPattern.parse(text).text == str(SecretPattern.parse(text)) == canonical


@pytest.mark.parametrize("text", ["", "1A", "A*", "A B", "@host", "A@", "A@x.", "Ä", "A" * 256])
def test_secret_refused(text: str) -> None:
    with pytest.raises(CapabilityError) as caught:
        SecretPattern.parse(text)
    assert caught.value.hint


SECRETS = ["T", "U", "T@a.com", "T@*.com", "T@*.a.com", "T@*", "U@*", "T@1.2.3.4"]


@pytest.mark.parametrize("one", SECRETS)
@pytest.mark.parametrize("two", SECRETS)
def test_secret_comparisons_have_witnesses(one: str, two: str) -> None:
    check_comparisons(SecretPattern.parse(one), SecretPattern.parse(two))


@pytest.mark.parametrize(
    ("pattern", "use", "expected"),
    [
        ("T", "T", True),
        ("T", "T@a.com", True),
        ("T", "U", False),
        ("T@*.a.com", "T@x.a.com", True),
        ("T@*.a.com", "T", False),
        ("T@*.a.com", "T@a.com", False),
        ("T@*.a.com", "T@*.a.com", False),
        ("T@*", "T@1.2.3.4", True),
        ("T", "not a name", False),
    ],
)
def test_secret_matches(pattern: str, use: str, expected: bool) -> None:
    parsed = SecretPattern.parse(pattern)
    assert parsed.matches(use) is expected
    assert (SecretPattern.finder([(parsed, 1)])(use) == 1) is expected


def test_secret_literal() -> None:
    assert SecretPattern.parse("T@a").is_literal
    assert SecretPattern.literal("T@A.com") == "T@a.com"
    with pytest.raises(CapabilityError, match="not one use"):
        SecretPattern.literal("T@*.com")


DATABASES = [
    "sqlite:/data/app.db",
    "sqlite:/data/Ä b:c@d.db",
    "postgres://reader@db.example.com:5432/sales",
    "postgres://reader@[::1]:5432/sales",
    "postgres://a.b-c_1@10.0.0.1:1/x",
]


@pytest.mark.parametrize("one", DATABASES)
@pytest.mark.parametrize("two", DATABASES)
def test_database_comparisons_have_witnesses(one: str, two: str) -> None:
    a, b = DatabasePattern.parse(one), DatabasePattern.parse(two)
    check_comparisons(a, b)
    assert a.is_literal and a.matches(one) and a.matches(two) is (one == two)
    assert a.text == str(a) == one
    assert DatabasePattern.finder([(a, 1), (a, 2)])(two) == (1 if one == two else None)


def test_database_is_made_canonical_and_taken_apart() -> None:
    found = DatabasePattern.parse("postgres://Reader@DB.Example.com:5432/Sales")
    assert found.text == "postgres://Reader@db.example.com:5432/Sales"
    assert DatabasePattern.literal("postgres://r@DB:1/x") == "postgres://r@db:1/x"
    assert (found.role, str(found.endpoint), found.database, found.path) == (
        "Reader", "db.example.com:5432", "Sales", "",
    )  # fmt: skip
    assert not found.matches("nothing")
    assert DatabasePattern.finder([(found, 1)])("nothing") is None
    assert DatabasePattern.parse("sqlite:/a/b.db").path == "/a/b.db"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no database"),
        ("sales", "is no database"),
        ("mysql://r@h:3306/x", "is no database"),
        ("SQLITE:/x", "is no database"),
        ("postgresql://r@h:5432/x", "not the canonical form"),
        ("postgresql+psycopg://r@h:5432/x", "not the canonical form"),
        ("sqlite:app.db", "not an absolute path"),
        ("sqlite:", "not an absolute path"),
        ("sqlite:/", "names no file"),
        ("sqlite:///app.db", "is a URL"),
        ("sqlite:/a/../b", "segment `..`"),
        ("sqlite:/a//b", "empty segment"),
        ("sqlite:/a/", "ends with `/`"),
        ("sqlite:/a*.db", "has a wildcard"),
        ("sqlite:/a.db?mode=rw", "has a wildcard"),
        ("sqlite:/a\nb", "contains the character"),
        ("sqlite:/" + "x" * 256, "longer than 255 bytes"),
        ("postgres://h:5432/x", "names no role"),
        ("postgres://@h:5432/x", "has the role ``"),
        ("postgres://r r@h:5432/x", "has the role"),
        ("postgres://%72@h:5432/x", "has the role"),
        ("postgres://r@h:5432", "has the database ``"),
        ("postgres://r@h:5432/x?sslmode=disable", "has the database"),
        ("postgres://r@h:5432/x/y", "has the database"),
        ("postgres://r@h/x", "has no port"),
        ("postgres://r@h:0/x", "has the port `0`"),
        ("postgres://r@*.h:5432/x", "more than one server"),
        ("postgres://r@h:5432-5433/x", "more than one server"),
        ("postgres://r@h1,h2:5432/x", "is not a host name"),
        ("postgres://r@0x7f.1:5432/x", "not the plain form of an IPv4 address"),
        ("postgres://r@é.com:5432/x", "beyond ASCII"),
    ],
)
def test_database_refused(text: str, message: str) -> None:
    with pytest.raises(CapabilityError, match=re.escape(message)) as caught:
        DatabasePattern.parse(text)
    assert caught.value.hint


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(CapabilityError, match="holds no password") as caught:
        DatabasePattern.parse("postgres://r:hunter2@h:5432/x")
    assert "hunter2" not in str(caught.value.to_dict())


@pytest.mark.parametrize(
    ("text", "canonical", "size"),
    [
        ("128MiB", "128MiB", 1 << 27),
        ("50mb", "50MB", 50_000_000),
        ("1024MiB", "1GiB", 1 << 30),
        ("4096", "4KiB", 4096),
        ("512000", "500KiB", 512_000),
        ("7", "7B", 7),
        ("1001B", "1001B", 1001),
    ],
)
def test_size_canonical(text: str, canonical: str, size: int) -> None:
    pattern = SizePattern.parse(text)
    assert (pattern.text, str(pattern), pattern.bytes) == (canonical, canonical, size)
    assert SizePattern.literal(text) == canonical


@pytest.mark.parametrize("text", ["", "x", "1.5MB", "-1", "0", "17000GiB", "1TiB", "9" * 30])
def test_size_refused(text: str) -> None:
    with pytest.raises(CapabilityError) as caught:
        SizePattern.parse(text)
    assert caught.value.hint


def test_size_comparisons() -> None:
    small, large = SizePattern.parse("50MB"), SizePattern.parse("128MiB")
    for a in (small, large):
        for b in (small, large):
            check_comparisons(a, b)
    assert large.matches("50MB")
    assert not small.matches("128MiB")
    assert not small.matches("much")
    assert not small.is_literal
    find = SizePattern.finder([(small, 1), (large, 2)])
    assert find("128MiB") == 2
    assert find("129MiB") is None
    assert SizePattern.finder([])("1B") is None


def test_importing_the_patterns_is_cheap() -> None:
    code = "import sys, omnibase.core.security.patterns; print(*sys.modules)"
    # A tracer of this test run would load modules of its own.
    env = {name: value for name, value in os.environ.items() if "COV" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, timeout=60, env=env,
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert not loaded & {"pydantic", "pathlib", "ipaddress", "json", "difflib", "asyncio"}
