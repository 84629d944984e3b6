"""Artifacts on a real sandbox: what a script is given, what of its own comes out, what does not."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest

import omnibase
from omnibase import ArtifactStore, EventBus, ExecutionContext, RunResult
from omnibase.core import events
from omnibase.core.artifacts.places import place_of
from tests.security.harness import Outcome, observed

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(20)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return place_of(tmp_path / "store").open()


def run(
    store: ArtifactStore, source: str, *caps: str, secrets: Any = None, **quotas: Any
) -> Outcome:
    def body(bus: EventBus) -> RunResult:
        return omnibase.run(
            source.encode(), capabilities=caps, artifacts=store, secrets=secrets,
            context=ExecutionContext(**quotas), bus=bus,
        )  # fmt: skip

    return observed(body)


class TestWriting:
    def test_without_a_grant_nothing_can_be_left(self, store: ArtifactStore) -> None:
        outcome = run(store, "open('/artifacts/out/plot.png', 'wb')")

        error = outcome.assert_raised()
        outcome.assert_violation("ARTIFACT_WRITE:plot.png", operation="open")
        assert error.hint == "if it should be allowed, grant `ARTIFACT_WRITE:plot.png`"
        assert "ARTIFACT_WRITE:plot.png is not granted" in outcome.finished.stderr.decode()
        assert store.names() == ()

    def test_the_granted_twin_comes_out(self, store: ArtifactStore) -> None:
        outcome = run(
            store,
            f"open('/artifacts/out/plot.png', 'wb').write({PNG!r})",
            "ARTIFACT_WRITE:plot.png",
        )

        outcome.assert_clean()
        artifact = outcome.finished.artifacts["plot.png"]
        assert (artifact.kind, artifact.media_type) == ("image", "image/png")
        assert artifact.digest == f"sha256:{hashlib.sha256(PNG).hexdigest()}"
        assert artifact.read_bytes() == PNG
        assert store.find("plot.png") == artifact
        (stored,) = outcome.reported(events.ArtifactStored)
        assert (stored.artifact, stored.digest, stored.kind) == (
            "plot.png", artifact.digest, "image",
        )  # fmt: skip

    def test_a_name_that_no_grant_covers_is_a_violation(self, store: ArtifactStore) -> None:
        outcome = run(
            store,
            "for name in 'ab':\n    open('/artifacts/out/' + name, 'w').write(name)",
            "ARTIFACT_WRITE:a",
        )

        outcome.assert_raised()
        violation = outcome.assert_violation("ARTIFACT_WRITE:b", evidence="agent")
        assert (violation.operation, violation.resource) == ("collect", "/artifacts/out/b")
        assert list(outcome.finished.artifacts) == ["a"]
        assert store.names() == ("a",)


class TestReading:
    def test_what_is_granted_is_there_and_nothing_else(self, store: ArtifactStore) -> None:
        for name in ("in/a.csv", "in/b.csv", "other"):
            store.put(name, io.BytesIO(name.encode()))
        outcome = run(
            store,
            "import os\n"
            "print(sorted(os.listdir('/artifacts')), sorted(os.listdir('/artifacts/in')))\n"
            "print(open('/artifacts/in/b.csv').read())\n"
            "open('/artifacts/other')",
            "ARTIFACT_READ:in/*",
        )

        outcome.assert_raised()
        assert outcome.stdout == "['in'] ['a.csv', 'b.csv']\nin/b.csv\n"
        outcome.assert_violation("ARTIFACT_READ:other")
        assert [e.artifact for e in outcome.reported(events.ArtifactRead)] == [
            "in/a.csv", "in/b.csv",
        ]  # fmt: skip
