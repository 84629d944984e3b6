"""Artifacts as values, the store in a directory, and what it survives."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from omnibase.core.artifacts import directory as directory_module
from omnibase.core.artifacts.directory import DirectoryObjects
from omnibase.core.artifacts.places import Place, place_of
from omnibase.core.artifacts.remote import RemoteObjects
from omnibase.core.artifacts.store import Artifact, Artifacts, ArtifactStore, LeftOut
from omnibase.errors import ArtifactError, ConfigurationError
from omnibase.exchange import open_artifacts
from omnibase.inputs import artifacts_at, default_artifacts


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return place_of(tmp_path / "store").open()


def put(store: ArtifactStore, name: str, data: bytes) -> Artifact:
    return store.put(name, io.BytesIO(data))


def files(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


class TestValues:
    def test_an_artifact_is_frozen_and_compares_by_what_it_says(self, store: ArtifactStore) -> None:
        artifact = put(store, "a", b"x")
        with pytest.raises(AttributeError):
            artifact.name = "b"  # type: ignore[misc]
        assert artifact == store.find("a")
        assert hash(artifact) == hash(store.find("a"))
        assert "store" not in repr(artifact)
        assert set(artifact.to_dict()) == {
            "name", "version", "digest", "size", "kind", "media_type", "created_at",
        }  # fmt: skip
        assert artifact.read_text() == "x"

    def test_without_a_store_there_are_no_bytes(self) -> None:
        lonely = Artifact(
            name="a", version=1, digest="sha256:" + "0" * 64, size=0, kind="text",
            media_type="text/plain", created_at="2026-01-01T00:00:00+00:00",
        )  # fmt: skip
        with pytest.raises(ArtifactError, match="is in no store"):
            lonely.read_bytes()

    def test_artifacts_are_a_mapping_that_says_why_something_is_missing(
        self, store: ArtifactStore
    ) -> None:
        one = put(store, "a", b"x")
        found = Artifacts((one,), (LeftOut(name="b\udcff", reason="is not a regular file"),))
        assert (list(found), len(found), found["a"]) == (["a"], 1, one)
        with pytest.raises(KeyError, match="is not a regular file"):
            found["b\udcff"]
        with pytest.raises(KeyError, match="'c'"):
            found["c"]
        assert found == Artifacts((one,))  # a mapping is what it maps
        assert hash(found) != hash(Artifacts((one,)))
        assert found.left_out[0].to_dict() == {
            "name": r"b\xff", "reason": "is not a regular file",
        }  # fmt: skip
        assert "left_out=(LeftOut(" in repr(found)


class TestPlaces:
    def test_a_place_is_a_directory_a_url_or_a_store(
        self, store: ArtifactStore, tmp_path: Path
    ) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "store")
        assert place_of(tmp_path / "link") == Place(str(tmp_path / "store"))
        assert place_of(str(tmp_path / "link")).areas == (str(tmp_path / "store"),)
        assert place_of("s3://bucket/x").areas == ()
        assert place_of(store).open() is store
        assert place_of(store).areas == store.areas

    @pytest.mark.parametrize("wrong", ["", "a\0b", "file:///x", 5, object()])
    def test_everything_else_is_refused(self, wrong: Any) -> None:
        with pytest.raises(ConfigurationError):
            place_of(wrong)

    def test_a_url_that_nobody_knows_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="`nosuch://x` is no store of artifacts"):
            place_of("nosuch://x").open()

    def test_without_the_library_urls_say_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "obstore", None)
        with pytest.raises(ConfigurationError) as error:
            RemoteObjects("s3://bucket")
        assert error.value.hint == "`pip install 'omnibase[artifacts]'`"

    def test_the_environment_names_it_and_the_state_directory_is_the_default(
        self, monkeypatch: pytest.MonkeyPatch, state_directory: Path, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("OMNIBASE_ARTIFACTS", raising=False)
        assert artifacts_at(None) is None
        assert default_artifacts() == Place(str(state_directory / "artifacts"))
        assert open_artifacts().location == str(state_directory / "artifacts")
        monkeypatch.setenv("OMNIBASE_ARTIFACTS", str(tmp_path))
        assert artifacts_at(None) == Place(str(tmp_path))
        assert open_artifacts().location == str(tmp_path)
        assert open_artifacts(tmp_path / "x").location == str(tmp_path / "x")


class TestDirectory:
    def test_reading_makes_nothing(self, store: ArtifactStore, tmp_path: Path) -> None:
        assert store.names() == ()
        assert os.listdir(tmp_path) == []

    def test_only_its_owner_sees_it(self, store: ArtifactStore, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            put(store, "a", b"x")
        finally:
            os.umask(before)
        for path in (tmp_path / "store", *(tmp_path / "store").rglob("*")):
            assert path.stat().st_mode & 0o077 == 0, path

    @pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
    def test_one_that_others_may_write_to_is_refused(self, tmp_path: Path, mode: int) -> None:
        tmp_path.chmod(mode)
        store = place_of(tmp_path).open()
        for call in (lambda: put(store, "a", b"x"), store.names, lambda: store.find("a")):
            with pytest.raises(ArtifactError, match="only you can write to") as error:
                call()
            assert error.value.hint is not None
            assert f"chmod go-w {tmp_path}" in error.value.hint

    def test_one_that_is_somebody_elses_is_refused(self, tmp_path: Path) -> None:
        os.chown(tmp_path, 1234, 1234)
        with pytest.raises(ArtifactError, match="only you can write to"):
            place_of(tmp_path).open().names()

    def test_a_blob_that_is_no_file_is_an_error(self, store: ArtifactStore, tmp_path: Path) -> None:
        artifact = put(store, "a", b"x")
        (blob,) = (p for p in (tmp_path / "store" / "blobs").rglob("*") if p.is_file())
        blob.unlink()
        for make in (lambda: os.mkfifo(blob), lambda: blob.symlink_to("/etc/passwd")):
            make()
            with pytest.raises(ArtifactError) as error:
                artifact.read_bytes()
            assert error.value.details["reason"] == "unavailable"
            blob.unlink()

    def test_a_full_disk_leaves_nothing(
        self, store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(store, "a", b"x")
        before = files(tmp_path)

        def full(fd: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(directory_module.os, "fsync", full)
        with pytest.raises(ArtifactError, match="No space left on device") as error:
            put(store, "b", b"y")
        assert error.value.details == {"artifact": "b", "reason": "unavailable"}
        assert files(tmp_path) == before

    def test_a_move_that_fails_leaves_no_draft(
        self, store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def denied(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(directory_module.os, "rename", denied)
        with pytest.raises(ArtifactError):
            put(store, "b", b"y")
        assert files(tmp_path) == ["store/lock"]

    def test_a_directory_that_cannot_be_walked_is_an_error(
        self, store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(store, "a", b"x")

        def denied(*_: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(directory_module.os, "scandir", denied)
        with pytest.raises(ArtifactError, match="Permission denied"):
            store.names()

    def test_whoever_removes_waits_and_then_says_so(
        self, store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(store, "a", b"x")
        monkeypatch.setattr(directory_module, "_PATIENCE_SECONDS", 0.05)
        with DirectoryObjects(str(tmp_path / "store")).held(alone=False):
            put(store, "b", b"y")  # others may put
            with pytest.raises(ArtifactError) as error:
                store.remove("a")
        assert error.value.details == {"reason": "busy"}
        assert store.remove("a") == 1

    def test_removing_clears_what_a_crash_has_left(
        self, store: ArtifactStore, tmp_path: Path
    ) -> None:
        put(store, "a", b"x")
        (tmp_path / "store" / "drafts" / "old").write_bytes(b"half")
        assert list(store.verify()) == []
        store.remove("a")
        assert files(tmp_path) == ["store/lock"]

    def test_names_go_on_while_one_is_removed(
        self, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(store, "a", b"x")
        put(store, "b", b"x")
        listed = DirectoryObjects.keys

        def then_gone(self: DirectoryObjects, prefix: str) -> Any:
            found = list(listed(self, prefix))
            if prefix == "names/":
                monkeypatch.setattr(DirectoryObjects, "keys", listed)
                place_of(self.location).open().remove("a")
            return iter(found)

        monkeypatch.setattr(DirectoryObjects, "keys", then_gone)
        assert store.names() == ("b",)


class TestCrashes:
    SCRIPT = """
