"""Pattern decisions against Cedar's own, and the search against a library's automata."""

from __future__ import annotations

import os
import random
import secrets
from functools import cache
from itertools import product

import pytest
from greenery import parse
from greenery.fsm import Fsm

from omnibase.core.security.capabilities import Capability, CapabilitySet, CapabilityType
from omnibase.core.security.conditions import (
    AllOf,
    AnyOf,
    Condition,
    Not,
    Test,
    all_of,
    any_of,
    evaluate,
    negate,
)
from omnibase.core.security.containment import attributes_of, find
from omnibase.core.security.decision import Outcome
from omnibase.core.security.path_patterns import PathPattern
from tests.helpers.policies import (
    COMPONENT,
    PLAIN,
    Entry,
    of_entries,
    random_condition,
    random_like,
    random_path_pattern,
)

READ, WRITE = CapabilityType.FILE_READ, CapabilityType.FILE_WRITE

_NAMES = ("a", "b", "ab", "ba", ".a", "a.b", "aa", "c", "bab")
PATHS = [
    "/",
    *("/" + "/".join(names) for n in (1, 2) for names in product(_NAMES, repeat=n)),
    *("/" + "/".join(names) for names in product(("a", "b", "ab"), repeat=3)),
]


def seeds(count: int) -> list[int]:
    """Others each time; ``OMNIBASE_FUZZ_SEED`` runs one of them, the test's name, again."""
    again = os.environ.get("OMNIBASE_FUZZ_SEED")
    return [int(again)] if again else [secrets.randbits(32) for _ in range(count)]


@pytest.mark.parametrize("seed", seeds(4), ids=lambda seed: f"seed-{seed}")
def test_decisions_about_paths_agree_with_cedar(seed: int) -> None:
    """20 000 decisions: 200 documents with 25 requests each, four times."""
    print(f"seed {seed}")
    source = random.Random(seed)
    seen = {outcome: 0 for outcome in Outcome}
    for _ in range(200):
        entries: list[Entry] = [
            (
                "permit" if i == 0 or source.random() < 0.5 else "forbid",
                READ if source.random() < 0.75 else WRITE,
                random_condition(source),
            )
            for i in range(source.randint(1, 5))
        ]
        if source.random() < 0.5:  # something has to be granted, too
            entries.append(("permit", READ, Test("resource", "path", "like", ("/", None))))
        policy = of_entries(*entries)
        # Read and write of each path, by Cedar alone.
        asked = [(kind, {"path": path}) for kind in (READ, WRITE) for path in PATHS]
        answers = policy._engine.ask(COMPONENT, asked, PLAIN)
        allowed = {
            (kind, str(attributes["path"])): answer.allowed
            for (kind, attributes), answer in zip(asked, answers, strict=True)
        }
        text = policy.to_cedar()
        for _ in range(25):
            kind = READ if source.random() < 0.8 else WRITE
            capability = Capability(kind, random_path_pattern(source))
            (verdict,) = policy.decide(COMPONENT, CapabilitySet([capability]), PLAIN).verdicts
            seen[verdict.outcome] += 1
            kinds = (READ,) if kind is READ else (WRITE, READ)
            members = [path for path in PATHS if capability.matches(path)]
            masks = [PathPattern.parse(mask.pattern) for mask in verdict.masks]
            told = (text, str(capability), verdict)
            if verdict.outcome is Outcome.DENIED:
                assert verdict.witness is not None, told
                assert capability.matches(verdict.witness), told
                question = [(one, {"path": verdict.witness}) for one in kinds]
                denied = policy._engine.ask(COMPONENT, question, PLAIN)
                assert not all(answer.allowed for answer in denied), told
                continue
            for path in members:
                masked = any(mask.matches(path) for mask in masks)
                assert all(allowed[one, path] for one in kinds) is not masked, (path, *told)
            if verdict.outcome is Outcome.MASKED:
                assert verdict.witness is not None and masks, told
                assert all(capability.pattern.contains(mask) for mask in masks), told
    print(seen)
    assert min(seen.values()) > 20, seen


# --- the search itself, against a library's automata --------------------------------------

_ANY = r"[ab./c]"
# Without the root: no pattern here is for it, `/*` neither.
_UNIVERSE = r"(/([abc][abc.]*|\.[abc][abc.]*|\.\.[abc.]+))+"


@cache
def machine(regex: str) -> Fsm:
    """The automaton of a regular expression over five letters."""
    return parse(regex).to_fsm().reduce()


def _plain(text: str) -> str:
    return "".join("\\." if c == "." else c for c in text)


