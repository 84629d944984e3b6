"""The search for a resource that a pattern matches and a condition holds for."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from omnibase.core.security.capabilities import Capability, CapabilityType
from omnibase.core.security.conditions import (
    Condition,
    Glob,
    Test,
    all_of,
    any_of,
    comparisons,
    evaluate,
    glob_matches,
    negate,
    simplify,
)
from omnibase.core.security.containment import (
    Meter,
    Undecided,
    attributes_of,
    find,
    is_concrete,
)

READ = CapabilityType.FILE_READ
NAMED = CapabilityType.ARTIFACT_READ
CONNECT = CapabilityType.NETWORK_CONNECT
SECRET = CapabilityType.SECRET_ACCESS
MEMORY = CapabilityType.MEMORY
DATABASE = CapabilityType.DATABASE_READ


def like(*parts: str | None, attribute: str = "path") -> Test:
    return Test("resource", attribute, "like", parts)


def equal(value: str | int, attribute: str = "path") -> Test:
    return Test("resource", attribute, "==", value)


def search(capability: str, condition: Condition) -> str | None:
    found = Capability.parse(capability)
    return find(found.type, found.pattern, condition)


def test_paths_that_a_pattern_has() -> None:
    data = like("/data/", None)
    assert search("FILE_READ:/data/**", negate(data)) is None
    assert search("FILE_READ:/data/x*", negate(data)) is None
    assert search("FILE_READ:/d*/x", negate(data)) == "/d/x"
    assert search("FILE_READ:/**", data) is not None
    assert search("FILE_READ:/data", data) is None
    assert search("FILE_READ:/data/x", data) == "/data/x"
    assert search("FILE_READ:/", equal("/")) == "/"
    assert search("FILE_READ:/*", equal("/")) is None
    assert search("FILE_READ:/**", equal("/")) is None
    assert find(READ, None, equal("/")) == "/"
    assert find(READ, None, True) == "/"
    assert find(READ, None, False) is None


def test_a_wildcard_of_cedar_crosses_segments_and_ours_does_not() -> None:
    csv = like("/data/", None, ".csv")
    assert search("FILE_READ:/data/*.csv", negate(csv)) is None
    found = search("FILE_READ:/data/**", all_of((csv, negate(like("/data/a", None)))))
    assert found is not None and found.startswith("/data/") and found.endswith(".csv")
    deep = all_of((csv, like("/", None, "/", None, "/", None)))
    assert search("FILE_READ:/data/*.csv", deep) is None
    assert search("FILE_READ:/data/**", deep) is not None


def test_dots_and_empty_segments_are_in_no_path() -> None:
    assert (
        search("FILE_READ:/a/**", any_of((like(None, "/../", None), like(None, "//", None))))
        is None
    )
    assert search("FILE_READ:/a/*", equal("/a/..")) is None
    assert search("FILE_READ:/a/**", like("/a/.", None)) is not None
    assert search("FILE_READ:/a/**", like("/a/..", None)) is not None


def test_names_may_have_empty_segments() -> None:
    assert search("ARTIFACT_READ:models/*", equal("models/", "name")) == "models/"
    assert search("ARTIFACT_READ:*", negate(like(None, attribute="name"))) is None
    assert find(NAMED, None, like("a//", None, attribute="name")) == "a//"
    assert find(NAMED, None, equal("a/..", "name")) is None
    names = ["".join(word) for n in (1, 2, 3) for word in product("a/.", repeat=n)]
    for pattern in ("*", "*/*", "a*", "?", "?/*", "*a"):
        capability = Capability(NAMED, pattern)
        for text in names:
            member = find(NAMED, capability.pattern, equal(text, "name"))
            assert (member == text) is capability.matches(text), (pattern, text)


def test_the_question_mark_is_one_character() -> None:
    assert search("FILE_READ:/?", like("/ab", None)) is None
    assert search("FILE_READ:/?b", like("/ab", None)) == "/ab"
    assert search("FILE_READ:/?", negate(equal("/a"))) == "/b"


def test_a_text_longer_than_a_name_can_be_is_no_answer() -> None:
    with pytest.raises(Undecided, match="longer"):
        search("FILE_READ:/**", Test("resource", "path", "like", ("/" + "a" * 300, None)))


def test_the_bound() -> None:
    stars = [like("/", *[x for i in range(12) for x in (None, c + str(i))], None) for c in "abc"]
    condition = all_of(stars)
    with pytest.raises(Undecided, match="too complex"):
        search("FILE_READ:/**", condition)
    whole = Meter(3)
    with pytest.raises(Undecided):
        find(READ, None, like("/abc", None), whole)
    assert whole.left < 0
    many = any_of(equal(f"h{i}", "host") for i in range(3000))
    ports = any_of(equal(i, "port") for i in range(1, 3000))
    with pytest.raises(Undecided):
        find(CONNECT, None, all_of((many, ports, negate(many))))
    deep = "a" * 63 + "." + ("b" * 63 + ".") * 2 + "c" * 59
    inside = [like(None, "." + deep, attribute="host")]
    inside += [equal(f"{c}.{deep}", "host") for c in "abcdefghijklmnopqrstuvwxyz"]
    with pytest.raises(Undecided, match="too long"):
        find(CONNECT, None, all_of((inside[0], negate(any_of(inside[1:])))))


def test_hosts() -> None:
    com, api = like(None, ".example.com", attribute="host"), equal("api.example.com", "host")
    assert search("NETWORK_CONNECT:*.example.com:443", negate(com)) is None
    assert search("NETWORK_CONNECT:*:443", negate(com)) == "a:443"
    assert search("NETWORK_CONNECT:*:1-9", negate(like(None, attribute="host"))) is None
    assert search("NETWORK_CONNECT:*.example.com:443", api) == "api.example.com:443"
    assert search("NETWORK_CONNECT:[::1]:443", com) is None
    letters = any_of(equal(c, "host") for c in "abcdefghijklmnopqrstuvwxyz")
    assert search("NETWORK_CONNECT:*:443", negate(letters)) == "a0:443"
    assert search("NETWORK_CONNECT:10.0.0.1:443", like(None, attribute="host")) == "10.0.0.1:443"
    assert find(CONNECT, None, True) == "a:1"


def test_ports_are_exact() -> None:
    span = all_of((Test("resource", "port", ">=", 80), Test("resource", "port", "<", 90)))
    assert search("NETWORK_CONNECT:a:80-89", negate(span)) is None
    assert search("NETWORK_CONNECT:a:80-90", negate(span)) == "a:90"
    assert search("NETWORK_CONNECT:a:79-80", negate(span)) == "a:79"
    assert search("NETWORK_CONNECT:a:*", all_of((span, negate(equal(80, "port"))))) == "a:81"
    assert search("NETWORK_CONNECT:a:*", Test("resource", "port", ">", 65535)) is None
    assert search("NETWORK_CONNECT:a:*", Test("resource", "port", "<=", 0)) is None


def test_secrets() -> None:
    token, none = equal("TOKEN", "name"), equal("", "host")
    hosts = like(None, ".a", attribute="host")
    assert search("SECRET_ACCESS:TOKEN", negate(token)) is None
    assert search("SECRET_ACCESS:TOKEN", negate(all_of((token, hosts)))) == "TOKEN"
    assert search("SECRET_ACCESS:TOKEN", all_of((token, negate(none)))) == "TOKEN@a"
    assert search("SECRET_ACCESS:TOKEN@*", none) is None
    assert search("SECRET_ACCESS:TOKEN@*.a", negate(hosts)) is None
    assert search("SECRET_ACCESS:TOKEN@b.a", hosts) == "TOKEN@b.a"
    assert search("SECRET_ACCESS:TOKEN", like(None, attribute="host")) == "TOKEN"
    assert find(SECRET, None, negate(token)) == "OTHER"
    assert find(SECRET, None, negate(equal("OTHER", "name"))) == "OTHER_"
    assert find(SECRET, None, all_of((token, hosts))) == "TOKEN@a.a"


def test_sizes() -> None:
    small = Test("resource", "bytes", "<=", 1 << 20)
    assert search("MEMORY:1MiB", negate(small)) is None
    assert search("MEMORY:2MiB", negate(small)) == "2MiB"
    assert search("MEMORY:2MiB", small) == "1MiB"
    assert find(MEMORY, None, True) == "16384GiB"
    assert (
        search("MEMORY:9B", all_of((Test("resource", "bytes", ">", 4), negate(equal(9, "bytes")))))
        == "8B"
    )


def test_databases() -> None:
    one = "sqlite:/data/app.db"
    assert search(f"DATABASE_READ:{one}", equal(one, "name")) == one
    assert search(f"DATABASE_READ:{one}", like("postgres:", None, attribute="name")) is None
    sqlite = like("sqlite:/data/", None, attribute="name")
    server = like("postgres://", None, "@", None, ".example.com:5432/", None, attribute="name")
    for condition, expected in (
        (True, "sqlite:/a"),
        (sqlite, "sqlite:/data/a"),
        (negate(like("sqlite:", None, attribute="name")), "postgres://b@a:5432/b"),
        (server, "postgres://b@a.example.com:5432/b"),
        (all_of((server, like("postgres://r@", None, attribute="name"))),
         "postgres://r@a.example.com:5432/b"),
        (all_of((like("postgres:", None, attribute="name"),
                 negate(like(None, ":5432/", None, attribute="name")))), "postgres://b@a:1/b"),
        (equal("postgres://r@10.0.0.1:5432/x", "name"), "postgres://r@10.0.0.1:5432/x"),
        (negate(like(None, attribute="name")), None),
        (equal("mysql:", "name"), None),
    ):  # fmt: skip
        found = find(DATABASE, None, condition)
        assert found == expected, condition
        assert found is None or Capability(DATABASE, found).resource == found


@pytest.mark.parametrize("text", ["sqlite:/a//b", "postgres://r@h:99999/x"])
def test_what_names_no_database_is_undecided(text: str) -> None:
    with pytest.raises(Undecided):
        find(DATABASE, None, equal(text, "name"))


def test_attributes_are_those_of_the_schema() -> None:
    for capability, expected in (
        ("FILE_READ:/a", {"path": "/a"}),
        ("FILE_WRITE:/a", {"path": "/a"}),
        ("NETWORK_CONNECT:a:1", {"host": "a", "port": 1}),
        ("SECRET_ACCESS:T", {"name": "T", "host": ""}),
        ("SECRET_ACCESS:T@a", {"name": "T", "host": "a"}),
        ("MEMORY:1KiB", {"bytes": 1024}),
        ("DATABASE_READ:sqlite:/d", {"name": "sqlite:/d"}),
    ):
        found = Capability.parse(capability)
        assert attributes_of(found.type, found.resource) == expected


def test_what_is_one_resource() -> None:
    for text, expected in (
        ("FILE_READ:/a", True),
        ("FILE_READ:/a*", False),
        ("SECRET_ACCESS:T", False),
        ("SECRET_ACCESS:T@a", True),
        ("SECRET_ACCESS:T@*.a", False),
        ("MEMORY:1B", False),
        ("NETWORK_CONNECT:a:1", True),
        ("NETWORK_CONNECT:a:*", False),
    ):
        assert is_concrete(Capability.parse(text).pattern) is expected, text


# --- conditions --------------------------------------------------------------------------


def slow_glob(glob: Glob, text: str) -> bool:
    if not glob:
        return not text
    if glob[0] is None:
        return any(slow_glob(glob[1:], text[i:]) for i in range(len(text) + 1))
    return text.startswith(glob[0]) and slow_glob(glob[1:], text[len(glob[0]) :])


def test_globs_match_as_a_slow_matcher_says() -> None:
    texts = ["".join(word) for n in range(5) for word in product("ab", repeat=n)]
    parts = (None, "a", "b", "ab")
    for n in range(4):
        for glob in product(parts, repeat=n):
            if any(x is not None and y is not None for x, y in pairwise(glob)):
                continue  # literals are joined
            for text in texts:
                assert glob_matches(glob, text) is slow_glob(glob, text), (glob, text)


def test_comparisons() -> None:
    cases = {"<": (1, 0, 0), "<=": (1, 1, 0), "==": (0, 1, 0), ">=": (0, 1, 1), ">": (0, 0, 1)}
    for operator, expected in cases.items():
        test = Test("resource", "port", operator, 5)
        assert tuple(test.holds(n) for n in (4, 5, 6)) == tuple(map(bool, expected))
    assert not Test("resource", "name", "==", "5").holds(5)
    assert not Test("resource", "name", "<", "5").holds("4")
    assert not like(None).holds(5)


def test_constants_fold() -> None:
    a, b = equal("/a"), equal("/b")
    assert all_of(()) is True and any_of(()) is False
    assert all_of((a, True)) == a and any_of((a, False, a)) == a
    assert all_of((a, False)) is False and any_of((a, True)) is True
    assert negate(negate(a)) == a and negate(True) is False
    whole = any_of((all_of((a, negate(b))), b))
    assert simplify(whole, lambda test: None) == whole
    assert simplify(whole, lambda test: test == a) is True
    assert simplify(True, lambda test: None) is True
    assert list(comparisons(whole)) == [a, b, b] and list(comparisons(True)) == []
    for x, y in product((True, False), repeat=2):
        assert evaluate(whole, lambda test, x=x, y=y: {a: x, b: y}[test]) is ((x and not y) or y)  # type: ignore[misc]
    assert evaluate(True, lambda test: False) is True
