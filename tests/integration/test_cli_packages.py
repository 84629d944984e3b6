"""Packages as typed: the machine's own index, an index on the disk, and crashes."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.cli import omnibase, started
from tests.helpers.wheels import make_index, make_wheel


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory for an index, outside of the guest's own world."""
    with tempfile.TemporaryDirectory(prefix="omnibase-test-", dir="/var/lib") as directory:
        yield Path(directory)


def settings(place: Path) -> dict[str, str]:
    """Variables for a command that uses the index there, and nothing of pip's else."""
    unset = {name: "" for name in os.environ if name.startswith("PIP_")}
    return {
        **unset,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": f"file://{place}/simple",
    }


def test_locked_installed_listed_and_run(place: Path) -> None:
    make_index(
        place,
        make_wheel(place / "files", "alpha", requires=("beta",)),
        make_wheel(place / "files", "beta"),
    )
    (place / "r.txt").write_text("alpha\n")
    (place / "script.py").write_text("import alpha, beta; print(alpha.V)\n")
    env = settings(place)

    said = omnibase("sandbox", "explain", place / "script.py", "--packages", place / "r.txt", **env)
    assert said.code == 0 and f"omnibase packages install {place}/r.txt" in said.err
    omnibase("doctor", "--clean", "--json", **env)
    said = omnibase("packages", "list", **env)
    assert said.text == "no packages are installed\n"

    said = omnibase("packages", "lock", place / "r.txt", "-o", place / "r.lock", **env)
    assert (said.code, said.out) == (0, b""), said.err
    lock = (place / "r.lock").read_text()
    assert lock.count("--hash=sha256:") == 2 and "alpha==1.0 \\\n" in lock
    said = omnibase("packages", "lock", place / "r.lock", **env)
    assert said.text == lock

    said = omnibase(
        "sandbox", "run", place / "script.py", "--packages", place / "r.lock", "--require-hashes",
        "--events", place / "e.jsonl", "--json", **env,
    )  # fmt: skip
    result = json.loads(said.text)
    assert (result["exit_code"], result["stdout"], result["error"]) == (0, "1.0\n", None)
    events = [json.loads(line) for line in (place / "e.jsonl").read_text().splitlines()]
    assert [event["eventname"] for event in events[:2]] == ["LayerAttached", "SandboxStart"]
    assert events[0]["data"]["lock_digest"] == result["layer"]

    said = omnibase("packages", "list", "--json", **env)
    (layer,) = json.loads(said.text)["layers"]
    assert layer["digest"] == result["layer"]
    assert layer["packages"] == ["alpha==1.0", "beta==1.0"]
    said = omnibase("packages", "install", place / "r.txt", **env)
    assert said.text.splitlines()[0].startswith(result["layer"])
    said = omnibase("sandbox", "explain", place / "script.py", "--packages", place / "r.txt", **env)
    assert f"sha256:{result['layer']}" in said.text
    said = omnibase("sandbox", "explain", place / "script.py", "--packages", place / "r.lock",
                    "--json", **env)  # fmt: skip
    plan = json.loads(said.text)
    assert plan["packages"]["layer"] == result["layer"]
    assert any(mount["source"].endswith(f"{result['layer']}/site") for mount in plan["mounts"])
    assert omnibase("doctor", "--clean", "--json", **env).code == 0
    assert omnibase("packages", "list", **env).text == "no packages are installed\n"


