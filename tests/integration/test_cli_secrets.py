"""Secrets on the command line: where they come from, what is missing, and what is not printed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from omnibase.core.events import Event, SecretRead
from tests.helpers.cli import NO_RUNTIME, eventually, omnibase, run_ids, started
from tests.helpers.components import OneComponent

VALUE = "s3cr3t-Value/42"
ENV = {"OMNIBASE_SECRET_TOKEN": VALUE}
ALLOW = ("--allow", "SECRET_ACCESS:TOKEN")
TELL = "v = open('/run/secrets/TOKEN').read()\nprint(len(v), v, v.encode().hex())\n"
MARK = "***TOKEN***"
PERMIT = '@id("token") permit SecretAccess when { resource.name == "TOKEN" }'


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(TELL)
    return path


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A directory of secrets with one in it."""
    directory = tmp_path / "kept"
    directory.mkdir(0o700)
    (directory / "TOKEN").write_text(VALUE)
    (directory / "TOKEN").chmod(0o600)
    return directory


def assert_unsaid(*texts: str | bytes) -> None:
    for text in texts:
        data = text.encode() if isinstance(text, str) else text
        assert VALUE.encode() not in data
        assert VALUE.encode().hex().encode() not in data


def test_from_the_environment_by_default(script: Path, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    said = omnibase("sandbox", "run", script, *ALLOW, "--events", log, **ENV)
    assert (said.code, said.err) == (0, "")
    assert said.text == f"{len(VALUE)} {MARK} {MARK}\n"
    events = [Event.from_json(line) for line in log.read_text().splitlines()]
    assert [event.name for event in events] == [
        "CapabilityGranted", "SandboxStart", "SecretRead", "SandboxExit",
    ]  # fmt: skip
    assert isinstance(events[2].data, SecretRead)
    assert events[2].data.secret == "TOKEN"
    assert_unsaid(log.read_bytes())


def test_from_a_directory(script: Path, kept: Path) -> None:
    said = omnibase("sandbox", "run", script, *ALLOW, "--secrets", f"dir:{kept}", "--json")
    document = json.loads(said.out)
    assert (said.code, document["error"]) == (0, None)
    assert document["stdout"] == f"{len(VALUE)} {MARK} {MARK}\n"
    (kept / "TOKEN").chmod(0o644)
    said = omnibase("sandbox", "run", script, *ALLOW, "--secrets", f"dir:{kept}")
    assert (said.code, said.out) == (120, b"")
    assert "`TOKEN` is in a file that is not yours alone" in said.err
    assert f"chmod 600 {kept}/TOKEN" in said.err
    assert_unsaid(said.err)


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        ("keyring.backends.null.Keyring", "`TOKEN` is not there"),
        ("keyring.backends.fail.Keyring", "(NoKeyringError)"),
    ],
)
def test_from_the_keyring(script: Path, backend: str, words: str) -> None:
    said = omnibase(
        "sandbox", "run", script, *ALLOW, "--secrets", "keyring", PYTHON_KEYRING_BACKEND=backend
    )
    assert (said.code, said.out) == (120, b"")
    assert words in said.err
    assert "hint: " in said.err and "keyring" in said.err


def test_a_missing_one_is_named_with_how_to_provide_it(script: Path) -> None:
    said = omnibase("sandbox", "run", script, *ALLOW, "--json")
    assert said.code == 120
    error: dict[str, Any] = json.loads(said.out)["error"]
    assert (error["code"], error["details"]["secret"]) == ("secret_access_error", "TOKEN")
    assert error["hint"] == "set the environment variable `OMNIBASE_SECRET_TOKEN`"


def test_an_ungranted_one_says_what_to_type(script: Path) -> None:
    said = omnibase("sandbox", "run", script, **ENV)
    assert said.code == 121
    assert "denied  SECRET_ACCESS:TOKEN  once: open by python" in said.err
    assert "what should be allowed, allow: --allow SECRET_ACCESS:TOKEN" in said.err


def test_what_names_no_store_is_wrong_usage(script: Path) -> None:
    for text in ("vault", "", "dir:"):
        said = omnibase("sandbox", "run", script, "--secrets", text, **NO_RUNTIME)
        assert (said.code, said.out) == (2, b"")
        assert f"`--secrets`: `{text}` is not a store of secrets" in said.err
    said = omnibase("sandbox", "run", script, *ALLOW, "--secrets", "dir:/nonexistent")
    assert said.code == 2
    assert "the directory of secrets `/nonexistent` cannot be read" in said.err


def test_a_secret_for_a_host_alone_is_refused(script: Path) -> None:
    said = omnibase("sandbox", "run", script, "--allow", "SECRET_ACCESS:TOKEN@example.com", **ENV)
    assert (said.code, said.out) == (2, b"")
    assert "cannot be enforced" in said.err and "TLS" in said.err


