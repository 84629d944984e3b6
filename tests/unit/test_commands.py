"""Commands: which a grant names, how the host's file is judged, and what is brought in."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from omnibase.core.sandbox import elf
from omnibase.core.sandbox.addressed import manifest_digest
from omnibase.core.sandbox.commands import finding, layer, loader
from omnibase.core.sandbox.commands.granting import command_name
from omnibase.core.sandbox.commands.layout import is_name
from omnibase.core.sandbox.commands.ways import exposed
from omnibase.core.sandbox.monitor.attempts import Violation
from omnibase.core.security.capabilities import Capability, CapabilitySet, CapabilityType
from omnibase.core.security.capability_file import load_capabilities
from omnibase.errors import (
    CapabilityDenied,
    CapabilityError,
    ExternalCommandError,
    PolicyError,
    SandboxUnavailable,
)
from tests.helpers.agent import load
from tests.helpers.policies import policy
from tests.helpers.specs import compiled

HOST_LOADER = Path(finding.HOST_LOADER)


class TestGranting:
    @pytest.mark.parametrize("name", ["git", "g++", "python3.11", "x86_64-linux-gnu-ld", "_"])
    def test_a_name(self, name: str) -> None:
        assert command_name(Capability.parse(f"EXTERNAL_COMMAND:{name}")) == name

    @pytest.mark.parametrize(
        ("resource", "why", "hint"),
        [
            ("git*", "is a pattern", "name each command"),
            ("gi?", "is a pattern", "name each command"),
            ("/usr/bin/git", "is a path", "grant `EXTERNAL_COMMAND:git`"),
            ("bin/", "is a path", "grant `EXTERNAL_COMMAND:NAME`"),
            ("host-python", "stands for a run without a sandbox", "--unsandboxed"),
            ("-rf", "is no command's name", "use letters"),
            ("a" * 65, "is no command's name", "at most 64"),
            ("git;id", "is no command's name", "use letters"),
            ("gît", "is no command's name", "use letters"),
        ],
    )
    def test_what_names_no_command(self, resource: str, why: str, hint: str) -> None:
        with pytest.raises(CapabilityError) as caught:
            compiled(f"EXTERNAL_COMMAND:{resource}")
        assert why in caught.value.message
        assert hint in (caught.value.hint or "")
        assert caught.value.details["capability"] == f"EXTERNAL_COMMAND:{resource}"

    def test_the_spec_of_a_run_with_commands(self) -> None:
        spec = compiled("EXTERNAL_COMMAND:ls", "EXTERNAL_COMMAND:git")
        assert spec.commands == ("git", "ls")
        assert dict(spec.environment)["PATH"] == "/commands/bin" == spec.watch.command_directory
        assert "/commands/" in spec.watch.owned
        assert "/etc/gitconfig" in spec.watch.probes

    def test_the_spec_of_one_without(self) -> None:
        spec = compiled("FILE_READ:/data/x")
        assert spec.commands == ()
        assert dict(spec.environment)["PATH"] == "/opt/omnibase/bin"
        assert "/commands/" not in spec.watch.owned
        assert "/etc/gitconfig" not in spec.watch.probes

    def test_their_number_is_bounded(self) -> None:
        most = [f"EXTERNAL_COMMAND:c{number}" for number in range(64)]
        assert len(compiled(*most).commands) == 64
        with pytest.raises(CapabilityError, match="more than 64 commands"):
            compiled(*most, "EXTERNAL_COMMAND:one-more")

    def test_no_file_grant_reaches_them(self) -> None:
        for grant in ("FILE_READ:/commands/**", "FILE_WRITE:/commands/bin/git"):
            with pytest.raises(CapabilityError, match="which no grant may"):
                compiled(grant)


class TestArguments:
    """A text with arguments is refused as early as it shows."""

    @pytest.mark.parametrize("text", ["git log*", "git log", "git -C /x log", "git\u00a0log"])
    def test_in_a_capability(self, text: str) -> None:
        with pytest.raises(CapabilityError) as caught:
            Capability.parse(f"EXTERNAL_COMMAND:{text}")
        assert "has arguments" in caught.value.message
        assert "`EXTERNAL_COMMAND:git`" in (caught.value.hint or "")

    def test_in_a_capability_file(self, tmp_path: Path) -> None:
        path = tmp_path / "caps.json"
        path.write_text('["EXTERNAL_COMMAND:git push*"]')
        with pytest.raises(CapabilityError, match="has arguments"):
            load_capabilities(path)

    @pytest.mark.parametrize(
        "test", ['== "git push"', 'like "git push*"', 'like "git *"', 'like "* push"']
    )
    def test_in_a_policy(self, test: str) -> None:
        """A forbid of arguments would forbid nothing, and a permit permit nothing."""
        for effect in ("permit", "forbid"):
            with pytest.raises(PolicyError) as caught:
                policy(f"{effect} ExternalCommand when {{ resource.name {test} }}")
            assert "has arguments" in str(caught.value)
        assert policy(f"permit ArtifactRead when {{ resource.name {test} }}")
        assert policy('permit ExternalCommand when { resource.name like "git-*" }')

    def test_a_slip_is_told_as_one(self) -> None:
        for text in (" git", "git "):
            with pytest.raises(CapabilityError, match="begins or ends with a space"):
                Capability.parse(f"EXTERNAL_COMMAND:{text}")

    def test_what_was_tried_under_such_a_name_is_not_to_be_granted(self) -> None:
        nothing = CapabilitySet()
        with pytest.raises(CapabilityError, match="has arguments"):
            nothing.check(CapabilityType.EXTERNAL_COMMAND, "my tool")
        with pytest.raises(CapabilityDenied):
            nothing.check(CapabilityType.EXTERNAL_COMMAND, "tool")
        everything = CapabilitySet.parse(["EXTERNAL_COMMAND:*"])
        assert everything.covering(CapabilityType.EXTERNAL_COMMAND, "tool") is not None
        assert everything.covering(CapabilityType.EXTERNAL_COMMAND, "my tool") is None


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of the machine's search path."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setattr(finding, "SEARCH_PATH", (str(tmp_path / "local"), str(path)))
    return path


def copy(place: Path, name: str, source: str = "/bin/true") -> Path:
    target = place / name
    shutil.copy(os.path.realpath(source), target)
    target.chmod(0o755)
    return target


def problem(name: str) -> ExternalCommandError:
    with pytest.raises(ExternalCommandError) as caught:
        finding.check(name)
    assert caught.value.details == {
        "capability": f"EXTERNAL_COMMAND:{name}", "command": name,
    }  # fmt: skip
    assert caught.value.hint
    return caught.value


class TestFinding:
    def test_a_command(self, place: Path) -> None:
        path = copy(place, "tool")
        found = finding.check("tool")
        assert (found.name, found.path, found.places) == ("tool", str(path), (str(path),))
        assert finding.outlook("tool") == str(path)

    def test_the_first_place_counts_and_every_place_that_leads_there(
        self, place: Path, tmp_path: Path
    ) -> None:
        copy(place, "tool")
        (tmp_path / "local").mkdir()
        (tmp_path / "local" / "tool").symlink_to(place / "tool")
        assert finding.find("tool").places == (
            str(tmp_path / "local" / "tool"), str(place / "tool"),
        )  # fmt: skip
        (tmp_path / "local" / "tool").unlink()
        other = copy(tmp_path / "local", "tool")
        assert finding.find("tool").places == (str(other),)

    def test_what_is_not_there(self, place: Path) -> None:
        (place / "directory").mkdir()
        (place / "data").write_text("no x bit")
        (place / "dangling").symlink_to("nowhere")
        (place / "loop").symlink_to("loop")
        for name in ("nothing", "directory", "data", "dangling", "loop"):
            assert f"this machine has no `{name}`" in problem(name).message
            assert finding.outlook(name) is None

    def test_what_was_tried_is_looked_up(self, place: Path) -> None:
        path = copy(place, "tool")
        names = ["EXTERNAL_COMMAND:tool", "EXTERNAL_COMMAND:none", "EXTERNAL_COMMAND:../tool",
                 "FILE_READ:/bin/tool", None, "EXTERNAL_COMMAND:tool"]  # fmt: skip
        tried = [
            Violation(capability=name, operation="execve", resource="x", errno=13) for name in names
        ]
        assert finding.attempted(tried) == {
            "EXTERNAL_COMMAND:tool": str(path), "EXTERNAL_COMMAND:none": None,
            "EXTERNAL_COMMAND:../tool": None,
        }  # fmt: skip
        many = [replace(tried[0], capability=f"EXTERNAL_COMMAND:c{n}") for n in range(99)]
        assert len(finding.attempted(many)) == finding.MAX_ATTEMPTED

    def test_no_path_is_looked_up(self) -> None:
        for name in ("../bin/ls", "/bin/ls", "", ".", "ls\0"):
            assert not is_name(name)
            assert finding.outlook(name) is None

    def test_the_callers_path_plays_no_part(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copy(tmp_path, "ls")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert finding.find("ls").path == os.path.realpath("/usr/bin/ls")

    @pytest.mark.parametrize("bits", [0o4755, 0o2755])
    def test_rights_of_its_own(self, place: Path, bits: int) -> None:
        copy(place, "tool").chmod(bits)
        assert "is set-user-id or set-group-id" in problem("tool").message

    def test_file_capabilities(self, place: Path) -> None:
        # VFS_CAP_REVISION_2 with CAP_NET_RAW permitted (capability.h).
        rights = struct.pack("<IIIII", 0x0200_0000, 1 << 13, 0, 0, 0)
        os.setxattr(copy(place, "tool"), "security.capability", rights)
        assert "has file capabilities" in problem("tool").message

    def test_what_others_may_replace(self, place: Path) -> None:
        path = copy(place, "tool")
        for mode in (0o775, 0o757):
            path.chmod(mode)
            assert "may be replaced by others" in problem("tool").message
        path.chmod(0o755)
        os.chown(path, 1000, 1000)
        assert f"chown root {path}" in (problem("tool").hint or "")

    def test_a_way_that_others_may_change(self, place: Path, tmp_path: Path) -> None:
        inner = tmp_path / "of-others"
        inner.mkdir()
        copy(inner, "real")
        (inner / "next").symlink_to("./real")
        (place / "tool").symlink_to(os.path.relpath(inner / "next", place.resolve()))
        assert finding.check("tool").path == str(inner.resolve() / "real")
        os.chown(inner, 1000, 1000)
        assert f"leads through `{inner.resolve()}`" in problem("tool").message
        os.chown(inner, 0, 0)
        inner.chmod(0o777)
        assert f"chmod go-w {inner.resolve()}" in (problem("tool").hint or "")
        inner.chmod(0o1777)
        finding.check("tool")
        os.lchown(inner / "next", 1000, 1000)
        assert f"leads through `{inner.resolve() / 'next'}`" in problem("tool").message

    def test_a_library_that_others_may_change(
        self, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copy(place, "tool")
        library = tmp_path / "libx.so.1"
        library.write_bytes(b"")
        listing = {"libx.so.1": str(library)}
        monkeypatch.setattr(finding._runsc, "loader_listing", lambda path: listing)
        finding.check("tool")
        library.chmod(0o666)
        assert f"leads through `{library.resolve()}`" in problem("tool").message
        library.unlink()
        library.symlink_to("libx.so.1")
        with pytest.raises(OSError, match="Too many levels"):
            exposed(str(library))

    @pytest.mark.parametrize(
        ("first", "interpreter"),
        [
            ("#!/bin/sh", "sh"),
            ("#! /usr/bin/perl -w", "perl"),
            ("#!/usr/bin/env python3", "python3"),
            ("#!/usr/bin/env -S node --x", "node"),
            ("#!", "NAME"),
            ("#!/bin/\u00e9", "NAME"),
        ],
    )
    def test_a_script(self, place: Path, first: str, interpreter: str) -> None:
        path = place / "tool"
        path.write_text(f"{first}\necho\n")
        path.chmod(0o755)
        error = problem("tool")
        assert "is a script" in error.message
        assert f"EXTERNAL_COMMAND:{interpreter}`" in (error.hint or "")
        assert f"`FILE_READ:{path}`" in (error.hint or "")

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"", "no program for x86-64"),
            (b"MZ\x90", "no program for x86-64"),
            (b"\x7fELF\x02\x01".ljust(16, b"\0") + b"\x02\0\xb7\0", "no program for x86-64"),
            (b"\x7fELF\x02\x01".ljust(16, b"\0") + b"\x02\0\x3e\0", "a truncated ELF file"),
        ],
    )
    def test_other_files(self, place: Path, data: bytes, why: str) -> None:
        (place / "tool").write_bytes(data)
        (place / "tool").chmod(0o755)
        assert why in problem("tool").message

    def test_the_loader_is_no_command(self, place: Path) -> None:
        copy(place, "true")
        libc = finding.libraries_of(finding.find("true"))["libc.so.6"]
        for name, source in (("ld.so", str(HOST_LOADER)), ("libc", libc)):
            copy(place, name, source)
            assert "is a library or a loader" in problem(name).message

    def test_another_loader(self, place: Path) -> None:
        path = copy(place, "tool")
        path.write_bytes(elf.with_interpreter(path.read_bytes(), "/lib/ld-musl-x86_64.so.1"))
        assert "the loader `/lib/ld-musl-x86_64.so.1`" in problem("tool").message

    def test_its_size_is_bounded(self, place: Path) -> None:
        with open(copy(place, "tool"), "r+b") as file:
            file.truncate((512 << 20) + 1)
        assert "more than 512 MiB" in problem("tool").message

    def test_what_cannot_be_read(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        copy(place, "tool")

        def refuse(*_: object) -> None:
            raise PermissionError(13, "no")

        monkeypatch.setattr(os, "getxattr", refuse)
        assert "cannot be read" in problem("tool").message

    @pytest.mark.parametrize(
        ("listing", "why"),
        [
            (None, "does not load"),
            ({"libx.so.1": None}, "needs `libx.so.1`, which is not here"),
            ({"/opt/libx.so": "/opt/libx.so"}, "at exactly that path"),
            ({f"l{n}": "/l" for n in range(513)}, "more than 512 libraries"),
        ],
    )
    def test_libraries(
        self,
        place: Path,
        monkeypatch: pytest.MonkeyPatch,
        listing: dict[str, str | None] | None,
        why: str,
    ) -> None:
        copy(place, "tool")
        monkeypatch.setattr(finding._runsc, "loader_listing", lambda _path: listing)
        assert why in problem("tool").message

    def test_a_library_that_is_missing(self, place: Path) -> None:
        path = copy(place, "tool")
        data = path.read_bytes()
        assert data.count(b"libc.so.6\0") == 1
        path.write_bytes(data.replace(b"libc.so.6\0", b"libc.so.9\0"))
        assert "needs `libc.so.9`, which is not here" in problem("tool").message


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path fits where a loader's stood."""
    path = Path(tempfile.mkdtemp(prefix="c", dir="/tmp"))
    yield path
    shutil.rmtree(path)


