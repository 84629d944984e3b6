"""Pattern decisions against Cedar's own, and the search against a library's automata.

Other seeds each time, told at the end of the run. Two variables change that:

* ``OMNIBASE_FUZZ_SEED=N`` runs each test with one seed, the number after its name.
* ``OMNIBASE_FUZZ_TIMES=N`` runs N times as many seeds.

Cases in an ordinary run: 20 000 decisions about paths and 4500 about other resources
against Cedar, 20 000 searches against automata of `greenery`, and 1000 by counting.
"""

from __future__ import annotations

import os
import random
from collections import Counter, deque
from collections.abc import Callable
from functools import cache

import pytest
from greenery import parse
from greenery.fsm import Fsm

from omnibase.core.security.capabilities import Capability, CapabilitySet
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
from omnibase.core.security.containment import find
from omnibase.core.security.decision import Outcome, Verdict
from omnibase.core.security.path_patterns import PathPattern
from omnibase.core.security.policy import Policy
from tests.helpers.policies import (
    COMPONENT,
    PLAIN,
    Entry,
    of_entries,
    random_like,
    random_path_pattern,
)
from tests.property.policy_cases import (
    ENDPOINTS,
    FILES,
    MEMORY,
    NAMED,
    READ,
    SECRETS,
    Family,
    beyond_masks,
    cedar_allows,
)

Tried = Callable[[], None]


# Processes that share a run of the tests collect the same ones.
_SEEDS = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID"))


def seeds(count: int) -> pytest.MarkDecorator:
    """Runs a test with that many seeds, see above."""
    again = os.environ.get("OMNIBASE_FUZZ_SEED")
    times = int(os.environ.get("OMNIBASE_FUZZ_TIMES", "1"))
    found = [int(again)] if again else [_SEEDS.getrandbits(32) for _ in range(count * times)]
    return pytest.mark.parametrize("seed", found, ids=lambda seed: f"seed-{seed}")


def random_policy(source: random.Random, family: Family) -> Policy:
    """Returns a policy that permits something more often than not."""
    entries: list[Entry] = []
    for _ in range(source.randint(1, 5)):
        effect = "permit" if not entries or source.random() < 0.5 else "forbid"
        condition: Condition = True
        while isinstance(condition, bool):
            condition = family.condition(source)
        entries.append((effect, source.choice(family.kinds), condition))
    if source.random() < 0.5:  # something has to be granted, too
        entries.append(("permit", family.kinds[0], family.everything))
    return of_entries(*entries)


def agree(
    source: random.Random, family: Family, tried: Tried, *, policies: int, requests: int
) -> Counter[Outcome]:
    """Decides by random policies; every answer must be Cedar's. Returns how often each came."""
    seen: Counter[Outcome] = Counter()
    for _ in range(policies):
        policy = random_policy(source, family)
        # Each resource of the universe, by Cedar alone.
        allowed = {
            kind: dict(
                zip(
                    family.universe,
                    cedar_allows(policy, kind, family.universe, PLAIN),
                    strict=True,
                )
            )
            for kind in set(family.kinds)
        }
        for _ in range(requests):
            asked = Capability(source.choice(family.kinds), family.resource(source))
            (verdict,) = policy.decide(COMPONENT, CapabilitySet([asked]), PLAIN).verdicts
            told = (str(asked), verdict, policy.to_cedar())
            seen[verdict.outcome] += 1
            tried()
            members = beyond_masks(verdict, family.universe)
            assert all(allowed[asked.type][one] for one in members), told
            if verdict.outcome is not Outcome.GRANTED:
                assert verdict.witness is not None and asked.matches(verdict.witness), told
                assert cedar_allows(policy, asked.type, [verdict.witness], PLAIN) == [False], told
            if verdict.outcome is Outcome.MASKED:
                check_masks(verdict, allowed[asked.type], told)
    return seen


def check_masks(verdict: Verdict, allowed: dict[str, bool], told: object) -> None:
    """A mask is within the request, and takes away what Cedar denies and nothing else."""
    for mask in verdict.masks:
        pattern = PathPattern.parse(mask.pattern)
        assert verdict.capability.pattern.contains(pattern), told  # type: ignore[arg-type]
        assert not any(now for path, now in allowed.items() if pattern.matches(path)), told


