"""Laws of decisions, and that breaking one of the two safety rules is noticed."""

from __future__ import annotations

import json
import random
from itertools import product
from typing import Any

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox.compile import compile_spec
from omnibase.core.sandbox.image import Image
from omnibase.core.sandbox.spec import Mask
from omnibase.core.security import deciding, engine
from omnibase.core.security import policy as policy_module
from omnibase.core.security.capabilities import Capability, CapabilitySet, CapabilityType
from omnibase.core.security.conditions import Condition, Test, negate
from omnibase.core.security.decision import Outcome, Verdict
from omnibase.core.security.grants import effective_grants
from omnibase.core.security.path_patterns import PathPattern
from omnibase.core.security.policy import Policy
from omnibase.core.security.policy_diff import diff
from omnibase.core.security.policy_explain import explain
from omnibase.core.security.policy_lint import lint
from tests.helpers.policies import (
    COMPONENT,
    PLAIN,
    Entry,
    document,
    of_entries,
    random_condition,
    random_path,
    random_path_pattern,
)

FAST = settings(max_examples=120, deadline=None)
READ, WRITE = CapabilityType.FILE_READ, CapabilityType.FILE_WRITE
RANK = {Outcome.DENIED: 0, Outcome.MASKED: 1, Outcome.GRANTED: 2}


@st.composite
def entries(draw: st.DrawFn, most: int = 4) -> list[Entry]:
    source = random.Random(draw(st.integers(0, 1 << 32)))
    found: list[Entry] = [("permit", READ, Test("resource", "path", "like", ("/", None)))]
    found = found if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, most))):
        effect = draw(st.sampled_from(("permit", "forbid")))
        kind = draw(st.sampled_from((READ, READ, WRITE)))
        found.append((effect, kind, random_condition(source)))
    return found


@st.composite
def requests(draw: st.DrawFn) -> Capability:
    source = random.Random(draw(st.integers(0, 1 << 32)))
    kind = draw(st.sampled_from((READ, READ, WRITE)))
    text = random_path(source) if draw(st.booleans()) else random_path_pattern(source)
    return Capability(kind, text)


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    return random_condition(random.Random(draw(st.integers(0, 1 << 32))))


def decide(policy: Policy, capability: Capability) -> Verdict:
    (found,) = policy.decide(COMPONENT, CapabilitySet((capability,)), PLAIN).verdicts
    return found


def allows_no_more(narrow: Verdict, wide: Verdict) -> bool:
    """Says whether one verdict grants at most what another one does."""
    if narrow.outcome is Outcome.DENIED or wide.outcome is Outcome.GRANTED:
        return True
    if wide.outcome is Outcome.DENIED:
        return False
    inner = [PathPattern.parse(mask.pattern) for mask in narrow.masks]
    return all(
        any(mask.contains(PathPattern.parse(other.pattern)) for mask in inner)
        for other in wide.masks
    )


def test_the_empty_set_denies() -> None:
    for text in ("/", "/a", "/**", "/a/*"):
        assert decide(of_entries(), Capability(READ, text)).outcome is Outcome.DENIED


@FAST
@given(entries(), requests(), conditions())
def test_a_forbid_never_widens(found: list[Entry], asked: Capability, more: Condition) -> None:
    before = decide(of_entries(*found), asked)
    after = decide(of_entries(*found, ("forbid", READ, more)), asked)
    assert allows_no_more(after, before)


@FAST
@given(entries(), requests(), conditions())
def test_a_permit_never_narrows(found: list[Entry], asked: Capability, more: Condition) -> None:
    before = decide(of_entries(*found), asked)
    after = decide(of_entries(*found, ("permit", READ, more)), asked)
    assert allows_no_more(before, after)


@FAST
@given(entries(), requests(), st.randoms())
def test_order_and_duplicates_do_not_matter(
    found: list[Entry], asked: Capability, source: random.Random
) -> None:
    shuffled = [*found, *found[:1]]
    source.shuffle(shuffled)
    one, other = decide(of_entries(*found), asked), decide(of_entries(*shuffled), asked)
    assert one.outcome is other.outcome
    assert [mask.pattern for mask in one.masks] == [mask.pattern for mask in other.masks]