class TestLoader:
    """On this machine's own kernel, which treats it as gVisor does."""

    def guarded(self, short: Path) -> Path:
        path = short / "ld"
        path.write_bytes(loader.guarded(HOST_LOADER.read_bytes(), "/no/such/cache"))
        path.chmod(0o755)
        return path

    def test_as_a_program_it_refuses(self, short: Path) -> None:
        path = self.guarded(short)
        for arguments in ([], ["/bin/echo", "x"], ["--list", "/bin/true"], ["--help"]):
            done = subprocess.run([path, *arguments], capture_output=True, check=False, timeout=30)
            assert (done.returncode, done.stdout) == (loader.REFUSED, b"")
        done = subprocess.run(
            [path, "/bin/true"], env={}, capture_output=True, check=False, timeout=30
        )
        assert done.returncode == loader.REFUSED

    def test_as_an_interpreter_it_serves(self, short: Path) -> None:
        path, program = self.guarded(short), short / "echo"
        echo = Path("/bin/echo").read_bytes()
        program.write_bytes(elf.with_interpreter(echo, str(path)))
        program.chmod(0o755)
        for arguments in ([], ["x"], ["x"] * 999):
            done = subprocess.run(
                [program, *arguments], capture_output=True, check=False, timeout=30
            )
            assert (done.returncode, done.stdout.split()) == (0, [b"x"] * len(arguments))
        done = subprocess.run([program, "x"], env={}, capture_output=True, check=False, timeout=30)
        assert done.stdout == b"x\n"

    def test_its_cache_is_another(self, short: Path) -> None:
        assert b"/no/such/cache\0" in self.guarded(short).read_bytes()
        assert loader.HOST_CACHE not in self.guarded(short).read_bytes()

    @pytest.mark.parametrize("change", ["cache", "caches", "headers", "order", "kind", "far"])
    def test_other_files_are_refused(self, change: str) -> None:
        data = bytearray(HOST_LOADER.read_bytes())
        headers = elf.headers(bytes(data))
        note = next(h for h in headers if h.kind == 4)
        if change == "cache":
            data = data.replace(loader.HOST_CACHE, b"x" * len(loader.HOST_CACHE))
        elif change == "caches":
            data += loader.HOST_CACHE
        elif change == "headers":
            struct.pack_into("<I", data, note.place, 0)
        elif change == "order":
            struct.pack_into("<I", data, headers[0].place, 4)
        elif change == "far":
            struct.pack_into("<Q", data, 24, 1 << 31)
        else:
            data = bytearray(b"#!/bin/sh\n" + loader.HOST_CACHE)
        with pytest.raises(ValueError, match=r"loader|ELF"):
            loader.guarded(bytes(data), "/c")

    def test_a_longer_cache_is_refused(self) -> None:
        with pytest.raises(ValueError, match="cache"):
            loader.guarded(HOST_LOADER.read_bytes(), "/etc/ld.so.cache2")


