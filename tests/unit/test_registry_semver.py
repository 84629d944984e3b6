"""Semantic versions and constraints, by the specification's own examples."""

from __future__ import annotations

from itertools import pairwise

import pytest

from omnibase.core.registry import Constraint, Version
from omnibase.errors import RegistryError

# semver.org, section 11, and the regular expression's published test cases.
ORDERED = [
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1-0",
    "1.0.1",
    "1.9.0",
    "1.10.0",
    "2.0.0-0",
    "2.0.0",
]
VALID = [
    "0.0.4",
    "1.1.2-prerelease+meta",
    "1.1.2+meta",
    "1.0.0-alpha0.valid",
    "1.0.0-alpha.0valid",
    "1.0.0-alpha-a.b-c-somethinglong+build.1-aef.1-its-okay",
    "1.2.3----RC-SNAPSHOT.12.9.1--.12+788",
    "1.0.0+0.build.1-rc.10000aaa-kk-0.1",
    "99999999999999999999999.999999999999999999.99999999999999",
    "1.0.0-0A.is.legal",
    "1.0.0+001",
]
INVALID = [
    "1",
    "1.2",
    "1.2.3-0123",
    "1.2.3-0123.0123",
    "1.1.2+.123",
    "+invalid",
    "-invalid",
    "alpha",
    "1.0.0-alpha_beta",
    "1.0.0-alpha..",
    "1.0.0-alpha..1",
    "01.1.1",
    "1.01.1",
    "1.1.01",
    "1.2.3.DEV",
    "1.2-SNAPSHOT",
    "1.2.31.2.3",
    "-1.0.3-gamma+b7718",
    "+justmeta",
    "9.8.7+meta+meta",
    "9.8.7-whatever+meta+meta",
    "v1.0.0",
    "1.0.0-",
    "1.0.0+",
]


def test_the_order_is_the_specifications() -> None:
    versions = [Version.parse(text) for text in ORDERED]
    assert sorted(reversed(versions)) == versions
    for low, high in pairwise(versions):
        assert low < high and high > low and low <= high and high >= low and low != high


@pytest.mark.parametrize("text", VALID + ORDERED)
def test_valid_versions_are_read_and_written(text: str) -> None:
    assert str(Version.parse(text)) == text


@pytest.mark.parametrize(
    "text", [*INVALID, "", " 1.0.0", "1.0.0\n", "1.0.0 ", "1.0.0-" + "a" * 128, "\u0661.0.0"]
)
def test_invalid_versions_are_refused(text: str) -> None:
    with pytest.raises(RegistryError) as caught:
        Version.parse(text)
    assert caught.value.details["reason"] == "invalid"


def test_parts_are_checked_when_a_version_is_made() -> None:
    for wrong in ({"prerelease": "01"}, {"build": "a b"}, {"prerelease": "a" * 200}):
        with pytest.raises(RegistryError):
            Version(1, 0, 0, **wrong)
    with pytest.raises(RegistryError):
        Version(-1, 0, 0)


def test_build_metadata_has_no_precedence() -> None:
    one, two = Version.parse("1.0.0+a"), Version.parse("1.0.0+b")
    assert one != two and not one < two and not one > two
    assert one <= two and one >= two
    assert one.precedence == two.precedence == "1.0.0"


@pytest.mark.parametrize(
    ("constraint", "allowed", "refused"),
    [
        ("1.2.3", "1.2.3 1.2.3+b", "1.2.4 1.2.3-rc"),
        ("=1.2.3+b", "1.2.3+b", "1.2.3 1.2.3+c"),
        ("==1.2.3", "1.2.3", "1.2.4"),
        ("!=1.2.3", "1.2.4", "1.2.3 1.2.3+b 1.2.4-rc"),
        ("^1.2.3", "1.2.3 1.2.4 1.9.0", "1.2.2 2.0.0 2.0.0-rc 1.3.0-rc 0.9.0"),
        ("^1.2", "1.2.0 1.9.9", "1.1.9 2.0.0"),
        ("^1", "1.0.0 1.9.9", "0.9.9 2.0.0"),
        ("^0.2.3", "0.2.3 0.2.9", "0.3.0 0.2.2"),
        ("^0.0.3", "0.0.3", "0.0.4 0.0.2"),
        ("^0.0.0", "0.0.0", "0.0.1"),
        ("^0.0", "0.0.0 0.0.9", "0.1.0"),
        ("^0", "0.0.0 0.9.9", "1.0.0"),
        ("~1.2.3", "1.2.3 1.2.9", "1.3.0 1.2.2"),
        ("~1.2", "1.2.0 1.2.9", "1.3.0"),
        ("~1", "1.0.0 1.9.0", "2.0.0"),
        (">=1.2.0,<2.0.0", "1.2.0 1.9.9", "1.1.9 2.0.0"),
        (">1.2.0 , <=1.3.0", "1.2.1 1.3.0", "1.2.0 1.3.1"),
        (">= 1.2,<2", "1.2.0", "2.0.0"),
        ("^1.2.3-rc.1", "1.2.3-rc.1 1.2.3-rc.2 1.2.3 1.3.0", "1.2.3-beta 1.3.0-rc.1 2.0.0"),
        ("*", "0.0.0 9.9.9", "1.0.0-rc"),
    ],
)
def test_constraints(constraint: str, allowed: str, refused: str) -> None:
    parsed = Constraint.parse(constraint)
    for text in allowed.split():
        assert parsed.allows(Version.parse(text)), text
    for text in refused.split():
        assert not parsed.allows(Version.parse(text)), text


def test_an_exact_constraint_says_so() -> None:
    assert Constraint.parse("1.2.3").exact == Version.parse("1.2.3")
    assert Constraint.parse("^1.2.3").exact is None
    assert Constraint.parse("*").exact is None


@pytest.mark.parametrize(
    "text",
    ["", ",", "1.2", ">=1.2.3,", "=>1.2.3", "1.2.3 4.5.6", "^", "x", ">1", "~a", "1.0.0," * 200],
)
def test_malformed_constraints_are_refused(text: str) -> None:
    with pytest.raises(RegistryError) as caught:
        Constraint.parse(text)
    assert caught.value.details["reason"] == "invalid"
