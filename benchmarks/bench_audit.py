"""The audit log: ``python -m benchmarks.bench_audit [--events N] [--emitted N] [--runs N]``.

It prints JSON: events per second for each way to synchronise; what a process with one
run pays, in CPU time; and how long verifying, indexing and asking a generated log of
``--events`` take. Ten million events take 10 GB of disk and half an hour.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.auditlog import COMPONENTS, EVENTS_OF_A_RUN, SECONDS_OF_A_RUN, generate
from benchmarks.measure import percentile
from omnibase.core.audit import keys
from omnibase.core.audit.checker import Keys
from omnibase.core.audit.index import Index, Query
from omnibase.core.audit.log import AuditLog
from omnibase.core.audit.verification import verify
from omnibase.core.events import Event, SandboxViolation

# What `omnibase sandbox run` has loaded when it opens the log.
_SHORT = """
import sys, time
import omnibase.api, omnibase.cli.engine, omnibase.cli.sandbox
from pathlib import Path
from omnibase.core import events
from omnibase.core.audit import places
bus = events.EventBus()
payload = events.SandboxViolation(operation="openat", resource="/x", evidence="kernel")
# An event costs what it costs, with a log or without.
events.Emitter(events.EventBus(), subject="job.py").emit(payload).to_json()
emitter = events.Emitter(bus, runid="0" * 32, subject="job.py")
place = Path(sys.argv[1])
began = time.process_time()
places.attach(bus, place)
opened = time.process_time()
note = places.open_run(lambda: place.with_name("open"), bus, emitter)
note.begin("sandbox")
for _ in range(3):
    event = emitter.emit(payload)
note.end(event)
bus.close()
print(opened - began, time.process_time() - began)
"""


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--emitted", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--times", type=int, default=3, help="how often each question is asked")
    parser.add_argument("--questions", type=int, help="how many of them (default: all)")
    parser.add_argument("--directory", help="where; what is made there is removed")
    parser.add_argument("--log", type=Path, help="a generated log that is there and stays")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="audit-bench-", dir=options.directory))
    try:
        figures = {
            "rates": {
                "batch": rate(place, "batch", options.emitted),
                "always": rate(place, "always", max(1, options.emitted // 10)),
            },
            "run": short(place, options.runs),
            "log": large(place / "generated", options),
        }
    finally:
        shutil.rmtree(place)
    print(json.dumps(figures, indent=2))
    return 0


def rate(place: Path, fsync: Any, count: int) -> float:
    """Returns events per second, synchronised at the end."""
    data = SandboxViolation(operation="openat", resource="/etc/passwd", evidence="kernel")
    events = [
        Event(data=data, source="urn:omnibase:run:bench", runid="bench", sequence=n + 1)
        for n in range(count)
    ]
    log = AuditLog(place / fsync, fsync=fsync)
    began = time.perf_counter()
    for event in events:
        log.emit(event)
    log.flush(5)
    seconds = time.perf_counter() - began
    log.close()
    return count / seconds


def short(place: Path, runs: int) -> dict[str, float]:
    """Returns what a new process pays for the log of one run, in milliseconds of CPU time."""
    command = [sys.executable, "-c", _SHORT, str(place / "short")]
    taken = []
    for _ in range(runs + 1):  # the first makes the log
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        opening, whole = map(float, out.split())
        taken.append((whole * 1e3, opening * 1e3))
    wholes = [whole for whole, _ in taken[1:]]
    return {
        "median_ms": statistics.median(wholes),
        "p99_ms": percentile(wholes, 99),
        "least_ms": min(wholes),
        "opening_ms": statistics.median(opening for _, opening in taken[1:]),
    }


def large(log: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Returns seconds and sizes for a log of many events."""
    figures: dict[str, Any] = {"events": options.events}
    if options.log is None:
        figures["generate_s"] = _seconds(lambda: generate(log, options.events))
    log = options.log or log
    figures["bytes"] = sum(path.stat().st_size for path in log.glob("*.jsonl"))
    known = Keys(set(keys.known_keys(log)), keys.signed_by)
    figures["verify_s"] = _seconds(lambda: verify(log, known))
    figures["index_s"] = _seconds(lambda: Index.rebuild(log).close())
    figures["index_bytes"] = (log / "index.sqlite").stat().st_size
    with Index(log) as index:
        run = index.find(Query(limit=1))[0].event["runid"]
    figures["questions"] = {}
    for command in questions(options.events, run)[: options.questions]:
        taken = [_seconds(lambda c=command: _ask(log, c)) for _ in range(options.times)]  # type: ignore[misc]
        figures["questions"][" ".join(command)] = max(taken)
    return figures


def questions(events: int, run: str) -> list[list[str]]:
    """Returns the commands that are timed, for a log that `generate` made."""
    back = timedelta(seconds=events / EVENTS_OF_A_RUN * SECONDS_OF_A_RUN / 2)
    middle = (datetime.now(UTC) - back).strftime("%Y-%m-%dT%H:%M:%SZ")
    one, other = "FILE_READ:/data/17/file.csv", "FILE_READ:/data/17*"
    return [
        ["tail"],
        ["show", run],
        ["stats"],
        ["query"],
        ["query", "--limit", "10000"],
        ["query", "--type", "SandboxViolation"],
        ["query", "--decision", "denied", "--until", middle],
        ["query", "--component", COMPONENTS[7]],
        ["query", "--component", COMPONENTS[7], "--type", "CapabilityDenied", "--until", middle],
        ["query", "--capability", one],
        ["query", "--capability", other, "--decision", "violation"],
        ["query", "--capability", "FILE_READ:*"],
        ["query", "--component", COMPONENTS[7], "--capability", one],
        ["query", "--capability", "FILE_READ:*", "--type", "SandboxExit"],
        ["query", "--type", "SandboxExit", "--decision", "denied"],
        ["query", "--run", f"{run[:3]}*", "--decision", "denied"],
    ]


def _ask(log: Path, command: list[str]) -> None:
    asked = [sys.executable, "-m", "omnibase", "audit", *command, "--audit", str(log)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