class TestLayer:
    @pytest.fixture
    def state(self, tmp_path: Path) -> Path:
        (tmp_path / "state" / "runs").mkdir(parents=True)
        return tmp_path / "state"

    def test_no_command_needs_none(self, state: Path) -> None:
        assert layer.ensure_layer(state, ()) is None
        assert not (state / "commands").exists()

    def test_what_it_holds(self, state: Path) -> None:
        built = layer.ensure_layer(state, ("cat", "ls"))
        assert built is not None
        top = Path(built.path)
        assert top == state / "commands" / built.digest
        assert manifest_digest(top) == built.digest
        assert {path.name for path in top.iterdir()} == {"bin", "lib", "cache", "loader"}
        assert {path.name for path in (top / "bin").iterdir()} == {"cat", "ls"}
        assert (top / "lib" / "libc.so.6").is_file()
        files = [path for path in top.rglob("*") if path.is_file()]
        executable = {path.name for path in files if os.stat(path).st_mode & 0o111}
        assert executable == {"cat", "ls", "loader"}
        assert not any(path.is_symlink() for path in top.rglob("*"))
        for command in built.commands:
            original = Path(command.path).read_bytes()
            copied = (top / "bin" / command.name).read_bytes()
            assert command.sha256 == hashlib.sha256(original).hexdigest()
            assert elf.interpreter(copied) == "/commands/loader"
            assert len(copied) == len(original)
        assert {path.name for path in (state / "commands").iterdir()} - {built.digest, ".lock"} == {
            f"{layer._key(('cat', 'ls'))}.json"
        }

    def test_it_is_built_once(self, state: Path) -> None:
        first = layer.ensure_layer(state, ("ls",))
        assert first is not None
        inode = os.stat(first.path).st_ino
        assert layer.ensure_layer(state, ("ls",)) == first
        assert os.stat(first.path).st_ino == inode

    def test_a_change_of_the_program_is_seen(self, state: Path, place: Path) -> None:
        path = copy(place, "tool")
        first = layer.ensure_layer(state, ("tool",))
        assert first is not None
        path.write_bytes(Path("/bin/false").read_bytes())
        second = layer.ensure_layer(state, ("tool",))
        assert second is not None
        assert second.digest != first.digest
        path.unlink()
        with pytest.raises(ExternalCommandError, match="has no `tool`"):
            layer.ensure_layer(state, ("tool",))

    def test_another_place_is_seen(self, state: Path, place: Path, tmp_path: Path) -> None:
        copy(place, "tool")
        assert layer.ensure_layer(state, ("tool",)) is not None
        (tmp_path / "local").mkdir()
        other = copy(tmp_path / "local", "tool")
        second = layer.ensure_layer(state, ("tool",))
        assert second is not None
        assert second.commands[0].path == str(other)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"commands": [{}], "sources": []}'])
    def test_a_broken_index_is_no_index(self, state: Path, text: str) -> None:
        first = layer.ensure_layer(state, ("ls",))
        (index,) = (state / "commands").glob("*.json")
        index.write_text(text)
        (state / "commands" / ".build-left").mkdir()
        (state / "commands" / "left.tmp").touch()
        assert layer.ensure_layer(state, ("ls",)) == first
        assert not list((state / "commands").glob(".build-*"))
        assert not list((state / "commands").glob("*.tmp"))

    def test_a_lost_layer_is_built_again(self, state: Path) -> None:
        first = layer.ensure_layer(state, ("ls",))
        assert first is not None
        shutil.rmtree(first.path)
        assert layer.ensure_layer(state, ("ls",)) == first
        assert Path(first.path).is_dir()

    def test_a_static_program_comes_alone(self, state: Path, place: Path) -> None:
        (place / "tool").write_bytes(static_program())
        (place / "tool").chmod(0o755)
        built = layer.ensure_layer(state, ("tool",))
        assert built is not None
        assert [p.name for p in Path(built.path).rglob("*") if p.is_file()] == ["tool"]
        assert (Path(built.path) / "bin" / "tool").read_bytes() == static_program()

    def test_two_libraries_of_one_name(
        self, state: Path, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paths = {"one": "/etc/hosts", "two": "/etc/passwd"}
        for name in paths:
            copy(place, name)
        monkeypatch.setattr(
            finding._runsc, "loader_listing", lambda path: {"libx.so.1": paths[path.name]}
        )
        with pytest.raises(ExternalCommandError, match="`/etc/passwd`, and another") as e:
            layer.ensure_layer(state, ("one", "two"))
        assert e.value.details["command"] == "two"
        assert not list((state / "commands").glob(".build-*"))

    def test_a_loader_that_cannot_be_used(
        self, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> bytes:
            raise ValueError("the loader has no header to spare")

        monkeypatch.setattr(loader, "guarded", refuse)
        with pytest.raises(ExternalCommandError, match="no header to spare"):
            layer.ensure_layer(state, ("ls",))

    def test_a_library_that_is_broken(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            finding._runsc, "loader_listing", lambda _path: {"libx.so.1": "/etc/hosts"}
        )
        with pytest.raises(ExternalCommandError, match="`/etc/hosts` cannot be used"):
            layer.ensure_layer(state, ("ls",))

    @pytest.mark.parametrize("number", [28, 5])
    def test_a_directory_that_cannot_be_written(
        self, state: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        def fail(*_: object) -> None:
            raise OSError(number, "input/output error")

        monkeypatch.setattr(layer, "_install", fail)
        expected = "no space left" if number == 28 else "input/output error"
        with pytest.raises(SandboxUnavailable, match=expected):
            layer.ensure_layer(state, ("ls",))

    def test_pruning(self, state: Path, place: Path) -> None:
        assert layer.prune_layers(state) == []
        copy(place, "tool")
        built = layer.ensure_layer(state, ("tool",))
        assert built is not None
        run = state / "runs" / "one"
        run.mkdir()
        assert layer.prune_layers(state) == []
        run.rmdir()
        assert layer.prune_layers(state) == []  # it is as its program is
        (state / "commands" / f"{'0' * 32}.json").write_text("broken")
        (state / "commands" / ".build-left").mkdir()
        assert layer.prune_layers(state) == [state / "commands" / ".build-left"]
        copy(place, "tool").write_bytes(Path("/bin/false").read_bytes())
        assert layer.prune_layers(state) == [Path(built.path)]

        unused = layer.ensure_layer(state, ("tool",))
        assert unused is not None
        (index,) = (state / "commands").glob("*.json")
        month_ago = index.stat().st_mtime - 31 * 24 * 3600
        os.utime(index, (month_ago, month_ago))
        assert layer.ensure_layer(state, ("tool",)) == unused
        assert layer.prune_layers(state) == []  # it was used just now
        os.utime(index, (month_ago, month_ago))
        assert layer.prune_layers(state) == [Path(unused.path)]
        assert [path.name for path in (state / "commands").iterdir()] == [".lock"]


def static_program() -> bytes:
    """The smallest static program: it exits with 7."""
    code = bytes.fromhex("bf07000000b83c0000000f05")
    base, start = 0x400000, 64 + 56
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    size = start + len(code)
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 4096) + code


def test_the_static_program_of_these_tests_is_one(tmp_path: Path) -> None:
    path = tmp_path / "seven"
    path.write_bytes(static_program())
    path.chmod(0o755)
    assert subprocess.run([path], check=False, timeout=30).returncode == 7


class TestLinks:
    """What the agent makes at the places where the host has a command."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        for name in ("usr", "bin"):
            (tmp_path / name).mkdir(mode=0o700)
        return tmp_path

    def test_they_lead_to_the_command(self, root: Path) -> None:
        load("commands").link(["/usr/bin/git", "/bin/git", "/usr/local/bin/ls"], str(root))
        for place in ("usr/bin/git", "bin/git"):
            assert os.readlink(root / place) == "/commands/bin/git"
        assert os.readlink(root / "usr/local/bin/ls") == "/commands/bin/ls"
        for directory in ("usr", "bin", "usr/bin", "usr/local"):
            assert os.stat(root / directory).st_mode & 0o777 == 0o711

    def test_what_is_there_stays(self, root: Path) -> None:
        (root / "bin" / "git").write_text("granted")
        load("commands").link(["/bin/git"], str(root))
        assert (root / "bin" / "git").read_text() == "granted"

    def test_nothing_is_made_behind_a_link_or_in_another_file_system(self, root: Path) -> None:
        (root / "sbin").symlink_to("bin")
        (root / "dev").symlink_to("/dev")
        load("commands").link(["/sbin/git", "/dev/git"], str(root))
        assert list((root / "bin").iterdir()) == []
        assert not os.path.lexists("/dev/git")

    def test_nothing_is_made_in_a_mount(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[str] = []
        monkeypatch.setattr(os, "symlink", lambda *args: made.append(args[1]))
        assert os.stat("/proc").st_dev != os.stat("/").st_dev
        load("commands").link(["/proc/git"])
        assert made == []
