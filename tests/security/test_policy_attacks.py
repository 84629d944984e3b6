"""Attacks on policies: they mean more than they say, cannot be evaluated, or are another's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import cedarpy
import pytest

import omnibase
from omnibase import CapabilityDenied, OmniBaseError, PolicyError, RegistryError
from omnibase.core.registry.chain import digest
from omnibase.core.security.policy import Policy
from tests.helpers.components import OneComponent
from tests.security.harness import SCRIPTS, Outcome, observed

pytestmark = [pytest.mark.policy, pytest.mark.threat("T-ORCH-03")]

Document = dict[str, Any]


@pytest.fixture
def made(area: Path, tmp_path: Path) -> OneComponent:
    """A component that reads one file, and whose policy permits another."""
    for name in ("wanted.txt", "permitted.txt"):
        (area / name).write_text("content")
    return OneComponent(
        tmp_path / "registry",
        (SCRIPTS / "read_files.py").read_bytes(),
        requires=[f"FILE_READ:{area}/wanted.txt"],
        policies=[f'@id("one") permit FileRead when {{ resource.path == "{area}/permitted.txt" }}'],
    )


def _run(made: OneComponent, area: Path) -> Outcome:
    return observed(
        lambda bus: omnibase.run_component(
            "report", registry=made.directory, args=[f"{area}/wanted.txt"], bus=bus
        )
    )


def _assert_nothing_ran(outcome: Outcome, kind: type[OmniBaseError]) -> None:
    assert isinstance(outcome.error, kind), outcome.error
    names = [event.name for event in outcome.events]
    assert "SandboxStart" not in names
    assert {"CapabilityDenied", "RunRefused"} & set(names)


def _permit(uuid: UUID, condition: Document | None = None, **changes: Any) -> Document:
    policy: Document = {
        "effect": "permit",
        "principal": {"op": "==", "entity": {"type": "Component", "id": str(uuid)}},
        "action": {"op": "==", "entity": {"type": "Action", "id": "use"}},
        "resource": {"op": "is", "entity_type": "FileRead"},
        "conditions": [] if condition is None else [{"kind": "when", "body": condition}],
        "annotations": {},
    }
    return {**policy, **changes}


def _document(*policies: Document) -> bytes:
    named = {f"p{number}": policy for number, policy in enumerate(policies)}
    return json.dumps({"staticPolicies": named, "templates": {}, "templateLinks": []}).encode()


def _of_another(uuid: UUID) -> bytes:
    return _document(_permit(uuid4()))


def _of_anybody(uuid: UUID) -> bytes:
    return _document(_permit(uuid, principal={"op": "All"}))


def _for_any_resource(uuid: UUID) -> bytes:
    return _document(_permit(uuid, resource={"op": "All"}))


def _twice_the_key(uuid: UUID) -> bytes:
    """Two readers, two meanings: one takes the first `effect`, one the last."""
    return _document(_permit(uuid)).replace(
        b'"effect": "permit"', b'"effect": "forbid", "effect": "permit"', 1
    )


def _with_an_extension(uuid: UUID) -> bytes:
    ip = {"ip": [{"Value": "not an address"}]}
    return _document(_permit(uuid, {"isLoopback": [ip]}))


def _with_a_missing_attribute(uuid: UUID) -> bytes:
    attribute = {".": {"left": {"Var": "resource"}, "attr": "nothing"}}
    return _document(
        _permit(uuid), _permit(uuid, {"==": {"left": attribute, "right": {"Value": "x"}}},
                               effect="forbid")
    )  # fmt: skip


def _with_a_template(uuid: UUID) -> bytes:
    document = json.loads(_document(_permit(uuid)))
    document["templates"] = {"t": _permit(uuid, principal={"op": "==", "slot": "?principal"})}
    return json.dumps(document).encode()


def _nested_without_end(uuid: UUID) -> bytes:
    value = b'{"Value": true}'
    deep = b'{"!": {"arg": ' * 3000 + value + b"}}" * 3000
    return _document(_permit(uuid, {"Value": True})).replace(value, deep)


def _too_large(uuid: UUID) -> bytes:
    return _document(*[_permit(uuid)] * 5000)


def _no_json(_uuid: UUID) -> bytes:
    return b'{"staticPolicies": {'


def _not_utf8(uuid: UUID) -> bytes:
    return _document(_permit(uuid)).replace(b"permit", b"per\xffmit")


@pytest.mark.parametrize(
    "hostile",
    [
        _of_another, _of_anybody, _for_any_resource, _twice_the_key, _with_an_extension,
        _with_a_missing_attribute, _with_a_template, _nested_without_end, _too_large, _no_json,
        _not_utf8,
    ],
)  # fmt: skip
@pytest.mark.threat("T-ORCH-04")
def test_a_hostile_document_is_not_taken_in(
    made: OneComponent, area: Path, hostile: Callable[[UUID], bytes]
) -> None:
    before = made.component.policy

    with pytest.raises((PolicyError, RegistryError)):
        made.store.put_policy(made.uuid, hostile(made.uuid), expected_version=1)

    assert made.component.policy == before
    _assert_nothing_ran(_run(made, area), CapabilityDenied)


@pytest.mark.parametrize("hostile", [_of_another, _with_a_missing_attribute, _no_json])
@pytest.mark.threat("T-REG-01")
def test_one_that_is_put_into_the_file_is_not_read(
    made: OneComponent, area: Path, hostile: Callable[[UUID], bytes]
) -> None:
    path = made.directory / "policies" / f"{made.uuid}.cedar.json"
    path.write_bytes(hostile(made.uuid))

    _assert_nothing_ran(_run(made, area), PolicyError)


@pytest.mark.threat("T-REG-01")
def test_nor_with_the_digest_that_belongs_to_it(made: OneComponent, area: Path) -> None:
    """Whoever can write the record as well puts its digest there: the log knows another."""
    document = _document(_permit(made.uuid))
    path = made.directory / "policies" / f"{made.uuid}.cedar.json"
    record = made.directory / "components" / f"{made.uuid}.json"
    was = digest(path.read_bytes())
    path.write_bytes(document)
    assert was in record.read_text()
    record.write_text(record.read_text().replace(was, digest(document)))

    _assert_nothing_ran(_run(made, area), OmniBaseError)


@pytest.mark.parametrize("effect", ["permit", "forbid"])
def test_one_that_cannot_be_evaluated_denies(
    made: OneComponent, area: Path, monkeypatch: pytest.MonkeyPatch, effect: str
) -> None:
    """Cedar leaves out what it cannot evaluate, a forbid too, and allows; we deny."""
    made.put_policy(f'@id("one") permit FileRead when {{ resource.path like "{area}/*" }}')
    attribute = {".": {"left": {"Var": "resource"}, "attr": "nothing"}}
    condition = {"==": {"left": attribute, "right": {"Value": "x"}}}
    broken = _permit(made.uuid, condition, effect=effect)
    genuine = Policy.parse

    def with_a_broken_one(*args: Any, **named: Any) -> Policy:
        policy = genuine(*args, **named)
        document = json.loads(policy.to_json())
        document["staticPolicies"]["broken"] = broken
        policy._engine._policies = cedarpy.PolicySet.from_json_str(json.dumps(document))
        return policy

    monkeypatch.setattr(Policy, "parse", with_a_broken_one)

    outcome = _run(made, area)

    _assert_nothing_ran(outcome, CapabilityDenied)
    assert "cannot be evaluated" in str(outcome.error.details if outcome.error else "")


def test_the_granted_twin_runs(made: OneComponent, area: Path) -> None:
    made.put_policy(f'@id("one") permit FileRead when {{ resource.path like "{area}/*" }}')

    outcome = _run(made, area)

    outcome.assert_clean()
    assert outcome.report[f"{area}/wanted.txt"] == "content"
