"""Artifacts on a real sandbox: what a script is given, what of its own comes out, what does not."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import omnibase
from omnibase import (
    ArtifactError,
    ArtifactStore,
    CapabilityError,
    EventBus,
    ExecutionContext,
    ResourceLimitExceeded,
    RunResult,
    SandboxError,
    SandboxTimeout,
)
from omnibase.core import events
from omnibase.core.artifacts.places import place_of
from omnibase.core.sandbox.collect import receiver
from tests.security.harness import SCRIPTS, Outcome, observed

pytestmark = pytest.mark.capabilities

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(20)
ALL = "ARTIFACT_WRITE:*"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return place_of(tmp_path / "store").open()


def run(
    store: ArtifactStore,
    source: str | bytes,
    *caps: str,
    args: tuple[str, ...] = (),
    secrets: Any = None,
    **quotas: Any,
) -> Outcome:
    code = source.encode() if isinstance(source, str) else source

    def body(bus: EventBus) -> RunResult:
        return omnibase.run(
            code, args=args, capabilities=caps, artifacts=store, secrets=secrets,
            context=ExecutionContext(**quotas), bus=bus,
        )  # fmt: skip

    return observed(body)


def script(name: str) -> bytes:
    return (SCRIPTS / f"{name}.py").read_bytes()


def left_out(outcome: Outcome) -> dict[str, str]:
    """Why each file was left out; the same is on the bus."""
    rows = outcome.finished.artifacts.left_out
    found = {left.name: left.reason for left in rows}
    told = outcome.reported(events.ArtifactRefused)
    assert [event.reason for event in told] == [left.reason for left in rows]
    assert {e.artifact for e in told} >= {name for name in found if name.isprintable()}
    assert not found or not outcome.finished.ok
    return found


@pytest.mark.threat("T-ART-01")
class TestWriting:
    def test_without_a_grant_nothing_can_be_left(self, store: ArtifactStore) -> None:
        outcome = run(store, "open('/artifacts/out/plot.png', 'wb')")

        error = outcome.assert_raised()
        outcome.assert_violation("ARTIFACT_WRITE:plot.png", operation="open")
        assert error.hint == "if it should be allowed, grant `ARTIFACT_WRITE:plot.png`"
        assert "ARTIFACT_WRITE:plot.png is not granted" in outcome.finished.stderr.decode()
        assert store.names() == ()

    def test_the_granted_twin_comes_out(self, store: ArtifactStore) -> None:
        source = f"open('/artifacts/out/plot.png', 'wb').write({PNG!r})"
        outcome = run(store, source, "ARTIFACT_WRITE:plot.png")

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
        granted = outcome.reported(events.CapabilityGranted)
        assert ["collected" in grant.enforcement for grant in granted] == [True]

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

    def test_a_grant_for_one_level_is_not_one_for_the_next(self, store: ArtifactStore) -> None:
        outcome = run(
            store,
            "import os\nos.makedirs('/artifacts/out/reports/deep')\n"
            "for name in ('reports/q1', 'reports/deep/q1', 'reports.txt'):\n"
            "    open('/artifacts/out/' + name, 'w').write(name)",
            "ARTIFACT_WRITE:reports/*",
        )
        assert sorted(v.capability or "" for v in outcome.violations) == [
            "ARTIFACT_WRITE:reports.txt", "ARTIFACT_WRITE:reports/deep/q1",
        ]  # fmt: skip
        assert store.names() == ("reports/q1",)

    def test_kinds_are_told_by_content(self, store: ArtifactStore) -> None:
        files = {
            "a.png": PNG, "b.csv": b"a,b\n1,2\n", "c.json": b'{"a": [1]}', "d.txt": "é\n".encode(),
            "e.bin": bytes(range(256)), "f.png": b"no picture", "g": b"", "h.svg": b"<svg></svg>",
        }  # fmt: skip
        outcome = run(
            store, f"for n, d in {files!r}.items(): open('/artifacts/out/' + n, 'wb').write(d)", ALL
        )
        outcome.assert_clean()
        found = outcome.finished.artifacts
        assert [found[name].kind for name in files] == [
            "image", "table", "json", "text", "binary", "text", "text", "text",
        ]  # fmt: skip
        assert {name: found[name].read_bytes() for name in files} == files
        document = json.loads(json.dumps(outcome.finished.to_dict()))
        assert [a["kind"] for a in document["artifacts"]] == [found[n].kind for n in sorted(files)]

    def test_a_run_that_fails_by_itself_leaves_what_it_left(self, store: ArtifactStore) -> None:
        outcome = run(store, "open('/artifacts/out/log', 'w').write('x')\nraise SystemExit(3)", ALL)
        assert (outcome.error, outcome.finished.exit_code) == (None, 3)
        assert list(outcome.finished.artifacts) == ["log"]

    @pytest.mark.threat("T-ART-05")
    @pytest.mark.parametrize(
        ("end", "quotas"),
        [
            ("while True: pass", {"wall_seconds": 3.0}),
            ("import os; os.kill(os.getpid(), 9)", {}),
            ("open('/etc/passwd')\nwhile True: pass", {"on_violation": "kill"}),
            ("x = []\nwhile True: x.append(bytes(1 << 20))", {}),
            ("while True: print('x' * 65536)", {"output_bytes": 1 << 20}),
        ],
    )
    def test_a_run_that_is_ended_leaves_nothing(
        self, store: ArtifactStore, end: str, quotas: dict[str, Any]
    ) -> None:
        source = f"open('/artifacts/out/a', 'w').write('x' * 4096)\n{end}"
        outcome = run(store, source, ALL, **quotas)
        assert len(outcome.finished.artifacts) == 0
        assert outcome.finished.exit_code != 0
        assert store.names() == ()
        assert outcome.reported(events.ArtifactStored) == []

    @pytest.mark.threat("T-ART-04")
    def test_scratch_and_artifacts_share_their_limit_and_no_memory(
        self, store: ArtifactStore
    ) -> None:
        outcome = run(
            store,
            "with open('/artifacts/out/big', 'wb') as f:\n"
            "    for _ in range(60): f.write(bytes(1 << 20))\n",
            ALL,
        )
        outcome.assert_clean()
        assert outcome.finished.artifacts["big"].size == 60 << 20
        outcome = run(
            store, "open('/artifacts/out/big', 'wb').write(bytes(1 << 20))", ALL,
            scratch_bytes=1 << 19,
        )  # fmt: skip
        assert isinstance(outcome.error, ResourceLimitExceeded)
        assert outcome.error.kind == "disk"


class TestHostileFiles:
    @pytest.mark.threat("T-ART-02")
    def test_only_files_come_out(self, store: ArtifactStore) -> None:
        outcome = run(store, script("artifact_tricks"), ALL, "ARTIFACT_WRITE:*/*")

        assert outcome.error is None, outcome.finished.stderr
        assert outcome.stdout == "done\n"
        irregular = "is not a regular file"
        assert left_out(outcome) == {
            "absolute-link": irregular, "relative-link": irregular, "dangling": irregular,
            "directory-link": irregular, "fifo": irregular, "socket": irregular,
            "proc-link": irregular, "huge": "is larger than what may come out",
        }  # fmt: skip
        found = outcome.finished.artifacts
        assert {name: found[name].read_bytes() for name in found} == {
            "plain": b"plain", "hard-link": b"plain", "closed": b"closed", "dir/inner": b"inner",
        }  # fmt: skip

    @pytest.mark.threat("T-ART-03")
    def test_names_are_what_they_are(self, store: ArtifactStore, tmp_path: Path) -> None:
        names = [
            b"a\nb", b"\x1b[2J", b"\xff\xfe", b" lead", b"trail ", b".hidden", b"a\\b", b"*",
            b"e\xcc\x81", b"out", "\u202eright".encode(), b"x" * 255, b"ok",
        ]  # fmt: skip
        outcome = run(
            store, f"for n in {names!r}: open(b'/artifacts/out/' + n, 'wb').write(b'x')", ALL
        )
        assert list(outcome.finished.artifacts) == ["ok"]
        refused = set(left_out(outcome)) | {
            (violation.capability or "").removeprefix("ARTIFACT_WRITE:")
            for violation in outcome.violations
        }
        assert refused == {os.fsdecode(name) for name in names} - {"ok"}
        assert store.names() == ("ok",)
        assert sorted(os.listdir(tmp_path)) == ["store"]
        json.dumps(outcome.finished.to_dict()).encode("ascii")

    @pytest.mark.threat("T-ART-04")
    def test_a_flood_of_names_is_bounded(self, store: ArtifactStore) -> None:
        outcome = run(
            store,
            "for n in range(6000): open(f'/artifacts/out/{n:05}', 'w').close()",
            ALL, artifact_count=100,
        )  # fmt: skip
        assert len(outcome.finished.artifacts) == 100
        reasons = set(left_out(outcome).values())
        assert "is one file more than may come out" in reasons
        assert len(outcome.finished.artifacts.left_out) <= 258

    @pytest.mark.threat("T-ART-04")
    def test_depth_is_bounded(self, store: ArtifactStore) -> None:
        outcome = run(
            store,
            "import os\nos.chdir('/artifacts/out')\n"
            "for n in range(200):\n    os.mkdir('d'); os.chdir('d')\n"
            "open('deep', 'w').close()\n",
            ALL, *(f"ARTIFACT_WRITE:{'*/' * n}*" for n in range(1, 9)),
        )  # fmt: skip
        assert left_out(outcome) == {"/".join("d" * 8): "lies more than 7 directories deep"}
        assert len(outcome.finished.artifacts) == 0

    @pytest.mark.threat("T-ART-04")
    def test_bytes_are_bounded_in_all(self, store: ArtifactStore) -> None:
        outcome = run(
            store,
            "for n in 'abc': open('/artifacts/out/' + n, 'wb').write(bytes(400))",
            ALL, artifact_bytes=1000,
        )  # fmt: skip
        assert list(outcome.finished.artifacts) == ["a", "b"]
        assert left_out(outcome) == {"c": "is larger than what may come out"}

    @pytest.mark.threat("T-ART-04")
    def test_none_may_come_out(self, store: ArtifactStore) -> None:
        outcome = run(store, "open('/artifacts/out/a', 'w')", ALL, artifact_count=0)
        assert left_out(outcome) == {"a": "is one file more than may come out"}

    @pytest.mark.threat("T-ART-05")
    def test_nobody_changes_a_file_while_it_is_collected(self, store: ArtifactStore) -> None:
        outcome = run(store, script("artifact_swap"), ALL, "MEMORY:200MiB")

        outcome.assert_clean()
        found = outcome.finished.artifacts
        assert set(found) <= {f"{n:02}" for n in range(40)}
        assert len(found) == 40
        for artifact in found.values():
            assert hashlib.sha256(artifact.read_bytes()).hexdigest() == artifact.digest[7:]
            assert set(artifact.read_bytes()) <= {ord("x"), ord("y")}

    @pytest.mark.threat("T-ART-06")
    def test_the_channel_is_not_the_scripts(self, store: ArtifactStore) -> None:
        outcome = run(
            store,
            "import json, os\nfound, seen = [], []\n"
            "for fd in range(3, 300):\n"
            "    try:\n        os.write(fd, b'OBC1\\0'); found.append(f'host:{fd}')\n"
            "    except OSError: pass\n"
            "for pid in (1, os.getppid()):\n"
            "    for fd in range(10):\n"
            "        path = f'/proc/{pid}/fd/{fd}'\n"
            "        try: seen.append(os.readlink(path)); open(path, 'wb')\n"
            "        except OSError: pass\n"
            "        else: found.append((pid, seen[-1]))\n"
            "open('/artifacts/out/found', 'w').write(json.dumps([found, seen]))",
            ALL, on_violation="record",
        )  # fmt: skip
        found, seen = json.loads(outcome.finished.artifacts["found"].read_bytes())
        # Of pipes and sockets from the host it can open none; one of them is the channel.
        assert [one for one in found if "host:" in str(one)] == []
        assert len([name for name in seen if name.startswith("host:")]) >= 5

    @pytest.mark.threat("T-EXEC-04")
    def test_the_outlet_is_no_place_to_run_anything_from(self, store: ArtifactStore) -> None:
        outcome = run(
            store,
            "import os\nopen('/artifacts/out/x', 'w').write('#!/bin/sh\\n')\n"
            "os.chmod('/artifacts/out/x', 0o755)\n"
            "try:\n    os.execv('/artifacts/out/x', ['x'])\n"
            "except OSError as error:\n    print(error.errno)\n",
            ALL,
        )
        outcome.assert_violation("EXTERNAL_COMMAND:x")
        assert outcome.stdout == "13\n"

    @pytest.mark.threat("T-EXEC-14")
    def test_the_scratch_shows_nothing_of_how_it_is_made(self, store: ArtifactStore) -> None:
        outcome = run(
            store,
            "import os\nprint(os.listdir('/tmp'), os.listdir('/artifacts'), os.listdir('/run'))\n"
            "open('/tmp/mine', 'w').write('x')\n"
            "for path in ('/run/outlets', '/run/outlets/0'):\n"
            "    try:\n        print(os.listdir(path))\n"
            "    except OSError as error:\n        print(error.errno)\n"
            "try:\n    os.rename('/artifacts/out', '/artifacts/moved')\n"
            "except OSError as error:\n    print(error.errno)\n",
            ALL, on_violation="record",
        )  # fmt: skip
        lines = outcome.stdout.splitlines()
        assert lines[0].startswith("[] ['out'] ")
        assert lines[1:3] == ["13", "13"]
        assert lines[3] in ("13", "16", "18")
        assert left_out(outcome) == {}


@pytest.mark.threat("T-ART-07")
class TestReading:
    @pytest.fixture(autouse=True)
    def stored(self, store: ArtifactStore) -> None:
        for name in ("in/a.csv", "in/b.csv", "other"):
            store.put(name, io.BytesIO(name.encode()))

    def test_what_is_granted_is_there_and_nothing_else(self, store: ArtifactStore) -> None:
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
        names = [event.name for event in outcome.events]
        assert names.index("SandboxStart") < names.index("ArtifactRead")

    def test_the_granted_twin_reads_it(self, store: ArtifactStore) -> None:
        outcome = run(store, "print(open('/artifacts/other').read())", "ARTIFACT_READ:other")
        outcome.assert_clean()
        assert outcome.stdout == "other\n"
        (read,) = outcome.reported(events.ArtifactRead)
        artifact = store.find("other")
        assert artifact is not None
        assert (read.version, read.digest, read.size_bytes) == (1, artifact.digest, 5)

    def test_without_a_grant_there_are_no_artifacts(self, store: ArtifactStore) -> None:
        outcome = run(
            store,
            "import os\nfor path in ('in/a.csv', 'other', 'guess'):\n"
            "    try: open('/artifacts/' + path)\n    except OSError as e: print(e.errno)\n"
            "try: os.listdir('/artifacts')\nexcept OSError as e: print(e.errno)\n",
        )
        # Alike whether it is in the store or not: names cannot be guessed.
        assert outcome.stdout == "2\n2\n2\n2\n"
        for name in ("in/a.csv", "other", "guess", "*"):
            outcome.assert_violation(f"ARTIFACT_READ:{name}")

    def test_it_cannot_be_changed(self, store: ArtifactStore) -> None:
        outcome = run(
            store,
            "import os\nbase = '/artifacts/in/a.csv'\n"
            "def attempt(call, *args):\n"
            "    try: call(*args); print('done')\n"
            "    except OSError as error: print(error.errno)\n"
            "for mode in ('w', 'a', 'r+'): attempt(open, base, mode)\n"
            "attempt(open, '/artifacts/new', 'w')\n"
            "attempt(open, '/artifacts/in/new', 'w')\n"
            "attempt(os.unlink, base)\nattempt(os.rename, base, '/artifacts/in/c')\n"
            "attempt(os.chmod, base, 0o777)\nattempt(os.truncate, base, 0)\n"
            "attempt(os.link, base, '/tmp/linked')\nattempt(os.symlink, 'x', '/artifacts/in/l')\n"
            "print(open(base).read())",
            "ARTIFACT_READ:in/a.csv", ALL,
        )  # fmt: skip
        assert "done" not in outcome.stdout.split()
        assert outcome.stdout.endswith("in/a.csv\n")
        opened = [v for v in outcome.violations if v.operation == "open"]
        assert [v.capability for v in opened] == [None] * len(opened)
        assert {v.resource for v in opened} == {
            "/artifacts/in/a.csv", "/artifacts/in/new", "/artifacts/new",
        }  # fmt: skip
        artifact = store.find("in/a.csv")
        assert artifact is not None
        assert (artifact.version, artifact.read_bytes()) == (1, b"in/a.csv")

    @pytest.mark.threat("T-ART-08")
    def test_a_tampered_blob_never_reaches_a_script(self, store: ArtifactStore) -> None:
        artifact = store.find("other")
        assert artifact is not None
        digest = artifact.digest[7:]
        Path(store.areas[0], "blobs", digest[:2], digest).write_bytes(b"OTHER")
        outcome = run(store, "print(open('/artifacts/other').read())", "ARTIFACT_READ:other")
        assert isinstance(outcome.error, ArtifactError)
        assert outcome.error.details["reason"] == "tampered"
        assert outcome.result is None
        assert outcome.reported(events.SandboxStart) == []
        assert len(outcome.reported(events.CapabilityDenied)) == 1

    def test_what_is_missing_starts_nothing(self, store: ArtifactStore) -> None:
        outcome = run(store, "print(1)", "ARTIFACT_READ:nope")
        assert isinstance(outcome.error, ArtifactError)
        assert outcome.error.details["reason"] == "missing"
        (denied,) = outcome.reported(events.CapabilityDenied)
        assert denied.capability == "ARTIFACT_READ:nope"
        outcome = run(store, "print(1)", "ARTIFACT_READ:nope*")
        assert isinstance(outcome.error, CapabilityError)
        assert outcome.result is None

    @pytest.mark.threat("T-ART-03")
    def test_names_that_no_tree_of_files_holds_are_refused(self, store: ArtifactStore) -> None:
        store.put("in", io.BytesIO(b"x"))
        outcome = run(store, "print(1)", "ARTIFACT_READ:in", "ARTIFACT_READ:in/a.csv")
        assert isinstance(outcome.error, CapabilityError)
        assert "cannot both be files of one run" in outcome.error.message

    def test_what_comes_out_goes_in_again(self, store: ArtifactStore) -> None:
        copy = "open('/artifacts/out/b', 'wb').write(open('/artifacts/a', 'rb').read() + b'!')"
        run(store, "open('/artifacts/out/a', 'wb').write(b'1')", ALL).assert_clean()
        outcome = run(store, copy, "ARTIFACT_READ:a", "ARTIFACT_WRITE:b")
        outcome.assert_clean()
        assert outcome.finished.artifacts["b"].read_bytes() == b"1!"
        assert [e.name for e in outcome.events if e.name.startswith("Artifact")] == [
            "ArtifactRead", "ArtifactStored",
        ]  # fmt: skip


@pytest.mark.threat("T-ART-07")
class TestAreas:
    def test_no_file_grant_reaches_the_store(self, store: ArtifactStore, area: Path) -> None:
        inside = place_of(area / "store").open()
        inside.put("a", io.BytesIO(b"kept"))
        digest = hashlib.sha256(b"kept").hexdigest()
        blob = area / "store" / "blobs" / digest[:2] / digest
        for grant in (f"FILE_READ:{blob}", f"FILE_READ:{area}/store/**", f"FILE_WRITE:{area}/**"):
            outcome = run(inside, "print(1)", grant)
            assert isinstance(outcome.error, CapabilityError), grant
            assert outcome.result is None
        outcome = run(
            inside,
            f"import os\nprint(os.listdir({str(area)!r}))\nopen({str(blob)!r})",
            f"FILE_READ:{area}/**",
        )
        outcome.assert_violation(f"FILE_READ:{blob}")
        assert "kept" not in outcome.stdout

    def test_no_file_grant_covers_artifacts(self, store: ArtifactStore) -> None:
        for grant in ("FILE_READ:/artifacts/x", "FILE_WRITE:/artifacts/out/**"):
            outcome = run(store, "print(1)", grant)
            assert isinstance(outcome.error, CapabilityError)


@pytest.mark.threat("T-ART-09")
class TestSecrets:
    VALUE = "Zq7/k+t0ken=Yw"

    @pytest.mark.parametrize(
        "written", ["value", "value.encode().hex()", "'x' * 70000 + value + 'y' * 300000"]
    )
    def test_what_holds_a_secret_is_not_stored(self, store: ArtifactStore, written: str) -> None:
        outcome = run(
            store,
            "value = open('/run/secrets/TOKEN').read()\n"
            "open('/artifacts/out/clean', 'w').write('clean')\n"
            f"open('/artifacts/out/dirty', 'w').write({written})",
            ALL, "SECRET_ACCESS:TOKEN", secrets={"TOKEN": self.VALUE},
        )  # fmt: skip
        assert outcome.error is None
        assert left_out(outcome) == {"dirty": "holds the value of a secret that the run was given"}
        assert store.names() == ("clean",)
        kept = Path(store.areas[0]).rglob("*")
        assert not any(self.VALUE.encode() in p.read_bytes() for p in kept if p.is_file())
        with pytest.raises(KeyError, match="holds the value of a secret"):
            outcome.finished.artifacts["dirty"]

    def test_a_name_that_is_a_secret_is_not_said(self, store: ArtifactStore) -> None:
        value = "s3cr3t-t0ken"
        outcome = run(
            store,
            "open('/artifacts/out/' + open('/run/secrets/TOKEN').read(), 'w').write('x')",
            ALL, "SECRET_ACCESS:TOKEN", secrets={"TOKEN": value},
        )  # fmt: skip
        assert left_out(outcome) == {
            "***TOKEN***": "holds the value of a secret that the run was given"
        }
        assert store.names() == ()
        said = [event.to_json() for event in outcome.events] + [repr(outcome.finished)]
        assert not any(value in text for text in said)


@pytest.mark.threat("T-ART-04")
class TestTheRun:
    def test_a_run_without_artifacts_pays_nothing(self, store: ArtifactStore) -> None:
        outcome = run(
            store,
            "import os, sys\n"
            "print(sorted(os.listdir('/proc/self/fd')), os.path.exists('/artifacts'))\n"
            "print('collect' in sys.modules)",
        )
        outcome.assert_clean()
        assert outcome.stdout == "['0', '1', '2', '3'] False\nFalse\n"  # 3 is the listing's own
        assert not os.path.exists(store.areas[0])

    @pytest.mark.threat("T-EXEC-16")
    def test_runs_at_once_keep_apart(self, store: ArtifactStore) -> None:
        outcomes: dict[int, Outcome] = {}

        def one(number: int) -> None:
            outcomes[number] = run(
                store,
                f"open('/artifacts/out/same', 'w').write('{number}')\n"
                f"open('/artifacts/out/own-{number}', 'w').write('{number}')",
                ALL,
            )

        threads = [threading.Thread(target=one, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, outcome in outcomes.items():
            outcome.assert_clean()
            found = outcome.finished.artifacts
            assert sorted(found) == [f"own-{number}", "same"]
            assert all(a.read_bytes() == str(number).encode() for a in found.values())
        assert sorted(o.finished.artifacts["same"].version for o in outcomes.values()) == [
            1, 2, 3, 4,
        ]  # fmt: skip

    def test_a_store_that_cannot_take_it_is_an_error_with_the_result(
        self, store: ArtifactStore, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        broken = place_of(tmp_path / "file").open()
        outcome = run(broken, "open('/artifacts/out/a', 'w').write('x')\nprint('ran')", ALL)
        assert isinstance(outcome.error, ArtifactError)
        assert outcome.stdout == "ran\n"
        assert [name for name in left_out(outcome)] == ["a"]
        assert outcome.reported(events.CapabilityDenied) == []

    def test_a_full_host_disk_is_an_error_with_the_result(
        self, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(receiver._File, "write", full)
        for size in (1, 5 << 20):
            source = f"print('ran')\nopen('/artifacts/out/a', 'wb').write(bytes({size}))"
            outcome = run(store, source, ALL)
            assert isinstance(outcome.error, SandboxError)
            assert "cannot be kept: No space left on device" in outcome.error.message
            assert outcome.stdout == "ran\n"
        assert store.names() == ()

    def test_granted_files_in_scratch_are_there_besides(
        self, store: ArtifactStore, tmp_path: Path
    ) -> None:
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "f").write_text("granted")
        outcome = run(
            store,
            f"print(open('{tmp_path}/deep/f').read())\nopen('/tmp/own', 'w').write('x')\n"
            "open('/artifacts/out/a', 'w').write('x')",
            ALL, f"FILE_READ:{tmp_path}/deep/f",
        )  # fmt: skip
        outcome.assert_clean()
        assert outcome.stdout == "granted\n"
        assert list(outcome.finished.artifacts) == ["a"]

    def test_the_deadline_holds_while_files_come_out(self, store: ArtifactStore) -> None:
        outcome = run(
            store,
            "import time\nopen('/artifacts/out/a', 'wb').write(bytes(1 << 20))\ntime.sleep(60)",
            ALL, wall_seconds=3.0,
        )  # fmt: skip
        assert isinstance(outcome.error, SandboxTimeout)
        assert store.names() == ()
