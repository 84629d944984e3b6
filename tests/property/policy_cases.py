"""Random policies with requests for them, of every kind of resource, and Cedar without us.

Everything is drawn from few letters, hosts and numbers, so that what is drawn meets.
Each family has a *universe*: concrete resources that a claim about a pattern is tried on.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any
from uuid import UUID

import cedarpy
from hypothesis import strategies as st

from omnibase.core.security.capabilities import Capability, CapabilityType
from omnibase.core.security.conditions import Condition, Test, all_of, any_of, negate
from omnibase.core.security.decision import Outcome, PolicyContext, Verdict
from omnibase.core.security.path_patterns import PathPattern
from omnibase.core.security.policy import Policy
from tests.helpers.policies import (
    COMPONENT,
    Entry,
    of_entries,
    random_condition,
    random_path,
    random_path_pattern,
)

READ, WRITE = CapabilityType.FILE_READ, CapabilityType.FILE_WRITE
CONNECT, SECRET = CapabilityType.NETWORK_CONNECT, CapabilityType.SECRET_ACCESS
MEMORY = CapabilityType.MEMORY


@dataclass(frozen=True, kw_only=True)
class Family:
    """Resources of one kind.

    Attributes:
        kinds: The capability types that have them.
        everything: A condition that all of them meet.
        universe: Some of them, as a capability would name them.
        condition: Draws a condition.
        resource: Draws what is asked for.
    """

    kinds: tuple[CapabilityType, ...]
    everything: Test
    universe: tuple[str, ...]
    condition: Callable[[random.Random], Condition]
    resource: Callable[[random.Random], str]


def _mixed(
    test: Callable[[random.Random], Condition],
) -> Callable[[random.Random], Condition]:
    """Joins and negates what draws single tests."""

    def draw(source: random.Random, depth: int = 2) -> Condition:
        roll = source.random()
        if depth == 0 or roll < 0.5:
            return test(source)
        if roll < 0.65:
            return negate(draw(source, depth - 1))
        parts = [draw(source, depth - 1) for _ in range(2)]
        return (all_of if roll < 0.85 else any_of)(parts)

    return draw


# --- files ---------------------------------------------------------------------------------

_NAMES = ("a", "b", "ab", "ba", ".a", "a.b", "aa", "c", "bab")
PATHS = (
    "/",
    *("/" + "/".join(names) for n in (1, 2) for names in product(_NAMES, repeat=n)),
    *("/" + "/".join(names) for names in product(("a", "b", "ab"), repeat=3)),
)

FILES = Family(
    kinds=(READ, READ, WRITE),
    everything=Test("resource", "path", "like", ("/", None)),
    universe=PATHS,
    condition=random_condition,
    resource=lambda source: (random_path if source.random() < 0.3 else random_path_pattern)(source),
)

# --- names ---------------------------------------------------------------------------------

_WORDS = ("a", "b", "ab", "a.b", "aa", "ba")
NAMES = (*_WORDS, *map("/".join, product(_WORDS, repeat=2)), "a/", "/a", "a//b", "a/b/a", "b/a/b")


def _name_test(source: random.Random) -> Test:
    if source.random() < 0.3:
        return Test("resource", "name", "==", source.choice(NAMES))
    parts: list[str | None] = [source.choice(("a", "b", "/", "ab")), None]
    parts += [source.choice(("a", "b", "/", ".b")), None] if source.random() < 0.5 else []
    parts += [source.choice(("a", "b", "/b"))] if source.random() < 0.4 else []
    return Test("resource", "name", "like", tuple(parts[source.random() < 0.4 :]))


NAMED = Family(
    kinds=(CapabilityType.ARTIFACT_READ, CapabilityType.ARTIFACT_WRITE),
    everything=Test("resource", "name", "like", (None,)),
    universe=NAMES,
    condition=_mixed(_name_test),
    resource=lambda source: source.choice(
        ("*", "a*", "*b", "?", "*/*", "a/*", "*/b", "a?*", "*/*/*", "a", "ab", "a/b", "*.b", "a/?b")
    ),
)

# --- endpoints -----------------------------------------------------------------------------

HOSTS = ("a", "b.a", "c.b.a", "x.b.a", "b.c", "a.c", "127.0.0.1", "[::1]", "com")
HOST_TESTS = ("*", "*.a", "*.b.a", "b.a", "a", "*.c", "127.0.0.1", "[::1]")
PORTS = (1, 2, 79, 80, 81, 443, 444, 8000, 8001, 65534, 65535)


def host_test(source: random.Random) -> Test:
    """Draws a comparison of a host."""
    host = source.choice(HOST_TESTS)
    if host == "*":
        return Test("resource", "host", "like", (None,))
    if host.startswith("*"):
        return Test("resource", "host", "like", (None, host[1:]))
    return Test("resource", "host", "==", host)


def _number_test(attribute: str, numbers: tuple[int, ...]) -> Callable[[random.Random], Test]:
    return lambda source: Test(
        "resource", attribute, source.choice(("==", "<", "<=", ">", ">=")), source.choice(numbers)
    )


_port_test = _number_test("port", (80, 443, 8000, 0, 65535))

ENDPOINTS = Family(
    kinds=(CONNECT,),
    everything=Test("resource", "host", "like", (None,)),
    universe=tuple(f"{host}:{port}" for host in HOSTS for port in PORTS),
    condition=_mixed(lambda s: host_test(s) if s.random() < 0.6 else _port_test(s)),
    resource=lambda source: (
        f"{source.choice(HOST_TESTS)}:"
        + source.choice(("80", "443", "1-80", "81-8000", "443-444", "*"))
    ),
)

# --- secrets and sizes ---------------------------------------------------------------------


def _secret_test(source: random.Random) -> Condition:
    if source.random() < 0.5:
        return Test("resource", "name", "==", source.choice("AB"))
    none = Test("resource", "host", "==", "")
    return none if source.random() < 0.2 else host_test(source)


SECRETS = Family(
    kinds=(SECRET,),
    everything=Test("resource", "name", "==", "A"),
    universe=tuple(name + host for name in "AB" for host in ("", *(f"@{h}" for h in HOSTS))),
    condition=_mixed(_secret_test),
    resource=lambda source: (
        source.choice("AB") + source.choice(("", *(f"@{host}" for host in HOST_TESTS)))
    ),
)

SIZES = Family(
    kinds=(MEMORY,),
    everything=Test("resource", "bytes", "<=", 1 << 30),
    universe=tuple(f"{number}B" for number in range(1, 17)),
    condition=_mixed(_number_test("bytes", tuple(range(15)))),
    resource=lambda source: f"{source.randint(1, 14)}B",
)

# --- databases -----------------------------------------------------------------------------

DATABASES_NAMED = tuple(
    [f"sqlite:/{path}" for path in ("a", "b", "a/b", "b/a", "a.db")]
    + [f"postgres://{role}@{host}:5432/a" for role in "ab" for host in ("a", "b.a")]
)


def _database_test(source: random.Random) -> Test:
    if source.random() < 0.3:
        return Test("resource", "name", "==", source.choice(DATABASES_NAMED))
    begin = source.choice(("sqlite:/", "sqlite:/a", "postgres://", "postgres://a@", "s"))
    end: tuple[str, ...] = source.choice(((), (":5432/a",), ("b",)))
    return Test("resource", "name", "like", (begin, None, *end))


DATABASES = Family(
    kinds=(CapabilityType.DATABASE_READ, CapabilityType.DATABASE_WRITE),
    everything=Test("resource", "name", "like", (None,)),
    universe=DATABASES_NAMED,
    condition=_mixed(_database_test),
    resource=lambda source: source.choice(DATABASES_NAMED),
)

FAMILIES = (FILES, NAMED, ENDPOINTS, SECRETS, SIZES, DATABASES)
MIXED = (FILES, FILES, FILES, *FAMILIES)
"""Files, which alone have masks, come more often."""


# --- cases ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Case:
    """A policy and what is asked of it.

    Attributes:
        entries: The policies.
        replaced: Others, for what compares two documents.
        more: One condition more.
        asked: What is requested.
        part: A capability that lies within it.
        others: Further requests.
        context: Where it happens.
        seed: Of `source`.
        family: What all of this is about.
    """

    entries: tuple[Entry, ...]
    replaced: tuple[Entry, ...]
    more: Condition
    asked: Capability
    part: Capability
    others: tuple[Capability, ...]
    context: PolicyContext
    seed: int
    family: Family

    @property
    def policy(self) -> Policy:
        """The policy."""
        return of_entries(*self.entries)

    @property
    def source(self) -> random.Random:
        """For what a test draws itself."""
        return random.Random(self.seed)

    @property
    def kinds(self) -> tuple[CapabilityType, ...]:
        """Each of the family's types once."""
        return tuple(dict.fromkeys(self.family.kinds))

    def __repr__(self) -> str:
        return (
            f"Case({str(self.asked)!r}, part={str(self.part)!r}, "
            f"others={[str(one) for one in self.others]}, {self.context}, more={self.more!r}, "
            f"seed={self.seed}, policy:\n{self.policy.to_cedar()})"
        )