@seeds(4)
def test_decisions_about_paths_agree_with_cedar(seed: int, tried: Tried) -> None:
    seen = agree(random.Random(seed), FILES, tried, policies=200, requests=25)
    assert all(seen[outcome] > 20 for outcome in Outcome), seen


@seeds(1)
@pytest.mark.parametrize("family", [NAMED, ENDPOINTS, SECRETS], ids=["names", "hosts", "secrets"])
def test_other_decisions_agree_with_cedar(seed: int, family: Family, tried: Tried) -> None:
    seen = agree(random.Random(seed), family, tried, policies=150, requests=10)
    assert min(seen[Outcome.GRANTED], seen[Outcome.DENIED]) > 50, seen
    assert not seen[Outcome.MASKED]


# --- the search itself, against a library's automata --------------------------------------

_LETTERS = "ab./c"
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


Table = tuple[int, frozenset[int], dict[int, list[int]]]


def table(fsm: Fsm) -> Table:
    """Returns where an automaton begins, where it ends, and where each letter leads to."""
    moves = {
        state: [next(to for on, to in row.items() if on.accepts(c)) for c in _LETTERS]
        for state, row in fsm.map.items()
    }
    return int(fsm.initial), frozenset(map(int, fsm.finals)), moves  # type: ignore[arg-type]


def shortest(one: Table, other: Table) -> int | None:
    """Returns the length of the shortest text that both have, or ``None``."""
    start = (one[0], other[0])
    queue, known = deque([(start, 0)]), {start}
    while queue:
        (a, b), length = queue.popleft()
        if a in one[1] and b in other[1]:
            return length
        for pair in zip(one[2][a], other[2][b], strict=True):
            if pair not in known:
                known.add(pair)
                queue.append((pair, length + 1))
    return None


def random_question(source: random.Random) -> Condition:
    """Returns two comparisons, joined and negated."""
    first, second = random_like(source), random_like(source)
    joined = source.choice((all_of, any_of))((first, second))
    return source.choice(
        (joined, negate(joined), all_of((first, negate(second))), any_of((negate(first), second)))
    )


@seeds(4)
def test_the_search_agrees_with_a_library(seed: int, tried: Tried) -> None:
    """5000 questions each: what is the shortest path of a request that meets a condition?"""
    source = random.Random(seed)
    universe = machine(_UNIVERSE)
    texts = [random_path_pattern(source) for _ in range(40)]
    requests = [(one, table(machine(regex_of_pattern(one)) & universe)) for one in texts]
    found: Counter[bool] = Counter()
    for _ in range(125):
        condition: Condition = True
        while isinstance(condition, bool):
            condition = random_question(source)
        meets = table(automaton(condition))
        for text, language in requests:
            tried()
            asked = PathPattern.parse(text)
            word = find(READ, asked, condition)
            expected = shortest(language, meets)
            assert (len(word) if word else None) == expected, (text, condition, word)
            found[word is None] += 1
            if word is not None:
                assert asked.matches(word)
                assert evaluate(condition, lambda test, path=word: test.holds(path))  # type: ignore[misc]
    assert min(found[True], found[False]) > 100, found


# --- sizes, by counting --------------------------------------------------------------------


def _number(source: random.Random, limit: int) -> Test:
    operator = source.choice(("==", "<", "<=", ">", ">="))
    return Test("resource", "bytes", operator, source.randint(0, limit))


@seeds(1)
def test_sizes_are_decided_as_by_counting(seed: int, tried: Tried) -> None:
    source = random.Random(seed)
    for _ in range(1000):
        tried()
        parts = [_number(source, 12) for _ in range(3)]
        condition = all_of((any_of(parts[:2]), negate(parts[2])))
        capability = Capability(MEMORY, f"{source.randint(1, 14)}B")
        most = int(capability.resource.removesuffix("B"))
        holds = [
            n
            for n in range(1, most + 1)
            if evaluate(condition, lambda test, n=n: test.holds(n))  # type: ignore[misc]
        ]
        word = find(capability.type, capability.pattern, condition)
        assert (word is None) is (not holds), (condition, most)
        assert word is None or int(word.removesuffix("B")) == max(holds)
