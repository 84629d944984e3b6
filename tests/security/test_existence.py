"""Whether the guest can tell which paths the host has: by answers, and by how long they take."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnibase.core.sandbox.spec import Mask
from tests.security.harness import Outcome, SandboxFixture

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-EXEC-15")]

# Two medians of some hundred samples, taken in turns: on a busy machine they differ by
# a tenth. A look at the host would cost a round trip, which is several times as much.
_SAME = 0.5


@pytest.fixture
def present() -> Iterator[list[str]]:
    """Files of this host in directories that the guest has as well, or has not."""
    made = []
    for place in ("/tmp", "/var/tmp", "/srv", "/root", "/dev/shm"):
        fd, name = tempfile.mkstemp(prefix="omnibase-exists-", dir=place)
        os.close(fd)
        made.append(name)
    yield made
    for name in made:
        os.unlink(name)


def _ask(
    sandbox: SandboxFixture,
    pairs: list[tuple[str, str]],
    caps: list[str],
    masks: tuple[Mask, ...] = (),
) -> Outcome:
    return sandbox(
        "exists",
        ["MEMORY:128MiB", *caps],
        args=[json.dumps(pairs)],
        masks=masks,
        on_violation="record",
        wall_seconds=60.0,
    )


def _assert_no_telling(outcome: Outcome, pairs: list[tuple[str, str]]) -> None:
    answers = outcome.report["answers"]
    for one, other in pairs:
        assert answers[one] == answers[other], (one, other)
    for (one, _), (mine, others) in zip(pairs, outcome.report["times"], strict=True):
        assert abs(mine - others) <= _SAME * max(mine, others), (one, mine, others)


def test_without_grants_what_exists_and_what_does_not_answer_alike(
    sandbox: SandboxFixture, present: list[str]
) -> None:
    pairs = [(name, f"{name[:-1]}!") for name in present]
    pairs += [("/usr/bin/env", "/usr/bin/eno"), ("/var/lib/dpkg/status", "/var/lib/dpkh/status")]
    assert all(os.path.exists(one) and not os.path.exists(other) for one, other in pairs)

    outcome = _ask(sandbox, pairs, [])

    _assert_no_telling(outcome, pairs)
    # What it asked by opening is on record under its name; the host is told, not the guest.
    outcome.assert_violation(f"FILE_READ:{present[0]}", operation="open")
    assert f"FILE_READ:{pairs[0][1]}" not in {v.capability for v in outcome.violations}


def test_beside_a_granted_file_nothing_else_can_be_told(
    sandbox: SandboxFixture, area: Path
) -> None:
    (area / "deep").mkdir()
    for name in ("granted.txt", "other.txt", "deep/file.txt"):
        (area / name).write_text("x")
    pairs = [
        (f"{area}/other.txt", f"{area}/absent.txt"),
        (f"{area}/deep", f"{area}/peed"),
        (f"{area}/deep/file.txt", f"{area}/peed/file.txt"),
    ]

    outcome = _ask(sandbox, pairs, [f"FILE_READ:{area}/granted.txt"])

    _assert_no_telling(outcome, pairs)
    outcome.assert_violation(f"FILE_READ:{area}/other.txt", operation="open")


@pytest.mark.parametrize("kind", ["FILE_READ", "FILE_WRITE"])
def test_below_a_mask_nothing_can_be_told(sandbox: SandboxFixture, area: Path, kind: str) -> None:
    (area / "masked" / "deep").mkdir(parents=True)
    for name in ("masked/secret.txt", "masked/deep/secret.txt"):
        (area / name).write_text("x")
    pairs = [
        (f"{area}/masked/secret.txt", f"{area}/masked/absent.txt"),
        (f"{area}/masked/deep", f"{area}/masked/peed"),
        (f"{area}/masked/deep/secret.txt", f"{area}/masked/peed/secret.txt"),
    ]
    masks = (Mask(path=f"{area}/masked", reason="kept back"),)

    outcome = _ask(sandbox, pairs, [f"{kind}:{area}/**"], masks)

    _assert_no_telling(outcome, pairs)
    found = outcome.assert_violation(f"FILE_READ:{area}/masked/secret.txt", operation="open")
    assert found.reason == "kept back"
    assert (area / "masked" / "secret.txt").read_text() == "x"


def test_the_granted_twin_can_be_told(sandbox: SandboxFixture, area: Path) -> None:
    (area / "present.txt").write_text("x")
    pair = (f"{area}/present.txt", f"{area}/absent.txt")

    outcome = _ask(sandbox, [pair], [f"FILE_READ:{area}/**"])

    answers = outcome.report["answers"]
    assert (answers[pair[0]]["stat"], answers[pair[1]]["stat"]) == ("yes", "ENOENT")
    assert (answers[pair[0]]["open"], answers[pair[1]]["open"]) == ("yes", "ENOENT")
