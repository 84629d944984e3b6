"""Grants that change between check and use: what is mounted is what was granted, or nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from omnibase import CapabilityError, run
from tests.security.harness import SandboxFixture, observed

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.capabilities,
    pytest.mark.threat("T-EXEC-20"),
]

_SECRET = "bytes that nobody granted"
_TRIES = 40


@contextmanager
def _meanwhile(turn: Callable[[], None]) -> Iterator[list[int]]:
    """Does something over and over while the body runs; tells how often."""
    stop, turns = threading.Event(), [0]

    def body() -> None:
        while not stop.is_set():
            turn()
            turns[0] += 1

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield turns
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def places(area: Path) -> tuple[Path, Path, Path]:
    """A granted directory's name, what is granted, and what is not, to be swapped."""
    granted, good, bad = area / "granted", area / "good", area / "bad"
    for place, text in ((good, "harmless"), (bad, _SECRET)):
        (place / "deep").mkdir(parents=True)
        (place / "deep" / "file.txt").write_text(text)
    return granted, good, bad


def _swaps(granted: Path, good: Path, bad: Path) -> Callable[[], None]:
    """The name is the directory, then a link to another, then the directory again."""

    def turn() -> None:
        for _ in range(3):  # mostly a link, so that most tries end before a start
            granted.symlink_to(bad)
            granted.unlink()
        good.rename(granted)
        granted.rename(good)

    return turn


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("FILE_READ", "granted/**"),
        ("FILE_READ", "granted/deep/*.txt"),
        ("FILE_WRITE", "granted/deep/file.txt"),
    ],
)
def test_a_directory_that_becomes_a_link_never_wins(
    sandbox: SandboxFixture, area: Path, places: tuple[Path, Path, Path], pattern: str, kind: str
) -> None:
    target, refused, read = area / "granted" / "deep" / "file.txt", 0, 0

    with _meanwhile(_swaps(*places)) as turns:
        for _ in range(_TRIES):
            outcome = sandbox(
                "read_files", [f"{kind}:{area}/{pattern}"], args=[str(target)],
                on_violation="record",
            )  # fmt: skip
            if isinstance(outcome.error, CapabilityError):
                refused += 1  # and it is on record
                names = [event.name for event in outcome.events]
                assert names[0] == "CapabilityDenied" and "SandboxStart" not in names
                continue
            assert _SECRET not in outcome.stdout
            read += outcome.report[str(target)] == "harmless"

    assert refused > 0
    assert turns[0] > _TRIES
    assert (area / "bad" / "deep" / "file.txt").read_text() == _SECRET


def test_the_granted_twin_is_read(
    sandbox: SandboxFixture, area: Path, places: tuple[Path, Path, Path]
) -> None:
    granted, good, _ = places
    good.rename(granted)
    target = str(granted / "deep" / "file.txt")

    outcome = sandbox("read_files", [f"FILE_READ:{granted}/**"], args=[target])

    outcome.assert_clean()
    assert outcome.report[target] == "harmless"


def test_what_is_swapped_in_later_is_not_seen(
    sandbox: SandboxFixture, area: Path, places: tuple[Path, Path, Path]
) -> None:
    """Once it has started, a name that leads elsewhere leads the host there, not the guest."""
    granted, good, bad = places
    good.rename(granted)
    target = granted / "deep" / "file.txt"

    source = f"""
import time
print("started", flush=True)
seen = set()
end = time.monotonic() + 1
while time.monotonic() < end:
    try:
        seen.add(open({str(target)!r}).read())
    except OSError as error:
        seen.add(type(error).__name__)
print(sorted(seen))
"""

    def swap(_stream: str, _chunk: bytes) -> None:
        if not granted.is_symlink():
            granted.rename(good)
            granted.symlink_to(bad)

    outcome = observed(
        lambda bus: run(
            source.encode(), capabilities=[f"FILE_READ:{granted}/**"], on_output=swap, bus=bus
        )
    )

    outcome.assert_clean()
    assert granted.is_symlink()
    assert outcome.stdout == "started\n['harmless']\n"
