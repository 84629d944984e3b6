"""The engine is broken on purpose, rule by rule: the suite's own tests must notice.

Each mutation replaces a piece of the engine in memory by one that lacks a rule. The tests
named beside it, which are those of the suite and no copies, must then fail; as it is they
pass. Laws are tried on the cases of fixed numbers, so that a run is like any other.

Some rules guard each other. Without a default of denial, Cedar's disagreement still denies;
so that pair is also broken together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import pytest

from omnibase.core.security import deciding, drafts, engine, grants, policy_document
from omnibase.core.security import policy as policy_module
from omnibase.core.security.capabilities import Capability, CapabilitySet, CapabilityType
from omnibase.core.security.conditions import comparisons
from omnibase.core.security.decision import Decision, Outcome, PolicyContext, Verdict
from omnibase.core.security.engine import Answer
from omnibase.core.security.grants import Grants
from omnibase.core.security.policy import Policy
from tests.property import policy_cases
from tests.property import test_policy_properties as laws
from tests.property.policy_cases import FILES, MIXED, drawn
from tests.unit import test_grants, test_policy, test_policy_document

Patch = pytest.MonkeyPatch
Check = Callable[[], None]
CASES = 300


def law(test: Any, *families: policy_cases.Family) -> Check:
    """Returns a check: a law holds for the cases of the first numbers."""
    chosen = families or MIXED

    def check() -> None:
        for seed in range(CASES):
            test.hypothesis.inner_test(drawn(seed, chosen))

    return check


def patched(test: Callable[..., None], *arguments: Any) -> Check:
    """Returns a check: a test that patches something itself."""

    def check() -> None:
        with Patch.context() as patch:
            test(*arguments, patch)

    return check


# The tests that must notice, by what is said of them below.
EMPTY = law(laws.test_the_empty_set_denies)
ERRORS = law(laws.test_an_error_denies)
WITNESSES = law(laws.test_every_witness_is_denied_by_cedar)
MEMBERS = law(laws.test_every_member_of_a_grant_is_allowed_by_cedar)
MOUNTS = law(laws.test_what_is_mounted_is_allowed_by_cedar, FILES)
OVERRIDES = law(laws.test_an_override_never_exceeds_the_policy)
OTHERS = law(laws.test_another_component_gets_nothing)

OTHER_DOCUMENT = test_policy_document.test_another_components_document_is_refused
ONE_FILE = "FILE_READ:/data/x"
A_TREE = "FILE_READ:/data/**"
EMPTY_DOCUMENT = partial(test_policy.test_an_empty_document_denies, ONE_FILE)
EMPTY_FOR_TREES = partial(test_policy.test_an_empty_document_denies, "FILE_READ:/**")
NOT_MOUNTABLE = partial(
    test_policy.test_what_no_mount_can_leave_out_is_denied,
    'resource.path like "/data/s/*" && !(resource.path like "/data/s/open/*")',
    A_TREE,
)
DISAGREEMENT = patched(test_policy.test_a_disagreement_with_cedar_denies, A_TREE)
UNSANDBOXED = test_grants.test_without_a_sandbox_only_if_all_agree


# --- the mutations --------------------------------------------------------------------------


def permits_override(patch: Patch) -> None:
    """A concrete use is granted by any permit, forbidden or not."""

    def decided(self: drafts.Draft, answers: Sequence[Answer]) -> Verdict:
        if all(map(self.case.permits_some, self.probes)):
            return Verdict(capability=self.capability, outcome=Outcome.GRANTED, message="")
        return original(self, answers)

    original = drafts.Draft._decided_by_cedar
    patch.setattr(drafts.Draft, "_decided_by_cedar", decided)


def forbids_do_not_count(patch: Patch) -> None:
    """Of a pattern only what is not permitted is denied."""
    original = deciding.Case._gaps

    def gaps(self: deciding.Case, types: tuple[CapabilityType, ...]) -> Iterable[Any]:
        return islice(original(self, types), len(types))

    patch.setattr(deciding.Case, "_gaps", gaps)
    witness_is_not_checked(patch)


def errors_do_not_count(patch: Patch) -> None:
    """A policy that Cedar leaves out is left out."""

    def careless(result: Any) -> Answer:
        return Answer(bool(result.allowed), tuple(sorted(result.diagnostics.reasons)), ())

    patch.setattr(engine, "_answer", careless)


def default_is_allow(patch: Patch) -> None:
    """What nothing forbids is granted."""
    original = deciding.Case._gaps

    def gaps(self: deciding.Case, types: tuple[CapabilityType, ...]) -> Iterable[Any]:
        return islice(original(self, types), len(types), None)

    def decided(self: drafts.Draft, answers: Sequence[Answer]) -> Verdict:
        if not any(answer.reasons and not answer.allowed for answer in answers):
            return Verdict(capability=self.capability, outcome=Outcome.GRANTED, message="")
        return settled(self, answers)

    settled = drafts.Draft._decided_by_cedar
    patch.setattr(deciding.Case, "_gaps", gaps)
    patch.setattr(drafts.Draft, "_decided_by_cedar", decided)


def witness_is_not_checked(patch: Patch) -> None:
    """Our own answer about a pattern stands, whatever Cedar says to the witness."""

    def settle(self: drafts.Draft, answers: Sequence[Answer]) -> Verdict:
        return self.verdict or self._decided_by_cedar(answers)

    patch.setattr(drafts.Draft, "settle", settle)


def default_is_allow_unchecked(patch: Patch) -> None:
    """Both."""
    default_is_allow(patch)
    witness_is_not_checked(patch)


def verdicts_lose_masks(patch: Patch) -> None:
    """A tree is granted whole where it should be masked."""
    patch.setattr(deciding, "_outermost", lambda masks: ())


def changed_grants(patch: Patch, change: Callable[[Grants, CapabilitySet], Grants]) -> None:
    original = grants.effective_grants

    def found(metadata: Any, overrides: Any, *arguments: Any, **named: Any) -> Grants:
        return change(original(metadata, overrides, *arguments, **named), overrides)

    for module in (grants, laws, test_grants):
        patch.setattr(module, "effective_grants", found)


def grants_lose_masks(patch: Patch) -> None:
    """The decision has masks, and the run does not."""
    changed_grants(patch, lambda found, _: dataclasses.replace(found, masks=()))


def specs_lose_masks(patch: Patch) -> None:
    """The run has masks, and the spec does not."""
    original = laws.compile_spec
    patch.setattr(
        laws, "compile_spec", lambda *arguments, masks: original(*arguments, masks=masks[1:])
    )


def overrides_are_added(patch: Patch) -> None:
    """What the caller asks for is granted beside what policy grants."""
    changed_grants(
        patch,
        lambda found, overrides: dataclasses.replace(found, granted=found.granted | overrides),
    )


def principal_is_not_checked(patch: Patch) -> None:
    """Whoever asks is taken for the policy's component."""
    original = Policy._decide

    def decide(self: Policy, _: Any, request: CapabilitySet, context: PolicyContext) -> Decision:
        return original(self, self.principal, request, context)

    patch.setattr(Policy, "_decide", decide)


