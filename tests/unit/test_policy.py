"""Decisions, their explanations, differences, lint and tables."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from omnibase.core.security import deciding, drafts
from omnibase.core.security import policy as policy_module
from omnibase.core.security.capabilities import Capability, CapabilitySet
from omnibase.core.security.decision import Outcome, PolicyContext, PolicyRef
from omnibase.core.security.engine import Answer, Engine
from omnibase.core.security.policy import Policy
from omnibase.core.security.policy_diff import DiffEntry, diff, relevant_contexts
from omnibase.core.security.policy_explain import explain
from omnibase.core.security.policy_lint import lint
from omnibase.core.security.policy_table import run_table
from omnibase.errors import CapabilityError, ConfigurationError
from tests.helpers.policies import COMPONENT, PLAIN, policy, verdict

EMPTY = Policy.parse(
    b'{"staticPolicies": {}, "templates": {}, "templateLinks": []}', "empty", COMPONENT
)
DATA = '@id("data") permit FileRead when { resource.path like "/data/*" }'
SECRET = (
    '@id("secret") @reason("private") forbid FileRead when { resource.path like "/data/secret/*" }'
)
WRITE = '@id("write") permit FileWrite when { resource.path like "/data/*" }'
TRUSTED = PolicyContext(trust="trusted")


@pytest.fixture(autouse=True)
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test decides anew."""
    monkeypatch.setattr(policy_module, "_decisions", policy_module._Recent(1024))


def ids(refs: tuple[PolicyRef, ...]) -> list[str]:
    return [ref.id for ref in refs]


# --- decisions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "capability",
    [
        "FILE_READ:/a",
        "FILE_READ:/**",
        "FILE_WRITE:/a",
        "NETWORK_CONNECT:*:*",
        "MEMORY:1B",
        "SECRET_ACCESS:T",
        "SECRET_ACCESS:T@a",
        "EXTERNAL_COMMAND:*",
        "REGISTRY_READ:x",
    ],
)
def test_an_empty_document_denies(capability: str) -> None:
    found = verdict(EMPTY, capability)
    assert found.outcome is Outcome.DENIED
    assert found.witness is not None and Capability.parse(capability).matches(found.witness)
    assert "no policy permits" in found.message and found.policies == ()


def test_a_concrete_request_is_cedars() -> None:
    found = policy(DATA, SECRET)
    granted = verdict(found, "FILE_READ:/data/x")
    assert granted.outcome is Outcome.GRANTED and ids(granted.policies) == ["data"]
    denied = verdict(found, "FILE_READ:/data/secret/x")
    assert denied.outcome is Outcome.DENIED and ids(denied.policies) == ["secret"]
    assert denied.message == "policy `secret` (private) forbids `/data/secret/x`"
    assert denied.witness == "/data/secret/x"


def test_a_tree_is_granted_with_masks() -> None:
    found = verdict(policy(DATA, SECRET), "FILE_READ:/data/**")
    assert found.outcome is Outcome.MASKED
    (mask,) = found.masks
    assert (mask.pattern, mask.path) == ("/data/secret/**", "/data/secret")
    assert mask.reason == "policy `secret`: private"
    assert ids(found.permits) == ["data"] and ids(found.forbids) == ["secret"]
    assert ids(found.policies) == ["data", "secret"]
    assert "without `/data/secret/**`" in found.message
    assert found.to_dict()["masks"] == [mask.to_dict()]


def test_a_mask_can_come_from_an_unless() -> None:
    found = verdict(
        policy(
            'permit FileRead when { resource.path like "/d/*" } unless { resource.path == "/d/x" || resource.path like "/d/y/*" }'
        ),
        "FILE_READ:/d/**",
    )
    assert [mask.pattern for mask in found.masks] == ["/d/x", "/d/y/**"]
    assert found.masks[0].reason == "policy `policy0` leaves it out"


