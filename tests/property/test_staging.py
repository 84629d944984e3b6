"""Expanding a glob agrees with a slow reference on any tree, links and all."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from omnibase.core.sandbox.resolving import resolve_grants
from omnibase.core.sandbox.spec import FileGrant, SandboxSpec
from omnibase.errors import CapabilityError
from tests.helpers.specs import compiled

NAMES = ["a", "b", "ab", "a.txt", "b.txt", ".h", "*", "ü"]
names = st.sampled_from(NAMES)
kinds = st.sampled_from(["file", "link to a file", "link to a directory", "fifo", "directory"])
trees = st.dictionaries(
    st.lists(names, min_size=1, max_size=3).map(tuple), kinds, min_size=1, max_size=12
)
patterns = st.lists(
    st.text(st.sampled_from("ab.txh*?ü"), min_size=1, max_size=4).filter(
        lambda text: text not in (".", "..") and "**" not in text
    ),
    min_size=1, max_size=3,
)  # fmt: skip


def grow(top: Path, tree: dict[tuple[str, ...], str]) -> None:
    (top / "target").mkdir()
    (top / "target" / "a").touch()
    for parts, kind in sorted(tree.items()):
        path = top.joinpath("tree", *parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "file":
                path.touch(exist_ok=False)
            elif kind == "link to a file":
                path.symlink_to(top / "target" / "a")
            elif kind == "link to a directory":
                path.symlink_to(top / "target")
            elif kind == "fifo":
                os.mkfifo(path)
            else:
                path.mkdir()
        except OSError:
            continue  # the name is taken


def regular_files(top: Path) -> Iterator[tuple[str, ...]]:
    for directory, _, found in os.walk(top, followlinks=False):
        for name in found:
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(top).parts


def expected(top: Path, pattern: list[str]) -> set[str]:
    wanted = [
        re.compile("".join({"*": "[^/]*", "?": "[^/]"}.get(c, re.escape(c)) for c in part))
        for part in pattern
    ]
    return {
        str(top.joinpath(*parts))
        for parts in regular_files(top)
        if len(parts) == len(wanted)
        and all(want.fullmatch(part) for want, part in zip(wanted, parts, strict=True))
    }


@settings(max_examples=150, deadline=None)
@given(trees, patterns)
def test_a_glob_opens_exactly_the_regular_files_that_match(
    tree: dict[tuple[str, ...], str], pattern: list[str]
) -> None:
    if not any(set("*?") & set(part) for part in pattern):
        return
    with tempfile.TemporaryDirectory(prefix="ob-", dir="/tmp") as directory:
        top = Path(directory)
        grow(top, tree)
        path = "/".join([f"{directory}/tree", *pattern])
        grant = FileGrant(path=path, kind="glob", writable=False, capability="x")
        opened: dict[str, os.stat_result] = {}
        try:
            with resolve_grants(_spec(grant)) as mounts:
                opened = {mount.path: os.stat(mount.fd) for mount in mounts}
        except CapabilityError as error:
            assert "matches no file" in error.message
        assert set(opened) == expected(top / "tree", pattern)
        for path, status in opened.items():
            assert os.path.samestat(status, os.lstat(path))


@settings(max_examples=150, deadline=None)
@given(trees, st.lists(names, min_size=1, max_size=3), st.sampled_from(["file", "tree"]))
def test_a_path_is_opened_only_if_no_link_is_on_it(
    tree: dict[tuple[str, ...], str], parts: list[str], kind: str
) -> None:
    with tempfile.TemporaryDirectory(prefix="ob-", dir="/tmp") as directory:
        grow(Path(directory), tree)
        path = "/".join([f"{directory}/tree", *parts])
        grant = FileGrant(path=path, kind=kind, writable=True, capability="x")  # type: ignore[arg-type]
        try:
            with resolve_grants(_spec(grant)) as (mount,):
                opened = os.stat(mount.fd)
        except CapabilityError as error:
            real = os.path.realpath(path) == path
            plain = os.path.isdir(path) if kind == "tree" else os.path.isfile(path)
            assert not (real and plain), error.message
        else:
            assert os.path.realpath(path) == path
            assert os.path.samestat(opened, os.lstat(path))


def _spec(grant: FileGrant) -> SandboxSpec:
    return replace(compiled(), files=(grant,))
