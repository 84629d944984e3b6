"""Finding a ``runsc`` that is new enough, and the tools that set-up needs."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from omnibase.core.sandbox import _runsc
from omnibase.errors import SandboxUnavailable


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No ``runsc`` is found but the ones that a test makes."""
    monkeypatch.delenv("RUNSC", raising=False)
    monkeypatch.setenv("OMNIBASE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    return tmp_path


def fake(path: Path, says: str = "runsc version release-20250101.0") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\necho 'spec: 1.1.0-rc.1'\n")
    path.chmod(0o755)
    return str(path)


class TestFinding:
    def test_there_is_none(self) -> None:
        with pytest.raises(SandboxUnavailable, match="no `runsc` found") as caught:
            _runsc.find_runtime()
        assert caught.value.details == {"minimum_version": 20240729}
        assert caught.value.hint is not None
        assert "scripts/setup-runsc.sh" in caught.value.hint

    def test_the_one_named_comes_first(
        self, nowhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake(nowhere / "data/bin/runsc")
        named = fake(nowhere / "mine", "runsc version release-20260101.0-5")
        monkeypatch.setenv("RUNSC", named)
        runtime = _runsc.find_runtime()
        assert (runtime.path, runtime.version) == (named, "release-20260101.0-5")

    def test_then_the_data_directory_then_the_path(self, nowhere: Path) -> None:
        on_path = fake(nowhere / "path/runsc")
        assert _runsc.find_runtime().path == on_path
        own = fake(nowhere / "data/bin/runsc")
        assert _runsc.find_runtime().path == own

    def test_the_data_directory_by_default(
        self, nowhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("OMNIBASE_DATA_DIR")
        monkeypatch.setenv("XDG_DATA_HOME", str(nowhere / "xdg"))
        own = fake(nowhere / "xdg/omnibase/bin/runsc")
        assert _runsc.find_runtime().path == own
        monkeypatch.delenv("XDG_DATA_HOME")
        monkeypatch.setenv("HOME", str(nowhere / "home"))
        own = fake(nowhere / "home/.local/share/omnibase/bin/runsc")
        assert _runsc.find_runtime().path == own

    def test_one_that_is_too_old_is_passed_over(self, nowhere: Path) -> None:
        fake(nowhere / "data/bin/runsc", "runsc version release-20221219.0")
        with pytest.raises(SandboxUnavailable, match="older than 20240729"):
            _runsc.find_runtime()
        newer = fake(nowhere / "path/runsc")
        assert _runsc.find_runtime().path == newer

    @pytest.mark.parametrize("says", ["", "runc version 1.1", "runsc version unknown"])
    def test_one_that_is_none(self, nowhere: Path, says: str) -> None:
        fake(nowhere / "path/runsc", says)
        with pytest.raises(SandboxUnavailable, match="does not print a runsc version"):
            _runsc.find_runtime()

    def test_one_that_does_not_run(self, nowhere: Path) -> None:
        path = Path(fake(nowhere / "path/runsc"))
        path.write_bytes(b"\x7fELF not at all")
        with pytest.raises(SandboxUnavailable, match="does not print a runsc version"):
            _runsc.find_runtime()

    @pytest.mark.parametrize("kind", ["missing", "not executable"])
    def test_one_named_that_cannot_be_used(
        self, nowhere: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        fake(nowhere / "path/runsc")  # what was named is not replaced by another
        path = nowhere / "named"
        if kind == "not executable":
            path.touch(mode=0o600)
        monkeypatch.setenv("RUNSC", str(path))
        with pytest.raises(SandboxUnavailable, match="is not an executable file"):
            _runsc.find_runtime()

    def test_a_new_version_at_the_same_place_is_seen(self, nowhere: Path) -> None:
        path = nowhere / "path/runsc"
        fake(path)
        assert _runsc.find_runtime().version == "release-20250101.0"
        fake(path, "runsc version release-20260202.0-longer")
        assert _runsc.find_runtime().version == "release-20260202.0-longer"

    def test_what_has_not_changed_is_not_asked_again(
        self, nowhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, asked = nowhere / "path/runsc", nowhere / "asked"
        fake(path)
        path.write_text(path.read_text() + f"echo x >>{asked}\n")

        def in_a_new_process(state: Path | None = nowhere) -> str:
            monkeypatch.setattr(_runsc, "_versions", {})
            return _runsc.find_runtime(state).version

        assert in_a_new_process() == in_a_new_process() == "release-20250101.0"
        assert asked.read_text() == "x\n"
        assert (nowhere / "runtimes.json").stat().st_mode & 0o777 == 0o600
        in_a_new_process(None)  # without a state directory nothing is remembered
        assert asked.read_text() == "x\nx\n"
        fake(path, "runsc version release-20200101.0")  # the same size, another file
        with pytest.raises(SandboxUnavailable, match="older than"):
            in_a_new_process()

    @pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}', "[" * 100_000, "\xff"])
    def test_a_damaged_record_of_versions_is_made_anew(
        self, nowhere: Path, monkeypatch: pytest.MonkeyPatch, content: str
    ) -> None:
        fake(nowhere / "path/runsc")
        (nowhere / "runtimes.json").write_bytes(content.encode("latin-1"))
        monkeypatch.setattr(_runsc, "_versions", {})
        assert _runsc.find_runtime(nowhere).version == "release-20250101.0"
        assert "20250101" in (nowhere / "runtimes.json").read_text()

    def test_a_version_that_cannot_be_remembered_is_no_matter(
        self, nowhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake(nowhere / "path/runsc")
        monkeypatch.setattr(_runsc, "_versions", {})
        assert _runsc.find_runtime(nowhere / "nothing").version == "release-20250101.0"

    def test_an_unusable_runtime_is_asked_each_time(
        self, nowhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake(nowhere / "path/runsc", "no version")
        monkeypatch.setattr(_runsc, "_versions", {})
        with pytest.raises(SandboxUnavailable, match="does not print a runsc version"):
            _runsc.find_runtime(nowhere)
        assert not (nowhere / "runtimes.json").exists()

    def test_an_architecture_without_tables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="aarch64"))
        with pytest.raises(SandboxUnavailable, match="`aarch64` is not supported") as caught:
            _runsc.find_runtime()
        assert caught.value.hint


class TestThreads:
    def test_the_answer_comes_back(self) -> None:
        assert _runsc.in_new_thread(lambda: threading.current_thread().name) == "omnibase-run"

    def test_the_error_comes_back(self) -> None:
        def fail() -> None:
            raise SystemExit(3)

        with pytest.raises(SystemExit):
            _runsc.in_new_thread(fail)

    def test_its_namespaces_are_its_own(self) -> None:
        def look() -> str:
            _runsc.enter_mount_namespace()
            return os.readlink("/proc/thread-self/ns/mnt")

        own = os.readlink("/proc/self/ns/mnt")
        assert _runsc.in_new_thread(look) != own
        assert os.readlink("/proc/self/ns/mnt") == own


class TestTools:
    def test_libraries_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        libraries = _runsc.shared_libraries([Path("/bin/sh")])
        assert Path(libraries["libc.so.6"]).exists()

    def test_without_ldd(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_runsc.shutil, "which", lambda *_, **__: "/nonexistent/ldd")
        with pytest.raises(SandboxUnavailable, match="cannot be listed") as caught:
            _runsc.shared_libraries([Path("/bin/sh")])
        assert caught.value.hint

    def test_without_ldconfig(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_runsc.shutil, "which", lambda *_, **__: None)
        with pytest.raises(SandboxUnavailable, match="no `ldconfig` found") as caught:
            _runsc.build_loader_cache(tmp_path)
        assert caught.value.hint
