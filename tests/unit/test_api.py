"""The public way in: what it takes, what it refuses before anything starts, and sync like async."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import omnibase
from omnibase import (
    Capability,
    CapabilityError,
    CapabilitySet,
    Chunk,
    ConfigurationError,
    EventBus,
    ExecutionContext,
    OmniBaseError,
    ResourceLimitExceeded,
    RunResult,
    Sandbox,
    SandboxError,
    SandboxTimeout,
    SandboxUnavailable,
    SandboxViolationError,
)
from omnibase.core.events import CollectingSink
from omnibase.core.sandbox.cgroup import Hierarchy

RECORD = ExecutionContext(on_violation="record")
DENIED = "open('/etc/passwd')\n"


class Bus(EventBus):
    """A bus that keeps what went over it."""

    def __init__(self) -> None:
        super().__init__()
        self.sink = CollectingSink()
        self.subscribe(self.sink)

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.sink.events]

    def data(self, name: str) -> Any:
        (found,) = [event.data for event in self.sink.events if event.name == name]
        return found


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture(autouse=True)
def nothing_left(state_directory: Path) -> Iterator[None]:
    yield
    assert os.listdir(state_directory / "runs") == []


class TestScripts:
    def test_forms(self, tmp_path: Path) -> None:
        path = tmp_path / "job.py"
        path.write_text("import sys; print(sys.argv[0])")
        for form, name in (
            (path, "job.py"),
            (str(path), "job.py"),
            (path.read_bytes(), "script.py"),
            (path.read_text(), "script.py"),
            (path.read_text() + "\n", "script.py"),
        ):
            result = omnibase.run(form)  # type: ignore[arg-type]
            assert result.stdout.decode() == f"/run/script/{name}\n"

    def test_text_of_one_line_that_names_no_file_is_source(self) -> None:
        assert omnibase.run("print('x.py is no path')").stdout == b"x.py is no path\n"
        assert omnibase.run("").exit_code == 0
        assert omnibase.run("print(1)  # x\n# y.py").stdout == b"1\n"

    def test_bytes_of_the_source_are_kept(self) -> None:
        assert omnibase.run(os.fsdecode(b"print(ascii('\xff'))")).exit_code == 1
        assert omnibase.run("print(ascii('ü'))").stdout == b"'\\xfc'\n"

    @pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "below a file", "nul"])
    def test_what_is_no_script(self, tmp_path: Path, bus: Bus, kind: str) -> None:
        path = tmp_path / "job.py"
        if kind == "directory":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "below a file":
            (tmp_path / "x").touch()
            path = tmp_path / "x" / "job.py"
        elif kind == "nul":
            path = Path(f"{tmp_path}/a\0.py")
        for form in (path, str(path)):
            with pytest.raises(ConfigurationError, match="the script `") as caught:
                omnibase.run(form, bus=bus)
            assert caught.value.hint
        assert bus.names == []

    def test_one_that_is_too_large(self, tmp_path: Path) -> None:
        path = tmp_path / "job.py"
        with path.open("wb") as file:
            file.truncate((64 << 20) + 1)
        with pytest.raises(ConfigurationError, match="larger than 64 MiB") as caught:
            omnibase.run(path)
        assert caught.value.hint
        with pytest.raises(ConfigurationError, match="larger than 64 MiB"):
            omnibase.run(bytes((64 << 20) + 1))

    def test_text_that_is_no_unicode(self) -> None:
        with pytest.raises(ConfigurationError, match="not valid Unicode"):
            omnibase.run("print('\ud800')")


class TestArguments:
    def test_they_arrive(self) -> None:
        args = (a for a in ["", "ü", "-x"])
        result = omnibase.run("import sys\nprint(ascii(sys.argv[1:]))", args=args)
        assert result.stdout == b"['', '\\xfc', '-x']\n"

    @pytest.mark.parametrize("args", ["abc", ["a\0b"], [5], [None], ["\ud800"], [b"x"]])
    def test_what_is_none(self, bus: Bus, args: Any) -> None:
        with pytest.raises(ConfigurationError):
            omnibase.run("print(1)", args=args, bus=bus)
        assert bus.names == []

    @pytest.mark.parametrize("stdin", ["text", None, 5])
    def test_input_is_bytes(self, stdin: Any) -> None:
        with pytest.raises(ConfigurationError, match="not bytes"):
            omnibase.run("print(1)", stdin=stdin)

    def test_secrets(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "kept").mkdir(0o700)
        (tmp_path / "kept" / "T").write_text("five5")
        (tmp_path / "kept" / "T").chmod(0o600)
        monkeypatch.setenv("OMNIBASE_SECRET_T", "fourteen bytes")

        class Store:
            areas = ()

            def get(self, name: str) -> bytes | None:
                return name.encode() * 20

            def hint(self, name: str) -> str:
                raise AssertionError

        code = "print(len(open('/run/secrets/T').read()))"
        for given, length in (
            (None, 14), ("env", 14), (f"dir:{tmp_path}/kept", 5), ({"T": "seven77"}, 7),
            (Store(), 20),
        ):  # fmt: skip
            result = omnibase.run(code, capabilities=["SECRET_ACCESS:T"], secrets=given)
            assert result.stdout == f"{length}\n".encode()
        sandbox = Sandbox(capabilities=["SECRET_ACCESS:T"], secrets={"T": "seven77"})
        assert sandbox.run_sync(code).stdout == b"7\n"
        assert asyncio.run(sandbox.run(code)).stdout == b"7\n"

    @pytest.mark.parametrize("secrets", ["vault", "", 7, ["T"]])
    def test_what_is_no_store_of_secrets(self, bus: Bus, secrets: Any) -> None:
        with pytest.raises(ConfigurationError, match="store of secrets"):
            omnibase.run("print(1)", secrets=secrets, bus=bus)
        with pytest.raises(ConfigurationError, match="store of secrets"):
            Sandbox(secrets=secrets)
        assert bus.names == []

    def test_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOST_ONLY", "1")
        result = omnibase.run(
            "import os\nprint(os.environ.get('MINE'), os.environ.get('HOST_ONLY'))",
            env={"MINE": "ü"},
        )
        assert result.stdout.decode() == "ü None\n"
        with pytest.raises(ConfigurationError):
            omnibase.run("print(1)", env={"LD_PRELOAD": "x"})


class TestCapabilities:
    @pytest.mark.parametrize("form", ["list of text", "list", "set", "generator", "tuple"])
    def test_forms(self, tmp_path: Path, form: str) -> None:
        (tmp_path / "in.txt").write_text("granted")
        text = f"FILE_READ:{tmp_path}/in.txt"
        capability = Capability.parse(text)
        forms: dict[str, Any] = {
            "list of text": [text],
            "list": [capability],
            "set": CapabilitySet([capability]),
            "generator": (c for c in [text, capability]),
            "tuple": (text, capability),
        }
        result = omnibase.run(
            "import sys\nprint(open(sys.argv[1]).read())", args=[str(tmp_path / "in.txt")],
            capabilities=forms[form],
        )  # fmt: skip
        assert result.stdout == b"granted\n"

    def test_text_is_not_a_list(self) -> None:
        with pytest.raises(ConfigurationError, match="is a string") as caught:
            omnibase.run("print(1)", capabilities="FILE_READ:/x")
        assert caught.value.hint is not None
        assert "['FILE_READ:/x']" in caught.value.hint

    @pytest.mark.parametrize("item", [5, None, b"FILE_READ:/x"])
    def test_what_is_none(self, item: Any) -> None:
        with pytest.raises(ConfigurationError, match="is not a capability"):
            omnibase.run("print(1)", capabilities=[item])

    @pytest.mark.parametrize(
        "text", ["FILE_READ", "FILE_REED:/x", "FILE_READ:relative", "DATABASE_READ:a"]
    )
    def test_malformed_or_unenforceable(self, text: str) -> None:
        with pytest.raises(CapabilityError):
            omnibase.run("print(1)", capabilities=[text])

    def test_our_own_state_is_out_of_reach(self, state_directory: Path, bus: Bus) -> None:
        with pytest.raises(CapabilityError, match="which no grant may"):
            omnibase.run("print(1)", capabilities=[f"FILE_READ:{state_directory}/**"], bus=bus)
        assert bus.names == ["CapabilityDenied", "RunRefused"]
        assert bus.data("CapabilityDenied").capability == f"FILE_READ:{state_directory}/**"

    @pytest.mark.parametrize(
        ("error", "code"), [(KeyboardInterrupt(), "cancelled"), (ValueError("x"), "internal_error")]
    )
    def test_what_comes_before_the_start_is_on_record(
        self, error: BaseException, code: str, bus: Bus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("omnibase.call.compile_grants", fail)
        with pytest.raises(type(error)):
            omnibase.run("print(1)", bus=bus)
        assert bus.names == ["RunRefused"]
        assert bus.data("RunRefused").code == code

    def test_policies_are_not_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        policies = tmp_path / "registry" / "policies"
        policies.mkdir(parents=True)
        policy = policies / "x.cedar.json"
        policy.write_text("{}")
        monkeypatch.setenv("OMNIBASE_REGISTRY", str(tmp_path / "registry"))
        with pytest.raises(CapabilityError, match="which no grant may"):
            omnibase.run("print(1)", capabilities=[f"FILE_WRITE:{policy}"])
        with pytest.raises(CapabilityError, match="matches no file"):
            omnibase.run("1", capabilities=[f"FILE_WRITE:{tmp_path}/reg*/policies/*.cedar.json"])
        result = omnibase.run(
            "import sys\nprint(open(sys.argv[1]).read())", args=[str(policy)],
            capabilities=[f"FILE_READ:{policy}"],
        )  # fmt: skip
        assert result.stdout == b"{}\n"


class TestOutcomes:
    def test_a_plain_result(self) -> None:
        result = omnibase.run("import sys\nprint(1)\nprint(2, file=sys.stderr)\nsys.exit(3)")
        assert (result.exit_code, result.stdout, result.stderr) == (3, b"1\n", b"2\n")
        assert not result.ok
        assert omnibase.run("pass").ok

    def test_usage_is_plausible(self) -> None:
        usage = omnibase.run("print('x' * 99)").usage
        assert 0 < usage.cpu_seconds < 60
        assert 5_000_000 < usage.peak_memory_bytes <= 50_000_000
        assert 0 < usage.wall_seconds < 60
        assert usage.output_bytes == 100

    def test_a_violation_is_raised_with_its_result(self) -> None:
        with pytest.raises(SandboxViolationError) as caught:
            omnibase.run(DENIED)
        error = caught.value
        assert [v.capability for v in error.violations] == ["FILE_READ:/etc/passwd"]
        assert error.result is not None
        assert error.result.exit_code == 1
        assert b"FILE_READ:/etc/passwd is not granted" in error.result.stderr
        assert error.hint is not None
        assert "FILE_READ:/etc/passwd" in error.hint

    def test_or_recorded(self) -> None:
        result = omnibase.run(DENIED, context=RECORD)
        assert [v.capability for v in result.violations] == ["FILE_READ:/etc/passwd"]
        assert not result.ok

    def test_limits(self) -> None:
        with pytest.raises(SandboxTimeout) as timeout:
            omnibase.run("import time; time.sleep(600)", context=ExecutionContext(wall_seconds=1))
        assert timeout.value.result is not None
        with pytest.raises(ResourceLimitExceeded) as limit:
            omnibase.run("x = bytearray(10**9)")
        assert limit.value.kind == "memory"

    def test_output_is_passed_on_as_it_comes(self) -> None:
        seen: list[tuple[str, bytes]] = []
        result = omnibase.run(
            "import sys\nprint('a')\nprint('b', file=sys.stderr)",
            on_output=lambda stream, data: seen.append((stream, data)),
        )
        assert b"".join(data for stream, data in seen if stream == "stdout") == result.stdout
        assert b"".join(data for stream, data in seen if stream == "stderr") == result.stderr

    def test_an_error_in_a_callback_comes_through(self, bus: Bus) -> None:
        def fail(_stream: str, _data: bytes) -> None:
            raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            omnibase.run("print(1)\nimport time; time.sleep(600)", on_output=fail, bus=bus)
        assert bus.names == ["SandboxStart", "SandboxExit"]
        assert bus.data("SandboxExit").outcome == "aborted"


class TestEvents:
    def test_they_come_in_order_with_one_start_and_one_exit(self, bus: Bus, tmp_path: Path) -> None:
        (tmp_path / "x").touch()
        script = "for _ in range(3):\n    try: open('/etc/passwd')\n    except OSError: pass\n"
        result = omnibase.run(
            script, capabilities=[f"FILE_READ:{tmp_path}/x", "MEMORY:60MB"], context=RECORD, bus=bus
        )
        assert bus.names == [
            "CapabilityGranted", "CapabilityGranted", "SandboxStart", "SandboxViolation",
            "SandboxViolation", "SandboxExit",
        ]  # fmt: skip
        assert [event.sequence for event in bus.sink.events] == [1, 2, 3, 4, 5, 6]
        assert {event.runid for event in bus.sink.events} == {result.run_id}
        assert {event.subject for event in bus.sink.events} == {"script.py"}
        exit_event = bus.data("SandboxExit")
        assert (exit_event.outcome, exit_event.exit_code, exit_event.violations) == (
            "violation", 0, 3,
        )  # fmt: skip
        assert bus.data("SandboxStart").quotas["memory_bytes"] == 60_000_000

    def test_the_default_bus_is_used_by_default(self) -> None:
        sink = CollectingSink()
        with omnibase.default_bus().subscribe(sink):
            omnibase.run("pass")
        assert [event.name for event in sink.events] == ["SandboxStart", "SandboxExit"]

    def test_a_sink_that_fails_does_not_disturb_the_run(self, bus: Bus) -> None:
        def fail(_event: object) -> None:
            raise RuntimeError("sink")

        bus.subscribe(fail)
        assert omnibase.run("print(1)", bus=bus).stdout == b"1\n"
        assert "SandboxExit" in bus.names


class TestPlan:
    def test_it_tells_what_would_be_and_starts_nothing(self, tmp_path: Path) -> None:
        omnibase.run("pass")  # whatever is found out once is known by now
        before = threading.active_count(), os.listdir("/proc/self/fd")
        plan = omnibase.plan(
            "print(1)", args=["a"], stdin=b"x", capabilities=[f"FILE_WRITE:{tmp_path}/none.txt"],
            env={"MINE": "1"},
        )  # fmt: skip
        assert (threading.active_count(), os.listdir("/proc/self/fd")) == before
        assert plan.request.script == b"print(1)"
        assert (plan.request.argv, plan.request.stdin) == (("a",), b"x")
        assert [file.path for file in plan.request.spec.files] == [f"{tmp_path}/none.txt"]
        assert ("MINE", "1") in plan.request.spec.environment
        assert list(plan.enforcement) == [f"FILE_WRITE:{tmp_path}/none.txt"]

    def test_it_refuses_what_a_run_refuses(self) -> None:
        with pytest.raises(CapabilityError):
            omnibase.plan("print(1)", capabilities=["FILE_READ:/proc/**"])
        with pytest.raises(ConfigurationError):
            omnibase.plan("print(1)", args="x")


class TestAsync:
    def test_the_same_results_as_sync(self, tmp_path: Path) -> None:
        (tmp_path / "in.txt").write_text("in")
        calls: list[tuple[str, dict[str, Any]]] = [
            ("print(1)", {}),
            ("import sys; print(sys.argv[1:], sys.stdin.read()); sys.exit(4)",
             {"args": ["a", "ü"], "stdin": b"in"}),
            ("1 / 0", {}),
            (f"print(open('{tmp_path}/in.txt').read())",
             {"capabilities": [f"FILE_READ:{tmp_path}/in.txt"]}),
            (DENIED, {}),
            (DENIED, {"context": RECORD}),
            ("while True: print('x' * 99)", {"context": ExecutionContext(output_bytes=1000)}),
            ("print(1)", {"capabilities": ["FILE_READ:/nowhere/x"]}),
            ("print(1)", {"args": "x"}),
        ]  # fmt: skip

        def outcome(work: Any) -> Any:
            try:
                result = work()
            except OmniBaseError as error:
                result = getattr(error, "result", None)
                head: tuple[Any, ...] = (type(error), error.message, error.hint)
            else:
                head = ()
            if result is None:
                return head
            violations = [(v.capability, v.operation, v.count) for v in result.violations]
            return (
                *head,
                result.exit_code,
                result.stdout,
                result.stderr,
                violations,
                result.limits,
            )

        for script, options in calls:
            sync = outcome(lambda s=script, o=options: omnibase.run(s, **o))
            assert sync == outcome(lambda s=script, o=options: asyncio.run(omnibase.arun(s, **o)))

    def test_six_at_once(self) -> None:
        async def main() -> list[RunResult]:
            script = "import sys, time\ntime.sleep(0.2)\nprint(sys.argv[1])"
            return await asyncio.gather(
                *(omnibase.arun(script, args=[str(number)]) for number in range(6))
            )

        results = asyncio.run(main())
        assert [result.stdout for result in results] == [b"%d\n" % n for n in range(6)]
        assert len({result.run_id for result in results}) == 6

    def test_the_loop_stays_free(self) -> None:
        async def main() -> int:
            task = asyncio.ensure_future(omnibase.arun("import time; time.sleep(0.5)"))
            turns = 0
            while not task.done():
                await asyncio.sleep(0.01)
                turns += 1
            await task
            return turns

        assert asyncio.run(main()) > 5

    @pytest.mark.parametrize("times", [1, 3])
    def test_cancelling_ends_the_run_first(
        self, bus: Bus, state_directory: Path, times: int
    ) -> None:
        async def main() -> list[str]:
            started = asyncio.Event()
            loop = asyncio.get_running_loop()
            task = asyncio.ensure_future(
                omnibase.arun(
                    "print(1)\nimport time\ntime.sleep(600)", bus=bus,
                    on_output=lambda *_: loop.call_soon_threadsafe(started.set),
                )
            )  # fmt: skip
            await asyncio.wait_for(started.wait(), 60)
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await task
            return os.listdir(state_directory / "runs")

        began = time.monotonic()
        assert asyncio.run(main()) == []
        assert time.monotonic() - began < 120
        assert bus.names == ["SandboxStart", "SandboxExit"]
        assert bus.data("SandboxExit").outcome == "cancelled"

    def test_a_timeout_of_the_loop_ends_the_run(self) -> None:
        async def main() -> None:
            await asyncio.wait_for(omnibase.arun("import time; time.sleep(600)"), 1)

        with pytest.raises(TimeoutError):
            asyncio.run(main())


class TestSandbox:
    def test_it_runs_any_number_of_scripts_each_on_its_own(self, bus: Bus) -> None:
        with Sandbox(context=RECORD, env={"MINE": "1"}, bus=bus) as sandbox:
            first = sandbox.run_sync("open('/tmp/x', 'w').write('1')")
            second = sandbox.run_sync(
                "import os, sys\nprint(os.listdir('/tmp'), os.environ['MINE'], sys.argv[1:])",
                args=["a"], stdin=b"",
            )  # fmt: skip
        assert first.ok
        assert second.stdout == b"[] 1 ['a']\n"
        assert bus.names == ["SandboxStart", "SandboxExit"] * 2

    def test_async(self) -> None:
        async def main() -> list[bytes]:
            async with Sandbox(capabilities=["MEMORY:64MiB"]) as sandbox:
                results = await asyncio.gather(sandbox.run("print(1)"), sandbox.run("print(2)"))
                return [result.stdout for result in results]

        assert asyncio.run(main()) == [b"1\n", b"2\n"]

    def test_its_capabilities_are_checked_at_once(self) -> None:
        with pytest.raises(CapabilityError):
            Sandbox(capabilities=["FILE_REED:/x"])
        assert Sandbox(capabilities=["MEMORY:64MiB"]).capabilities == CapabilitySet.parse(
            ["MEMORY:64MiB"]
        )

    def test_output_can_be_streamed(self) -> None:
        async def main() -> list[Chunk | RunResult]:
            async with Sandbox() as sandbox:
                stream = sandbox.stream("import sys\nprint('a')\nprint('b', file=sys.stderr)")
                return [item async for item in stream]

        *chunks, result = asyncio.run(main())
        assert isinstance(result, RunResult)
        assert {(c.stream, c.data) for c in chunks if isinstance(c, Chunk)} == {
            ("stdout", b"a\n"), ("stderr", b"b\n"),
        }  # fmt: skip

    def test_an_error_comes_after_the_output(self) -> None:
        async def main() -> list[bytes]:
            seen = []
            with pytest.raises(SandboxViolationError):
                async for item in Sandbox().stream("print('a')\n" + DENIED):
                    assert isinstance(item, Chunk)
                    seen.append(item.data)
            return seen

        assert b"".join(asyncio.run(main())).startswith(b"a\n")

    def test_leaving_a_stream_ends_its_run(self, bus: Bus, state_directory: Path) -> None:
        async def main() -> list[str]:
            stream = Sandbox(bus=bus).stream("print(1)\nimport time\ntime.sleep(600)")
            async for _ in stream:
                break
            await stream.aclose()  # type: ignore[attr-defined]
            return os.listdir(state_directory / "runs")

        assert asyncio.run(main()) == []
        assert bus.data("SandboxExit").outcome == "cancelled"


class TestThisMachine:
    """What a machine lacks is said before anything starts, with what to do about it."""

    @pytest.fixture(autouse=True)
    def state(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMNIBASE_STATE_DIR", str(tmp_path / "state"))

    def test_not_root(self, bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "state").mkdir()
        os.chown(tmp_path / "state", 1000, 1000)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(SandboxUnavailable, match="need root") as caught:
            omnibase.run("print(1)", bus=bus)
        assert caught.value.hint is not None
        assert "sudo" in caught.value.hint
        assert bus.names == ["RunRefused"]

    def test_no_runsc(self, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RUNSC", "/nonexistent")
        with pytest.raises(SandboxUnavailable, match="RUNSC=/nonexistent") as caught:
            omnibase.run("print(1)", bus=bus)
        assert caught.value.hint is not None
        assert "setup-runsc.sh" in caught.value.hint
        assert isinstance(caught.value, SandboxError)
        assert bus.names == ["RunRefused"]

    def test_no_platform(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = tmp_path / "runsc"
        fake.write_text(
            '#!/bin/sh\n[ "$1" = --version ] && echo runsc version release-20250101.0 && exit\n'
            "exit 1\n"
        )
        fake.chmod(0o755)
        monkeypatch.setenv("RUNSC", str(fake))
        with pytest.raises(SandboxUnavailable, match="no gVisor platform works here") as caught:
            omnibase.run("print(1)")
        assert caught.value.hint

    def test_no_cgroups(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "cgroup.controllers").write_text("cpu")
        detect = Hierarchy.detect
        monkeypatch.setattr(Hierarchy, "detect", lambda: detect(root=str(tmp_path)))
        with pytest.raises(SandboxUnavailable, match="no cgroup controller for memory, pids"):
            omnibase.run("print(1)")

    def test_a_state_directory_that_is_no_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("OMNIBASE_STATE_DIR", str(tmp_path / "file"))
        with pytest.raises(ConfigurationError):
            omnibase.run("print(1)")


def test_the_package_names_what_it_offers() -> None:
    assert set(omnibase.__all__) <= set(dir(omnibase))
    for name in omnibase.__all__:
        assert getattr(omnibase, name) is not None
    with pytest.raises(AttributeError, match="`nothing`"):
        omnibase.nothing  # noqa: B018