def _condition(source: random.Random, family: Family) -> Condition:
    condition: Condition = True
    while isinstance(condition, bool):  # `x || !x` has folded
        condition = family.condition(source)
    if source.random() < 0.25:
        trust = Test("context", "trust", "==", source.choice(("trusted", "untrusted")))
        join = all_of if source.random() < 0.7 else any_of
        return join((condition, trust if source.random() < 0.7 else negate(trust)))
    return condition


def _entries(source: random.Random, family: Family, most: int) -> tuple[Entry, ...]:
    found: list[Entry] = []
    if source.random() < 0.5:  # something has to be granted, too
        found.append(("permit", family.kinds[0], family.everything))
        if source.random() < 0.5:
            found.append(("permit", family.kinds[-1], family.everything))
    for _ in range(source.randint(0, most)):
        # What is about other resources must not matter.
        about = family if source.random() < 0.9 else source.choice(FAMILIES)
        effect = source.choice(("permit", "forbid"))
        found.append((effect, source.choice(about.kinds), _condition(source, about)))
    return tuple(found)


def _with_masks(source: random.Random, family: Family) -> tuple[Capability, tuple[Entry, ...]]:
    """Draws a tree, and policies that leave out parts of it which can be mounted over."""
    top = source.choice(("", "/a", "/b", "/ab"))
    found: list[Entry] = [("permit", kind, family.everything) for kind in (READ, WRITE)]
    kinds = source.choice(((READ,), (WRITE,), (READ, WRITE)))
    for _ in range(source.randint(1, 3)):
        below = source.choice((top, top, random_path(source))) + random_path(source)
        tree = source.random() < 0.6
        test = Test("resource", "path", "like", (below + "/", None))
        one = test if tree else Test("resource", "path", "==", below)
        found.append(("forbid", source.choice(kinds), one))
    return Capability(source.choice((READ, WRITE)), top + "/**"), tuple(found)