def test_what_is_wrong_is_told(place: Path) -> None:
    make_index(place, make_wheel(place / "files", "alpha"))
    env = settings(place)
    script = place / "script.py"
    script.write_text("import alpha\n")
    for content, code, words in (
        ("nosuchthing\n", 2, "has no package `nosuchthing`"),
        ("-e .\n", 2, "line 1 of"),
        (f"alpha==1.0 --hash=sha256:{'0' * 64}\n", 120, "does not have the hash"),
        ("", 2, "names no package"),
    ):
        (place / "r.txt").write_text(content)
        said = omnibase("sandbox", "run", script, "--packages", place / "r.txt", **env)
        assert (said.code, said.out) == (code, b"") and words in said.err and "hint:" in said.err
    said = omnibase("packages", "install", place / "none.txt", "--json", **env)
    assert said.code == 2 and said.out == b""
    (place / "r.txt").write_text("nosuchthing\n")
    said = omnibase("packages", "lock", place / "r.txt", "--json", **env)
    assert json.loads(said.text)["error"]["code"] == "package_error"
    for command in ("run", "explain"):
        said = omnibase("sandbox", command, script, "--packages", place / "r.txt",
                        "--require-hashes", **env)  # fmt: skip
        assert said.code == 2 and "`nosuchthing` has no hash" in said.err
    said = omnibase("sandbox", "run", script, "--require-hashes", **env)
    assert said.code == 2 and "`--packages FILE`" in said.err
    for flag in ("--packages", "--venv"):
        assert omnibase("sandbox", "run", script, flag, "", **env).code == 2
    (place / "r.txt").write_text("alpha\n")
    said = omnibase("packages", "lock", place / "r.txt", "-o", place / "no" / "x", **env)
    assert said.code == 2 and "cannot be written" in said.err
    assert omnibase("packages", "lock", place / "r.txt", "-o", "", **env).code == 2


def test_two_at_once_and_one_killed(place: Path, state_directory: Path) -> None:
    """Whoever comes after a killed builder finds nothing, or a whole layer."""
    omnibase("doctor", "--clean", "--json")
    make_index(place, make_wheel(place / "files", "alpha"))
    (place / "r.txt").write_text("alpha\n")
    env = {**os.environ, **settings(place)}
    with started("packages", "install", place / "r.txt", env=env) as killed:
        builds = state_directory / "packages" / "builds"
        deadline = time.monotonic() + 60
        while not (builds.is_dir() and any(path.is_dir() for path in builds.iterdir())):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    with (
        started("packages", "install", place / "r.txt", env=env) as one,
        started("packages", "install", place / "r.txt", env=env) as other,
    ):
        outputs = [process.communicate(timeout=120) for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert len(list((state_directory / "packages" / "layers").iterdir())) == 1
    omnibase("doctor", "--clean", "--json", **settings(place))
    assert [path for path in builds.iterdir() if path.is_dir()] == []
    assert list((state_directory / "packages" / "layers").iterdir()) == []


_USES = """
import numpy, pydantic

class Point(pydantic.BaseModel):
    x: int

print(int((numpy.arange(5) ** 2).sum()), Point(x="3").x)
"""


def test_the_packages_that_everybody_uses(place: Path) -> None:
    """From the index that this machine's pip is configured to use; more in `test_examples.py`."""
    (place / "r.txt").write_text("numpy\npydantic\n")
    (place / "uses.py").write_text(_USES)
    said = omnibase(
        "sandbox", "run", place / "uses.py", "--packages", place / "r.txt", "--memory", "160MiB",
        "--timeout", "60",
    )  # fmt: skip
    assert (said.code, said.text, said.err) == (0, "30 3\n", "")


def test_a_virtual_environment(place: Path) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    site = place / "venv" / "lib" / f"python{version}" / "site-packages"
    site.mkdir(parents=True)
    (place / "venv" / "pyvenv.cfg").write_text(f"version = {version}.1\n")
    (site / "alpha.py").write_text("V = 'mine'\n")
    (place / "s.py").write_text("import alpha; print(alpha.V)\n")
    said = omnibase("sandbox", "run", place / "s.py", "--venv", place / "venv")
    assert (said.code, said.text, said.err) == (0, "mine\n", "")
    said = omnibase("sandbox", "explain", place / "s.py", "--venv", place / "venv")
    assert f"FILE_READ:{site}/**" in said.text and "a virtual environment" in said.text
    said = omnibase("sandbox", "run", place / "s.py", "--venv", place)
    assert said.code == 2 and "pyvenv.cfg" in said.err