def regex_of_pattern(pattern: str) -> str:
    deep = pattern.endswith("/**")
    segments = pattern[1:].split("/")[: -1 if deep else None]
    body = "".join(
        "/" + "".join({"*": "[abc.]*", "?": "[abc.]"}.get(c, _plain(c)) for c in segment)
        for segment in segments
    )
    return body + f"/{_ANY}+" * deep


def regex_of_test(test: Test) -> str:
    parts = test.value if isinstance(test.value, tuple) else (str(test.value),)
    return "".join(f"{_ANY}*" if part is None else _plain(part) for part in parts)


def automaton(condition: Condition) -> Fsm:
    """The automaton of a condition, by the library's own operations."""
    if isinstance(condition, Test):
        return machine(regex_of_test(condition))
    if isinstance(condition, Not):
        return machine(f"{_ANY}*") - automaton(condition.part)
    assert isinstance(condition, AllOf | AnyOf)
    first, *rest = [automaton(part) for part in condition.parts]
    for other in rest:
        first = first & other if isinstance(condition, AllOf) else first | other
    return first


@pytest.mark.parametrize("seed", seeds(2), ids=lambda seed: f"seed-{seed}")
def test_the_search_agrees_with_a_library(seed: int) -> None:
    """800 questions each: is there a path of a request that meets a condition?"""
    print(f"seed {seed}")
    source = random.Random(seed)
    pool = [random_like(source) for _ in range(40)]
    requests = [random_path_pattern(source) for _ in range(40)]
    found_some = found_none = 0
    universe = machine(_UNIVERSE)
    languages = {one: machine(regex_of_pattern(one)) & universe for one in requests}
    for _ in range(800):
        first, second = source.choice(pool), source.choice(pool)
        joined = source.choice((all_of, any_of))((first, second))
        roll = source.random()
        condition: Condition = joined
        if roll < 0.3:
            condition = negate(joined)
        elif roll < 0.6:
            condition = all_of((first, negate(second)))
        elif roll < 0.8:
            condition = any_of((negate(first), second))
        asked = source.choice(requests)
        if isinstance(condition, bool):
            continue
        word = find(READ, PathPattern.parse(asked), condition)
        reference = languages[asked] & automaton(condition)
        assert (word is None) is reference.empty(), (asked, condition, word)
        if word is None:
            found_none += 1
            continue
        found_some += 1
        assert PathPattern.parse(asked).matches(word)
        assert evaluate(condition, lambda test, path=word: test.holds(path))  # type: ignore[misc]
        shortest = next(iter(reference.strings([]))) if len(word) < 6 else None
        assert shortest is None or len(shortest) == len(word)
    assert found_some > 50 and found_none > 50, (found_some, found_none)


# --- hosts, secrets, sizes and names, against enumeration ---------------------------------

HOSTS = ("a", "b.a", "c.b.a", "x.b.a", "b.c", "a.c", "127.0.0.1", "[::1]", "com")
HOST_TESTS = ("*", "*.a", "*.b.a", "b.a", "a", "*.c", "127.0.0.1", "[::1]")
PORTS = (1, 2, 79, 80, 81, 443, 444, 8000, 8001, 65534, 65535)


def _host_test(source: random.Random) -> Test:
    host = source.choice(HOST_TESTS)
    if host == "*":
        return Test("resource", "host", "like", (None,))
    if host.startswith("*"):
        return Test("resource", "host", "like", (None, host[1:]))
    return Test("resource", "host", "==", host)


def _port_test(source: random.Random) -> Test:
    operator = source.choice(("==", "<", "<=", ">", ">="))
    return Test("resource", "port", operator, source.choice((80, 443, 8000, 0, 65535)))


def _random_endpoint_condition(source: random.Random, depth: int = 2) -> Condition:
    roll = source.random()
    if depth == 0 or roll < 0.5:
        return _host_test(source) if source.random() < 0.6 else _port_test(source)
    if roll < 0.65:
        return negate(_random_endpoint_condition(source, depth - 1))
    parts = [_random_endpoint_condition(source, depth - 1) for _ in range(2)]
    return (all_of if roll < 0.85 else any_of)(parts)