import io, os, signal, sys
from omnibase.core.artifacts import directory
from omnibase.core.artifacts.places import place_of
count = int(sys.argv[2])
def counted(call):
    def wrapper(*args, **kwargs):
        global count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapper
for name in ('open', 'fsync', 'rename', 'link', 'unlink', 'makedirs', 'close'):
    setattr(directory.os, name, counted(getattr(os, name)))
place_of(sys.argv[1]).open().put('a', io.BytesIO(b'new' * 1000))
print('whole')
"""

    def test_a_put_that_is_killed_anywhere_is_not_there_or_whole(
        self, store: ArtifactStore, tmp_path: Path
    ) -> None:
        put(store, "a", b"old")
        killed = finished = 0
        for count in range(1, 60, 3):
            done = subprocess.run(
                [sys.executable, "-c", self.SCRIPT, str(tmp_path / "store"), str(count)],
                capture_output=True, timeout=60, check=False,
            )  # fmt: skip
            killed += done.returncode == -signal.SIGKILL
            finished += done.stdout == b"whole\n"
            assert list(store.verify()) == []
            for artifact in store.versions("a"):
                assert artifact.read_bytes() in (b"old", b"new" * 1000)
            if finished:
                break
        assert killed > 3
        assert finished == 1
        store.remove("a")
        assert files(tmp_path) == ["store/lock"]

    def test_two_processes_at_once_come_to_versions_of_their_own(
        self, store: ArtifactStore, tmp_path: Path
    ) -> None:
        code = (
            "import io, sys\nfrom omnibase.core.artifacts.places import place_of\n"
            "store = place_of(sys.argv[1]).open()\n"
            "for n in range(15): store.put('a', io.BytesIO(f'{sys.argv[2]} {n}'.encode()))\n"
        )
        processes = [
            subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "store"), str(n)])
            for n in range(2)
        ]
        stop = threading.Event()
        wrong: list[object] = []

        def watch() -> None:
            while not stop.is_set():
                wrong.extend(store.verify())

        watcher = threading.Thread(target=watch)
        watcher.start()
        assert [process.wait(60) for process in processes] == [0, 0]
        stop.set()
        watcher.join()
        assert wrong == []
        assert [a.version for a in store.versions("a")] == list(range(1, 31))
        assert len({a.digest for a in store.versions("a")}) == 30
