"""The self-test: everything holds here, and each wall that is taken away is missed by it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omnibase import SandboxUnavailable, call, components
from omnibase.core.registry.chained import ChainedStore
from omnibase.core.sandbox.monitor.violations import Judge
from omnibase.core.sandbox.spec import Attachment, SandboxSpec
from omnibase.core.secrets import scrub
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.selftest import PROBES, Finding, attempts, selftest
from omnibase.selftest.model import Probe, Sides
from omnibase.selftest.stage import Outcome, Stage
from tests.helpers.cli import omnibase as command

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-ORCH-14")]

Patch = pytest.MonkeyPatch


def _finding(name: str) -> Finding:
    (probe,) = (probe for probe in PROBES if probe.name == name)
    (finding,) = selftest(probes=(probe,)).findings
    return finding


def test_everything_holds_here(tmp_path: Path) -> None:
    page = tmp_path / "report.html"

    said = command("selftest", "--json", "--report", page)

    document = json.loads(said.out)
    assert [probe["problems"] for probe in document["probes"] if not probe["holds"]] == []
    assert said.code == 0, said.err
    assert document["holds"] is True
    assert {probe["name"] for probe in document["probes"]} == {probe.name for probe in PROBES}
    assert "runsc" in document["machine"]
    assert f"all {len(PROBES)} probes hold on this machine" in page.read_text()
    assert list(Path("/var/tmp").glob("omnibase-selftest-*")) == []


def test_what_is_shown_while_it_goes_on() -> None:
    said = command("selftest", "--group", "policy", "--group", "secrets")

    assert said.code == 0, said.err
    lines = said.text.splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [
        ["holds", "policy"], ["holds", "policy"], ["holds", "secrets"], ["holds", "secrets"],
    ]  # fmt: skip
    assert lines[-1].startswith("all 4 probes hold on this machine (")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--group", "nets"], "invalid choice: 'nets'"),
        (["--report", "/nonexistent/report.html"], "no page can be written to `/nonexistent/rep"),
        (["--report", "/tmp"], "no page can be written to `/tmp`"),
    ],
)
def test_bad_arguments_start_nothing(arguments: list[str], said: str) -> None:
    done = command("selftest", *arguments, RUNSC="/nonexistent/runsc")

    assert done.code == 2, done.err
    assert said in done.err


def test_a_machine_without_a_runtime_is_told_what_to_do() -> None:
    done = command("selftest", RUNSC="/nonexistent/runsc")

    assert done.code == 125
    assert "hint:" in done.err


def _spec(**changes: Any) -> Callable[[Patch], None]:
    return _weakened(lambda spec: replace(spec, **changes))


def _weakened(change: Callable[[SandboxSpec], SandboxSpec]) -> Callable[[Patch], None]:
    def weaken(patch: Patch) -> None:
        genuine = call.compile_grants
        patch.setattr(
            call, "compile_grants", lambda *args, **named: change(genuine(*args, **named))
        )

    return weaken


def _writable(spec: SandboxSpec) -> SandboxSpec:
    return replace(spec, files=tuple(replace(file, writable=True) for file in spec.files))


def _opens_another_port(patch: Patch) -> None:
    genuine = Stage.run

    def run(stage: Stage, name: str, grants: Sequence[str] = (), **named: Any) -> Outcome:
        return genuine(stage, name, (*grants, "NETWORK_CONNECT:127.0.0.1:{other}"), **named)

    patch.setattr(Stage, "run", run)


def _tells_of_the_host(spec: SandboxSpec) -> SandboxSpec:
    return replace(spec, environment=(*spec.environment, ("TOKEN", "of the host")))


def _grants_what_is_asked(patch: Patch) -> None:
    genuine = components.effective_grants

    def generous(metadata: CapabilitySet, *args: Any, **named: Any) -> Any:
        return replace(genuine(metadata, *args, **named), granted=metadata, denied=(), masks=())

    patch.setattr(components, "effective_grants", generous)


def _scrubs_nothing(patch: Patch) -> None:
    patch.setattr(scrub, "forms", lambda _value: ())


def _trusts_the_directory(patch: Patch) -> None:
    def unchecked(store: ChainedStore, component: Any) -> bytes:
        content = store._read(lambda view: view.script(component.entrypoint))
        assert content is not None
        return content

    patch.setattr(ChainedStore, "load_entrypoint", unchecked)


def _believes_the_log(patch: Patch) -> None:
    class Sound:
        findings: Sequence[object] = ()

    patch.setattr(attempts, "verify", lambda *_: Sound())


@pytest.mark.parametrize(
    ("name", "weaken", "problem"),
    [
        ("read a file of the host",
         _spec(attached=(Attachment(source="/var/tmp", target="/var/tmp"),)), "it got through"),
        ("change a file of the host", _weakened(_writable), "it got through"),
        ("system calls that the filter ends", _spec(seccomp=()), "it got through: memfd_create"),
        ("memory", _spec(memory_bytes=200 << 20), "the quota did not end it"),
        ("processes", _spec(pids=64, memory_bytes=200 << 20), "the quota did not end it"),
        ("output", _spec(output_bytes=64 << 20), "the quota did not end it"),
        ("disk", _spec(scratch_bytes=64 << 20), "the quota did not end it"),
        ("who and where", _weakened(_tells_of_the_host), "variables of the caller: TOKEN"),
        ("a component beyond its policy", _grants_what_is_asked, "it ran"),
        ("what a policy forbids", _grants_what_is_asked, "it got through"),
        ("tell a secret", _scrubs_nothing, "its value is in what the run gave back"),
        ("another port than the granted one", _opens_another_port, "it got through: tcp"),
        ("a changed script", _trusts_the_directory, "it ran"),
        ("a changed audit log", _believes_the_log, "a changed log is accepted"),
    ],
)  # fmt: skip
def test_a_wall_that_is_missing_is_found(
    monkeypatch: Patch, name: str, weaken: Callable[[Patch], None], problem: str
) -> None:
    weaken(monkeypatch)

    finding = _finding(name)

    assert not finding.holds
    assert problem in (finding.sides.refused or ""), finding.problems


@pytest.mark.parametrize(
    "name", ["read a file of the host", "start a program", "reach out", "read a secret"]
)
def test_a_monitor_that_is_blind_is_found(monkeypatch: Patch, name: str) -> None:
    monkeypatch.setattr(Judge, "judge", lambda *_: None)
    monkeypatch.setattr(Judge, "pending", lambda _: [])

    finding = _finding(name)

    assert "not on record" in (finding.sides.reported or "")


@pytest.mark.parametrize("name", ["read a file of the host", "reach out", "start a program"])
def test_a_grant_that_does_not_work_is_found(monkeypatch: Patch, name: str) -> None:
    _spec(files=(), egress=(), commands=())(monkeypatch)

    finding = _finding(name)

    assert (finding.sides.refused, finding.sides.reported) == (None, None)
    assert "granted, it does not work" in (finding.sides.granted or "")


def test_a_probe_that_breaks_shows_nothing() -> None:
    def breaks(_stage: object) -> Sides:
        raise RuntimeError("out of order")

    broken = Probe(name="x", group="sandbox", threat="T-EXEC-01", description="", attempt=breaks)

    report = selftest(probes=(broken,))

    assert not report.holds
    assert report.findings[0].problems == ("the probe itself failed: RuntimeError: out of order",)


def test_a_machine_that_cannot_run_sandboxes_is_no_finding(monkeypatch: Patch) -> None:
    monkeypatch.setenv("RUNSC", "/nonexistent/runsc")

    with pytest.raises(SandboxUnavailable):
        selftest(probes=())
