"""Components on a real sandbox: what policy denies is denied, told, and has a granted twin."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import omnibase
from omnibase import (
    CapabilityDenied,
    CapabilityError,
    CapabilitySet,
    ConfigurationError,
    ExecutionContext,
    RegistryError,
    ResourceLimitExceeded,
    RunResult,
    SandboxStartError,
    SandboxTimeout,
)
from omnibase.core import events
from omnibase.core.registry import Lifecycle, Trust
from tests.helpers.components import OneComponent
from tests.security.harness import SCRIPTS, Outcome, observed

pytestmark = pytest.mark.policy

_SECRET = "the salaries"
_DATA = '@id("data") permit FileRead when { resource.path like "%s/*" }'
_FORBID = (
    '@id("secret") @reason("salaries are for people only") '
    'forbid FileRead when { resource.path like "%s/secret/*" }'
)
_HOST = '@id("host") permit ExternalCommand when { resource.name == "host-python" }'
_HOST_PYTHON = "EXTERNAL_COMMAND:host-python"

Make = Callable[..., OneComponent]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a component of a script in `scripts/`."""

    def make(script: str, **options: Any) -> OneComponent:
        return OneComponent(tmp_path / "r", (SCRIPTS / f"{script}.py").read_bytes(), **options)

    return make


@pytest.fixture
def tree(area: Path) -> Path:
    """A granted tree, with something in it that policy forbids."""
    (area / "secret").mkdir()
    (area / "secret" / "pay.csv").write_text(_SECRET)
    (area / "open.txt").write_text("open")
    return area


def run(one: OneComponent, **options: Any) -> Outcome:
    quotas = options.pop("quotas", {})
    options = {"registry": one.directory, **options}

    def go(bus: omnibase.EventBus) -> RunResult:
        return omnibase.run_component(
            "report", bus=bus, context=ExecutionContext(**quotas), **options
        )

    return observed(go)


def names(outcome: Outcome) -> list[str]:
    return [event.name for event in outcome.events]


@pytest.mark.threat("T-ORCH-02")
class TestMasks:
    def test_what_a_forbid_covers_is_empty_and_an_attempt_names_it(
        self, make: Make, tree: Path
    ) -> None:
        one = make(
            "read_files",
            requires=[f"FILE_READ:{tree}/**"],
            policies=[_DATA % tree, _FORBID % tree],
        )
        paths = [f"{tree}/open.txt", f"{tree}/secret/pay.csv"]
        outcome = run(one, args=paths)

        error = outcome.assert_raised()
        assert outcome.report[paths[0]] == "open"
        assert outcome.report[paths[1]] == "ENOENT"
        assert outcome.report[f"listing of {tree}/secret"] == []
        violation = outcome.assert_violation(f"FILE_READ:{paths[1]}", operation="open")
        assert violation.reason == "policy `secret`: salaries are for people only"
        assert "(policy `secret`: salaries are for people only)" in error.message
        assert error.hint is None, "nobody is told to grant what policy forbids"
        (told,) = {event.reason for event in outcome.reported(events.SandboxViolation)}
        assert told == violation.reason

        one.put_policy(_DATA % tree)
        twin = run(one, args=paths)
        twin.assert_clean()
        assert twin.report[paths[1]] == _SECRET

    @pytest.mark.threat("T-ORCH-07")
    def test_every_event_names_the_component_and_the_policy(self, make: Make, tree: Path) -> None:
        one = make("read_files", requires=[f"FILE_READ:{tree}/**"], policies=[_DATA % tree])
        outcome = run(one, args=[f"{tree}/open.txt"])
        outcome.assert_clean()
        state = one.component.policy
        assert state is not None
        assert {event.componentid for event in outcome.events} == {str(one.uuid)}
        assert {event.policydigest for event in outcome.events} == {f"sha256:{state.sha256}"}
        assert {event.subject for event in outcome.events} == {"report@1.0.0"}
        assert names(outcome) == [
            "PolicyDecided", "CapabilityGranted", "SandboxStart", "SandboxExit",
        ]  # fmt: skip
        (decided,) = outcome.reported(events.PolicyDecided)
        assert decided.requested == decided.granted == (f"FILE_READ:{tree}/**",)
        assert decided.policy_version == state.version

    def test_a_link_into_what_is_covered(self, make: Make, tree: Path) -> None:
        (tree / "link").symlink_to("secret")
        one = make(
            "read_files",
            requires=[f"FILE_READ:{tree}/**"],
            policies=[_DATA % tree, _FORBID % tree],
        )
        path = f"{tree}/link/pay.csv"
        outcome = run(one, args=[path])
        outcome.assert_raised()
        assert outcome.report[path] == "ENOENT"
        violation = outcome.assert_violation(f"FILE_READ:{path}", operation="open")
        assert violation.reason == "policy `secret`: salaries are for people only"

    @pytest.mark.parametrize("there", [False, True], ids=["absent", "replaced"])
    def test_what_the_host_does_during_the_run_does_not_lift_a_mask(
        self, make: Make, area: Path, there: bool
    ) -> None:
        (area / "open.txt").write_text("open")
        path = area / "secret" / "pay.csv"
        if there:
            path.parent.mkdir()
            path.write_text("old")
        one = make(
            "open_later",
            requires=[f"FILE_READ:{area}/**"],
            policies=[_DATA % area, _FORBID % area],
        )

        def replace(_stream: str, _chunk: bytes) -> None:
            if there and not (area / "kept").exists():
                (area / "secret").rename(area / "kept")
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                (area / "draft").write_text(_SECRET)
                (area / "draft").rename(path)

        outcome = run(one, args=[str(path), "100"], on_output=replace)
        outcome.assert_raised()
        assert outcome.report["read"] == "ENOENT"
        assert path.read_text() == _SECRET
        violation = outcome.assert_violation(f"FILE_READ:{path}", operation="open")
        assert violation.reason == "policy `secret`: salaries are for people only"

    def test_a_cover_that_the_host_takes_off_a_written_tree_ends_the_run(
        self, make: Make, tree: Path
    ) -> None:
        write = _DATA.replace("FileRead", "FileWrite").replace('"data"', '"write"') % tree
        one = make(
            "open_later",
            requires=[f"FILE_WRITE:{tree}/**"],
            policies=[_DATA % tree, write, _FORBID % tree],
        )
        path = tree / "secret" / "pay.csv"

        def replace(_stream: str, _chunk: bytes) -> None:
            if not (tree / "kept").exists():
                (tree / "secret").rename(tree / "kept")
                (tree / "secret").mkdir()
                path.write_text(_SECRET)

        outcome = run(one, args=[str(path), "400"], on_output=replace)
        outcome.assert_raised()
        told = [v for v in outcome.violations if "the host replaced its cover" in str(v.reason)]
        if told:  # the Sentry shows the new one, or keeps the cover: both are held to account
            assert outcome.finished.exit_code == 137 and outcome.finished.signal == 9
        else:
            assert outcome.report["read"] == "ENOENT"