@pytest.mark.parametrize(
    ("forbid", "capability"),
    [
        ('resource.path like "/data/*.key"', "FILE_READ:/data/**"),  # no subtree
        ('resource.path like "/data/secret*"', "FILE_READ:/data/**"),
        (
            'resource.path like "/data/s/*" && !(resource.path like "/data/s/open/*")',
            "FILE_READ:/data/**",
        ),
        ('resource.path == "/data/x"', "FILE_READ:/data/*"),  # no tree
        ('resource.path == "/data/x"', "FILE_READ:/data/x*"),
        ('resource.path like "/data/*"', "FILE_READ:/data/**"),  # all of it
        ('resource.path like "/data/*/x"', "FILE_READ:/data/*/**"),  # a wildcard above
        ('resource.path == "/data/*x"', "FILE_READ:/data/**"),  # nothing can name it
    ],
)
def test_what_no_mount_can_leave_out_is_denied(forbid: str, capability: str) -> None:
    found = verdict(policy(DATA, f'@id("f") forbid FileRead when {{ {forbid} }}'), capability)
    assert found.outcome is Outcome.DENIED and ids(found.policies) == ["f"]
    assert found.witness is not None
    assert ("no mount" in found.message) is capability.endswith("/**")


def test_the_outermost_mask_is_enough() -> None:
    more = 'forbid FileRead when { resource.path like "/data/secret/a/*" || resource.path == "/data/secret" }'
    found = verdict(policy(DATA, SECRET, more), "FILE_READ:/data/**")
    assert [mask.pattern for mask in found.masks] == ["/data/secret", "/data/secret/**"]


def test_nothing_left_is_no_grant() -> None:
    narrow = 'permit FileRead when { resource.path like "/data/a/*" || resource.path == "/data/b" }'
    closed = (
        'forbid FileRead when { resource.path like "/data/a/x/*" || resource.path == "/data/b" }'
    )
    assert verdict(policy(narrow, closed), "FILE_READ:/data/**").outcome is Outcome.DENIED
    assert verdict(policy(narrow, closed), "FILE_READ:/data/a/**").outcome is Outcome.MASKED
    assert verdict(policy(narrow, closed), "FILE_READ:/data/a/x/**").outcome is Outcome.DENIED


def test_more_masks_than_can_be_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "MAX_MASKS", 1)
    more = 'forbid FileRead when { resource.path like "/data/b/*" }'
    found = verdict(policy(DATA, SECRET, more), "FILE_READ:/data/**")
    assert found.outcome is Outcome.DENIED and "more than 1 parts" in found.message


def test_many_masks_are_told_in_short() -> None:
    parts = " || ".join(f'resource.path == "/data/{i}"' for i in range(5))
    found = verdict(policy(DATA, f"forbid FileRead when {{ {parts} }}"), "FILE_READ:/data/**")
    assert len(found.masks) == 5 and found.message.endswith("and 2 more")


def test_writing_needs_reading_too() -> None:
    found = policy(DATA, SECRET, WRITE)
    assert verdict(policy(WRITE), "FILE_WRITE:/data/x").unpermitted == ("FILE_READ",)
    assert verdict(policy(WRITE), "FILE_WRITE:/data/**").unpermitted == ("FILE_READ",)
    assert verdict(policy(DATA), "FILE_WRITE:/data/x").unpermitted == ("FILE_WRITE",)
    assert verdict(found, "FILE_WRITE:/data/secret/x").outcome is Outcome.DENIED
    tree = verdict(found, "FILE_WRITE:/data/**")
    assert tree.outcome is Outcome.MASKED and ids(tree.permits) == ["write", "data"]


def test_a_mask_that_would_hide_another_grant_is_refused() -> None:
    found = policy(
        DATA,
        WRITE,
        '@id("ro") forbid FileWrite when { resource.path like "/data/conf/*" }',
        "permit Memory when { resource.bytes <= 5 }",
    )

    def decide(*texts: str) -> dict[str, Outcome]:
        decision = found.decide(COMPONENT, CapabilitySet.parse(texts), PLAIN)
        return {str(one.capability): one.outcome for one in decision.verdicts}

    assert decide("FILE_WRITE:/data/**") == {"FILE_WRITE:/data/**": Outcome.MASKED}
    assert decide("FILE_WRITE:/data/**", "FILE_READ:/data/conf/a") == {
        "FILE_READ:/data/conf/a": Outcome.GRANTED,
        "FILE_WRITE:/data/**": Outcome.DENIED,
    }
    assert decide("FILE_WRITE:/data/**", "FILE_READ:/data/b", "MEMORY:5B", "FILE_READ:/x") == {
        "FILE_READ:/data/b": Outcome.GRANTED,
        "FILE_READ:/x": Outcome.DENIED,
        "FILE_WRITE:/data/**": Outcome.MASKED,
        "MEMORY:5B": Outcome.GRANTED,
    }
    assert decide("FILE_WRITE:/data/**", "FILE_READ:/data/conf*") == {
        "FILE_READ:/data/conf*": Outcome.GRANTED,  # not what is in `/data/conf`
        "FILE_WRITE:/data/**": Outcome.MASKED,
    }


