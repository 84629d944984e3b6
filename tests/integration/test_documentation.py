"""Every code block of the documentation does what its page says."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import omnibase
from omnibase.core.events import EventBus, bus
from omnibase.core.sandbox.remote.client import ask, socket_path
from omnibase.core.sandbox.state import state_dir
from scripts import check_blocks
from tests.helpers.documentation import Reader, commands, matches

ROOT = Path(__file__).resolve().parents[2]
WORLD = Path(__file__).parent / "pages"
PAGES = [
    page
    for page in check_blocks.pages(ROOT)
    if any(not block.not_run and block.language != "text"
           for block in check_blocks.blocks(page.read_text()))
]  # fmt: skip


@pytest.fixture(scope="module")
def world(state_directory: Path) -> Iterator[Path]:
    """What the pages take for granted: a few files, and a registry with one component.

    Policies and grants name its place: each page finds a copy of it there. It is not below
    `/tmp`, which the guest has, too.
    """
    with tempfile.TemporaryDirectory(prefix="od-", dir="/var/tmp") as directory:
        made, kept = Path(directory) / "you", Path(directory) / "kept"
        shutil.copytree(WORLD, made)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        subprocess.run(
            ["bash", "-euo", "pipefail", "setup.sh", str(ROOT)],
            cwd=made, env={**os.environ, "PATH": path}, check=True, timeout=120,
        )  # fmt: skip
        made.rename(kept)
        yield kept


@pytest.fixture
def reader(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """Someone with a directory of their own; what they do to this process ends with them."""
    heeded = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    directory = world.parent / "you"
    shutil.copytree(world, directory, symlinks=True)
    with contextlib.closing(EventBus()) as own:
        monkeypatch.setattr(bus, "_default", [own])
        monkeypatch.chdir(directory)
        monkeypatch.delenv("OMNIBASE_REGISTRY", raising=False)
        # Beside what other tests keep in the state directory.
        monkeypatch.setenv("OMNIBASE_AUDIT", f"{directory}/root/var/lib/omnibase/audit")
        monkeypatch.setenv("OMNIBASE_ARTIFACTS", f"{directory}/root/var/lib/omnibase/artifacts")
        arrived = Reader(directory=directory)
        yield arrived
        arrived.leave()
    for number, handler in heeded.items():
        signal.signal(number, handler)
    shutil.rmtree(directory)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_holds(page: Path, reader: Reader) -> None:
    for block in check_blocks.blocks(page.read_text()):
        reader.meet(block, page.name)


def test_few_blocks_are_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_blocks.main([str(ROOT)]) == 0, capsys.readouterr().out
    assert len(PAGES) >= 14


def test_how_commands_and_output_are_told_apart() -> None:
    text = "$ first \\\n    --more\none\n\ntwo\n$ second\n"
    assert list(commands(text)) == [("first \\\n    --more", "one\n\ntwo\n"), ("second", "")]
    assert matches("a  b…\n…\nz\n", "a b c\nd\ne\nz\n")
    assert matches("a\n…\n", "a\n")
    assert not matches("a\n", "a\nb\n")
    assert not matches("a.c\n", "abc\n")


def test_a_page_that_is_wrong_is_found(reader: Reader) -> None:
    for fence, text in (
        ("console", "$ echo one\ntwo\n"),
        ("console", "$ false\n"),
        ("console", "$ true   # exit code 1\n"),
        ("python", "assert 1 == 2\n"),
        ("json", '{"unknown": 1}\n'),
    ):
        with pytest.raises(AssertionError):
            reader.meet(check_blocks.Block(line=1, info=fence, text=text), "page.md")


def test_a_page_that_fails_leaves_no_daemon(reader: Reader) -> None:
    block = check_blocks.Block(
        line=1,
        info="console",
        text="$ omnibase pool start --size 1\n$ false\n$ omnibase pool stop\n",
    )
    with pytest.raises(AssertionError, match=r"\$ false"):
        reader.meet(block, "page.md")
    path = socket_path(state_dir())
    pid = ask(path, "status", omnibase.__version__)["pid"]
    reader.leave()
    assert not Path(f"/proc/{pid}").exists()
    assert not path.exists()
