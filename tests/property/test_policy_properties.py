"""The laws of decisions, for every kind of resource; Cedar is asked without our wrapper.

What is claimed, and the test that fails if it is not so (that it does is shown by
`test_policy_mutations.py`, which breaks the engine and runs these very functions):

===========================================  ==============================================
claim                                        test
===========================================  ==============================================
the empty set denies                         `test_the_empty_set_denies`
adding a forbid never widens                 `test_a_forbid_never_widens`
adding a permit never narrows                `test_a_permit_never_narrows`
order and duplicates do not matter           `test_order_and_duplicates_do_not_matter`
errors deny                                  `test_an_error_denies`
A ⊆ B and B granted ⇒ A granted              `test_a_part_of_what_is_granted_is_granted`
every witness replays as denied in cedarpy   `test_every_witness_is_denied_by_cedar`
every member of a grant minus its masks is   `test_every_member_of_a_grant_is_allowed_by_cedar`
allowed by cedarpy
compiled mounts ⊆ grants                     `test_what_is_mounted_is_allowed_by_cedar`
an override never exceeds the policy         `test_an_override_never_exceeds_the_policy`
a policy is for one component                `test_another_component_gets_nothing`
differences, lint and explanations are true  the last three below
pattern code = Cedar, = a slow automaton     `test_policy_fuzz.py`, 20 000 cases of each
each rule is guarded                         `test_policy_mutations.py`
===========================================  ==============================================
"""

from __future__ import annotations

import json
from collections.abc import Callable
from uuid import UUID

import cedarpy
from hypothesis import given, settings

from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox.compile import compile_spec
from omnibase.core.sandbox.image import Image
from omnibase.core.sandbox.spec import FileGrant, Mask
from omnibase.core.security.capabilities import Capability, CapabilitySet
from omnibase.core.security.conditions import Condition
from omnibase.core.security.containment import find
from omnibase.core.security.decision import Decision, Outcome, Verdict
from omnibase.core.security.grants import effective_grants
from omnibase.core.security.path_patterns import PathPattern
from omnibase.core.security.policy import Policy
from omnibase.core.security.policy_diff import diff
from omnibase.core.security.policy_explain import explain
from omnibase.core.security.policy_lint import lint
from tests.helpers.policies import COMPONENT, of_entries
from tests.property.policy_cases import (
    FILES,
    MIXED,
    PATHS,
    WRITE,
    Case,
    beyond_masks,
    cases,
    cedar_allows,
)

NOTHING = CapabilitySet()
Check = Callable[[Case], None]


def law(check: Check) -> Callable[[], None]:
    """Makes a test of a claim about any case; files, which alone have masks, come more often."""
    return settings(max_examples=250, deadline=None)(given(cases(MIXED))(check))


def law_of_files(check: Check) -> Callable[[], None]:
    """Makes a test of a claim about files."""
    return settings(max_examples=250, deadline=None)(given(cases((FILES,)))(check))


def decide(policy: Policy, capability: Capability, case: Case) -> Verdict:
    (found,) = policy.decide(COMPONENT, CapabilitySet((capability,)), case.context).verdicts
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


@law
def test_the_empty_set_denies(case: Case) -> None:
    assert decide(of_entries(), case.asked, case).outcome is Outcome.DENIED
    forbids = [entry for entry in case.entries if entry[0] == "forbid"]
    assert decide(of_entries(*forbids), case.asked, case).outcome is Outcome.DENIED
    asked_nothing = case.policy.decide(COMPONENT, NOTHING, case.context)
    assert (asked_nothing.verdicts, asked_nothing.granted) == ((), NOTHING)


@law
def test_a_forbid_never_widens(case: Case) -> None:
    before = decide(case.policy, case.asked, case)
    for kind in case.kinds:
        after = decide(of_entries(*case.entries, ("forbid", kind, case.more)), case.asked, case)
        assert allows_no_more(after, before)


@law
def test_a_permit_never_narrows(case: Case) -> None:
    """With one exception, which follows from masks being whole subtrees.

    A permit that reaches into what was masked may leave a rest that is no subtree: then
    the tree can no longer be granted as one, though no use of it was taken away.
    """
    before = decide(case.policy, case.asked, case)
    for kind in case.kinds:
        wider = of_entries(*case.entries, ("permit", kind, case.more))
        after = decide(wider, case.asked, case)
        if not allows_no_more(before, after):
            assert (before.outcome, after.outcome) == (Outcome.MASKED, Outcome.DENIED)
            masks = (PathPattern.parse(mask.pattern) for mask in before.masks)
            assert any(find(kind, mask, new_condition(wider, case)) for mask in masks)