def test_a_clash_that_stays_open_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = policy(DATA, SECRET)
    case = deciding.Case(found.conditions(PLAIN))
    verdicts = [verdict(found, "FILE_READ:/data/**"), verdict(found, "FILE_READ:/data/secrets")]

    def give_up(*_: Any) -> None:
        raise deciding.Undecided("no")

    monkeypatch.setattr(deciding, "find", give_up)
    assert [one.outcome for one in case.reconcile(verdicts)] == [Outcome.DENIED, Outcome.GRANTED]


def test_several_permits_add_up() -> None:
    found = policy(
        '@id("low") permit NetworkConnect when { resource.host == "a.b" && resource.port <= 100 }',
        '@id("high") permit NetworkConnect when { resource.host == "a.b" && resource.port > 100 }',
        '@id("other") permit NetworkConnect when { resource.host == "c.d" }',
    )
    granted = verdict(found, "NETWORK_CONNECT:a.b:*")
    assert granted.outcome is Outcome.GRANTED and ids(granted.permits) == ["low", "high"]


def test_only_some_policies_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "MAX_NAMED", 2)
    monkeypatch.setattr(drafts, "MAX_NAMED", 2)
    found = policy(
        *(
            f'permit FileRead when {{ resource.path like "/*" && context.trust != "x{i}" }}'.replace(
                "!=", "=="
            ).replace(f'"x{i}"', '"untrusted"')
            for i in range(4)
        )
    )
    assert len(verdict(found, "FILE_READ:/a/**").permits) == 2
    assert len(verdict(found, "FILE_READ:/a").permits) == 2


def test_conditions_on_the_context() -> None:
    found = policy(
        'permit FileRead when { resource.path like "/d/*" && context.trust == "trusted" } unless { context.environment == "test" || context.lifecycle == "retired" }'
    )
    request = "FILE_READ:/d/**"
    assert verdict(found, request).outcome is Outcome.DENIED
    assert verdict(found, request, TRUSTED).outcome is Outcome.GRANTED
    assert verdict(found, "FILE_READ:/d/x", TRUSTED).outcome is Outcome.GRANTED
    for context in (
        PolicyContext(trust="trusted", environment="test"),
        PolicyContext(trust="trusted", lifecycle="retired"),
    ):
        assert verdict(found, request, context).outcome is Outcome.DENIED
        assert verdict(found, "FILE_READ:/d/x", context).outcome is Outcome.DENIED


@pytest.mark.parametrize(
    "fields",
    [
        {"trust": "root"},
        {"lifecycle": ""},
        {"environment": ""},
        {"environment": "a\nb"},
        {"environment": "x" * 65},
    ],
)
def test_a_context_is_checked(fields: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        PolicyContext(**fields)


def test_another_principal_gets_nothing() -> None:
    other = UUID(int=9)
    decision = policy(DATA).decide(other, CapabilitySet.parse(["FILE_READ:/data/x"]), PLAIN)
    assert not decision.granted and "is for component" in decision.denied[0].message
    explained = explain(policy(DATA), other, Capability.parse("FILE_READ:/data/x"), PLAIN)
    assert explained.changes == () and explained.document is None


def test_what_is_too_complex_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "MAX_TOTAL_STEPS", 1)
    found = verdict(policy(DATA), "FILE_READ:/data*/**")
    assert found.outcome is Outcome.DENIED and "too complex" in found.message
    assert found.witness is None


def test_permits_are_named_as_far_as_they_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = deciding.Meter
    monkeypatch.setattr(deciding, "Meter", lambda left=0, whole=None: meter(left, whole))
    found = verdict(policy(DATA), "FILE_READ:/data/**")
    assert found.outcome is Outcome.GRANTED and found.permits == ()
    assert found.message == "permitted by several policies"