@pytest.mark.threat("T-ORCH-01")
class TestDenials:
    def test_without_a_policy_nothing_is_granted(self, make: Make, tree: Path) -> None:
        one = make("read_files", requires=[f"FILE_READ:{tree}/**"])
        outcome = run(one, args=[f"{tree}/open.txt"])
        assert isinstance(outcome.error, CapabilityDenied)
        assert outcome.result is None
        assert names(outcome) == ["PolicyDecided", "CapabilityDenied", "RunRefused"]
        (denied,) = outcome.reported(events.CapabilityDenied)
        assert denied.capability == f"FILE_READ:{tree}/**" and denied.stage == "pre-exec"

        one.put_policy(_DATA % tree)
        run(one, args=[f"{tree}/open.txt"]).assert_clean()

    def test_a_component_that_asks_for_nothing_runs_without_a_policy(self, make: Make) -> None:
        outcome = run(make("read_files"))
        outcome.assert_clean()
        assert {event.policydigest for event in outcome.events} == {None}

    def test_an_override_never_exceeds_the_policy(self, make: Make, tree: Path) -> None:
        one = make("read_files", requires=[f"FILE_READ:{tree}/open.txt"], policies=[_DATA % tree])
        beyond, within = "FILE_READ:/etc/hostname", f"FILE_READ:{tree}/secret/pay.csv"
        outcome = run(one, capabilities=[beyond], args=["/etc/hostname"])
        assert isinstance(outcome.error, CapabilityDenied)
        assert "SandboxStart" not in names(outcome)

        degraded = run(one, capabilities=[beyond], args=["/etc/hostname"], degrade=True)
        degraded.assert_raised()
        assert degraded.finished.denied == (beyond,)
        assert degraded.report["/etc/hostname"] == "EACCES"
        degraded.assert_violation(beyond)
        assert [e.capability for e in degraded.reported(events.CapabilityDenied)] == [beyond]

        twin = run(one, capabilities=[within], args=[f"{tree}/secret/pay.csv"])
        twin.assert_clean()
        assert twin.report[f"{tree}/secret/pay.csv"] == _SECRET and twin.finished.denied == ()

    def test_memory_is_narrowed_like_everything_else(self, make: Make) -> None:
        one = make("use_memory", policies=["permit Memory when { resource.bytes <= 100000000 }"])
        args = ["45"]
        assert isinstance(run(one, args=args).error, ResourceLimitExceeded)
        refused = run(one, args=args, capabilities=["MEMORY:128MiB"])
        assert isinstance(refused.error, CapabilityDenied)
        run(one, args=args, capabilities=["MEMORY:100MB"]).assert_clean()

    def test_a_larger_default_of_memory_is_asked_for(self, make: Make) -> None:
        quotas = {"default_memory_bytes": 100_000_000}
        one = make("use_memory", policies=["permit Memory when { resource.bytes <= 60000000 }"])
        refused = run(one, args=["45"], quotas=quotas)
        assert isinstance(refused.error, CapabilityDenied)
        assert "MEMORY:100MB" in refused.error.message
        degraded = run(one, args=["45"], quotas=quotas, degrade=True)
        assert isinstance(degraded.error, ResourceLimitExceeded)
        one.put_policy("permit Memory")
        run(one, args=["45"], quotas=quotas).assert_clean()

    def test_with_a_larger_default_of_memory_the_secrets_are_the_same(
        self, tmp_path: Path, area: Path
    ) -> None:
        store = area / "kept"
        store.mkdir(0o700)
        (store / "TOKEN").write_text("a-good-token")
        (store / "TOKEN").chmod(0o600)
        one = OneComponent(
            tmp_path / "r",
            b"print(len(open('/run/secrets/TOKEN').read()))\n",
            requires=["SECRET_ACCESS:TOKEN"],
            policies=["permit SecretAccess", "permit Memory", "permit FileRead"],
        )
        for memory in (50_000_000, 60_000_000):
            quotas, secrets = {"default_memory_bytes": memory}, f"dir:{store}"
            outcome = run(one, quotas=quotas, secrets=secrets)
            outcome.assert_clean()
            assert outcome.stdout == "12\n"
            reaching = run(
                one, quotas=quotas, secrets=secrets, capabilities=[f"FILE_READ:{store}/TOKEN"]
            )
            assert isinstance(reaching.error, CapabilityError)

    def test_trust_and_environment_decide(self, make: Make, tree: Path) -> None:
        condition = 'when { context.trust == "trusted" && context.environment == "production" }'
        one = make(
            "read_files",
            requires=[f"FILE_READ:{tree}/open.txt"],
            policies=[f"permit FileRead {condition}"],
        )
        args = [f"{tree}/open.txt"]
        assert isinstance(run(one, args=args, environment="production").error, CapabilityDenied)
        one.update(trust=Trust.TRUSTED)
        assert isinstance(run(one, args=args).error, CapabilityDenied)
        run(one, args=args, environment="production").assert_clean()

    @pytest.mark.threat("T-ORCH-07")
    def test_what_fails_after_the_decision_is_on_record(self, make: Make) -> None:
        outcome = run(make("read_files"), env={"LD_PRELOAD": "/x"})
        assert isinstance(outcome.error, ConfigurationError)
        assert names(outcome) == ["PolicyDecided", "RunRefused"]

    def test_a_retired_component_does_not_run(self, make: Make) -> None:
        one = make("read_files")
        one.update(lifecycle=Lifecycle.ACTIVE)
        run(one).assert_clean()
        one.store.retire(one.uuid)

        def go(bus: omnibase.EventBus) -> RunResult:
            return omnibase.run_component(str(one.uuid), registry=one.store, bus=bus)

        outcome = observed(go)
        assert isinstance(outcome.error, RegistryError)
        assert names(outcome) == ["RunRefused"]