def new_condition(wider: Policy, case: Case) -> Condition:
    """What the last policy says in the case's context."""
    found = {rule.id: condition for rule, condition in wider.conditions(case.context)}
    return found.get(f"p{len(case.entries)}", False)


@law
def test_order_and_duplicates_do_not_matter(case: Case) -> None:
    source = case.source
    shuffled = [*case.entries, *(one for one in case.entries if source.random() < 0.5)]
    source.shuffle(shuffled)
    one = decide(case.policy, case.asked, case)
    other = decide(of_entries(*shuffled), case.asked, case)
    assert one.outcome is other.outcome
    assert [mask.pattern for mask in one.masks] == [mask.pattern for mask in other.masks]
    assert (one.witness is None) is (other.witness is None)


def with_an_error(case: Case, effect: str) -> Policy:
    """The policy and one more, which Cedar cannot evaluate; the schema would refuse it."""
    policy = of_entries(*case.entries, (effect, case.asked.type, case.more))
    document = policy.document
    wrong = {".": {"left": {"Var": "resource"}, "attr": "nope"}}
    document["staticPolicies"][f"p{len(case.entries)}"]["conditions"] = [
        {"kind": "when", "body": {"==": {"left": wrong, "right": {"Value": 1}}}}
    ]
    found = Policy(COMPONENT, policy.rules[:-1], f"{effect} {case.seed}", policy.document, "test")
    found._engine._policies = cedarpy.PolicySet.from_json_str(json.dumps(document))
    return found


@law
def test_an_error_denies(case: Case) -> None:
    request = CapabilitySet((case.asked, *case.others))
    for effect in ("permit", "forbid"):
        found = with_an_error(case, effect).decide(COMPONENT, request, case.context)
        assert case.asked not in found.granted
        # Of a use that lacks the right to read, the right to write is not even asked.
        assert found.errors or case.asked.type is WRITE
        assert not found.errors or not found.granted
        assert not found.errors or all("cannot be evaluated" in one.message for one in found.denied)


@law
def test_a_part_of_what_is_granted_is_granted(case: Case) -> None:
    assert case.asked.covers(case.part)
    whole, part = decide(case.policy, case.asked, case), decide(case.policy, case.part, case)
    if whole.outcome is Outcome.GRANTED:
        assert part.outcome is Outcome.GRANTED
    masks = [PathPattern.parse(mask.pattern) for mask in whole.masks]
    if whole.outcome is Outcome.MASKED and not any(
        mask.intersects(case.part.pattern)  # type: ignore[arg-type]
        for mask in masks
    ):
        assert part.outcome is Outcome.GRANTED


@law
def test_every_witness_is_denied_by_cedar(case: Case) -> None:
    for asked in (case.asked, case.part):
        verdict = decide(case.policy, asked, case)
        if verdict.outcome is Outcome.GRANTED:
            assert verdict.witness is None
            continue
        assert verdict.witness is not None and asked.matches(verdict.witness)
        (allowed,) = cedar_allows(case.policy, asked.type, [verdict.witness], case.context)
        assert not allowed


@law
def test_every_member_of_a_grant_is_allowed_by_cedar(case: Case) -> None:
    verdict = decide(case.policy, case.asked, case)
    members = beyond_masks(verdict, case.family.universe)
    assert all(cedar_allows(case.policy, case.asked.type, members, case.context))
    if verdict.outcome is Outcome.MASKED:
        masked = [one for one in PATHS if case.asked.matches(one) and one not in members]
        assert not any(cedar_allows(case.policy, case.asked.type, masked, case.context))


def members_are_allowed(case: Case, decision: Decision) -> None:
    for verdict in decision.verdicts:
        members = beyond_masks(verdict, case.family.universe)
        assert all(cedar_allows(case.policy, verdict.capability.type, members, case.context))


@law
def test_an_override_never_exceeds_the_policy(case: Case) -> None:
    metadata, overrides = CapabilitySet((case.asked,)), CapabilitySet((case.part, *case.others))
    found = effective_grants(
        metadata, overrides, case.policy, COMPONENT, case.context, degrade=True
    )
    assert set(found.granted) <= set(metadata | overrides)
    assert found.granted == found.decision.granted
    members_are_allowed(case, found.decision)
    # It makes no difference who asks.
    asked = metadata | overrides
    assert found == effective_grants(
        NOTHING, asked, case.policy, COMPONENT, case.context, degrade=True
    )
    assert {one.capability for one in found.denied} == set(asked) - set(found.granted)