def test_a_request_has_a_bound_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    request = CapabilitySet.parse([f"FILE_READ:/data/{n}*" for n in range(20)])
    whole = policy(DATA).decide(COMPONENT, request, PLAIN)
    assert whole.denied == ()
    monkeypatch.setattr(deciding, "MAX_CASE_STEPS", 200)
    found = policy(DATA, SECRET).decide(COMPONENT, request, PLAIN)
    assert 0 < len(found.denied) < 20
    assert all("too complex" in one.message for one in found.denied)


def test_many_masked_trees_are_compared_in_time() -> None:
    request = CapabilitySet.parse([f"FILE_READ:/data/{n}/**" for n in range(400)])
    texts = [
        f'@id("f{n}") forbid FileRead when {{ resource.path like "/data/{n}/x/*" }}'
        for n in range(400)
    ]
    found = policy(DATA, *texts).decide(COMPONENT, request, PLAIN)
    assert found.denied == ()
    assert all(one.outcome is Outcome.MASKED for one in found.verdicts)


def broken(found: Policy) -> Policy:
    """The same policy with a forbid that Cedar cannot evaluate, and leaves out."""
    document = found.document
    bad = json.loads(json.dumps(next(iter(document["staticPolicies"].values()))))
    bad["effect"] = "forbid"
    bad["conditions"] = [
        {
            "kind": "when",
            "body": {
                "==": {
                    "left": {".": {"left": {"Var": "resource"}, "attr": "nope"}},
                    "right": {"Value": 1},
                }
            },
        }
    ]
    document["staticPolicies"]["bad"] = bad
    import cedarpy

    found._engine._policies = cedarpy.PolicySet.from_json_str(json.dumps(document))
    return found


def fresh(*texts: str) -> Policy:
    found = policy(*texts)
    return Policy(found.principal, found.rules, found.sha256, found.document, "test")


@pytest.mark.parametrize("capability", ["FILE_READ:/data/x", "FILE_READ:/data/**"])
def test_an_error_denies_everything_and_says_so(capability: str) -> None:
    found = broken(fresh(DATA, "permit Memory when { resource.bytes <= 5 }"))
    request = CapabilitySet.parse([capability, "MEMORY:5B"])
    decision = found.decide(COMPONENT, request, PLAIN)
    assert not decision.granted and len(decision.denied) == 2
    assert len(decision.errors) == 1 and "`bad`" in decision.errors[0]
    assert all("cannot be evaluated" in one.message for one in decision.denied)
    assert decision.to_dict()["errors"] == list(decision.errors)


@pytest.mark.parametrize("capability", ["FILE_READ:/data/**", "FILE_READ:/x/**"])
def test_a_disagreement_with_cedar_denies(capability: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = policy(DATA)
    ask = Engine.ask

    def lie(self: Engine, *args: Any) -> list[Answer]:
        return [Answer(not answer.allowed, (), ()) for answer in ask(self, *args)]

    monkeypatch.setattr(Engine, "ask", lie)
    wrong = verdict(found, capability)
    assert wrong.outcome is Outcome.DENIED and "disagree" in wrong.message


def test_an_unknown_reason_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "ask", lambda *_: [Answer(True, ("who",), ())])
    assert "disagree" in verdict(policy(DATA), "FILE_READ:/data/x").message
    monkeypatch.setattr(policy_module, "_decisions", policy_module._Recent(1024))
    monkeypatch.setattr(Engine, "ask", lambda *_: [Answer(False, (), ())])
    found = verdict(policy(DATA), "FILE_READ:/data/x")
    assert found.outcome is Outcome.DENIED and "disagree" in found.message


def test_decisions_are_remembered_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_module, "_decisions", policy_module._Recent(2))
    found = policy(DATA)
    requests = [CapabilitySet.parse([f"FILE_READ:/data/{i}"]) for i in range(3)]
    first = found.decide(COMPONENT, requests[0], PLAIN)
    assert found.decide(COMPONENT, requests[0], PLAIN) is first
    assert found.decide(COMPONENT, requests[0], TRUSTED) is not first
    for request in requests:
        found.decide(COMPONENT, request, PLAIN)
    again = found.decide(COMPONENT, requests[0], PLAIN)
    assert again is not first and again == first
    assert found.decide(COMPONENT, CapabilitySet(), PLAIN).verdicts == ()


