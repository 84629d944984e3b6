"""Grants become descriptors and mounts: of exactly what they name, following no link."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest

from omnibase.core.sandbox import _runsc, _sys, covers, resolving, staging, views
from omnibase.core.sandbox.covers import Covers
from omnibase.core.sandbox.resolving import MAX_GLOB_MATCHES, StagedMount, resolve_grants
from omnibase.core.sandbox.spec import FileGrant, Mask
from omnibase.errors import CapabilityError
from tests.helpers.specs import compiled

T = TypeVar("T")


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    (tmp_path / "c.csv").write_text("c")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "x.txt").write_text("x")
    (tmp_path / "dir" / "deep").mkdir()
    (tmp_path / "dir" / "deep" / "y.txt").write_text("y")
    return tmp_path


def resolved(*capabilities: str, **options: Any) -> list[tuple[str, bool, bool]]:
    before = len(os.listdir("/proc/self/fd"))
    with resolve_grants(compiled(*capabilities, **options)) as mounts:
        for mount in mounts:
            assert os.path.samestat(os.stat(mount.fd), os.stat(mount.path))
        rows = [(mount.path, mount.is_directory, mount.writable) for mount in mounts]
    assert len(os.listdir("/proc/self/fd")) == before
    return rows


def refusal(*capabilities: str, **options: Any) -> CapabilityError:
    before = len(os.listdir("/proc/self/fd"))
    spec = compiled(*capabilities, **options)
    with pytest.raises(CapabilityError) as caught, resolve_grants(spec):
        pass
    assert caught.value.details["capability"] in capabilities
    assert len(os.listdir("/proc/self/fd")) == before
    return caught.value


class TestResolving:
    def test_nothing(self) -> None:
        assert resolved() == []

    def test_files_and_trees(self, top: Path) -> None:
        assert resolved(
            f"FILE_READ:{top}/dir/deep/**", f"FILE_WRITE:{top}/a.txt", f"FILE_READ:{top}/dir/x.txt"
        ) == [
            (f"{top}/a.txt", False, True),
            (f"{top}/dir/deep", True, False),
            (f"{top}/dir/x.txt", False, False),
        ]  # fmt: skip

    def test_writing_wins_over_reading(self, top: Path) -> None:
        both = [f"FILE_READ:{top}/a.txt", f"FILE_WRITE:{top}/a.txt"]
        assert resolved(*both) == [(f"{top}/a.txt", False, True)]
        assert resolved(f"FILE_READ:{top}/*.txt", f"FILE_WRITE:{top}/a.*") == [
            (f"{top}/a.txt", False, True), (f"{top}/b.txt", False, False),
        ]  # fmt: skip
        assert resolved(f"FILE_READ:{top}/dir/**", f"FILE_WRITE:{top}/dir/**") == [
            (f"{top}/dir", True, True)
        ]

    @pytest.mark.parametrize("name", ["none", "none/below", "a.txt/below"])
    def test_what_does_not_exist(self, top: Path, name: str) -> None:
        error = refusal(f"FILE_READ:{top}/{name}")
        assert error.message == f"`{top}/{name}` does not exist"
        assert error.hint

    def test_a_link_at_the_end(self, top: Path) -> None:
        (top / "link").symlink_to("a.txt")
        error = refusal(f"FILE_READ:{top}/link")
        assert f"`{top}/link` is a symbolic link to `a.txt`" in error.message
        assert error.details["link"] == f"{top}/link"
        assert error.details["target"] == "a.txt"
        assert error.hint == f"grant the real path: `{top}/a.txt`"

    def test_a_link_in_the_middle(self, top: Path) -> None:
        (top / "link").symlink_to(top / "dir")
        for capability in (f"FILE_READ:{top}/link/x.txt", f"FILE_WRITE:{top}/link/deep/**"):
            error = refusal(capability)
            assert error.details["link"] == f"{top}/link"
            assert error.hint is not None
            assert f"{top}/dir/" in error.hint

    def test_a_link_that_leads_nowhere(self, top: Path) -> None:
        (top / "link").symlink_to("/nowhere/at/all")
        assert refusal(f"FILE_READ:{top}/link").details["target"] == "/nowhere/at/all"

    def test_a_file_granted_as_a_tree(self, top: Path) -> None:
        error = refusal(f"FILE_READ:{top}/a.txt/**")
        assert "is not a directory" in error.message
        assert error.hint == f"grant the file itself: `{top}/a.txt`"

    def test_a_directory_granted_as_a_file(self, top: Path) -> None:
        error = refusal(f"FILE_READ:{top}/dir")
        assert "is a directory" in error.message
        assert error.hint == f"grant what is below it: `{top}/dir/**`"

    @pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
    def test_special_files(self, top: Path, kind: str) -> None:
        path = top / kind
        with contextlib.ExitStack() as stack:
            if kind == "fifo":
                os.mkfifo(path)
            elif kind == "socket":
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                here = os.getcwd()
                os.chdir(top)  # a socket's path must be short
                try:
                    sock.bind("socket")
                finally:
                    os.chdir(here)
            else:
                os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            error = refusal(f"FILE_READ:{path}")
        assert "neither a regular file nor a directory" in error.message
        assert error.hint

    def test_a_component_that_cannot_be_opened(self, top: Path) -> None:
        path = f"{top}/{'x' * 300}"  # no capability says so, but a spec could
        grant = FileGrant(path=path, kind="file", writable=False, capability="x")
        with (
            pytest.raises(CapabilityError, match="cannot be opened: File name too long"),
            resolve_grants(replace(compiled(), files=(grant,))),
        ):
            pass

    def test_a_swap_after_the_check_changes_nothing(self, top: Path) -> None:
        secret = top / "secret"
        secret.write_text("secret")
        with resolve_grants(compiled(f"FILE_READ:{top}/a.txt")) as (mount,):
            (top / "a.txt").unlink()
            (top / "a.txt").symlink_to(secret)
            assert Path(f"/proc/self/fd/{mount.fd}").read_text() == "a"


class TestGlobs:
    def test_matches_are_regular_files_in_order(self, top: Path) -> None:
        (top / "link.txt").symlink_to("a.txt")
        (top / "dir.txt").mkdir()
        os.mkfifo(top / "fifo.txt")
        assert resolved(f"FILE_READ:{top}/*.txt") == [
            (f"{top}/a.txt", False, False), (f"{top}/b.txt", False, False),
        ]  # fmt: skip

    def test_links_are_not_entered(self, top: Path) -> None:
        (top / "dir2").symlink_to("dir")
        assert resolved(f"FILE_READ:{top}/d*/x.txt") == [(f"{top}/dir/x.txt", False, False)]

    def test_a_link_above_the_wildcard_matches_nothing(self, top: Path) -> None:
        (top / "link").symlink_to("dir")
        refusal(f"FILE_READ:{top}/link/*.txt")

    @pytest.mark.parametrize(
        ("pattern", "names"),
        [
            ("?.txt", ["a.txt", "b.txt"]),
            ("[ab].tx?", []),
            ("*", ["a.txt", "b.txt", "c.csv"]),
            ("*/*", ["dir/x.txt"]),
            ("*/deep/?.txt", ["dir/deep/y.txt"]),
            ("*/*/*", ["dir/deep/y.txt"]),
            ("a*t", ["a.txt"]),
            ("a.txt*", ["a.txt"]),
            ("*/a.txt", []),
            ("*/x.txt/*", []),
            ("nowhere/*", []),
            ("A*", []),
        ],
    )
    def test_patterns(self, top: Path, pattern: str, names: list[str]) -> None:
        if names:
            rows = resolved(f"FILE_READ:{top}/{pattern}")
            assert [path.removeprefix(f"{top}/") for path, _, _ in rows] == names
        else:
            error = refusal(f"FILE_READ:{top}/{pattern}")
            assert "matches no file" in error.message
            assert error.hint

    def test_names_that_are_hostile(self, top: Path) -> None:
        names = ["new\nline.log", "ü.log", ".hidden.log", "a b.log", "\udcff.log", "*.log"]
        for name in names:
            (top / name).touch()
        rows = resolved(f"FILE_READ:{top}/*.log")
        assert {path for path, _, _ in rows} == {f"{top}/{name}" for name in names}

    def test_the_bound(self, top: Path) -> None:
        for number in range(MAX_GLOB_MATCHES):
            (top / f"{number}.dat").touch()
        assert len(resolved(f"FILE_READ:{top}/*.dat")) == MAX_GLOB_MATCHES
        (top / "one-more.dat").touch()
        error = refusal(f"FILE_READ:{top}/*.dat")
        assert "matches more than 256 files" in error.message
        assert error.hint

    def test_the_search_is_bounded(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(resolving, "_MAX_GLOB_ENTRIES", 3)
        error = refusal(f"FILE_READ:{top}/*.nothing")
        assert "has more than 3 candidates" in error.message
        assert error.hint

    def test_refused_areas_are_never_entered(self, top: Path) -> None:
        areas = {"refused_areas": (f"{top}/dir",)}
        (top / "dirt").mkdir()
        (top / "dirt" / "x.txt").touch()
        assert resolved(f"FILE_READ:{top}/d*/x.txt", **areas) == [
            (f"{top}/dirt/x.txt", False, False)
        ]
        refusal(f"FILE_READ:{top}/?i?/*.txt", **areas)

    def test_what_is_read_only_is_never_written(self, top: Path) -> None:
        areas = {"read_only_areas": (f"{top}/dir",)}
        assert resolved(f"FILE_READ:{top}/d*/x.txt", **areas)
        refusal(f"FILE_WRITE:{top}/d*/x.txt", **areas)

    @pytest.mark.parametrize("pattern", ["/pr?c/version", "/p*/self/environ", "/d*/null", "/s*/x"])
    def test_the_kernels_file_systems_are_never_entered(self, pattern: str) -> None:
        refusal(f"FILE_READ:{pattern}")


class TestSetId:
    """A bit that a shared mapping would keep: such a file is never writable."""

    @pytest.mark.parametrize("mode", [0o4755, 0o2755])
    def test_it_is_refused_for_writing_alone(self, top: Path, mode: int) -> None:
        (top / "dir" / "deep" / "y.txt").chmod(mode)
        path = f"{top}/dir/deep/y.txt"
        for capability in (
            f"FILE_WRITE:{path}",
            f"FILE_WRITE:{top}/dir/**",
            f"FILE_WRITE:{top}/dir/*/y.txt",
        ):
            error = refusal(capability)
            assert error.message.startswith(f"`{path}` is set-user-id or set-group-id")
            assert error.details["file"] == path
            assert error.hint
        assert resolved(f"FILE_READ:{path}", f"FILE_READ:{top}/dir/**")

    def test_directories_and_links_do_not_count(self, top: Path) -> None:
        (top / "dir" / "deep").chmod(0o2755)
        (top / "dir" / "link").symlink_to("/usr/bin/su")
        assert resolved(f"FILE_WRITE:{top}/dir/**")

    def test_the_search_is_bounded(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(resolving, "_MAX_TREE_ENTRIES", 3)
        error = refusal(f"FILE_WRITE:{top}/**")
        assert "too many to check" in error.message
        assert error.hint


class TestKernelFileSystems:
    """Wherever one is mounted, no grant reaches it."""

    def refused(self, top: Path, kind: str, *capabilities: str) -> CapabilityError:
        where = top / "dir" / "deep"

        def work() -> CapabilityError:
            _sys.mount("none", str(where), kind, 0)
            with (
                pytest.raises(CapabilityError) as caught,
                resolve_grants(compiled(*capabilities)),
            ):
                pass
            return caught.value

        return in_namespaces(work)

    @pytest.mark.parametrize("resource", ["**", "dir/deep/**", "dir/deep/version"])
    def test_one_below_a_tree_or_above_a_file(self, top: Path, resource: str) -> None:
        error = self.refused(top, "proc", f"FILE_READ:{top}/{resource}")
        assert f"reaches `{top}/dir/deep`, a `proc` file system" in error.message
        assert error.details["area"] == f"{top}/dir/deep"
        assert error.hint

    def test_an_ordinary_one_is_fine(self, top: Path) -> None:
        def work() -> int:
            _sys.mount("none", str(top / "dir" / "deep"), "tmpfs", 0)
            with resolve_grants(compiled(f"FILE_READ:{top}/**")) as mounts:
                return len(mounts)

        assert in_namespaces(work) == 1

    def test_a_neighbour_does_not_matter(self, top: Path) -> None:
        def work() -> int:
            (top / "dir2").mkdir()
            _sys.mount("none", str(top / "dir2"), "proc", 0)
            with resolve_grants(compiled(f"FILE_READ:{top}/dir/**")) as mounts:
                return len(mounts)

        assert in_namespaces(work) == 1


class TestMasks:
    def masked(self, top: Path, *names: str, kind: str = "READ") -> Covers:
        masks = tuple(Mask(path=f"{top}/{name}", reason="x") for name in names)
        spec = compiled(f"FILE_{kind}:{top}/**", masks=masks)
        with resolve_grants(spec) as mounts:
            return covers.resolve_masks(spec, mounts)

    def test_in_a_tree_that_is_only_read_they_are_left_out(self, top: Path) -> None:
        assert self.masked(top, "dir/deep", "a.txt") == Covers(
            left_out={str(top): ("a.txt", "dir/deep")}
        )

    def test_in_a_tree_that_is_written_they_are_covered_and_what_is_above_pinned(
        self, top: Path
    ) -> None:
        assert self.masked(top, "dir/deep/y.txt", "dir/x.txt", "a.txt", kind="WRITE") == Covers(
            covered=(
                (f"{top}/a.txt", False),
                (f"{top}/dir/deep/y.txt", False),
                (f"{top}/dir/x.txt", False),
            ),
            pinned=(f"{top}/dir", f"{top}/dir/deep"),
        )
        assert self.masked(top, "dir", kind="WRITE").covered == ((f"{top}/dir", True),)

    def test_the_innermost_tree_decides(self, top: Path) -> None:
        masks = (Mask(path=f"{top}/dir/deep/y.txt", reason="x"),)
        spec = compiled(f"FILE_READ:{top}/**", f"FILE_WRITE:{top}/dir/**", masks=masks)
        with resolve_grants(spec) as mounts:
            found = covers.resolve_masks(spec, mounts)
        assert found.covered == ((f"{top}/dir/deep/y.txt", False),)
        assert found.left_out == {str(top): ("dir/deep/y.txt",)}

    def test_outside_every_tree_there_is_nothing_to_do(self, top: Path) -> None:
        masks = (Mask(path=f"{top}/dir", reason="x"),)
        spec = compiled(f"FILE_READ:{top}/a.txt", masks=masks)
        with resolve_grants(spec) as mounts:
            assert covers.resolve_masks(spec, mounts) == Covers()

    def test_a_missing_one_is_left_out_all_the_same(self, top: Path) -> None:
        assert self.masked(top, "none", "none/x", "a.txt/x").left_out == {
            str(top): ("a.txt/x", "none", "none/x")
        }
        with pytest.raises(CapabilityError, match="does not exist"):
            self.masked(top, "none", kind="WRITE")

    @pytest.mark.parametrize("kind", ["READ", "WRITE"])
    def test_a_link_cannot_be_masked(self, top: Path, kind: str) -> None:
        (top / "link").symlink_to("dir")
        with pytest.raises(CapabilityError, match="is a symbolic link"):
            self.masked(top, "link", kind=kind)


class TestViews:
    """A tree that is only read, with parts left out, as the host's kernel shows it."""

    def seen(self, top: Path, *names: str, then: Callable[[], object] = lambda: None) -> Path:
        """Stages a view, lets something happen, and copies what is seen."""
        masks = tuple(Mask(path=f"{top}/{name}", reason="x") for name in names)
        spec = compiled(f"FILE_READ:{top}/**", masks=masks)
        grants, copy = (top.parent / f"{top.name}-{name}" for name in ("grants", "copy"))
        grants.mkdir()

        def work() -> None:
            with resolve_grants(spec) as mounts:
                masked = covers.resolve_masks(spec, mounts)
                staging.stage(mounts, str(grants), masked.left_out)
            then()
            shutil.copytree(grants / "0", copy, symlinks=True)
            with pytest.raises(OSError, match="Read-only"):
                (grants / "0" / "new").touch()
            with pytest.raises(OSError, match="Read-only"):
                (grants / "0" / "dir" / "new").touch()

        in_namespaces(work)
        return copy

    def test_all_but_the_mask_is_there(self, top: Path) -> None:
        (top / "link").symlink_to("dir/x.txt")
        os.chmod(top / "dir", 0o751)
        copy = self.seen(top, "dir/deep")
        assert (copy / "a.txt").read_text() == (top / "a.txt").read_text()
        assert (copy / "dir" / "x.txt").read_text() == (top / "dir" / "x.txt").read_text()
        assert os.readlink(copy / "link") == "dir/x.txt"
        assert os.listdir(copy / "dir" / "deep") == []
        assert stat.S_IMODE((copy / "dir").stat().st_mode) == 0o751

    def test_a_masked_file_is_empty_and_closed(self, top: Path) -> None:
        copy = self.seen(top, "a.txt")
        assert (copy / "a.txt").read_bytes() == b""
        assert stat.S_IMODE((copy / "a.txt").stat().st_mode) == 0

    def test_what_the_host_puts_in_its_place_does_not_show(self, top: Path) -> None:
        def replace() -> None:
            (top / ".new").write_text("in clear")
            os.rename(top / ".new", top / "a.txt")
            os.rename(top / "dir", top / "old")
            shutil.copytree(top / "old", top / "dir")
            (top / "late").write_text("in clear")

        copy = self.seen(top, "a.txt", "dir/deep", "late", then=replace)
        assert (copy / "a.txt").read_bytes() == b""
        assert os.listdir(copy / "dir" / "deep") == []
        assert not (copy / "late").exists()

    def test_too_many_neighbours_are_refused(
        self, top: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(covers, "MAX_VIEW_ENTRIES", 1)
        with pytest.raises(CapabilityError, match="more than 1 entries") as caught:
            self.seen(top, "a.txt")
        assert f"without `{top}/a.txt` (x)" in caught.value.message
        assert "one by one" in str(caught.value.hint)

    def test_neighbours_that_come_in_between_are_refused_too(
        self, top: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(views, "MAX_VIEW_ENTRIES", 1)
        with pytest.raises(CapabilityError, match="more than 1 entries"):
            self.seen(top, "a.txt")


def in_namespaces(work: Callable[[], T]) -> T:
    """Runs in a thread with a mount namespace of its own, as a run does."""

    def body() -> T:
        _runsc.enter_mount_namespace()
        return work()

    return _runsc.in_new_thread(body)


def staged(
    directory: Path, *capabilities: str, work: Callable[[list[Any]], T] | None = None
) -> T | list[Any]:
    directory.mkdir()
    spec = compiled(*capabilities)

    def body() -> T | list[Any]:
        with resolve_grants(spec) as mounts:
            rows = staging.stage(mounts, str(directory))
        return work(rows) if work else rows

    before = Path("/proc/self/mountinfo").read_text()
    try:
        return in_namespaces(body)
    finally:
        assert Path("/proc/self/mountinfo").read_text() == before


class TestMounting:
    def test_rows_for_the_agent(self, top: Path) -> None:
        assert staged(top / "g", f"FILE_READ:{top}/dir/**", f"FILE_WRITE:{top}/a.txt") == [
            ("/grants/0", f"{top}/a.txt", False, True), ("/grants/1", f"{top}/dir", True, False),
        ]  # fmt: skip

    def test_reading_only_is_the_hosts_own_doing(self, top: Path) -> None:
        grants = top / "g"

        def work(_: list[Any]) -> list[int]:
            assert (grants / "0").read_text() == "a"
            assert (grants / "1" / "deep" / "y.txt").read_text() == "y"
            numbers = []
            for attempt in (
                lambda: (grants / "0").write_text("!"),
                lambda: (grants / "1" / "x.txt").write_text("!"),
                (grants / "1" / "new").touch,
                (grants / "1" / "x.txt").unlink,
            ):
                with pytest.raises(OSError, match="Read-only") as caught:
                    attempt()
                numbers.append(caught.value.errno)
            return numbers

        assert staged(grants, f"FILE_READ:{top}/a.txt", f"FILE_READ:{top}/dir/**", work=work)
        assert (top / "a.txt").read_text() == "a"

    def test_writing_reaches_the_host(self, top: Path) -> None:
        grants = top / "g"

        def work(_: list[Any]) -> None:
            (grants / "0").write_text("new")
            (grants / "1" / "made").write_text("made")

        staged(grants, f"FILE_WRITE:{top}/a.txt", f"FILE_WRITE:{top}/dir/**", work=work)
        assert (top / "a.txt").read_text() == "new"
        assert (top / "dir" / "made").read_text() == "made"
        assert list(grants.iterdir())  # mount points, empty once the namespace is gone
        assert (grants / "0").read_text() == ""

    @pytest.mark.parametrize("kind", ["FILE_READ", "FILE_WRITE"])
    def test_no_rights_and_no_devices_come_with_it(self, top: Path, kind: str) -> None:
        grants = top / "g"

        def work(_: list[Any]) -> bool:
            flags = os.statvfs(grants / "0").f_flag
            # That nothing can be executed is the guest's mount: see tests/security.
            return bool(flags & os.ST_NOSUID and flags & os.ST_NODEV)

        assert staged(grants, f"{kind}:{top}/dir/**", work=work)

    @pytest.mark.parametrize("owner", [0, 1000, 65533, 65535])
    def test_the_owners_files_are_nobodys_inside(self, top: Path, owner: int) -> None:
        for path in (top / "dir", top / "dir" / "x.txt"):
            os.chown(path, owner, owner)
        (top / "dir" / "x.txt").chmod(0o600)
        (top / "dir").chmod(0o700)
        grants = top / "g"

        def work(_: list[Any]) -> tuple[int, ...]:
            inside, directory = os.stat(grants / "0" / "x.txt"), os.stat(grants / "0")
            return inside.st_uid, inside.st_gid, directory.st_uid, directory.st_gid

        assert staged(grants, f"FILE_READ:{top}/dir/**", work=work) == (65534,) * 4
        assert os.stat(top / "dir" / "x.txt").st_uid == owner

    def test_the_identity_but_for_one(self) -> None:
        for owner in (0, 1, 1000, 65533, 65534, 65535, 4294967293):
            rows = [
                tuple(map(int, row.split())) for row in staging._identity_but(owner).split("\n")
            ]
            assert all(count > 0 for _, _, count in rows)
            for side in (0, 1):
                # Neither side of the map overlaps with itself, and all but the last is mapped.
                ranges = sorted((row[side], row[side] + row[2]) for row in rows)
                assert ranges[0][0] == 0
                assert ranges[-1][1] == 4294967295
                assert all(a[1] == b[0] for a, b in pairwise(ranges))
            if owner != 65534:
                assert (owner, 65534, 1) in rows
                assert (65534, owner, 1) in rows

    def test_a_mount_that_the_kernel_refuses_names_the_grant(self, top: Path) -> None:
        (top / "g").mkdir()
        mount = StagedMount(
            fd=os.open(top, os.O_RDONLY), path=str(top / "x"), is_directory=False, writable=False,
            capability=f"FILE_READ:{top}/x",
        )  # fmt: skip
        try:
            with pytest.raises(CapabilityError, match="cannot be mounted") as caught:
                in_namespaces(lambda: staging.stage((mount,), str(top / "g")))
        finally:
            os.close(mount.fd)
        assert caught.value.details == {"capability": f"FILE_READ:{top}/x"}
        assert caught.value.hint

    def test_a_file_that_is_replaced_meanwhile_is_told(self, top: Path) -> None:
        gone = OSError(errno.ENOENT, "move_mount: No such file or directory")
        error = staging.not_mounted(f"{top}/x", gone, f"FILE_READ:{top}/x")
        assert error.message == f"`{top}/x` was replaced or removed while it was being mounted"
        assert error.details == {"capability": f"FILE_READ:{top}/x"}
        assert error.hint == "run it again once nobody else changes it"


class TestWithoutOwners:
    """Where the file system cannot map owners, the mode decides."""

    def staged(self, path: str, mode: int, *, writable: bool, directory: bool) -> None:
        status = os.stat_result((mode, 0, 0, 0, 0, 0, 0, 0, 0, 0))
        mount = StagedMount(
            fd=-1, path=path, is_directory=directory, writable=writable,
            capability=f"FILE_READ:{path}",
        )  # fmt: skip
        staging._map_owner(-1, status, mount)

    @pytest.mark.parametrize(
        ("mode", "writable", "directory", "hint"),
        [
            (0o100640, False, False, "`chmod o+r /x`"),
            (0o100644, True, False, "`chmod o+rw /x`"),
            (0o040744, False, True, "`chmod o+rx /x`"),
            (0o040755, True, True, "`chmod o+rwx /x`"),
        ],
    )
    def test_a_mode_that_keeps_the_script_out(
        self, mode: int, writable: bool, directory: bool, hint: str
    ) -> None:
        with pytest.raises(CapabilityError, match="cannot map owners") as caught:
            self.staged("/x", mode, writable=writable, directory=directory)
        assert caught.value.hint == hint

    @pytest.mark.parametrize(
        ("mode", "writable", "directory"),
        [(0o100644, False, False), (0o100666, True, False), (0o040755, False, True)],
    )
    def test_a_mode_that_lets_it_in(self, mode: int, writable: bool, directory: bool) -> None:
        self.staged("/x", mode, writable=writable, directory=directory)