@FAST
@given(entries(), requests(), requests())
def test_a_part_of_what_is_granted_is_granted(
    found: list[Entry], one: Capability, other: Capability
) -> None:
    policy = of_entries(*found)
    for inner, outer in ((one, other), (other, one)):
        if outer.covers(inner):
            assert allows_no_more(decide(policy, outer), decide(policy, inner)) or (
                # A part may lie in a mask, or be no tree that a mask can be in.
                decide(policy, outer).outcome is Outcome.MASKED
            )
            if decide(policy, outer).outcome is Outcome.GRANTED:
                assert decide(policy, inner).outcome is Outcome.GRANTED


@FAST
@given(entries(), requests(), st.integers(0, 1 << 32))
def test_every_answer_holds_on_cedar(found: list[Entry], asked: Capability, seed: int) -> None:
    """The engine is asked anew here, without our wrapper."""
    policy = of_entries(*found)
    verdict = decide(policy, asked)
    whole = cedarpy.PolicySet.from_json_str(json.dumps(policy.document))

    def cedar(path: str) -> bool:
        return all(
            cedarpy.is_authorized(
                {
                    "principal": {"type": "Component", "id": str(COMPONENT)},
                    "action": {"type": "Action", "id": "use"},
                    "resource": {"type": entity, "id": "x"},
                    "context": PLAIN.to_dict(),
                },
                whole,
                [{"uid": {"type": entity, "id": "x"}, "attrs": {"path": path}, "parents": []}],
            ).allowed
            for entity in (["FileWrite", "FileRead"] if asked.type is WRITE else ["FileRead"])
        )

    if verdict.outcome is Outcome.DENIED:
        assert verdict.witness is not None and not cedar(verdict.witness)
        return
    source = random.Random(seed)
    masks = [PathPattern.parse(mask.pattern) for mask in verdict.masks]
    for _ in range(30):
        path = random_path(source)
        if asked.matches(path):
            assert cedar(path) is not any(mask.matches(path) for mask in masks)


@FAST
@given(entries(), requests())
def test_what_is_mounted_is_granted(found: list[Entry], asked: Capability) -> None:
    policy = of_entries(*found)
    if asked.resource == "/**" or set(asked.resource[:-2]) & {"*", "?"}:
        return  # the sandbox refuses these, whoever grants them
    nothing = CapabilitySet()
    granted = effective_grants(
        CapabilitySet((asked,)), nothing, policy, COMPONENT, PLAIN, degrade=True
    )
    assert all(asked.covers(one) for one in granted.granted)
    spec = compile_spec(
        granted.granted,
        ExecutionContext(),
        Image(path="/image", digest="0" * 64, python="/usr/bin/python3", probes=()),
        masks=tuple(Mask(path=mask.path, reason=mask.reason) for mask in granted.masks),
    )
    for file in spec.files:
        pattern = file.path + "/**" if file.kind == "tree" else file.path
        mounted = Capability(WRITE if file.writable else READ, pattern)
        assert granted.granted.covers(mounted)
    covered = {mask.path for mask in spec.masks}
    for verdict in granted.decision.verdicts:
        assert {mask.path for mask in verdict.masks} <= covered


NAMES = ("a", "b", "ab", "ba", ".a", "a.b", "aa")
PATHS = ["/" + "/".join(names) for n in (1, 2, 3) for names in product(NAMES, repeat=n)][:80]


def on_cedar(policy: Policy, kind: CapabilityType, paths: list[str]) -> list[bool]:
    kinds = deciding.needed_types(kind)
    questions = [(one, {"path": path}) for path in paths for one in kinds]
    answers = policy._engine.ask(COMPONENT, questions, PLAIN)
    return [
        all(answer.allowed for answer in answers[i : i + len(kinds)])
        for i in range(0, len(answers), len(kinds))
    ]


@settings(max_examples=60, deadline=None)
@given(entries(3), entries(3))
def test_a_difference_is_told_if_and_only_if_there_is_one(
    before: list[Entry], after: list[Entry]
) -> None:
    old, new = of_entries(*before), of_entries(*after)
    told = diff(old, new, PLAIN)
    for kind in (READ, WRITE):
        changed = {
            (was, now)
            for was, now in zip(on_cedar(old, kind, PATHS), on_cedar(new, kind, PATHS), strict=True)
            if was is not now
        }
        mine = [one for one in told if one.capability.startswith(kind.value)]
        assert not changed or mine
        for was, now in changed:
            assert ("granted" if now else "denied") in {one.change for one in mine}, (was, now)
        for one in mine:
            assert one.witness is not None
            (now,) = on_cedar(new, kind, [one.witness])
            (was,) = on_cedar(old, kind, [one.witness])
            assert (was, now) == (one.change == "denied", one.change == "granted")
            assert Capability.parse(one.capability).matches(one.witness)