# --- explanations ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "actions"),
    [
        ("FILE_READ:/data/x", [("add", "forbid-file-read")]),
        ("FILE_READ:/data/**", [("add", "forbid-file-read")]),
        ("FILE_READ:/data/secret/x", [("narrow", "secret")]),
        ("FILE_WRITE:/data/secret/x", [("add", "permit-file-write"), ("narrow", "secret")]),
        ("FILE_READ:/other/*.csv", [("add", "permit-file-read")]),
        ("FILE_READ:/other/?", [("add", "permit-file-read")]),
        ("FILE_READ:/**", [("add", "permit-file-read")]),
        ("FILE_WRITE:/other/x", [("add", "permit-file-write"), ("add", "permit-file-read")]),
        ("FILE_WRITE:/data/secret/x", [("add", "permit-file-write"), ("narrow", "secret")]),
        ("NETWORK_CONNECT:*.b.c:80-90", [("add", "permit-network-connect")]),
        ("NETWORK_CONNECT:b.c:*", [("add", "permit-network-connect")]),
        ("NETWORK_CONNECT:*:1", [("add", "permit-network-connect")]),
        ("SECRET_ACCESS:T", [("add", "permit-secret-access")]),
        ("SECRET_ACCESS:T@*", [("add", "permit-secret-access")]),
        ("SECRET_ACCESS:T@a", [("add", "permit-secret-access")]),
        ("MEMORY:5MiB", [("add", "permit-memory")]),
        ("ARTIFACT_READ:a/*", [("add", "permit-artifact-read")]),
    ],
)
def test_the_change_flips_the_decision(capability: str, actions: list[tuple[str, str]]) -> None:
    found = policy(DATA, SECRET)
    asked = Capability.parse(capability)
    explained = explain(found, COMPONENT, asked, PLAIN)
    assert [(one.action, one.policy) for one in explained.changes] == actions
    assert explained.document is not None
    changed = Policy.parse(explained.document, "changed", COMPONENT)
    before, after = verdict(found, capability), verdict(changed, capability)
    assert (before.outcome is Outcome.DENIED) is not (after.outcome is Outcome.DENIED)
    assert explained.to_dict()["changes"] == [one.to_dict() for one in explained.changes]
    for one in explained.changes:
        if one.action == "add":
            text = found.to_cedar() + one.cedar
            assert one.policy in [r.id for r in Policy.from_cedar(text, "t", COMPONENT).rules]
        else:
            assert one.cedar.startswith("unless { resource.path")


def test_a_new_policy_gets_a_free_id() -> None:
    found = policy('@id("permit-memory") permit Memory when { resource.bytes <= 5 }')
    (change,) = explain(found, COMPONENT, Capability.parse("MEMORY:6B"), PLAIN).changes
    assert change.policy == "permit-memory-2"


def test_no_change_is_told_if_none_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnibase.core.security.policy_document.MAX_POLICIES", 0)
    assert explain(EMPTY, COMPONENT, Capability.parse("MEMORY:6B"), PLAIN).changes == ()
    found = broken(fresh(DATA))
    explained = explain(found, COMPONENT, Capability.parse("FILE_READ:/data/x"), PLAIN)
    assert explained.changes == () and explained.verdict.outcome is Outcome.DENIED


def test_a_change_that_changes_nothing_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "omnibase.core.security.policy_explain.condition_of", lambda _: Capability and _none()
    )
    assert explain(policy(DATA), COMPONENT, Capability.parse("FILE_READ:/b"), PLAIN).changes == ()


def _none() -> Any:
    from omnibase.core.security.conditions import Test

    return Test("resource", "path", "==", "/nothing")


# --- differences -------------------------------------------------------------------------


def entries(old: Policy, new: Policy) -> list[tuple[str, str, bool]]:
    return [(one.change, one.capability, one.whole) for one in diff(old, new, PLAIN)]