def _part(source: random.Random, family: Family, whole: Capability) -> Capability:
    members = [one for one in family.universe if whole.matches(one)]
    if members and source.random() < 0.3:
        return Capability(whole.type, source.choice(members))
    for _ in range(20):
        found = Capability(source.choice(family.kinds), family.resource(source))
        if whole.covers(found):
            return found
    return Capability(whole.type, source.choice(members)) if members else whole


def drawn(seed: int, families: tuple[Family, ...] = FAMILIES, most: int = 4) -> Case:
    """Returns the case of a number."""
    source = random.Random(seed)
    family = source.choice(families)
    others = [
        Capability(source.choice(family.kinds), family.resource(source))
        for _ in range(source.randint(0, 3))
    ]
    if family is FILES and source.random() < 0.35:
        asked, entries = _with_masks(source, family)
        if source.random() < 0.5:  # to read what may be left out for writing
            others.append(Capability(READ, asked.resource))
    else:
        asked = Capability(source.choice(family.kinds), family.resource(source))
        entries = _entries(source, family, most)
    return Case(
        entries=entries,
        replaced=_entries(source, family, most),
        more=_condition(source, family),
        asked=asked,
        part=_part(source, family, asked),
        others=tuple(others),
        context=PolicyContext(trust=source.choice(("untrusted", "trusted"))),
        seed=source.getrandbits(32),
        family=family,
    )