@settings(max_examples=60, deadline=None)
@given(entries(5))
def test_what_lint_calls_useless_can_go(found: list[Entry]) -> None:
    policy = of_entries(*found)
    useless = {"OBP004", "OBP005", "OBP006"}
    for finding in lint(policy):
        if finding.code not in useless:
            continue
        gone = int(finding.policy.removeprefix("p"))
        rest = of_entries(*(entry for i, entry in enumerate(found) if i != gone))
        for kind in (READ, WRITE):
            assert on_cedar(policy, kind, PATHS) == on_cedar(rest, kind, PATHS), finding


@FAST
@given(entries(), requests())
def test_an_explanation_flips_the_decision(found: list[Entry], asked: Capability) -> None:
    policy = of_entries(*found)
    explained = explain(policy, COMPONENT, asked, PLAIN)
    assert explained.verdict == decide(policy, asked)
    assert explained.document is not None and explained.changes
    changed = Policy.parse(explained.document, "changed", COMPONENT)
    before, after = explained.verdict.outcome, decide(changed, asked).outcome
    assert (before is Outcome.DENIED) is not (after is Outcome.DENIED)


# --- the checks above would notice ---------------------------------------------------------


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_module, "_decisions", policy_module._Recent(1024))


DATA = Test("resource", "path", "like", ("/data/", None))
SECRET = Test("resource", "path", "like", ("/data/secret/", None))


def deny_overrides_holds() -> bool:
    found = of_entries(("permit", READ, DATA), ("forbid", READ, SECRET))
    one = decide(found, Capability(READ, "/data/secret/x"))
    tree = decide(found, Capability(READ, "/data/**"))
    part = decide(found, Capability(READ, "/data/secret/**"))
    return (one.outcome, tree.outcome, part.outcome) == (
        Outcome.DENIED,
        Outcome.MASKED,
        Outcome.DENIED,
    )


def errors_deny() -> bool:
    whole = json.loads(document([("p0", ("permit", READ, DATA)), ("f", ("forbid", READ, DATA))]))
    test = whole["staticPolicies"]["f"]["conditions"][0]["body"]["like"]
    found = of_entries(("permit", READ, DATA))
    found = Policy(found.principal, found.rules, "0" * 64, found.document, "test")
    test["left"]["."]["attr"] = "nope"
    found._engine._policies = cedarpy.PolicySet.from_json_str(json.dumps(whole))
    asked = [Capability(READ, text) for text in ("/data/x", "/data/**")]
    return all(decide(found, one).outcome is Outcome.DENIED for one in asked)


def test_both_rules_hold(no_memory: None) -> None:
    assert deny_overrides_holds() and errors_deny()


def _any_permit_allows(self: Any, answers: Any) -> Verdict:
    return Verdict(capability=self.capability, outcome=Outcome.GRANTED, message="")


def _no_forbids(self: Any, types: Any) -> Any:
    for kind in types:
        permits = self.permits.get(kind, [])
        nothing = negate(deciding.any_of(condition for _, condition in permits))
        yield deciding._Gap(kind, nothing, [rule for rule, _ in permits])


def test_a_flipped_deny_overrides_is_noticed(
    no_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(deciding.Draft, "_decided_by_cedar", _any_permit_allows)
        assert not deny_overrides_holds()
    monkeypatch.setattr(policy_module, "_decisions", policy_module._Recent(1024))
    monkeypatch.setattr(deciding.Case, "_gaps", _no_forbids)
    assert not deny_overrides_holds()


def test_a_dropped_error_check_is_noticed(no_memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(result: Any) -> engine.Answer:
        return engine.Answer(bool(result.allowed), tuple(result.diagnostics.reasons), ())

    monkeypatch.setattr(engine, "_answer", careless)
    assert not errors_deny()