def test_no_difference() -> None:
    one = policy(DATA, SECRET, 'permit NetworkConnect when { resource.host like "*" }')
    other = policy(
        'permit FileRead when { resource.path like "/data/*" && !(resource.path like "/data/secret/*") }',
        "permit NetworkConnect when { resource.port >= 0 }",
    )
    assert diff(one, other, PLAIN) == () and diff(EMPTY, EMPTY, PLAIN) == ()


def test_differences_are_patterns_with_witnesses() -> None:
    (entry,) = diff(EMPTY, policy(DATA), PLAIN)
    assert entry == DiffEntry(
        change="granted", capability="FILE_READ:/data/**", witness=entry.witness
    )
    assert entry.witness is not None and entry.witness.startswith("/data/")
    assert entry.to_dict()["whole"] is True
    assert entries(policy(DATA), policy(DATA, SECRET)) == [
        ("denied", "FILE_READ:/data/secret/**", True)
    ]
    assert entries(policy(DATA, SECRET), policy(DATA)) == [
        ("granted", "FILE_READ:/data/secret/**", True)
    ]
    net = policy(
        'permit NetworkConnect when { resource.host like "*.a.b" && resource.port >= 80 && resource.port <= 90 }'
    )
    assert entries(EMPTY, net) == [("granted", "NETWORK_CONNECT:*.a.b:80-90", True)]
    secret = policy(
        'permit SecretAccess when { resource.name == "T" && resource.host like "*.a" }',
        'permit SecretAccess when { resource.name == "T" && resource.host == "b" }',
    )
    assert entries(EMPTY, secret) == [
        ("granted", "SECRET_ACCESS:T@*.a", True),
        ("granted", "SECRET_ACCESS:T@b", True),
    ]
    database = policy('permit DatabaseRead when { resource.name like "sqlite:/w/*" }')
    assert entries(EMPTY, database) == [("granted", "DATABASE_READ:sqlite:/w/a", False)]
    small, large = (policy(f"permit Memory when {{ resource.bytes <= {n} }}") for n in (1024, 4096))
    assert entries(small, large) == [("granted", "MEMORY:4KiB", False)]
    assert entries(large, policy("permit Memory when { resource.bytes < 2048 }"))[0][0] == "denied"
    assert entries(EMPTY, policy("permit Memory when { resource.bytes < 1 }")) == []


def test_what_no_pattern_says_is_told_by_an_example() -> None:
    found = diff(EMPTY, policy('permit FileRead when { resource.path like "/a*/x" }'), PLAIN)
    assert [(one.change, one.whole) for one in found] == [("granted", True), ("granted", False)]
    named = diff(EMPTY, policy('permit ArtifactRead when { resource.name like "\\*\\**" }'), PLAIN)
    assert [(one.capability, one.whole) for one in named] == [("ARTIFACT_READ:??", False)]


def test_an_open_difference_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnibase.core.security.policy_diff.MAX_TOTAL_STEPS", 1)
    found = diff(EMPTY, policy(DATA), PLAIN)
    assert ("undecided", "FILE_READ", None) in [
        (one.change, one.capability, one.witness) for one in found
    ]


def test_contexts_that_matter() -> None:
    assert relevant_contexts(EMPTY) == (PLAIN,)
    found = policy(
        'permit Memory when { context.trust == "trusted" || context.environment == "default" }'
    )
    contexts = relevant_contexts(EMPTY, found)
    assert len(contexts) == 6 and {one.environment for one in contexts} == {"default", "other-0"}
    assert (
        len(relevant_contexts(policy('permit Memory when { context.lifecycle == "draft" }'))) == 4
    )
    assert len(relevant_contexts(policy('permit Memory when { context.environment == "" }'))) == 1