def cases(families: tuple[Family, ...] = FAMILIES, most: int = 4) -> st.SearchStrategy[Case]:
    """Draws cases; a family twice makes it twice as likely."""
    return st.integers(0, (1 << 32) - 1).map(lambda seed: drawn(seed, families, most))


# --- Cedar, without our wrapper ------------------------------------------------------------

_ENTITIES = {kind: kind.value.title().replace("_", "") for kind in CapabilityType}


def needed(kind: CapabilityType) -> tuple[CapabilityType, ...]:
    """Returns what must be permitted for a use: who writes can read."""
    return (WRITE, READ) if kind is WRITE else (kind,)


def _attributes(kind: CapabilityType, concrete: str) -> dict[str, str | int]:
    if kind in (READ, WRITE):
        return {"path": concrete}
    if kind is CONNECT:
        host, _, port = concrete.rpartition(":")
        return {"host": host, "port": int(port)}
    if kind is SECRET:
        name, _, host = concrete.partition("@")
        return {"name": name, "host": host}
    if kind is MEMORY:
        number = concrete.rstrip("KMGiB")
        units = ("B", "KiB", "MiB", "GiB").index(concrete[len(number) :])
        return {"bytes": int(number) << 10 * units}
    return {"name": concrete}


@lru_cache(maxsize=64)
def _policy_set(text: str) -> Any:
    return cedarpy.PolicySet.from_json_str(text)


def cedar_allows(
    policy: Policy,
    kind: CapabilityType,
    resources: Iterable[str],
    context: PolicyContext,
    principal: UUID = COMPONENT,
) -> list[bool]:
    """Returns what Cedar itself says to each use; there must be no errors."""
    questions = [(one, concrete) for concrete in resources for one in needed(kind)]
    named = [
        ({"type": _ENTITIES[one], "id": str(i)}, _attributes(one, concrete))
        for i, (one, concrete) in enumerate(questions)
    ]
    asked = [
        {
            "principal": {"type": "Component", "id": str(principal)},
            "action": {"type": "Action", "id": "use"},
            "resource": uid,
            "context": context.to_dict(),
        }
        for uid, _ in named
    ]
    entities = [{"uid": uid, "attrs": attributes, "parents": []} for uid, attributes in named]
    found = cedarpy.is_authorized_batch(asked, _policy_set(json.dumps(policy.document)), entities)
    assert not any(one.diagnostics.errors for one in found)
    step = len(needed(kind))
    allowed = [one.allowed for one in found]
    return [all(allowed[i : i + step]) for i in range(0, len(allowed), step)]


def beyond_masks(verdict: Verdict, resources: Iterable[str]) -> list[str]:
    """Returns the members of a capability that no mask covers; of a denied one there are none."""
    if verdict.outcome is Outcome.DENIED:
        return []
    masks = [PathPattern.parse(mask.pattern) for mask in verdict.masks]
    return [
        one
        for one in resources
        if verdict.capability.matches(one) and not any(mask.matches(one) for mask in masks)
    ]
