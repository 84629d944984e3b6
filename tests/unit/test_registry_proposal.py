"""What a script may say of a component that it proposes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnibase.core.registry import Lifecycle
from omnibase.core.registry.model import Trust
from omnibase.core.registry.proposal import MAX_PROPOSAL_BYTES, parse_proposal
from omnibase.errors import RegistryError


def parse(document: Any) -> Any:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_proposal(data, name="report", owner="run:1")


def test_all_that_it_may_say() -> None:
    found = parse(
        {
            "version": "1.2.0", "description": "a report", "idempotent": True,
            "capabilities_required": ["FILE_READ:/data/**"],
        }
    )  # fmt: skip
    assert (found.reference, found.owner, found.description) == (
        "report@1.2.0", "run:1", "a report",
    )  # fmt: skip
    assert found.idempotent and [str(c) for c in found.capabilities_required] == [
        "FILE_READ:/data/**"
    ]


def test_the_rest_is_as_little_as_can_be() -> None:
    one, two = parse({"version": "1.0.0"}), parse({"version": "1.0.0"})
    assert one.uuid != two.uuid
    assert (one.lifecycle, one.trust) == (Lifecycle.DRAFT, Trust.UNTRUSTED)
    assert (one.policy, one.revision, one.entrypoint, dict(one.artifacts)) == (None, None, None, {})


@pytest.mark.parametrize(
    "document",
    [
        {"version": "1.0.0", "trust": "trusted"},
        {"version": "1.0.0", "lifecycle": "active"},
        {"version": "1.0.0", "uuid": "7d2c1b5e-0a4f-4c3e-9f6b-1e8a5d7c2b90"},
        {"version": "1.0.0", "name": "other"},
        {"version": "1.0.0", "owner": "ann"},
        {"version": "1.0.0", "policy": None},
        {"version": "1.0.0", "revision": None},
        {"version": "1.0.0", "artifacts": {}},
        {"version": "1.0.0", "entrypoint": "scripts/x/main.py"},
        {"version": "1.0.0", "format": 1},
        {"version": "1.0.0", "\u202e": 1},
        {"version": "1"},
        {"version": 1},
        {"version": None},
        {"description": "x"},
        {},
        [],
        "1.0.0",
        None,
        {"version": "1.0.0", "capabilities_required": ["FILE_READ:relative"]},
        {"version": "1.0.0", "capabilities_required": "FILE_READ:/x"},
        {"version": "1.0.0", "idempotent": "yes"},
        {"version": "1.0.0", "description": "x" * 5000},
        {"version": "1.0.0", "description": "\x1b[31m"},
        b"",
        b"{",
        b"\xff\xfe",
        b'{"version": "1.0.0", "version": "1.0.1"}',
        b'{"version": NaN}',
        b"[" * 5000,
        b'{"version": "1.0.0", "description": "' + b"x" * MAX_PROPOSAL_BYTES + b'"}',
    ],
)
def test_what_is_refused(document: Any) -> None:
    with pytest.raises(RegistryError) as caught:
        parse(document)
    assert caught.value.details["reason"] == "invalid"
    assert caught.value.message.isprintable()


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["version", "trust", "description", "x"]), inner, max_size=3),
    max_leaves=6,
))  # fmt: skip
def test_whatever_it_says_it_is_a_draft_or_refused(document: Any) -> None:
    try:
        found = parse(document)
    except RegistryError:
        return
    assert (found.lifecycle, found.trust, found.policy) == (
        Lifecycle.DRAFT, Trust.UNTRUSTED, None,
    )  # fmt: skip
