"""Every name of an artifact is a capability for exactly itself, and safe as a path and a key."""

from __future__ import annotations

import posixpath
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from omnibase.core.artifacts.store import name_fault
from omnibase.core.security.capabilities import Capability, CapabilitySet, CapabilityType

_CHARACTERS = st.one_of(
    st.sampled_from("ab.-_/ *?\\~\0\n\x1b\u202e\u0301é"), st.characters(codec=None)
)
_NAMES = st.one_of(
    st.text(_CHARACTERS, max_size=12),
    st.lists(st.sampled_from(["a", "out", ".", "..", "", "x y", "é", "x" * 201]), max_size=10).map(
        "/".join
    ),
)


@given(_NAMES)
def test_a_name_is_a_capability_for_itself_alone(name: str) -> None:
    if name_fault(name) is not None:
        return
    capability = Capability.parse(f"ARTIFACT_READ:{name}")
    assert capability.resource == name
    assert capability.pattern.is_literal
    assert CapabilitySet([capability]).covering(CapabilityType.ARTIFACT_READ, name) == capability


@given(_NAMES)
def test_a_name_is_a_path_below_and_nothing_else(name: str) -> None:
    if name_fault(name) is not None:
        return
    assert posixpath.normpath(f"/base/{name}") == f"/base/{name}"
    assert name.isprintable()
    assert unicodedata.normalize("NFC", name) == name
    assert len(name.encode()) <= 512
    assert name.split("/", maxsplit=1)[0] != "out"
    assert not any(segment.startswith(".") for segment in name.split("/"))


@given(_NAMES, st.sampled_from(["*", "a*", "*/*", "?", "é*"]))
def test_whatever_a_script_calls_a_file_is_decided_without_an_error(
    name: str, pattern: str
) -> None:
    grants = CapabilitySet.parse([f"ARTIFACT_WRITE:{pattern}"])
    found = grants.covering(CapabilityType.ARTIFACT_WRITE, name)
    assert found is None or name.count("/") == pattern.count("/")
