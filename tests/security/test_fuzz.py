"""Generated hostile scripts: each attempt succeeds iff it is granted, and is told iff it is not.

`OMNIBASE_FUZZ_CASES` says how many attempts under how many sets of capabilities are tried,
300 by default; a failure prints the seed for `OMNIBASE_FUZZ_SEED`, and shrinks.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import (
    HealthCheck,
    currently_in_test_context,
    example,
    given,
    note,
    seed,
    settings,
)

from omnibase import ExecutionContext, Pool, RunResult, SandboxStartError, call, run
from omnibase.asked import Authority, Options
from omnibase.backend import compile_grants
from omnibase.call import Call
from omnibase.core.events import SandboxViolation
from omnibase.core.sandbox.monitor.violations import Judge
from omnibase.core.sandbox.runner import Cancel
from omnibase.core.sandbox.spec import Mask, SandboxSpec
from omnibase.core.security.capabilities import CapabilitySet
from tests.security import grammar
from tests.security.grammar import CALLS, FILES, MASK, Attempt, Grants
from tests.security.harness import SCRIPTS, Outcome, observed

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.capabilities,
    pytest.mark.threat("T-EXEC-01", "T-EXEC-03", "T-EXEC-17", "T-ORCH-13"),
]

CASES = int(os.environ.get("OMNIBASE_FUZZ_CASES", "300"))
SEED = int(os.environ.get("OMNIBASE_FUZZ_SEED", str(random.randrange(1 << 32))))
_STARTS = 3
_AT_ONCE = 10  # runs of one search: each search has a seed of its own

NOTHING = Grants(*[frozenset()] * 6, masked=False)
SECRET = {"ONE": "the-first-secret-of-the-fuzzer", "TWO": "the-second-secret-of-the-fuzzer"}


@contextlib.contextmanager
def _world() -> Iterator[tuple[Path, tuple[socket.socket, ...]]]:
    """A directory with `FILES`, and two listeners."""
    area = Path(tempfile.mkdtemp(prefix="omnibase-fuzz-", dir="/var/lib"))
    area.chmod(0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, area)
        stack.callback(shutil.rmtree, area.with_name(f"{area.name}-store"), ignore_errors=True)
        for name in FILES:
            (area / name).parent.mkdir(parents=True, exist_ok=True)
            (area / name).write_text("of the host")
        servers = []
        for _ in grammar.PORTS:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
            server.setblocking(False)
            servers.append(server)
        yield area, tuple(servers)


def _execute(source: str, texts: list[str], area: Path, masked: bool, pool: Pool | None) -> Outcome:
    options = {
        "secrets": SECRET,
        "artifacts": area.with_name(f"{area.name}-store"),
        "context": ExecutionContext(on_violation="record", wall_seconds=60.0),
    }
    if not masked:
        start = run if pool is None else pool.run
        return observed(lambda bus: start(source.encode(), capabilities=texts, bus=bus, **options))
    masks = (Mask(path=f"{area}/{MASK}", reason="masked"),)

    def masked_run(bus):  # type: ignore[no-untyped-def]
        one = Call("script.py", source.encode(), CapabilitySet.parse(texts),
                   Options(bus=bus, **options), Authority(masks=masks))  # fmt: skip
        with contextlib.closing(Cancel()) as cancel:
            return one.execute(cancel)

    return observed(masked_run)


def check(grants: Grants, attempts: list[Attempt], pool: Pool | None = None) -> RunResult:
    """Runs the attempts in one script, and compares what came of them with the oracle."""
    with _world() as (area, servers):
        ports = tuple(server.getsockname()[1] for server in servers)
        # A second file of a name could not be created: each has one of its own.
        attempts = [
            Attempt(a.kind, f"{a.target} {number}", a.way, a.where) if a.kind == "create" else a
            for number, a in enumerate(attempts)
        ]
        lines = [grammar.line(number, a, area, ports) for number, a in enumerate(attempts)]
        if currently_in_test_context():
            note(f"OMNIBASE_FUZZ_SEED={SEED}")
            note("\n".join([*grants.texts(area, ports), f"masked: {grants.masked}", *lines]))
        library = (SCRIPTS / "fuzz.py").read_text()
        source = "\n".join([library, *lines, "finish()", ""])

        for _ in range(_STARTS):
            outcome = _execute(source, grants.texts(area, ports), area, grants.masked, pool)
            if not isinstance(outcome.error, SandboxStartError):
                break  # else nothing ran, which says nothing: a busy machine may refuse a start
            assert "SandboxStart" not in [event.name for event in outcome.events]

        assert outcome.error is None, outcome.error
        result = outcome.finished
        assert result.exit_code == 0, result.stderr.decode()
        assert result.trace_dropped == 0
        _succeeds_iff_granted(grants, attempts, outcome)
        _told_iff_not(grants, attempts, outcome, area, ports)
        _the_host_is_as_granted(grants, attempts, area, servers)
        return result


def _succeeds_iff_granted(grants: Grants, attempts: list[Attempt], outcome: Outcome) -> None:
    for number, attempt in enumerate(attempts):
        if attempt.kind == "leave":
            succeeded = attempt.target in outcome.finished.artifacts
        else:
            succeeded = outcome.report[str(number)]
        assert succeeded == grammar.granted(attempt, grants), (number, attempt)


def _told_iff_not(
    grants: Grants, attempts: list[Attempt], outcome: Outcome, area: Path, ports: tuple[int, ...]
) -> None:
    told = {v.capability or v.operation for v in outcome.violations}
    bus = {v.capability or v.operation for v in outcome.reported(SandboxViolation)}
    assert told == bus
    has_to_be: set[str] = set()
    for number, attempt in enumerate(attempts):
        if not grammar.granted(attempt, grants):
            name, required = grammar.on_record(attempt, area, ports)
            if attempt.kind == "create":
                name = f"{name} {number}"
            if required:
                has_to_be.add(name)
    may_be = {name for name in told if name.partition(":")[2].startswith("/tmp/link-")}
    assert told - may_be == has_to_be
    assert not may_be or any(attempt.way == "link" for attempt in attempts)


def _the_host_is_as_granted(
    grants: Grants, attempts: list[Attempt], area: Path, servers: tuple[socket.socket, ...]
) -> None:
    done = [attempt for attempt in attempts if grammar.granted(attempt, grants)]
    written = {str(attempt.target) for attempt in done if attempt.kind == "write"}
    made = {str(attempt.target) for attempt in done if attempt.kind == "create"}
    found = {
        str(path.relative_to(area)): path.read_text() for path in area.rglob("*") if path.is_file()
    }
    assert found.keys() == {*FILES, *made}
    for name in FILES:
        assert (found[name] != "of the host") == (name in written), name
    for index, server in enumerate(servers):
        arrived = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                server.accept()[0].close()
                arrived += 1
        assert arrived == sum(a.kind == "connect" and a.target == index for a in done)


def _search(pool: Pool | None) -> list[RunResult]:
    """Tries half of the cases, in searches of a few runs each; returns the results."""
    results: list[RunResult] = []
    tried = 0
    number = SEED
    while tried < CASES // 2:

        @seed(number)
        @settings(
            max_examples=_AT_ONCE, deadline=None, database=None, print_blob=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(grammar.grants(), grammar.PROGRAMS)
        def search(grants: Grants, attempts: list[Attempt]) -> None:
            nonlocal tried
            tried += len(attempts)
            result = check(grants, attempts, pool)
            if not grants.masked:  # masks come with components, which ask for no pool here
                results.append(result)

        search()
        number += 1
    return results


@pytest.mark.timeout(900)  # a failure takes its time to shrink
def test_succeeds_iff_granted_and_is_told_iff_not() -> None:
    assert _search(None)


@pytest.mark.timeout(900)
@pytest.mark.threat("T-EXEC-26")
def test_the_same_holds_in_a_warm_sandbox() -> None:
    with Pool(size=2, wait_seconds=20) as pool:
        results = _search(pool)

    warm = [result for result in results if result.cold_reason is None]
    assert len(warm) > len(results) // 2


@settings(max_examples=200)
@given(grammar.grants(), grammar.ATTEMPTS)
@example(NOTHING, Attempt("read", "a.txt"))
def test_the_oracle_agrees_with_the_algebra(grants: Grants, attempt: Attempt) -> None:
    """Both are right, or both are wrong in the same way: they share nothing."""
    area, ports = Path("/var/lib/x"), (1001, 1002)
    has = CapabilitySet.parse(grants.texts(area, ports))
    text, _ = grammar.on_record(attempt, area, ports)
    if attempt.kind in ("call", "send") or grants.masked:
        return
    covered = has.covers(CapabilitySet.parse([text]))
    # What is made within a glob is covered by it, and yet no file that is mounted.
    assert grammar.granted(attempt, grants) == covered or attempt.kind == "create"


def test_each_call_of_the_grammar_is_refused_and_told() -> None:
    check(NOTHING, [Attempt("call", number) for number in range(len(CALLS))])


@pytest.mark.parametrize("missing", ["filter", "read-only mounts", "monitor"])
def test_the_oracle_notices_what_is_missing(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    def weakened(*args: Any, **named: Any) -> SandboxSpec:
        spec = compile_grants(*args, **named)
        files = tuple(replace(file, writable=True) for file in spec.files)
        return replace(spec, seccomp=()) if missing == "filter" else replace(spec, files=files)

    if missing == "monitor":
        monkeypatch.setattr(Judge, "judge", lambda *_: None)
    else:
        monkeypatch.setattr(call, "compile_grants", weakened)
    reads = replace(NOTHING, read=frozenset(["a.txt"]))

    with pytest.raises(AssertionError):
        check(reads, [Attempt("call", 8), Attempt("write", "a.txt")])