def any_principal_in_a_document(patch: Patch) -> None:
    """A document may be another component's."""
    patch.setattr(policy_document, "_read_entity", lambda *_: None)


def writing_needs_no_reading(patch: Patch) -> None:
    """A right to write brings reading with it, unasked."""
    patch.setattr(deciding, "needed_types", lambda kind: (kind,))


def context_is_ignored(patch: Patch) -> None:
    """Every run is decided as one of an untrusted component, or remembered as such."""
    original = Policy.decide

    def decide(self: Policy, principal: Any, request: CapabilitySet, _: Any) -> Decision:
        return original(self, principal, request, PolicyContext())

    patch.setattr(Policy, "decide", decide)


def what_is_open_is_granted(patch: Patch) -> None:
    """A question that is given up counts as a yes."""

    def denied(capability: Capability, message: str, **_: Any) -> Verdict:
        return Verdict(capability=capability, outcome=Outcome.GRANTED, message=message)

    patch.setattr(deciding, "denied", denied)


def masks_may_hide_grants(patch: Patch) -> None:
    """A mask of one capability covers what another one grants."""
    patch.setattr(deciding.Case, "reconcile", lambda self, verdicts: tuple(verdicts))


def masks_need_not_be_exact(patch: Patch) -> None:
    """A subtree that a policy speaks of is a mask, whatever else is denied or allowed in it."""
    original = deciding.Case._masks

    def masks(self: deciding.Case, asked: Capability, gap: Any, *more: Any) -> Any:
        below = asked.resource.removesuffix("/**")
        found = {
            candidate: [rule]
            for rule in gap.rules
            for test in comparisons(rule.condition)
            if (candidate := deciding._candidate(test, below)) is not None
        }
        return (found or None) if below != asked.resource else original(self, asked, gap, *more)

    patch.setattr(deciding.Case, "_masks", masks)


