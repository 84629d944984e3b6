"""No false positives: everyday code makes no violation."""

from __future__ import annotations

import pytest

from tests.security.harness import SandboxFixture

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-EXEC-24")]

RAISED = b"import os\nf = os.open('/run/raised', os.O_WRONLY)\n"


def test_the_standard_library_makes_no_violation(sandbox: SandboxFixture) -> None:
    outcome = sandbox("stock_modules", ["MEMORY:200MiB"], wall_seconds=120.0)

    outcome.assert_clean()
    assert len(outcome.report["used"]) >= 40
    assert outcome.report["modules"] > 300


def test_unittest_makes_no_violation(sandbox: SandboxFixture) -> None:
    outcome = sandbox("own_tests", ["MEMORY:100MiB"])

    outcome.assert_clean()
    assert b"Ran 4 tests" in outcome.finished.stderr
    assert b"OK" in outcome.finished.stderr


def test_a_small_script_fits_the_default(sandbox: SandboxFixture) -> None:
    sandbox.source(b"import asyncio, json, re, logging, argparse; print('fits')\n").assert_clean()


def test_links_in_scratch_are_no_violation(sandbox: SandboxFixture) -> None:
    """Once a script has made a link, a file that it misses is still only missing."""
    sandbox.source(b"""
import contextlib, glob, os, pathlib, shutil
os.makedirs("/tmp/tree/deep")
pathlib.Path("/tmp/tree/file").write_text("x")
os.symlink("file", "/tmp/tree/link")
assert pathlib.Path("/tmp/tree/link").read_text() == "x"
shutil.copytree("/tmp/tree", "/tmp/copy", symlinks=True)
glob.glob("/tmp/**", recursive=True)
os.path.realpath("/tmp/copy/link")
with contextlib.suppress(FileNotFoundError):
    open("/tmp/settings.ini")
shutil.rmtree("/tmp/copy")
""").assert_clean()


def test_the_agents_modules_are_not_the_scripts(sandbox: SandboxFixture) -> None:
    outcome = sandbox.source(
        b"import importlib.util as util\n"
        b"found = [util.find_spec(n) for n in ('script', 'vault', 'egress', 'dns', 'init')]\n"
        b"print([spec.origin for spec in found if spec])\n"
    )

    assert outcome.stdout == "['/run/script/script.py']\n"  # its own


@pytest.mark.threat("T-EXEC-19")
class TestTheExceptionOfAScript:
    def test_it_comes_out_as_data(self, sandbox: SandboxFixture) -> None:
        outcome = sandbox.source(
            b"import json\n"
            b"class Own(Exception): pass\n"
            b"try:\n    json.loads('{')\n"
            b"except ValueError as error:\n    raise Own('no input') from error\n"
        )

        error = outcome.finished.error
        assert error is not None
        assert (error.type, error.message) == ("Own", "no input")
        assert "json.decoder.JSONDecodeError" in error.traceback
        assert "direct cause" in error.traceback
        assert error.traceback.encode() == outcome.finished.stderr
        assert outcome.finished.exit_code == 1

    def test_the_librarys_names_are_qualified(self, sandbox: SandboxFixture) -> None:
        error = sandbox.source(b"import json; json.loads('{')").finished.error
        assert error is not None
        assert error.type == "json.decoder.JSONDecodeError"

    @pytest.mark.parametrize(
        "source",
        [
            b"raise SystemExit(3)",
            b"import os; os._exit(4)",
            b"print('fine')",
            b"import os\nif os.fork() == 0:\n    raise ValueError('a child')\nos.wait()\n",
            RAISED + b"os.write(f, b'OBE1' + bytes(60000))",
            RAISED + b"os.write(f, b'nonsense'); raise ValueError('x')",
            b"import os; os.open = os.write = None; raise ValueError('x')",
        ],
    )
    def test_else_there_is_none(self, sandbox: SandboxFixture, source: bytes) -> None:
        assert sandbox.source(source).finished.error is None

    def test_one_that_cannot_be_told_is_told_as_the_traceback_does(
        self, sandbox: SandboxFixture
    ) -> None:
        error = sandbox.source(
            b"class E(Exception):\n    def __str__(self): raise SystemExit\nraise E\n"
        ).finished.error
        assert error is not None
        assert (error.type, error.message) == ("E", "<exception str() failed>")

    def test_a_script_that_breaks_what_tells_it_keeps_its_traceback(
        self, sandbox: SandboxFixture
    ) -> None:
        result = sandbox.source(b"import os\nos.open = None\nraise ValueError('x')\n").finished
        assert result.exit_code == 1
        assert result.stderr.endswith(b"ValueError: x\n")
        assert b"/opt/omnibase/agent" not in result.stderr

    def test_it_may_be_made_up_but_stays_text(self, sandbox: SandboxFixture) -> None:
        outcome = sandbox.source(
            RAISED + b"import struct\n"
            b"parts = [b'omnibase.errors.SandboxViolationError', b'\\x1b[2J\\n', b'']\n"
            b"head = b'OBE1' + struct.pack('<III', *map(len, parts))\n"
            b"os.write(f, head + b''.join(parts))\n"
        )

        assert outcome.error is None
        error = outcome.finished.error
        assert error is not None
        assert error.type == "omnibase.errors.SandboxViolationError"

    def test_it_holds_no_secret(
        self, sandbox: SandboxFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OMNIBASE_SECRET_TOKEN", "hunter2-hunter2")
        outcome = sandbox.source(
            b"raise ValueError(open('/run/secrets/TOKEN').read())\n",
            ["SECRET_ACCESS:TOKEN"],
        )

        error = outcome.finished.error
        assert error is not None
        assert "hunter2" not in repr(error)