@pytest.mark.parametrize("seed", seeds(1), ids=lambda seed: f"seed-{seed}")
def test_decisions_about_endpoints_agree_with_cedar(seed: int) -> None:
    print(f"seed {seed}")
    source = random.Random(seed)
    kind = CapabilityType.NETWORK_CONNECT
    endpoints = [f"{host}:{port}" for host in HOSTS for port in PORTS]
    seen = {True: 0, False: 0}
    for _ in range(200):
        entries: list[Entry] = [
            (
                "permit" if i == 0 or source.random() < 0.6 else "forbid",
                kind,
                condition,
            )
            for i in range(source.randint(1, 4))
            if not isinstance(condition := _random_endpoint_condition(source), bool)
        ]
        policy = of_entries(*entries)
        asked = [(kind, attributes_of(kind, endpoint)) for endpoint in endpoints]
        answers = policy._engine.ask(COMPONENT, asked, PLAIN)
        allowed = dict(zip(endpoints, (answer.allowed for answer in answers), strict=True))
        for _ in range(10):
            ports = source.choice(("80", "443", "1-80", "81-8000", "443-444", "*"))
            capability = Capability(kind, f"{source.choice(HOST_TESTS)}:{ports}")
            (verdict,) = policy.decide(COMPONENT, CapabilitySet([capability]), PLAIN).verdicts
            granted = verdict.outcome is Outcome.GRANTED
            seen[granted] += 1
            if granted:
                members = [one for one in endpoints if capability.matches(one)]
                assert all(allowed[one] for one in members), (policy.to_cedar(), str(capability))
            else:
                assert verdict.witness is not None and capability.matches(verdict.witness)
                question = [(kind, attributes_of(kind, verdict.witness))]
                (answer,) = policy._engine.ask(COMPONENT, question, PLAIN)
                assert not answer.allowed
    assert min(seen.values()) > 50, seen


def _number(source: random.Random, limit: int) -> Test:
    operator = source.choice(("==", "<", "<=", ">", ">="))
    return Test("resource", "bytes", operator, source.randint(0, limit))


@pytest.mark.parametrize("seed", seeds(1), ids=lambda seed: f"seed-{seed}")
def test_sizes_are_decided_as_by_counting(seed: int) -> None:
    print(f"seed {seed}")
    source = random.Random(seed)
    for _ in range(1000):
        parts = [_number(source, 12) for _ in range(3)]
        condition = all_of((any_of(parts[:2]), negate(parts[2])))
        capability = Capability(CapabilityType.MEMORY, f"{source.randint(1, 14)}B")
        most = int(capability.resource.removesuffix("B"))
        holds = [
            n
            for n in range(1, most + 1)
            if evaluate(condition, lambda test, n=n: test.holds(n))  # type: ignore[misc]
        ]
        word = find(capability.type, capability.pattern, condition)
        assert (word is None) is (not holds), (condition, most)
        assert word is None or int(word.removesuffix("B")) == max(holds)


def _secret_condition(source: random.Random) -> Condition:
    parts: list[Condition] = [Test("resource", "name", "==", source.choice(("A", "B")))]
    if source.random() < 0.7:
        hosted: Condition = _host_test(source)
        if source.random() < 0.3:
            hosted = Test("resource", "host", "==", "")
        parts.append(negate(hosted) if source.random() < 0.3 else hosted)
    return all_of(parts) if source.random() < 0.8 else any_of(parts)


@pytest.mark.parametrize("seed", seeds(1), ids=lambda seed: f"seed-{seed}")
def test_decisions_about_secrets_agree_with_cedar(seed: int) -> None:
    print(f"seed {seed}")
    source = random.Random(seed)
    kind = CapabilityType.SECRET_ACCESS
    uses = [name + host for name in "AB" for host in ("", *(f"@{host}" for host in HOSTS))]
    seen = {True: 0, False: 0}
    for _ in range(200):
        policy = of_entries(
            ("permit", kind, _secret_condition(source)),
            ("permit", kind, _secret_condition(source)),
            ("forbid", kind, all_of((_secret_condition(source), _secret_condition(source))) or True)
            if source.random() < 0.5
            else ("permit", kind, _secret_condition(source)),
        )
        asked = [(kind, attributes_of(kind, use)) for use in uses]
        answers = policy._engine.ask(COMPONENT, asked, PLAIN)
        allowed = dict(zip(uses, (answer.allowed for answer in answers), strict=True))
        for _ in range(5):
            host = source.choice(("", *(f"@{one}" for one in HOST_TESTS)))
            capability = Capability(kind, source.choice("AB") + host)
            (verdict,) = policy.decide(COMPONENT, CapabilitySet([capability]), PLAIN).verdicts
            granted = verdict.outcome is Outcome.GRANTED
            seen[granted] += 1
            members = [use for use in uses if capability.matches(use)]
            if granted:
                assert all(allowed[use] for use in members), (policy.to_cedar(), str(capability))
            else:
                assert verdict.witness is not None and capability.matches(verdict.witness)
                question = [(kind, attributes_of(kind, verdict.witness))]
                assert not policy._engine.ask(COMPONENT, question, PLAIN)[0].allowed
    assert min(seen.values()) > 20, seen
