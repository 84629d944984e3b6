"""Between a run and the store: what grants name, what is staged, what of it is stored."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from omnibase import CapabilitySet, EventBus, exchange
from omnibase.core import events
from omnibase.core.artifacts.places import place_of
from omnibase.core.artifacts.store import Artifact, ArtifactStore
from omnibase.core.sandbox.collect.reports import Collected, Left
from omnibase.errors import ArtifactError, CapabilityError
from omnibase.exchange import ArtifactExchange, covers, given, granted_artifacts


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    store = place_of(tmp_path / "store").open()
    for name in ("a", "in/x", "in/y", "in/deep/z"):
        store.put(name, io.BytesIO(name.encode()))
    return store


@pytest.fixture
def sink() -> events.CollectingSink:
    return events.CollectingSink()


@pytest.fixture
def emitter(sink: events.CollectingSink) -> events.Emitter:
    bus = EventBus()
    bus.subscribe(sink)
    return events.Emitter(bus)


def collected(path: Path, name: str, capability: str = "ARTIFACT_WRITE") -> Collected:
    path.write_bytes(name.encode("utf-8", "surrogateescape"))
    return Collected(capability=capability, name=name, path=path, size=1, sha256="0" * 64)


def names(artifacts: tuple[Artifact, ...]) -> list[str]:
    return [artifact.name for artifact in artifacts]


class TestGrants:
    def test_they_name_the_latest_of_each(self, store: ArtifactStore) -> None:
        store.put("a", io.BytesIO(b"new"))
        found = granted_artifacts(store, ("a", "in/*", "in/x"))
        assert names(found) == ["a", "in/x", "in/y"]
        assert found[0].version == 2
        assert granted_artifacts(store, ()) == ()

    def test_what_is_missing_is_named(self, store: ArtifactStore) -> None:
        with pytest.raises(ArtifactError) as error:
            granted_artifacts(store, ("nope",))
        assert error.value.details == {
            "artifact": "nope", "reason": "missing", "capability": "ARTIFACT_READ:nope",
        }  # fmt: skip
        with pytest.raises(CapabilityError, match="`ARTIFACT_READ:no\\*` matches no artifact"):
            granted_artifacts(store, ("no*",))

    def test_too_many_are_refused(
        self, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exchange, "_MAX_INPUTS", 2)
        with pytest.raises(CapabilityError, match="more than 2"):
            granted_artifacts(store, ("a", "in/*"))

    @pytest.mark.parametrize("below", ["in/x/y", "in/x/y/z"])
    def test_a_file_is_no_directory(self, store: ArtifactStore, below: str) -> None:
        store.put(below, io.BytesIO(b""))
        with pytest.raises(CapabilityError, match="cannot both be files of one run"):
            granted_artifacts(store, ("in/x", below))

    def test_a_name_that_a_script_chose_is_decided_as_it_stands(self) -> None:
        grants = CapabilitySet.parse(["ARTIFACT_WRITE:a*", "REGISTRY_WRITE:b"])
        for kind, name, covered in (
            ("ARTIFACT_WRITE", "abc", True), ("ARTIFACT_WRITE", "a/b", False),
            ("ARTIFACT_WRITE", "b", False), ("REGISTRY_WRITE", "b", True),
            ("REGISTRY_WRITE", "abc", False), ("ARTIFACT_WRITE", "a*", True),
            ("REGISTRY_WRITE", "?", False), ("ARTIFACT_WRITE", "a\0", False),
        ):  # fmt: skip
            assert covers(grants, kind, name) is covered, name


class TestExchange:
    def test_it_stages_and_tells(
        self, store: ArtifactStore, emitter: events.Emitter, tmp_path: Path
    ) -> None:
        inputs = granted_artifacts(store, ("a", "in/deep/*"))
        (tmp_path / "to").mkdir()
        ArtifactExchange(store, inputs, emitter).stage(tmp_path / "to")
        assert (tmp_path / "to" / "a").read_bytes() == b"a"
        assert (tmp_path / "to" / "in/deep/z").read_bytes() == b"in/deep/z"
        assert (tmp_path / "to" / "a").stat().st_mode & 0o777 == 0o444
        assert [event.to_dict() for event in given(inputs)] == [
            {"artifact": a.name, "version": 1, "digest": a.digest, "size_bytes": a.size}
            for a in inputs
        ]

    def test_it_stores_its_own_and_says_what_it_does_not(
        self,
        store: ArtifactStore,
        emitter: events.Emitter,
        sink: events.CollectingSink,
        tmp_path: Path,
    ) -> None:
        one = ArtifactExchange(store, (), emitter)
        one.take(
            (
                collected(tmp_path / "0", "z"), collected(tmp_path / "1", "b"),
                collected(tmp_path / "2", "\udcff"),
                collected(tmp_path / "3", "c", "REGISTRY_WRITE"),
            ),
            (
                Left(capability="ARTIFACT_WRITE", name="l", reason="is not a regular file"),
                Left(capability="ARTIFACT_WRITE", name="n", reason="is not granted", denied=True),
                Left(capability="REGISTRY_WRITE", name="r", reason="is not a regular file"),
            ),
        )  # fmt: skip
        assert list(one.artifacts) == ["b", "z"]
        assert [left.name for left in one.artifacts.left_out] == ["l", "\udcff"]
        assert store.find("c") is None
        assert [event.name for event in sink.events] == [
            "ArtifactStored", "ArtifactStored", "ArtifactRefused", "ArtifactRefused",
        ]  # fmt: skip
        assert one.error is None

    def test_what_the_store_does_not_take_is_an_error_and_the_rest_goes_on(
        self, store: ArtifactStore, emitter: events.Emitter, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        put = type(store).put

        def picky(self: ArtifactStore, name: str, source: io.BytesIO) -> Artifact:
            if name == "b":
                raise ArtifactError("the store is full")
            return put(self, name, source)

        monkeypatch.setattr(type(store), "put", picky)
        one = ArtifactExchange(store, (), emitter)
        one.take((collected(tmp_path / "0", "b"), collected(tmp_path / "1", "d")), ())
        assert list(one.artifacts) == ["d"]
        assert one.error is not None
        assert [left.reason for left in one.artifacts.left_out] == [
            "was not stored: the store is full"
        ]
