"""The algebra of patterns and capabilities, against slow and plain references.

The references share no code with the package: a recursive matcher, and the
enumeration of a small universe of concrete resources.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from omnibase.core.security import globs
from omnibase.core.security.capabilities import Capability, CapabilitySet, CapabilityType
from omnibase.core.security.patterns import (
    DatabasePattern,
    HostPattern,
    NamePattern,
    PathPattern,
    SizePattern,
    literal_pattern,
)
from omnibase.errors import CapabilityError

FAST = settings(max_examples=250, deadline=None)


def glob_matches(glob: str, word: str) -> bool:
    """What a glob means, said once more."""
    if not glob:
        return not word
    if glob[0] == "*":
        return glob_matches(glob[1:], word) or (bool(word) and glob_matches(glob, word[1:]))
    return bool(word) and glob[0] in ("?", word[0]) and glob_matches(glob[1:], word[1:])


def path_matches(pattern: str, path: str) -> bool:
    """What a path pattern means, said once more."""
    if not path.startswith("/"):
        return False
    names = path[1:].split("/") if path != "/" else []
    if any(name in ("", ".", "..") or "\0" in name for name in names):
        return False
    parts = pattern[1:].split("/") if pattern != "/" else []
    if parts and parts[-1] == "**":
        if len(names) < len(parts):
            return False
        parts = parts[:-1]
        names = names[: len(parts)]
    return len(names) == len(parts) and all(map(glob_matches, parts, names))


def name_matches(pattern: str, name: str) -> bool:
    parts, names = pattern.split("/"), name.split("/")
    if not name or "." in names or ".." in names:
        return False
    return len(parts) == len(names) and all(map(glob_matches, parts, names))


segments = st.text("ab.*?", min_size=1, max_size=4).filter(
    lambda s: s not in (".", "..") and "**" not in s
)
path_texts = st.builds(
    lambda parts, deep: "/" + "/".join(parts + ["**"] * deep),
    st.lists(segments, max_size=2),
    st.booleans(),
)
name_texts = st.lists(
    st.text("ab.*?", max_size=3).filter(lambda s: s not in (".", "..") and "**" not in s),
    min_size=1,
    max_size=2,
).map("/".join).filter(bool)  # fmt: skip
concrete_paths = st.lists(st.text("ab.*?c\n", max_size=5), max_size=3).map(
    lambda names: "/" + "/".join(names)
)

WORDS = ["".join(w) for n in range(1, 5) for w in product("abc.", repeat=n)]
WORDS = [w for w in WORDS if w not in (".", "..")]
SHORT = [w for w in WORDS if len(w) <= 2]
PATHS = [
    "/",
    *("/" + w for w in WORDS),
    *("/" + "/".join(p) for p in product(SHORT, repeat=2)),
    *("/" + "/".join(p) for p in product("abc", repeat=3)),
]


def language(pattern: str) -> frozenset[str]:
    return frozenset(path for path in PATHS if path_matches(pattern, path))


@FAST
@given(path_texts, concrete_paths)
def test_matching_agrees_with_the_reference(text: str, path: str) -> None:
    pattern = PathPattern.parse(text)
    assert pattern.matches(path) is path_matches(text, path)


@FAST
@given(name_texts, st.text("ab./*?\n", max_size=8))
def test_name_matching_agrees_with_the_reference(text: str, name: str) -> None:
    assert NamePattern.parse(text).matches(name) is name_matches(text, name)


@FAST
@given(st.lists(path_texts, max_size=8), concrete_paths)
def test_finding_agrees_with_matching(texts: list[str], path: str) -> None:
    patterns = [PathPattern.parse(text) for text in texts]
    found = PathPattern.finder([(p, p) for p in patterns])(path)
    assert (found is not None) is any(path_matches(text, path) for text in texts)
    if found is not None:
        assert path_matches(found.text, path)


@settings(max_examples=120, deadline=None)
@given(path_texts)
def test_matching_agrees_on_the_whole_universe(text: str) -> None:
    pattern = PathPattern.parse(text)
    assert {path for path in PATHS if pattern.matches(path)} == language(text)


@FAST
@given(path_texts, path_texts)
def test_containment_is_exact(one: str, two: str) -> None:
    a, b = PathPattern.parse(one), PathPattern.parse(two)
    outside = b.outside(a)
    assert a.contains(b) is (outside is None)
    if outside is None:
        assert language(two) <= language(one)
    else:
        assert path_matches(two, outside)
        assert not path_matches(one, outside)


@FAST
@given(path_texts, path_texts)
def test_intersection_is_exact(one: str, two: str) -> None:
    a, b = PathPattern.parse(one), PathPattern.parse(two)
    witness = a.witness(b)
    assert a.intersects(b) is b.intersects(a) is (witness is not None)
    both = language(one) & language(two)
    if witness is None:
        assert not both
    else:
        assert path_matches(one, witness)
        assert path_matches(two, witness)
    parts = a.intersection(b)
    if parts is not None:
        assert frozenset().union(*(language(part.text) for part in parts)) == both
        for part in parts:
            assert PathPattern.parse(part.text) == part
            assert a.contains(part)
            assert b.contains(part)


@FAST
@given(name_texts, name_texts)
def test_name_comparisons_are_exact(one: str, two: str) -> None:
    a, b = NamePattern.parse(one), NamePattern.parse(two)
    universe = [*SHORT, *map("/".join, product(["", *SHORT], repeat=2))]
    first = {n for n in universe if name_matches(one, n)}
    second = {n for n in universe if name_matches(two, n)}
    outside, witness = b.outside(a), a.witness(b)
    if outside is None:
        assert second <= first
    else:
        assert name_matches(two, outside)
        assert not name_matches(one, outside)
    if witness is None:
        assert not first & second
    else:
        assert name_matches(one, witness)
        assert name_matches(two, witness)
    parts = a.intersection(b)
    if parts is not None:
        assert {n for n in universe if any(p.matches(n) for p in parts)} == first & second


@FAST
@given(path_texts)
def test_path_parse_and_print_are_inverse(text: str) -> None:
    pattern = PathPattern.parse(text)
    assert PathPattern.parse(pattern.text) == pattern
    assert language(pattern.text) == language(text)


@FAST
@given(st.text(max_size=12).map(lambda text: "/" + text))
def test_any_text_is_read_or_refused_with_a_reason(text: str) -> None:
    try:
        pattern = PathPattern.parse(text)
    except globs.CapabilityError as error:
        assert error.hint
        assert error.message.isprintable()
    else:
        assert PathPattern.parse(pattern.text) == pattern


@FAST
@given(concrete_paths)
def test_the_literal_pattern_matches_its_path(path: str) -> None:
    try:
        text = literal_pattern(path)
    except globs.CapabilityError:
        assert not path_matches("/**", path)
        assert path != "/"
    else:
        assert path_matches(text, path)
        assert PathPattern.parse(text).text == text


labels = st.sampled_from(["a", "b", "a.b", "b.a", "a.a.b", "c"])
hosts = st.one_of(
    labels,
    labels.map("*.".__add__),
    st.sampled_from(["*", "10.0.0.1", "[::1]", "[2001:db8::a]"]),
)
ports = st.one_of(
    st.just("*"),
    st.integers(1, 6).map(str),
    st.tuples(st.integers(1, 6), st.integers(1, 6)).map(lambda p: f"{min(p)}-{max(p)}"),
)
host_texts = st.builds("{}:{}".format, hosts, ports)
NAMES = [".".join(n) for k in range(1, 5) for n in product("abc", repeat=k)]
ENDPOINTS = [
    (host, port) for host in [*NAMES, "10.0.0.1", "[::1]", "[2001:db8::a]"] for port in range(1, 8)
]


def endpoint_matches(pattern: str, endpoint: tuple[str, int]) -> bool:
    host, _, allowed = pattern.rpartition(":")
    name, port = endpoint
    low, _, high = allowed.partition("-")
    if not (allowed == "*" or int(low) <= port <= int(high or low)):
        return False
    if host.startswith("*."):
        return name.endswith(host[1:])
    return host in ("*", name)


@FAST
@given(host_texts, host_texts)
def test_endpoints_agree_with_enumeration(one: str, two: str) -> None:
    a, b = HostPattern.parse(one), HostPattern.parse(two)
    first = {e for e in ENDPOINTS if endpoint_matches(one, e)}
    second = {e for e in ENDPOINTS if endpoint_matches(two, e)}
    assert a.contains(b) is (second <= first)
    assert a.intersects(b) is bool(first & second)
    outside, witness = b.outside(a), a.witness(b)
    assert (outside is None) is a.contains(b)
    for text, inside in ((outside, False), (witness, True)):
        if text is not None:
            host, _, port = text.rpartition(":")
            assert endpoint_matches(two, (host, int(port)))
            assert endpoint_matches(one, (host, int(port))) is inside
    both = a.intersection(b)
    assert {e for e in ENDPOINTS for p in both if endpoint_matches(p.text, e)} == first & second


@settings(max_examples=100, deadline=None)
@given(host_texts)
def test_endpoint_matching_agrees_with_the_reference(text: str) -> None:
    pattern = HostPattern.parse(text)
    find = HostPattern.finder([(pattern, True)])
    for host, port in ENDPOINTS[::3]:
        expected = endpoint_matches(text, (host, port))
        assert pattern.matches(f"{host}:{port}") is expected
        assert (find(f"{host}:{port}") is True) is expected


sizes = st.integers(1, 1 << 44)


@FAST
@given(sizes, sizes)
def test_sizes(one: int, two: int) -> None:
    a, b = SizePattern(one), SizePattern(two)
    assert SizePattern.parse(a.text) == a
    assert a.contains(b) is (two <= one)
    assert a.matches(b.text) is (two <= one)


secret_texts = st.builds(
    "{}{}".format, st.sampled_from("TU"), st.one_of(st.just(""), hosts.map("@".__add__))
)
capability_texts = st.one_of(
    path_texts.map("FILE_READ:".__add__),
    path_texts.map("FILE_WRITE:".__add__),
    host_texts.map("NETWORK_CONNECT:".__add__),
    secret_texts.map("SECRET_ACCESS:".__add__),
    name_texts.map("ARTIFACT_READ:".__add__),
    name_texts.map("ARTIFACT_WRITE:".__add__),
    sizes.map("MEMORY:{}".format),
)
file_sets = st.lists(
    st.one_of(path_texts.map("FILE_READ:".__add__), path_texts.map("FILE_WRITE:".__add__)),
    max_size=4,
).map(CapabilitySet.parse)  # fmt: skip
FEW = PATHS[:: len(PATHS) // 150]
USES = [(kind, path) for kind in ("FILE_READ", "FILE_WRITE") for path in FEW]


def allowed(capabilities: Any) -> frozenset[tuple[str, str]]:
    """What a set of file capabilities allows in a small universe; writing implies reading."""
    return frozenset(
        (kind, path)
        for kind, path in USES
        if any(
            c.type.value in (kind, "FILE_WRITE") and path_matches(c.resource, path)
            for c in capabilities
        )
    )


@FAST
@given(capability_texts)
def test_capability_parse_and_print_are_inverse(text: str) -> None:
    capability = Capability.parse(text)
    assert Capability.parse(str(capability)) == capability
    assert CapabilitySet.from_json(CapabilitySet([capability]).to_json()) == CapabilitySet(
        [capability]
    )


@settings(max_examples=120, deadline=None)
@given(file_sets, file_sets)
def test_narrow_never_widens(asked: CapabilitySet, policy: CapabilitySet) -> None:
    narrowed = asked.narrow(policy)
    assert asked.covers(narrowed)
    assert policy.covers(narrowed)
    assert allowed(narrowed) <= allowed(asked) & allowed(policy)
    exact = all(
        a.pattern.intersection(b.pattern) is not None or not a.intersects(b)
        for a in asked
        for b in policy
    )
    if exact:
        assert allowed(narrowed) == allowed(asked) & allowed(policy)
    assert asked.narrow(asked) == asked
    assert narrowed.narrow(policy) == narrowed


@settings(max_examples=120, deadline=None)
@given(st.lists(capability_texts, max_size=6), st.lists(capability_texts, max_size=6))
def test_narrow_of_all_types_is_covered_by_both(one: list[str], two: list[str]) -> None:
    asked, policy = CapabilitySet.parse(one), CapabilitySet.parse(two)
    narrowed = asked.narrow(policy)
    assert asked.covers(narrowed)
    assert policy.covers(narrowed)
    assert (asked | policy).covers(asked)
    assert not len(narrowed) or asked.intersects(policy)


@settings(max_examples=120, deadline=None)
@given(file_sets, file_sets)
def test_sets_agree_with_enumeration(one: CapabilitySet, two: CapabilitySet) -> None:
    if one.covers(two):
        assert allowed(two) <= allowed(one)
    if allowed(one) & allowed(two):
        assert one.intersects(two)
    assert allowed(one | two) == allowed(one) | allowed(two)
    for kind, path in USES[::7]:
        member = one.covering(CapabilityType(kind), path)
        assert (member is not None) is ((kind, path) in allowed(one))


addresses = st.one_of(
    st.text(max_size=40),
    st.builds("sqlite:{}".format, st.text("ab/.*?: @", max_size=9)),
    st.builds(
        "postgres://{}{}{}:{}/{}".format,
        st.text("aB:._-%", max_size=3),
        st.sampled_from(("@", "", ":@", "@@")),
        st.sampled_from(("a", "A.b", "*", "*.a", "[::1]", "[::FFFF:1.2.3.4]", "127.1", "é", "a,b")),
        st.sampled_from(("1", "5432", "0", "01", "*", "1-2", "99999", "")),
        st.text("aB/?._-%", max_size=3),
    ),
)


@FAST
@given(addresses, addresses)
def test_an_address_is_one_database_or_refused(one: str, two: str) -> None:
    try:
        found = DatabasePattern.parse(one)
    except CapabilityError as error:
        assert error.hint and error.message.isprintable()
        assert DatabasePattern.finder([])(one) is None
        return
    assert DatabasePattern.parse(found.text) == found and found.matches(one)
    assert bool(found.path) != (found.endpoint is not None)
    assert (found.path or "/").startswith("/") and "*" not in found.text and "?" not in found.text
    assert found.matches(two) == (DatabasePattern.finder([(found, 1)])(two) == 1)
    try:
        other = DatabasePattern.parse(two)
    except CapabilityError:
        assert not found.matches(two)
        return
    assert found.matches(two) == found.contains(other) == found.intersects(other)
    assert found.matches(two) == (found.text == other.text)