# --- lint --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "codes"),
    [
        ([DATA, SECRET], []),
        (["permit FileRead"], ["OBP001"]),
        (['permit FileRead when { resource.path like "*" }'], ["OBP002"]),
        (['permit FileWrite when { resource.path like "/*" }'], ["OBP002"]),
        (
            ['permit FileRead when { resource.path like "/*" && context.trust == "trusted" }'],
            ["OBP002"],
        ),
        (['permit NetworkConnect when { resource.host like "*" }'], ["OBP003"]),
        (['permit NetworkConnect when { resource.host like "*" && resource.port == 443 }'], []),
        (['permit ArtifactRead when { resource.name like "*" }'], ["OBP008"]),
        (
            ['permit SecretAccess when { resource.name == "T" && resource.host like "*" }'],
            ["OBP008"],
        ),
        (['permit SecretAccess when { resource.name == "T" }'], []),
        (["permit Memory when { resource.bytes >= 0 }"], ["OBP008"]),
        ([DATA, DATA.replace("data", "more", 1)], ["OBP004"]),
        ([DATA, 'permit FileRead when { resource.path like "/data/a/*" }'], ["OBP004"]),
        (['permit FileRead when { resource.path like "/data/a/*" }', DATA], ["OBP004"]),
        (
            [
                DATA,
                'permit FileRead when { resource.path like "/da*" && context.trust == "trusted" }',
            ],
            ["OBP011"],
        ),
        (
            [DATA, '@id("f") @reason("x") forbid FileRead when { resource.path like "/d*" }'],
            ["OBP005", "OBP011"],
        ),
        (
            [
                DATA,
                '@reason("x") forbid FileRead when { resource.path like "/data/*/*" }',
                '@reason("x") forbid FileRead when { !(resource.path like "/data/*/*") }',
            ],
            ["OBP005"],
        ),
        (['permit FileRead when { resource.path == "/a" && resource.path == "/b" }'], ["OBP006"]),
        ([DATA, 'forbid FileRead when { resource.path == "/data/x" }'], ["OBP007"]),
        (['@reason("x") forbid FileRead when { resource.path == "/data/secret/*" }'], ["OBP010"]),
        (['permit FileRead when { resource.path like "/data/?.csv" }'], ["OBP010"]),
        (['permit ArtifactRead when { resource.name == "reports/*" }'], ["OBP010"]),
        (['permit FileRead when { context.environment == "a*" && resource.path == "/a" }'], []),
        (['@lint_ignore("OBP010") permit FileRead when { resource.path == "/a*" }'], []),
        (['@lint_ignore("OBP001") permit FileRead'], []),
        (['@lint_ignore("OBP007, OBP004") permit FileRead'], ["OBP001"]),
    ],
)
def test_lint(texts: list[str], codes: list[str]) -> None:
    found = lint(policy(*texts))
    assert [one.code for one in found] == codes
    for one in found:
        assert one.to_dict()["policy"] in [rule.id for rule in policy(*texts).rules]
        assert (one.other is None) or f"`{one.other}`" in one.message


@pytest.mark.parametrize(
    ("attribute", "told", "wanted"),
    [
        ('path == "/data/secret/*"', "`*` is a plain star here", 'path like "/data/secret/*"'),
        ('path == "/data/**"', "`*` is a plain star here", 'path like "/data/*"'),
        ('path == "/a?/*"', "`*` is a plain star here", 'path like "/a*/*"'),
        ('path like "/a/\\*"', "`*` is a plain star here", 'path like "/a/*"'),
        ('path like "/a/?.csv"', "`?` is a plain question mark here", 'path like "/a/*.csv"'),
        ('path like "/a/?/*"', "cedar has no wildcard for one character", 'path like "/a/*/*"'),
        ('name == "m/*"', "`*` is a plain star here", 'name like "m/*"'),
    ],
)
def test_a_star_that_is_no_wildcard(attribute: str, told: str, wanted: str) -> None:
    entity = "FileRead" if attribute.startswith("path") else "ArtifactRead"
    text = f'@reason("x") forbid {entity} when {{ resource.{attribute} }}'
    (found,) = lint(policy(text))
    assert found.code == "OBP010" and told in found.message
    assert f"write `resource.{wanted}`" in found.message
    assert lint(policy(f'@lint_ignore("OBP010") {text}')) == ()


@pytest.mark.parametrize(
    ("pattern", "is_found"),
    [
        ("/data*", True),
        ("/data/set1*", True),
        ("/home/*/.ssh*", True),
        ("*/data*", True),
        ("/data/*", False),
        ("/data/*.csv", False),
        ("/data/report-*", False),
        ("/data/2024_*", False),
        ("/var/log/app.log*", False),
        ("/data/*old*", False),
        ("*old*", False),
        ("/a/\\*x", False),
    ],
)
def test_a_name_that_may_go_on(pattern: str, is_found: bool) -> None:
    silent = '@lint_ignore("OBP010")'
    text = f'forbid FileRead when {{ resource.path like "{pattern}" }}'
    found = lint(policy(f'@reason("x") {silent} {text}'))
    assert [one.code for one in found] == ["OBP011"] * is_found
    for one in found:
        start = pattern[:-1]
        assert f"`{pattern}` is also for `{start}-old`" in one.message
        assert f'write `resource.path like "{start}/*"`' in one.message
    assert lint(policy(f'@reason("x") @lint_ignore("OBP011, OBP010") {text}')) == ()


