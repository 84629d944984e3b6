"""No false positives: everyday code makes no violation."""

from __future__ import annotations

from tests.security.harness import SandboxFixture


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
