"""Generated components, versions and damage, against references and `verify`."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cmp_to_key
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnibase.core.registry import (
    Component,
    Constraint,
    FileStore,
    Lifecycle,
    Trust,
    Version,
    component_schema,
    open_store,
)
from omnibase.core.registry.chain import LINE_BYTES, LogLine
from omnibase.core.registry.checks import MAX_DESCRIPTION
from omnibase.core.registry.journal import decode, encode
from omnibase.core.registry.store import Tampered
from omnibase.core.registry.view import Change
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.errors import OmniBaseError, RegistryError

# Versions ------------------------------------------------------------------------

numbers = st.integers(0, 12) | st.integers(0, 10**20)
alphanumeric = st.from_regex(r"\A[0-9A-Za-z-]{1,6}\Z").filter(
    lambda text: not (text.isdigit() and text[0] == "0" and text != "0")
)
identifiers = st.lists(numbers.map(str) | alphanumeric, max_size=4).map(".".join)
builds = st.lists(st.from_regex(r"\A[0-9A-Za-z-]{1,6}\Z"), max_size=2).map(".".join)
versions = st.builds(
    lambda triple, pre, build: ".".join(map(str, triple))
    + (f"-{pre}" if pre else "")
    + (f"+{build}" if build else ""),
    st.tuples(numbers, numbers, numbers), identifiers, builds,
)  # fmt: skip


def precedence(one: str, two: str) -> int:
    """Section 11 of SemVer 2.0.0, clause by clause."""

    def parts(text: str) -> tuple[list[int], list[str]]:
        core, _, pre = text.split("+", maxsplit=1)[0].partition("-")
        return [int(n) for n in core.split(".")], pre.split(".") if pre else []

    (core1, pre1), (core2, pre2) = parts(one), parts(two)
    for a, b in zip(core1, core2, strict=True):
        if a != b:
            return -1 if a < b else 1
    if not pre1 or not pre2:
        return bool(pre2) - bool(pre1) if bool(pre1) != bool(pre2) else 0
    for x, y in zip(pre1, pre2, strict=False):
        if x == y:
            continue
        if x.isdigit() and y.isdigit():
            return -1 if int(x) < int(y) else 1
        if x.isdigit() != y.isdigit():
            return -1 if x.isdigit() else 1
        return -1 if x.encode() < y.encode() else 1
    return (len(pre1) > len(pre2)) - (len(pre1) < len(pre2))


@given(versions, versions)
def test_the_order_is_the_references(one: str, two: str) -> None:
    a, b = Version.parse(one), Version.parse(two)
    expected = precedence(one, two)
    assert ((a > b) - (a < b)) == expected
    assert (a <= b) == (expected <= 0) and (a >= b) == (expected >= 0)
    assert (a.precedence == b.precedence) == (expected == 0)
    assert (a == b) == (one == two)


@given(st.lists(versions, max_size=8))
def test_sorting_agrees_with_the_reference(texts: list[str]) -> None:
    ours = sorted(map(Version.parse, texts))
    theirs = sorted(texts, key=cmp_to_key(precedence))
    assert [v.precedence for v in ours] == [Version.parse(t).precedence for t in theirs]


@given(versions)
def test_a_version_is_written_as_it_was_read(text: str) -> None:
    assert str(Version.parse(text)) == text
    jsonschema.validate(text, component_schema()["properties"]["version"])


@given(versions, versions)
def test_constraints_agree_with_the_order(bound: str, text: str) -> None:
    version = Version.parse(text)
    # Prereleases have a rule of their own.
    if version.prerelease:
        return
    relation = precedence(text, bound)
    for operator, expected in {
        "<": relation < 0, "<=": relation <= 0, ">": relation > 0, ">=": relation >= 0,
        "!=": relation != 0,
    }.items():  # fmt: skip
        assert Constraint.parse(f"{operator}{bound}").allows(version) == expected
    if Constraint.parse(f"~{bound}").allows(version):
        assert Constraint.parse(f"^{bound}").allows(version) or Version.parse(bound).major == 0
    if Constraint.parse(f"^{bound}").allows(version):
        assert Constraint.parse(f">={bound}").allows(version)


@given(st.text(max_size=40) | st.text("0123456789.-+<>=^~,* av", max_size=30))
def test_any_text_is_a_version_or_refused(text: str) -> None:
    for kind in (Version, Constraint):
        try:
            kind.parse(text)
        except RegistryError as error:
            assert error.details["reason"] == "invalid"


# Components ----------------------------------------------------------------------

sha256s = st.from_regex(r"\A[0-9a-f]{64}\Z")
lines = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=30)
texts = st.text(st.characters(categories=["L", "N", "P", "S"], include_characters="\n\t "))
capabilities = st.lists(
    st.sampled_from(
        ["FILE_READ:/data/**", "FILE_WRITE:/out/*.csv", "MEMORY:64MiB", "SECRET_ACCESS:TOKEN",
         "NETWORK_CONNECT:*.example.com:443", "ARTIFACT_READ:models/*"]
    ),
    max_size=6,
).map(CapabilitySet.parse)  # fmt: skip


@st.composite
def components(draw: st.DrawFn) -> Component:
    uuid = draw(st.uuids())
    artifacts = draw(st.dictionaries(st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,9}\Z"), sha256s,
                                     max_size=4))  # fmt: skip
    artifacts.pop("entrypoint", None)
    entrypoint = None
    if draw(st.booleans()):
        name = draw(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,9}", fullmatch=True))
        entrypoint = f"scripts/{uuid}/{name}"
        artifacts["entrypoint"] = draw(sha256s)
    return Component(
        uuid=uuid,
        name=draw(st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True)),
        version=Version.parse(draw(versions.filter(lambda text: len(text) <= 128))),
        owner=draw(lines),
        description=draw(texts)[:MAX_DESCRIPTION],
        entrypoint=entrypoint,
        lifecycle=draw(st.sampled_from(Lifecycle)),
        trust=draw(st.sampled_from(Trust)),
        capabilities_required=draw(capabilities),
        idempotent=draw(st.booleans()),
        artifacts=artifacts,
    )


@given(components())
def test_a_component_survives_its_file(component: Component) -> None:
    data = component.to_json()
    assert Component.from_json(data) == component
    assert Component.from_json(data).to_json() == data
    assert data.endswith(b"}\n") and b"\r" not in data
    jsonschema.validate(json.loads(data), component_schema())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(components(), st.data())
def test_a_wrong_member_is_refused_or_harmless(component: Component, data: st.DataObject) -> None:
    document: dict[str, Any] = component.to_dict()
    key = data.draw(st.sampled_from(sorted(document)))
    document[key] = data.draw(json_values)
    raw = json.dumps(document).encode()
    try:
        read = Component.from_json(raw)
    except RegistryError as error:
        assert error.details["reason"] == "invalid"
    else:
        assert Component.from_json(read.to_json()) == read
        jsonschema.validate(json.loads(raw), component_schema())


@given(
    st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="replace"))
)
def test_any_bytes_are_refused_in_one_way(data: bytes) -> None:
    with pytest.raises(RegistryError):
        Component.from_json(data)
    with pytest.raises(Tampered):
        decode(data)
    assert LogLine.decode(data) is None


@given(st.uuids(), st.integers(1, 999_999), st.binary(max_size=20), st.integers(1, 5))
def test_a_log_line_survives_and_seals(uuid: UUID, revision: int, data: bytes, count: int) -> None:
    line = None
    for _ in range(count):
        following = LogLine.after(line, uuid, revision, data)
        assert LogLine.decode(following.encode()) == following
        assert len(following.encode()) == LINE_BYTES
        assert following.sequence == (line.sequence + 1 if line else 1)
        assert following.sealed(line.seal if line else "0" * 64) == following.seal
        line = following


# Stores --------------------------------------------------------------------------


@dataclass
class Sample:
    """A small registry with everything in it."""

    root: Path
    store: FileStore
    components: tuple[Component, ...]


@pytest.fixture(scope="module")
def sample() -> Iterator[Sample]:
    root = Path(tempfile.mkdtemp(prefix="ob-registry-"))
    store = FileStore(root / "registry", durable=False)
    for name in ("one", "two"):
        added = store.add(Component.new(name=name, version="1.0.0", owner="ann"))
        store.put_policy(added.uuid, b'{"a": 1}\n', expected_version=0, author="ann")
        store.add_script(added.uuid, "main.py", b"print(1)\n")
    current = store.put_policy(added.uuid, b'{"a": 2}\n', expected_version=1)
    store.update(replace(current, version=Version.parse("1.1.0"), description="é"))
    assert store.verify() == []
    yield Sample(root / "registry", store, tuple(store.list()))
    shutil.rmtree(root)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_flip_of_any_byte_is_found(sample: Sample, data: st.DataObject) -> None:
    files = sorted(p for p in sample.root.rglob("*") if p.is_file() and p.stat().st_size)
    path = data.draw(st.sampled_from(files))
    before = path.read_bytes()
    position = data.draw(st.integers(0, len(before) - 1))
    flipped = bytearray(before)
    flipped[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(flipped)
    try:
        findings = sample.store.verify()
        assert str(path.relative_to(sample.root)) in {found.file for found in findings}
        # What is read all the same is what was there before.
        for component in sample.components:
            try:
                assert sample.store.get(component.uuid) == component
                assert sample.store.find(component.reference) == component
                assert sample.store.load_entrypoint(component) == b"print(1)\n"
                assert sample.store.get_policy(component.uuid).sha256 == component.policy_sha256
            except OmniBaseError as error:
                assert error.details["reason"] in ("tampered", "missing")
    finally:
        path.write_bytes(before)
    assert sample.store.verify() == []


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_cut_of_any_file_is_found(sample: Sample, data: st.DataObject) -> None:
    files = sorted(p for p in sample.root.rglob("*") if p.is_file() and p.stat().st_size)
    path = data.draw(st.sampled_from(files))
    before = path.read_bytes()
    path.write_bytes(before[: data.draw(st.integers(0, len(before) - 1))])
    try:
        assert sample.store.verify()
    finally:
        path.write_bytes(before)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_file_in_anothers_place_is_found(sample: Sample, data: st.DataObject) -> None:
    files = sorted(p for p in sample.root.rglob("*") if p.is_file())
    path = data.draw(st.sampled_from(files))
    before = path.read_bytes()
    other = data.draw(st.sampled_from(files)).read_bytes()
    path.write_bytes(other)
    try:
        assert bool(sample.store.verify()) == (other != before)
    finally:
        path.write_bytes(before)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["update", "policy", "script", "retire"]), st.binary(max_size=8)),
        max_size=6,
    ),
    kind=st.sampled_from(["file", "sqlite"]),
)
def test_a_store_is_its_model(steps: list[tuple[str, bytes]], kind: str) -> None:
    """Whatever is done: revisions count up, everything is kept, and all of it verifies."""
    with tempfile.TemporaryDirectory(prefix="ob-registry-") as folder:
        location = f"{folder}/registry" if kind == "file" else f"sqlite:///{folder}/registry.db"
        store = open_store(location, **({"durable": False} if kind == "file" else {}))
        current = store.add(Component.new(name="model", version="1.0.0", owner="ann"))
        past, policies, script = [current], [], None
        for what, data in steps:
            payload = b"x" + data
            try:
                if what == "update":
                    made = store.update(replace(current, description=payload.hex()))
                elif what == "policy":
                    made = store.put_policy(current.uuid, payload, expected_version=len(policies))
                elif what == "script":
                    made = store.add_script(current.uuid, f"m{len(data)}.py", payload)
                else:
                    made = store.retire(current.uuid)
            except RegistryError as error:
                assert error.details["reason"] == "conflict"
                assert current.lifecycle is Lifecycle.RETIRED
                continue
            if made == current:
                continue
            policies += [payload] if what == "policy" else []
            script = payload if what == "script" else script
            assert made.revision_number == current.revision_number + 1
            current = made
            past.append(made)
        assert store.history(current.uuid) == tuple(past)
        assert store.head().entries == len(past)
        for number, document in enumerate(policies, 1):
            assert store.get_policy(current.uuid, number).document == document
        if script is not None:
            assert store.load_entrypoint(current) == script
        assert store.verify() == []
        store.close()


@given(components(), st.none() | st.binary(max_size=50), st.none() | st.binary(max_size=50))
def test_a_journal_survives(
    component: Component, policy: bytes | None, script: bytes | None
) -> None:
    record = component.to_json()
    line = LogLine.after(None, component.uuid, 1, record)
    change = Change(component=component, record=record, line=line, policy=policy, script=script)
    assert decode(encode(change)) == change
