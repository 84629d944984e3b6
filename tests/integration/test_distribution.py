"""The wheel, as somebody gets it: built twice, installed elsewhere, run, and type-checked."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import omnibase
from scripts import release

CONSUMER = """\
from __future__ import annotations

from typing import assert_type

import omnibase
{imports}


def use(store: omnibase.ArtifactStore) -> bytes:
    capabilities = omnibase.CapabilitySet.parse(["FILE_READ:/data/**"])
    try:
        result = omnibase.run("print(1)", capabilities=capabilities, artifacts=store)
    except omnibase.SandboxViolationError as error:
        assert_type(error.violations[0], omnibase.Violation)
        result = error.result
    assert_type(result, omnibase.RunResult)
    assert_type(result.exit_code, int)
    assert_type(result.usage, omnibase.Usage)
    assert_type(result.error, omnibase.ScriptError | None)
    with omnibase.Sandbox(context=omnibase.ExecutionContext(wall_seconds=1)) as sandbox:
        assert_type(sandbox.run_sync("pass"), omnibase.RunResult)
    return result.stdout


async def later() -> omnibase.RunResult:
    return await omnibase.arun_component("report@^1.0", degrade=True)


"""
MISUSE = 'import omnibase\n\nomnibase.run(1.5)\nomnibase.run("pass", timeout=3)\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A virtual environment that has the wheel, and nothing of this clone."""

    python: Path
    wheel: Path
    state: Path

    def run(self, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        environment = {
            name: value for name, value in os.environ.items()
            if not name.startswith(("COV", "PYTHON", "PYTEST", "OMNIBASE", "VIRTUAL_ENV"))
        }  # fmt: skip
        return subprocess.run(
            [str(word) for word in words], cwd=cwd, capture_output=True, text=True, timeout=200,
            env={**environment, "OMNIBASE_STATE_DIR": str(self.state)}, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    with tempfile.TemporaryDirectory(prefix="ob-dist-", dir="/var/tmp") as directory:
        place = Path(directory)
        assert release.dist(place / "dist") == 0
        wheel = next((place / "dist").glob("*.whl"))
        bare = [sys.executable, "-m", "venv", "--without-pip", place / "venv"]
        subprocess.run(bare, check=True, timeout=120)
        python = place / "venv" / "bin" / "python"
        # What the wheel depends on, to the hash, without extras; then the wheel itself.
        (place / "needs.txt").write_text(release.locked(release.needed()))
        pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check",
               "install", "--quiet"]  # fmt: skip
        for words in (["--require-hashes", "-r", place / "needs.txt"], ["--no-deps", wheel]):
            subprocess.run([*pip, *words], check=True, timeout=200)
        yield Installed(python=python, wheel=wheel, state=place / "state")


def test_the_distribution_is_whole(installed: Installed) -> None:
    names = {path.name for path in installed.wheel.parent.iterdir()}
    version = omnibase.__version__
    assert names == {
        f"omnibase-{version}-py3-none-any.whl", f"omnibase-{version}.tar.gz",
        f"omnibase-{version}.cdx.json", "SHA256SUMS",
    }  # fmt: skip
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"],
                          cwd=installed.wheel.parent, capture_output=True, check=True)  # fmt: skip
    assert done.stdout.count(b": OK") == 3
    members = zipfile.ZipFile(installed.wheel).namelist()
    assert "omnibase/py.typed" in members
    assert f"omnibase-{version}.dist-info/licenses/LICENSE" in members
    assert not [name for name in members if name.startswith(("tests", "scripts", "docs"))]


def test_the_installed_command_runs_a_script(installed: Installed, tmp_path: Path) -> None:
    command = installed.python.with_name("omnibase")
    said = installed.run(command, "--version", cwd=tmp_path)
    assert said.stdout == f"omnibase {omnibase.__version__}\n"
    (tmp_path / "in.txt").write_text("granted\n")
    (tmp_path / "script.py").write_text(f"print(open('{tmp_path}/in.txt').read(), end='')\n")
    denied = installed.run(command, "sandbox", "run", "script.py", cwd=tmp_path)
    assert denied.returncode == 121, denied.stderr
    assert f"FILE_READ:{tmp_path}/in.txt" in denied.stderr
    grant = f"FILE_READ:{tmp_path}/in.txt"
    granted = installed.run(command, "sandbox", "run", "script.py", "--allow", grant, cwd=tmp_path)
    assert (granted.returncode, granted.stdout) == (0, "granted\n"), granted.stderr
    # Not by way of this clone, and with an image of that interpreter.
    where = installed.run(
        installed.python, "-c", "import omnibase; print(omnibase.__file__)", cwd=tmp_path
    )
    assert where.stdout.startswith(str(installed.python.parents[1]))
    assert list((installed.state / "images").iterdir())


def test_a_consumer_is_type_checked(installed: Installed, tmp_path: Path) -> None:
    names = [name for name in omnibase.__all__ if name != "__version__"]
    (tmp_path / "consumer.py").write_text(
        CONSUMER.format(
            imports="\n".join(f"from omnibase import {name} as _{name}" for name in names),
        )
        + "".join(f"reveal_type(_{name})\n" for name in names)
    )
    (tmp_path / "misuse.py").write_text(MISUSE)
    said = installed.run(
        sys.executable, "-m", "mypy", "--strict", "--python-executable", installed.python,
        "--cache-dir", tmp_path / "cache", "consumer.py", "misuse.py", cwd=tmp_path,
    )  # fmt: skip
    assert said.returncode == 1, said.stdout + said.stderr
    wrong = [line for line in said.stdout.splitlines() if ": error:" in line]
    assert [line.partition(": error:")[0] for line in wrong] == ["misuse.py:3", "misuse.py:4"], (
        said.stdout
    )
    # A name that the type checker does not find is an `object`: `__getattr__` says so.
    revealed = [line for line in said.stdout.splitlines() if "Revealed type is" in line]
    assert len(revealed) == len(names)
    assert [line for line in revealed if '"object"' in line or "builtins.object" in line] == []
