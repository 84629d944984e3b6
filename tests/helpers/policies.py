"""Small policies and random ones, for the tests of policies."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from omnibase.core.security.capabilities import CapabilitySet, CapabilityType
from omnibase.core.security.conditions import Condition, Test, all_of, any_of, negate
from omnibase.core.security.decision import PolicyContext, Verdict
from omnibase.core.security.policy import Policy
from omnibase.core.security.policy_schema import ENTITY_OF
from omnibase.core.security.policy_text import new_policy

COMPONENT = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
PLAIN = PolicyContext()

HEAD = f'principal == Component::"{COMPONENT}", action == Action::"use", resource is '


def cedar_of(principal: UUID, texts: Iterable[str]) -> str:
    """Writes out ``@id("x") permit FileRead when {...}`` and the like for a component."""
    head = f'principal == Component::"{principal}", action == Action::"use", resource is '
    whole = []
    for text in texts:
        annotations, effect, rest = _split(text)
        entity, _, clauses = rest.partition(" ")
        whole.append(f"{annotations}{effect}({head}{entity}) {clauses};")
    return "\n".join(whole)


def policy(*texts: str) -> Policy:
    """Reads ``permit FileRead when {...}`` and the like, annotations in front."""
    return Policy.from_cedar(cedar_of(COMPONENT, texts), "test.cedar", COMPONENT)


def _split(text: str) -> tuple[str, str, str]:
    for effect in ("permit ", "forbid "):
        before, found, after = text.partition(effect)
        if found and (not before or before.endswith(" ")):
            return before, effect.strip(), after
    raise AssertionError(text)


def verdict(found: Policy, capability: str, context: PolicyContext = PLAIN) -> Verdict:
    """Decides one capability."""
    request = CapabilitySet.parse([capability])
    (one,) = found.decide(COMPONENT, request, context).verdicts
    return one


Entry = tuple[str, CapabilityType, Condition]


def document(entries: Iterable[tuple[str, Entry]]) -> bytes:
    """Writes a document of policies that are conditions."""
    policies = {
        id: new_policy(effect, str(COMPONENT), ENTITY_OF[kind], condition)
        for id, (effect, kind, condition) in entries
    }
    whole: dict[str, Any] = {"staticPolicies": policies, "templates": {}, "templateLinks": []}
    return json.dumps(whole).encode()


def of_entries(*entries: Entry) -> Policy:
    """Returns a policy of unnamed entries."""
    named = ((f"p{i}", entry) for i, entry in enumerate(entries))
    return Policy.parse(document(named), "test.cedar.json", COMPONENT)


# --- random conditions and requests over few letters, so that they meet ------------------

_SEGMENTS = ("a", "b", "ab", "ba", ".a", "a.b", "aa")


def random_path(source: random.Random) -> str:
    """Returns a short canonical path."""
    return "".join("/" + source.choice(_SEGMENTS) for _ in range(source.randint(1, 3)))


def random_path_pattern(source: random.Random) -> str:
    """Returns a path pattern."""
    wild = ("*", "a*", "*b", "?", "?b", "*a*", "a?*")
    segments = [
        source.choice(wild) if source.random() < 0.35 else source.choice(_SEGMENTS)
        for _ in range(source.randint(0, 2))
    ]
    if source.random() < 0.6 or not segments:
        segments.append("**")
    return "/" + "/".join(segments)


def random_like(source: random.Random) -> Test:
    """Returns a comparison of a path that the parser accepts."""
    if source.random() < 0.3:
        return Test("resource", "path", "==", random_path(source))
    if source.random() < 0.5:
        return Test("resource", "path", "like", (random_path(source) + "/", None))
    parts: list[str | None] = [source.choice(("/", "/a", "/b", "/a/", "/ab/"))]
    for _ in range(source.randint(1, 2)):
        parts += [None, source.choice(("a", "b", "/a", "/b", ".a", "ab"))]
    if source.random() < 0.4:
        parts.append(None)
    return Test("resource", "path", "like", tuple(parts))


def random_condition(source: random.Random, depth: int = 2) -> Condition:
    """Returns a condition of a path; never a constant."""
    roll = source.random()
    if depth == 0 or roll < 0.5:
        return random_like(source)
    if roll < 0.65:
        return negate(random_condition(source, depth - 1))
    parts = [random_condition(source, depth - 1) for _ in range(source.randint(2, 3))]
    return (all_of if roll < 0.85 else any_of)(parts)
