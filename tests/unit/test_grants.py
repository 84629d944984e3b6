"""What a run gets: metadata and overrides, narrowed by policy."""

from __future__ import annotations

from typing import Any

import pytest

from omnibase.core.security import grants as grants_module
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.core.security.containment import Undecided
from omnibase.core.security.decision import PolicyContext
from omnibase.core.security.grants import (
    UNSANDBOXED,
    GrantMask,
    effective_grants,
    unsandboxed_permits,
)
from omnibase.core.security.policy import Policy
from omnibase.errors import CapabilityDenied
from tests.helpers.policies import COMPONENT, PLAIN, policy

POLICY = policy(
    '@id("data") permit FileRead when { resource.path like "/data/*" }',
    '@id("secret") @reason("private") forbid FileRead '
    'when { resource.path like "/data/secret/*" || resource.path == "/data/secret" }',
    '@id("memory") permit Memory when { resource.bytes <= 1048576 }',
)
TRUSTED = PolicyContext(trust="trusted")


def caps(*texts: str) -> CapabilitySet:
    return CapabilitySet.parse(texts)


def test_granted_with_masks() -> None:
    found = effective_grants(
        caps("FILE_READ:/data/**"), caps("MEMORY:1MiB"), POLICY, COMPONENT, PLAIN, degrade=False
    )
    assert found.granted == caps("FILE_READ:/data/**", "MEMORY:1MiB") and found.denied == ()
    assert found.masks == (
        GrantMask(path="/data/secret", policy_id="secret", reason="policy `secret`: private"),
    )
    assert found.to_dict() == {
        "granted": ["FILE_READ:/data/**", "MEMORY:1MiB"],
        "masks": [found.masks[0].to_dict()],
        "denied": [],
        "policy_sha256": POLICY.sha256,
    }


def test_a_denial_raises_before_anything_starts() -> None:
    with pytest.raises(CapabilityDenied) as caught:
        effective_grants(
            caps("FILE_READ:/data/secret/x", "FILE_READ:/data/y"),
            caps("MEMORY:1GiB"),
            POLICY,
            COMPONENT,
            PLAIN,
            degrade=False,
        )
    error = caught.value
    assert "`FILE_READ:/data/secret/x` is denied (and 1 more)" in error.message
    assert "policy `secret` (private)" in error.message
    first, second = error.details["denied"]
    assert first["policies"] == [{"id": "secret", "effect": "forbid", "reason": "private"}]
    assert first["witness"] == "/data/secret/x"
    assert second["capability"] == "MEMORY:1GiB" and second["policies"] == []
    assert error.hint is not None and "policy explain" in error.hint


def test_one_denial_is_told_alone() -> None:
    with pytest.raises(CapabilityDenied) as caught:
        effective_grants(caps("MEMORY:1GiB"), caps(), POLICY, COMPONENT, PLAIN, degrade=False)
    assert "more)" not in caught.value.message


def test_degraded_it_goes_on_with_what_is_granted() -> None:
    found = effective_grants(
        caps("FILE_READ:/data/x", "MEMORY:1GiB"), caps(), POLICY, COMPONENT, PLAIN, degrade=True
    )
    assert found.granted == caps("FILE_READ:/data/x")
    (denied,) = found.denied
    assert str(denied.capability) == "MEMORY:1GiB" and denied.witness == "1GiB"
    assert found.to_dict()["denied"] == [denied.to_dict()]


def test_an_override_never_exceeds_the_policy() -> None:
    found = effective_grants(
        caps(), caps("FILE_READ:/**", "FILE_READ:/data/x"), POLICY, COMPONENT, PLAIN, degrade=True
    )
    assert found.granted == caps("FILE_READ:/data/x")


ALONE = policy('permit ExternalCommand when { resource.name == "host-python" }')
REQUIRED = CapabilitySet((UNSANDBOXED,))
WIDE = policy('permit ExternalCommand when { resource.name like "*" }')


def may(
    metadata: CapabilitySet = REQUIRED, by: Policy = ALONE, context: PolicyContext = TRUSTED
) -> tuple[str, ...]:
    return unsandboxed_permits(metadata, by, COMPONENT, context)


def refused(**changes: Any) -> str:
    with pytest.raises(CapabilityDenied) as caught:
        may(**changes)
    assert caught.value.details["capability"] == "EXTERNAL_COMMAND:host-python"
    assert caught.value.details["reason"] in caught.value.message
    assert "--unsandboxed" in str(caught.value.hint)
    return str(caught.value.details["reason"])


def test_without_a_sandbox_only_if_all_agree() -> None:
    assert may() == ("policy0",)
    assert "not `trusted`" in refused(context=PLAIN)
    assert "not `trusted`" in refused(context=PolicyContext(trust="semi_trusted"))
    assert "do not name it" in refused(metadata=caps())
    assert "do not name it" in refused(metadata=caps("EXTERNAL_COMMAND:*"))
    refused(by=POLICY)
    assert "that name and no other" in refused(by=WIDE)
    forbidden = 'forbid ExternalCommand when { context.trust == "trusted" }'
    permitted = 'permit ExternalCommand when { resource.name == "host-python" }'
    refused(by=policy(permitted, forbidden))


def test_what_stays_open_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*_: object) -> None:
        raise Undecided("no")

    monkeypatch.setattr(grants_module, "find", give_up)
    assert "that name and no other" in refused()


def test_it_is_no_capability_of_the_sandbox() -> None:
    found = effective_grants(REQUIRED, caps(), POLICY, COMPONENT, PLAIN, degrade=False)
    assert found.granted == caps() and found.denied == ()
    with pytest.raises(CapabilityDenied):
        effective_grants(caps(), REQUIRED, POLICY, COMPONENT, PLAIN, degrade=False)