def trust_is_not_checked(patch: Patch) -> None:
    """Any component may run without a sandbox if its policy says so."""
    original = grants.unsandboxed_permits
    trusted = test_grants.TRUSTED
    for module in (grants, test_grants):
        patch.setattr(module, "unsandboxed_permits", lambda *found: original(*found[:3], trusted))


def metadata_is_not_checked(patch: Patch) -> None:
    """A component need not ask to run without a sandbox."""
    original = grants.unsandboxed_permits
    asked = CapabilitySet((grants.UNSANDBOXED,))
    for module in (grants, test_grants):
        patch.setattr(module, "unsandboxed_permits", lambda *found: original(asked, *found[1:]))


def a_wildcard_is_a_name(patch: Patch) -> None:
    """A permit for every command is one for the host's Python."""
    patch.setattr(grants, "_has_none", lambda condition: True)


MUTATIONS: dict[Callable[[Patch], None], tuple[Check, ...]] = {
    permits_override: (MEMBERS, test_policy.test_a_concrete_request_is_cedars),
    forbids_do_not_count: (MEMBERS, MOUNTS, test_policy.test_a_tree_is_granted_with_masks),
    errors_do_not_count: (
        ERRORS,
        partial(test_policy.test_an_error_denies_everything_and_says_so, ONE_FILE),
        partial(test_policy.test_an_error_denies_everything_and_says_so, A_TREE),
    ),
    default_is_allow: (EMPTY, WITNESSES, EMPTY_DOCUMENT, EMPTY_FOR_TREES),
    default_is_allow_unchecked: (EMPTY, MEMBERS, EMPTY_DOCUMENT, EMPTY_FOR_TREES),
    witness_is_not_checked: (DISAGREEMENT,),
    verdicts_lose_masks: (MEMBERS, MOUNTS, test_policy.test_a_tree_is_granted_with_masks),
    grants_lose_masks: (MOUNTS, test_grants.test_granted_with_masks),
    specs_lose_masks: (MOUNTS,),
    overrides_are_added: (OVERRIDES, test_grants.test_an_override_never_exceeds_the_policy),
    principal_is_not_checked: (OTHERS, test_policy.test_another_principal_gets_nothing),
    any_principal_in_a_document: (
        test_policy_document.test_another_components_document_is_refused,
    ),
    writing_needs_no_reading: (MEMBERS, MOUNTS, test_policy.test_writing_needs_reading_too),
    context_is_ignored: (MEMBERS, test_policy.test_conditions_on_the_context),
    what_is_open_is_granted: (patched(test_policy.test_what_is_too_complex_is_denied),),
    masks_may_hide_grants: (
        MOUNTS,
        test_policy.test_a_mask_that_would_hide_another_grant_is_refused,
    ),
    masks_need_not_be_exact: (MEMBERS, WITNESSES, NOT_MOUNTABLE),
    trust_is_not_checked: (UNSANDBOXED,),
    metadata_is_not_checked: (UNSANDBOXED,),
    a_wildcard_is_a_name: (UNSANDBOXED,),
}


@pytest.fixture(autouse=True)
def no_memory(monkeypatch: Patch) -> None:
    """Nothing that was decided or read before a mutation is remembered, and nothing after it."""
    monkeypatch.setattr(policy_module, "_decisions", policy_module._Recent(0))
    monkeypatch.setattr(policy_module, "_policies", policy_module._Recent(0))


def test_as_it_is_all_of_them_pass() -> None:
    for check in {check for checks in MUTATIONS.values() for check in checks}:
        check()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_mutation_is_noticed(mutation: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutation(monkeypatch)
    for check in MUTATIONS[mutation]:
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            check()