@pytest.mark.threat("T-REG-04")
class TestTheRegistryItself:
    @pytest.mark.parametrize("handed_over", [False, True])
    @pytest.mark.parametrize(
        "place", ["registry/**", "registry/policies/**", "registry/scripts/x", "**"]
    )
    def test_no_grant_writes_to_it(self, area: Path, place: str, handed_over: bool) -> None:
        permits = [
            f'permit {kind} when {{ resource.path like "/var/lib/*" }}'
            for kind in ("FileWrite", "FileRead")
        ]
        one = OneComponent(
            area / "registry", (SCRIPTS / "write_grant.py").read_bytes(), policies=permits
        )
        (area / "beside").mkdir()
        where: dict[str, Any] = {"registry": one.store} if handed_over else {}
        outcome = run(one, capabilities=[f"FILE_WRITE:{area}/{place}"], **where)
        assert isinstance(outcome.error, CapabilityError), outcome
        assert str(area / "registry") in outcome.error.message
        assert "SandboxStart" not in names(outcome)
        (denied,) = outcome.reported(events.CapabilityDenied)
        assert denied.capability == f"FILE_WRITE:{area}/{place}"
        assert one.store.verify() == []

        beside = area / "beside"
        (beside / "existing").write_text("kept")
        (beside / "doomed").write_text("kept")
        twin = run(one, capabilities=[f"FILE_WRITE:{beside}/**"], args=[str(beside)], **where)
        assert "SandboxStart" in names(twin)
        assert sorted(path.name for path in beside.iterdir()) != ["doomed", "existing"]