def test_explain_says_how_and_what_is_missing(script: Path) -> None:
    said = omnibase("sandbox", "explain", script, *ALLOW, **ENV)
    assert (said.code, said.err) == (0, "")
    assert "SECRET_ACCESS:TOKEN  file in a tmpfs of the guest" in said.text
    assert "ro file  /run/secrets/TOKEN" in said.text
    said = omnibase("sandbox", "explain", script, *ALLOW, "--allow", "SECRET_ACCESS:OTHER",
                    "--json", **ENV)  # fmt: skip
    plan = json.loads(said.out)
    assert said.code == 2
    assert plan["secrets"] == ["/run/secrets/OTHER", "/run/secrets/TOKEN"]
    (problem,) = plan["problems"]
    assert problem["capability"] == "SECRET_ACCESS:OTHER"
    assert "OMNIBASE_SECRET_OTHER" in problem["hint"]
    assert_unsaid(said.out)
    assert_unsaid(omnibase("sandbox", "explain", script, *ALLOW, "--oci", **ENV).out)


def test_capabilities_check_looks_for_them(tmp_path: Path, kept: Path) -> None:
    caps = tmp_path / "caps.json"
    names = ["SECRET_ACCESS:TOKEN", "SECRET_ACCESS:OTHER", "SECRET_ACCESS:TOKEN@example.com"]
    caps.write_text(json.dumps({"version": 1, "capabilities": names}))
    for where, variables in (("env", ENV), (f"dir:{kept}", {})):
        said = omnibase("capabilities", "check", caps, "--secrets", where, "--json",
                        **{**NO_RUNTIME, **variables})  # fmt: skip
        assert said.code == 0
        rows = {row["capability"]: row for row in json.loads(said.out)["capabilities"]}
        assert rows["SECRET_ACCESS:TOKEN"]["problem"] is None
        assert "tmpfs" in rows["SECRET_ACCESS:TOKEN"]["enforcement"]
        assert rows["SECRET_ACCESS:OTHER"]["enforced"]
        assert "`OTHER` is not there" in rows["SECRET_ACCESS:OTHER"]["problem"]
        assert not rows["SECRET_ACCESS:TOKEN@example.com"]["enforced"]
        assert_unsaid(said.out)
    said = omnibase("capabilities", "check", caps, **NO_RUNTIME, **ENV)
    assert "3 capabilities, 1 of which a run would get here and now" in said.text
    broken = omnibase("capabilities", "check", caps, "--secrets", "dir:/nonexistent")
    assert broken.code == 0
    assert "but now the directory of secrets `/nonexistent` cannot be read" in broken.text


def test_learn_writes_down_which_it_wanted(script: Path, tmp_path: Path) -> None:
    out = tmp_path / "caps.json"
    omnibase("sandbox", "learn", script, "-o", out, **ENV)
    (found,) = json.loads(out.read_text())["capabilities"]
    assert found["capability"] == "SECRET_ACCESS:TOKEN"


def test_a_component_gets_what_its_policy_permits(tmp_path: Path) -> None:
    report = OneComponent(
        tmp_path / "registry", TELL.encode(), requires=["SECRET_ACCESS:TOKEN"], policies=[PERMIT]
    )
    where = ("--registry", report.directory)
    said = omnibase("run", "report", *where, **ENV)
    assert (said.code, said.text) == (0, f"{len(VALUE)} {MARK} {MARK}\n"), said.err
    more = omnibase("run", "report", *where, "--allow", "SECRET_ACCESS:TOKEN2", **ENV)
    assert more.code == 120
    assert "`SECRET_ACCESS:TOKEN2` is denied" in more.err
    dry = omnibase("run", "report", *where, "--dry-run")
    assert dry.code == 2
    assert "`TOKEN` is not there" in dry.err
    missing = omnibase("run", "report", *where)
    assert (missing.code, missing.out) == (120, b"")
    assert "OMNIBASE_SECRET_TOKEN" in missing.err


def test_no_process_that_a_run_starts_has_it_in_its_environment(
    tmp_path: Path, state_directory: Path
) -> None:
    path = tmp_path / "script.py"
    path.write_text("import time\nopen('/run/secrets/TOKEN')\nprint('on', flush=True)\n"
                    "time.sleep(60)\n")  # fmt: skip
    before = set(run_ids(state_directory)) if (state_directory / "runs").exists() else set()
    with started("sandbox", "run", path, *ALLOW, env={**os.environ, **ENV}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        (run,) = set(run_ids(state_directory)) - before
        seen = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            if int(entry) == process.pid:
                continue  # that is the store
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes()
                variables = Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue
            assert_unsaid(words, variables)
            seen += [entry] if run.encode() in words else []
        assert len(seen) >= 2  # runsc, and at least one of its children
        process.terminate()
        assert process.wait(30) == 143
    assert eventually(lambda: run not in run_ids(state_directory))