def test_lint_says_what_it_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'permit ArtifactRead when { resource.name like "*" }'
    monkeypatch.setattr("omnibase.core.security.policy_lint.MAX_LINT_STEPS", 0)
    assert [(one.code, one.policy) for one in lint(policy(text))] == [("OBP009", "policy0")]
    assert lint(policy(f'@lint_ignore("OBP009") {text}')) == ()
    monkeypatch.setattr("omnibase.core.security.policy_lint.MAX_LINT_CASES", 0)
    assert [one.code for one in lint(policy("permit Memory"))] == ["OBP001", "OBP009"]


def test_lint_is_bounded() -> None:
    texts = [
        f'permit FileRead when {{ context.environment == "e{n}" && context.trust == "trusted" '
        '&& context.lifecycle == "active" }'
        for n in range(300)
    ]
    assert [one.code for one in lint(policy(*texts))] == ["OBP009"]


# --- tables ------------------------------------------------------------------------------


def table(*cases: Any, **more: Any) -> bytes:
    return json.dumps({"version": 1, "cases": list(cases), **more}).encode()


def test_a_table() -> None:
    results = run_table(
        policy(DATA, SECRET),
        table(
            {"request": "FILE_READ:/data/x", "expect": "allow", "policies": ["data"]},
            {"request": "FILE_READ:/data/**", "expect": "mask", "masks": ["/data/secret/**"]},
            {
                "request": "FILE_READ:/x",
                "expect": "deny",
                "name": "outside",
                "context": {"trust": "trusted"},
            },
            {"request": "FILE_READ:/x", "expect": "allow", "policies": ["data"]},
            {"request": "FILE_READ:/data/**", "expect": "mask", "masks": []},
            context={"environment": "test"},
        ),
        "t",
    )
    assert [result.passed for result in results] == [True, True, True, False, False]
    assert results[2].name == "outside" and results[0].name == "FILE_READ:/data/x"
    assert "expected `allow`" in results[3].message and "`data` to decide" in results[3].message
    assert "expected the masks" in results[4].message
    assert results[0].to_dict()["passed"] is True


OK = {"request": "FILE_READ:/x", "expect": "deny"}


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"[]", "$"),
        (json.dumps({"version": 2, "cases": []}).encode(), "$.version"),
        (json.dumps({"version": True, "cases": []}).encode(), "$.version"),
        (json.dumps({"version": 1}).encode(), "$"),
        (table(x=1), "$.x"),
        (json.dumps({"version": 1, "cases": {}}).encode(), "$.cases"),
        (table(1), "$.cases[0]"),
        (table(OK, {"request": 1, "expect": "deny"}), "$.cases[1].request"),
        (table({"request": "FILE:/x", "expect": "deny"}), "$.cases[0].request"),
        (table({**OK, "expect": "no"}), "$.cases[0].expect"),
        (table({**OK, "expect": []}), "$.cases[0].expect"),
        (table({**OK, "name": 1}), "$.cases[0].name"),
        (table({**OK, "masks": "x"}), "$.cases[0].masks"),
        (table({**OK, "policies": [1]}), "$.cases[0].policies"),
        (table({**OK, "context": {"x": "y"}}), "$.cases[0].context.x"),
        (table({**OK, "context": {"trust": 1}}), "$.cases[0].context.trust"),
        (table({**OK, "context": {"trust": "x"}}), "$.cases[0].context"),
    ],
)
def test_a_broken_table_is_refused_with_its_place(data: bytes, place: str) -> None:
    with pytest.raises((ConfigurationError, CapabilityError)) as caught:
        run_table(EMPTY, data, "t.json")
    assert caught.value.details["json_path"] == place
    assert "`t.json`" in caught.value.message
