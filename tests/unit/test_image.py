"""The image holds the interpreter and nothing else of the host, and appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnibase.core.sandbox import image, rootfs
from omnibase.core.sandbox.addressed import manifest_digest
from omnibase.core.sandbox.image import GUEST_PREFIX, Image, ensure_image
from omnibase.errors import SandboxUnavailable

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
BUILD = (
    "import pathlib, sys\n"
    "from omnibase.core.sandbox.image import ensure_image\n"
    "print(ensure_image(pathlib.Path(sys.argv[1])).digest)\n"
)


@pytest.fixture(scope="module")
def built(state_directory: Path) -> Image:
    return ensure_image(state_directory)


@pytest.fixture(scope="module")
def root(built: Image) -> Path:
    return Path(built.path)


def files(root: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(root):
        for name in names:
            yield Path(directory, name)


def builder(state: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(state)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


class TestContent:
    def test_its_name_is_its_content(self, built: Image, root: Path) -> None:
        assert root.name == built.digest == manifest_digest(root)
        assert built.python == f"{GUEST_PREFIX}/bin/{VERSION}"

    def test_no_file_can_be_executed_by_the_script(self, root: Path) -> None:
        for path in files(root):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                assert not mode & (stat.S_IXOTH | stat.S_ISUID | stat.S_ISGID), path
                assert not mode & (stat.S_IWOTH | stat.S_IWGRP), path
            else:
                assert stat.S_ISLNK(mode), path

    def test_only_scratch_can_be_written(self, root: Path) -> None:
        writable = [
            Path(directory) for directory, _, _ in os.walk(root)
            if os.stat(directory).st_mode & (stat.S_IWOTH | stat.S_IWGRP)
        ]  # fmt: skip
        assert writable == [root / "tmp"]

    def test_no_link_leaves_it(self, root: Path) -> None:
        for path in files(root):
            if path.is_symlink():
                assert not os.readlink(path).startswith("/")
                assert path.resolve().is_relative_to(root)

    def test_etc_is_our_own(self, root: Path) -> None:
        etc = root / "etc"
        for name, text in rootfs._ETC.items():
            assert (etc / name).read_text() == text
        assert stat.S_IMODE((etc / "passwd").stat().st_mode) == 0o600
        assert (etc / "passwd").read_text() == "nobody:x:65534:65534:nobody:/tmp:/nonexistent\n"
        closed = {*rootfs._ETC_CLOSED, *rootfs._ETC_CLOSED_DIRECTORIES, "ssl"}
        assert {path.name for path in etc.iterdir()} - set(rootfs._ETC) - closed <= {
            "ld.so.cache", "localtime",
        }  # fmt: skip
        for name in (*rootfs._ETC_CLOSED, *rootfs._ETC_CLOSED_DIRECTORIES):
            path = etc / name
            assert not path.stat().st_mode & 0o077
            assert not any(path.iterdir()) if path.is_dir() else not path.read_bytes()
        assert not (etc / "passwd").samefile("/etc/passwd")

    def test_the_hosts_directories_are_closed(self, root: Path) -> None:
        for name in ("bin", "data", "home", "root", "sbin", "srv", "var", "mnt"):
            assert stat.S_IMODE((root / name).stat().st_mode) in (0o700, 0o711), name
        for name in ("data", "home", "root", "srv", "var", "mnt"):
            assert not any((root / name).iterdir()), name

    def test_the_interpreter_is_for_the_agent_alone(self, root: Path) -> None:
        binary = root / "opt/omnibase/bin" / VERSION
        assert stat.S_IMODE(binary.stat().st_mode) == 0o750
        assert (root / "opt/omnibase/bin/python3").resolve() == binary

    def test_nothing_names_a_place_of_the_host(self, root: Path) -> None:
        library = root / "opt/omnibase/lib" / VERSION
        data = list(library.glob("_sysconfigdata*.py"))
        assert data
        for path in [*data, *library.glob("__pycache__/_sysconfigdata*.pyc")]:
            assert sys.base_prefix.encode() not in path.read_bytes()
        compiled = library / "__pycache__" / f"os.{sys.implementation.cache_tag}.pyc"
        assert str(root).encode() not in compiled.read_bytes()
        assert f"{GUEST_PREFIX}/lib/{VERSION}/os.py".encode() in compiled.read_bytes()

    def test_what_scripts_do_not_need_is_left_out(self, root: Path) -> None:
        library = root / "opt/omnibase/lib" / VERSION
        assert (library / "asyncio").is_dir()
        assert (library / "unittest").is_dir()
        for name in ("test", "idlelib", "ensurepip", "site-packages", "tkinter"):
            assert not (library / name).exists()
        assert not list(library.glob("config-*"))

    def test_time_zones_are_where_the_interpreter_looks(self, root: Path) -> None:
        assert (root / "opt/omnibase/share/zoneinfo/Europe/Rome").is_file()

    def test_what_every_wheel_may_expect_is_there(self, root: Path) -> None:
        for name in ("libstdc++.so.6", "libgcc_s.so.1", "libpthread.so.0", "libz.so.1"):
            assert (root / "opt/omnibase/lib" / name).read_bytes()[:4] == b"\x7fELF"

    def test_probes_are_absolute(self, built: Image) -> None:
        assert "/etc/ld.so.cache" in built.probes
        assert all(path.startswith("/") for path in built.probes)
        assert list(built.probes) == sorted(set(built.probes))


class TestBuilding:
    def test_again_is_the_same(self, built: Image, state_directory: Path) -> None:
        before = sorted(os.listdir(state_directory / "images"))
        assert ensure_image(state_directory) == built
        assert sorted(os.listdir(state_directory / "images")) == before

    def test_two_builders_at_once(self, tmp_path: Path) -> None:
        builders = [builder(tmp_path) for _ in range(2)]
        digests = [process.communicate(timeout=200)[0].strip() for process in builders]
        assert [process.returncode for process in builders] == [0, 0]
        assert len(set(digests)) == 1
        images = tmp_path / "images"
        names = {path.name for path in images.iterdir()}
        (index,) = {path.name for path in images.glob("*.json")}
        assert names == {digests[0], index, ".lock"}
        assert stat.S_IMODE(images.stat().st_mode) == 0o700

    def test_a_builder_that_is_killed(self, tmp_path: Path) -> None:
        images = tmp_path / "images"
        with builder(tmp_path) as process:
            deadline = time.monotonic() + 120
            while not list(images.glob(".build-*/opt/omnibase/lib/*/os.py")):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        assert list(images.glob(".build-*"))
        assert not list(images.glob("*.json"))
        (images / "stale.tmp").touch()
        built = ensure_image(tmp_path)
        assert manifest_digest(Path(built.path)) == built.digest
        assert {path.name for path in images.iterdir()} == {
            built.digest, f"{image._key()}.json", ".lock",
        }  # fmt: skip

    @pytest.mark.parametrize(
        "text", ["", "{", "5", "[]", "{}", '{"path": "/gone", "digest": "x"}', None]
    )
    def test_a_damaged_index_is_built_anew(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
    ) -> None:
        made = Image(path=str(tmp_path), digest="d", python="p", probes=())
        monkeypatch.setattr(image, "_build", lambda _images, _index: made)
        images = tmp_path / "images"
        images.mkdir()
        record = {"path": "/gone", "digest": "x", "python": "p", "probes": []}
        (images / f"{image._key()}.json").write_text(json.dumps(record) if text is None else text)
        assert ensure_image(tmp_path) is made

    def test_what_another_builder_made_meanwhile_is_taken(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = Image(path=str(tmp_path), digest="d", python="p", probes=())
        answers: list[Image | None] = [None, made]
        monkeypatch.setattr(image, "_read_index", lambda _index: answers.pop(0))
        assert ensure_image(tmp_path) is made

    def test_a_failed_build_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(root: Path) -> str:
            (root / "some").mkdir(parents=True)
            raise SandboxUnavailable("no")

        monkeypatch.setattr(rootfs, "populate", fail)
        with pytest.raises(SandboxUnavailable):
            ensure_image(tmp_path)
        assert os.listdir(tmp_path / "images") == [".lock"]

    def test_an_interpreter_that_is_no_elf_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = tmp_path / "python"
        script.write_text("#!/bin/sh\n")
        monkeypatch.setattr(rootfs, "base_executable", lambda: str(script))
        monkeypatch.setattr(rootfs, "_copy_stdlib", lambda _source, _target: None)
        with pytest.raises(SandboxUnavailable, match="cannot be put into an image") as caught:
            ensure_image(tmp_path)
        assert caught.value.hint


class TestDigest:
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        root = tmp_path / "tree"
        (root / "a").mkdir(parents=True)
        (root / "a" / "file").write_text("x")
        (root / "a" / "link").symlink_to("file")
        return root

    def test_the_same_tree_elsewhere_is_the_same(self, tree: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(tree, copy, symlinks=True)
        os.utime(copy / "a" / "file", (1, 1))
        assert manifest_digest(copy) == manifest_digest(tree)

    @pytest.mark.parametrize("change", ["content", "mode", "name", "more", "less", "link"])
    def test_any_change_shows(self, tree: Path, change: str) -> None:
        before = manifest_digest(tree)
        file = tree / "a" / "file"
        if change == "content":
            file.write_text("y")
        elif change == "mode":
            file.chmod(0o600)
        elif change == "name":
            file.rename(tree / "a" / "other")
        elif change == "more":
            (tree / "b").touch()
        elif change == "less":
            file.unlink()
        else:
            (tree / "a" / "link").unlink()
            (tree / "a" / "link").symlink_to("elsewhere")
        assert manifest_digest(tree) != before

    def test_the_key_follows_the_interpreter_and_the_builder(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = image._key()
        assert image._key() == key
        monkeypatch.setattr(image, "_FORMAT", image._FORMAT + 1)
        assert image._key() != key