IMAGE = Image(path="/image", digest="0" * 64, python="/usr/bin/python3", probes=())


def is_mounted(file: FileGrant, path: str) -> bool:
    if file.kind == "tree":
        return path.startswith(file.path + "/")
    return PathPattern.parse(file.path).matches(path)


def mountable(capability: Capability) -> bool:
    """The sandbox refuses the root and a tree below a wildcard, whoever grants them."""
    top = capability.resource.removesuffix("/**")
    return top not in ("", "/") and (top == capability.resource or not {"*", "?"} & set(top))


@law_of_files
def test_what_is_mounted_is_allowed_by_cedar(case: Case) -> None:
    """In the whole spec: a mask covers its path in all mounts, and reading and writing alike."""
    asked = CapabilitySet(one for one in (case.asked, case.part, *case.others) if mountable(one))
    found = effective_grants(asked, NOTHING, case.policy, COMPONENT, case.context, degrade=True)
    spec = compile_spec(
        found.granted,
        ExecutionContext(),
        IMAGE,
        masks=tuple(Mask(path=mask.path, reason=mask.reason) for mask in found.masks),
    )
    covered = [mask.path for mask in spec.masks]
    assert set(covered) == {m.path for v in found.decision.verdicts for m in v.masks}
    for writable in (False, True):
        files = [file for file in spec.files if file.writable or not writable]
        seen = [
            path
            for path in PATHS
            if any(is_mounted(file, path) for file in files)
            and not any(path == one or path.startswith(one + "/") for one in covered)
        ]
        kind = WRITE if writable else case.kinds[0]
        assert all(cedar_allows(case.policy, kind, seen, case.context)), (writable, spec.files)
    for file in spec.files:
        pattern = file.path + "/**" if file.kind == "tree" else file.path
        mounted = Capability(WRITE if file.writable else case.kinds[0], pattern)
        assert found.granted.covers(mounted) and asked.covers(mounted)
    # No mask takes from another capability what that one grants.
    for verdict in found.decision.verdicts:
        for path in beyond_masks(verdict, PATHS):
            assert not any(
                PathPattern.parse(mask.pattern).matches(path)
                for other in found.decision.verdicts
                for mask in other.masks
            ), path


@law
def test_another_component_gets_nothing(case: Case) -> None:
    other = UUID(int=9)
    request = CapabilitySet((case.asked, *case.others))
    found = case.policy.decide(other, request, case.context)
    assert not found.granted and all("is for component" in one.message for one in found.denied)
    universe = case.family.universe
    for kind in case.kinds:
        assert not any(cedar_allows(case.policy, kind, universe, case.context, other))


@law
def test_a_difference_is_told_if_and_only_if_there_is_one(case: Case) -> None:
    old, new = case.policy, of_entries(*case.replaced)
    told = diff(old, new, case.context)
    for kind in case.kinds:
        was = cedar_allows(old, kind, case.family.universe, case.context)
        now = cedar_allows(new, kind, case.family.universe, case.context)
        changes = {
            "granted" if after else "denied"
            for before, after in zip(was, now, strict=True)
            if before is not after
        }
        mine = [one for one in told if one.capability.partition(":")[0] == kind.value]
        assert changes <= {one.change for one in mine}
        for one in mine:
            assert one.witness is not None
            (before,) = cedar_allows(old, kind, [one.witness], case.context)
            (after,) = cedar_allows(new, kind, [one.witness], case.context)
            assert (before, after) == (one.change == "denied", one.change == "granted")
            assert Capability.parse(one.capability).matches(one.witness)


@law
def test_what_lint_calls_useless_can_go(case: Case) -> None:
    for finding in lint(case.policy):
        if finding.code not in {"OBP004", "OBP005", "OBP006"}:
            continue
        gone = int(finding.policy.removeprefix("p"))
        rest = of_entries(*(entry for i, entry in enumerate(case.entries) if i != gone))
        for kind in case.kinds:
            universe = case.family.universe
            before = cedar_allows(case.policy, kind, universe, case.context)
            assert before == cedar_allows(rest, kind, universe, case.context), finding


@law
def test_an_explanation_flips_the_decision(case: Case) -> None:
    explained = explain(case.policy, COMPONENT, case.asked, case.context)
    assert explained.verdict == decide(case.policy, case.asked, case)
    assert explained.document is not None and explained.changes
    changed = Policy.parse(explained.document, "changed", COMPONENT)
    before, after = explained.verdict.outcome, decide(changed, case.asked, case).outcome
    assert (before is Outcome.DENIED) is not (after is Outcome.DENIED)