@pytest.mark.threat("T-ORCH-06")
class TestWithoutASandbox:
    def test_all_have_to_agree(self, make: Make, tmp_path: Path) -> None:
        one = make("read_files", requires=[_HOST_PYTHON], policies=[_HOST], trust=Trust.TRUSTED)
        breaks: list[tuple[dict[str, Any], tuple[str, ...], str]] = [
            ({"trust": Trust.SEMI_TRUSTED}, (_HOST,), "not `trusted`"),
            ({"capabilities_required": CapabilitySet()}, (_HOST,), "do not name it"),
            ({}, ("permit ExternalCommand",), "that name and no other"),
            ({}, ("permit FileRead",), "no policy permits"),
        ]
        good = {
            "trust": Trust.TRUSTED, "capabilities_required": CapabilitySet.parse([_HOST_PYTHON]),
        }  # fmt: skip
        for fields, policies, reason in breaks:
            one.update(**{**good, **fields})
            one.put_policy(*policies)
            outcome = run(one, unsandboxed=True)
            assert isinstance(outcome.error, CapabilityDenied)
            assert reason in outcome.error.message
            (denied,) = outcome.reported(events.CapabilityDenied)
            assert denied.capability == _HOST_PYTHON and reason in denied.reason
            assert outcome.reported(events.UnsandboxedStart) == []
        one.update(**good)
        one.put_policy(_HOST)
        sandboxed = run(one)
        sandboxed.assert_clean()
        assert sandboxed.finished.sandboxed and "SandboxStart" in names(sandboxed)
        assert not run(one, unsandboxed=True).finished.sandboxed

    def test_it_is_audited_limited_and_leaves_nothing(self, make: Make, area: Path) -> None:
        one = make("on_the_host", requires=[_HOST_PYTHON], policies=[_HOST], trust=Trust.TRUSTED)
        (area / "host.txt").write_text("of the host")
        outcome = run(
            one,
            args=[str(area / "host.txt"), str(area / "pid")],
            stdin=b"typed",
            env={"MODE": "fast"},
            unsandboxed=True,
        )
        assert outcome.error is None
        assert outcome.report["read"] == "of the host" and outcome.report["stdin"] == "typed"
        assert set(outcome.report["names"]) <= {"LANG", "MODE", "PATH", "PWD", "TMPDIR", "LC_CTYPE"}
        assert names(outcome) == ["PolicyDecided", "UnsandboxedStart", "SandboxExit"]
        (start,) = outcome.reported(events.UnsandboxedStart)
        assert start.policies == ("host",) and start.script == "main.py"
        # Its PID was the namespace's; what it left would name its run directory.
        left = _naming(outcome.finished.run_id)
        assert left == [], left

    @pytest.mark.threat("T-ORCH-07")
    def test_what_cannot_be_put_on_record_does_not_start(self, tmp_path: Path) -> None:
        marker = tmp_path / "marker"
        one = OneComponent(
            tmp_path / "r",
            f"open({str(marker)!r}, 'w')".encode(),
            requires=[_HOST_PYTHON],
            policies=[_HOST],
            trust=Trust.TRUSTED,
        )

        def full(_event: events.Event) -> None:
            raise OSError("no space left")

        def go(bus: omnibase.EventBus) -> RunResult:
            bus.subscribe(full)
            return omnibase.run_component(
                "report", registry=one.directory, bus=bus, unsandboxed=True
            )

        outcome = observed(go)
        assert isinstance(outcome.error, SandboxStartError)
        assert not marker.exists()
        assert run(one, unsandboxed=True).error is None and marker.exists()

    @pytest.mark.parametrize("name", ["work", "cgroups.json", "lock", "-c.py"])
    def test_whatever_the_script_is_called(self, tmp_path: Path, name: str) -> None:
        one = OneComponent(
            tmp_path / "r", b"1", requires=[_HOST_PYTHON], policies=[_HOST], trust=Trust.TRUSTED
        )
        try:
            one.store.add_script(one.uuid, name, b"print('ran')")
        except RegistryError:
            assert name == "-c.py"
            return
        outcome = run(one, unsandboxed=True)
        assert outcome.error is None and outcome.stdout == "ran\n"

    def test_memory_that_is_granted_counts(self, tmp_path: Path) -> None:
        one = OneComponent(
            tmp_path / "r",
            b"held = bytearray(90_000_000)\nprint(len(held))",
            requires=[_HOST_PYTHON, "MEMORY:128MiB"],
            policies=[_HOST, "permit Memory"],
            trust=Trust.TRUSTED,
        )
        outcome = run(one, unsandboxed=True)
        assert outcome.error is None and outcome.stdout == "90000000\n"

    @pytest.mark.parametrize("degrade", [False, True])
    def test_what_is_denied_keeps_it_from_running(self, tmp_path: Path, degrade: bool) -> None:
        one = OneComponent(
            tmp_path / "r",
            b"print('ran')",
            requires=[_HOST_PYTHON, "FILE_READ:/etc/hosts"],
            policies=[_HOST],
            trust=Trust.TRUSTED,
        )
        outcome = run(one, unsandboxed=True, degrade=degrade)
        assert isinstance(outcome.error, CapabilityDenied)
        assert outcome.reported(events.UnsandboxedStart) == []
        one.put_policy(_HOST, 'permit FileRead when { resource.path == "/etc/hosts" }')
        assert run(one, unsandboxed=True, degrade=degrade).stdout == "ran\n"

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            (b"while True: pass", SandboxTimeout),
            (b"import os\nif os.fork() == 0:\n while True: pass\nos.wait()", SandboxTimeout),
            (b"print('x' * 70000)\nimport time\ntime.sleep(60)", ResourceLimitExceeded),
            (b"kept = bytearray(90_000_000)", ResourceLimitExceeded),
        ],
        ids=["time", "time of a child", "output", "memory"],
    )
    def test_its_limits_hold(self, tmp_path: Path, code: bytes, error: type[Exception]) -> None:
        one = OneComponent(
            tmp_path / "r", code, requires=[_HOST_PYTHON], policies=[_HOST], trust=Trust.TRUSTED
        )
        outcome = run(one, unsandboxed=True, quotas={"wall_seconds": 2.0, "output_bytes": 65536})
        assert type(outcome.error) is error, outcome
        assert _naming(outcome.finished.run_id) == []

    def test_its_exit_code_and_signal_are_told(self, tmp_path: Path) -> None:
        code = b"import os, sys\nif sys.argv[1:]: os.kill(os.getpid(), 15)\nsys.exit(7)"
        one = OneComponent(
            tmp_path / "r", code, requires=[_HOST_PYTHON], policies=[_HOST], trust=Trust.TRUSTED
        )
        plain = run(one, unsandboxed=True).finished
        assert (plain.exit_code, plain.signal, plain.stderr) == (7, None, b"")
        killed = run(one, unsandboxed=True, args=["kill"]).finished
        assert (killed.exit_code, killed.signal, killed.stderr) == (143, 15, b"")


def _naming(run_id: str) -> list[str]:
    """Processes that name a run, on the command line or as their working directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                told = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
                told += os.readlink(entry / "cwd")
            except OSError:
                continue
            if run_id in told:
                found.append(told)
    return found


@pytest.mark.threat("T-EXEC-21")
def test_cancelling_a_run_of_a_component_ends_it(make: Make, tmp_path: Path) -> None:
    import asyncio

    one = OneComponent(tmp_path / "r", b"print('up', flush=True)\nimport time\ntime.sleep(60)")
    bus, sink = omnibase.EventBus(), events.CollectingSink()
    bus.subscribe(sink)

    async def cancel_it() -> None:
        up = asyncio.Event()
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(
            omnibase.arun_component(
                "report",
                registry=one.directory,
                bus=bus,
                on_output=lambda *_: loop.call_soon_threadsafe(up.set),
            )
        )
        await up.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_it())
    (exit,) = [event.data for event in sink.events if isinstance(event.data, events.SandboxExit)]
    assert exit.outcome == "cancelled"
    assert json.loads(sink.events[-1].to_json())["componentid"] == str(one.uuid)
    assert threading.active_count() < 20
