"""Events per second into a JetStream by way of the outbox, and what `emit` takes.

    python -m benchmarks.bench_jetstream [--events 5000] [--runs 30] [--directory DIR]

Starts a `nats-server` of its own, with its store on disk (`scripts/setup-nats.sh`).
The directory is for the outbox and the store; by default the one for temporary files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import percentile
from omnibase.core.events import Event, JsonlSink, SandboxViolation, Sink
from omnibase.core.events.jetstream import JetStreamSink
from tests.helpers import nats_server


class Emitted(NamedTuple):
    """Durations of single calls of `emit`, in seconds, and of all together."""

    each: list[float]
    wall: float
    cpu: float


def events(count: int, runs: int) -> list[Event]:
    data = SandboxViolation(operation="openat", resource="/etc/passwd", evidence="kernel")
    return [
        Event(data=data, source=f"urn:omnibase:run:{n % runs}", runid=f"run{n % runs}",
              sequence=n // runs + 1)
        for n in range(count)
    ]  # fmt: skip


def emit(sink: Sink, given: list[Event]) -> Emitted:
    each = []
    cpu, wall = time.thread_time(), time.perf_counter()
    for event in given:
        before = time.perf_counter()
        sink.emit(event)
        each.append(time.perf_counter() - before)
    return Emitted(each, time.perf_counter() - wall, time.thread_time() - cpu)


def row(what: str, text: str) -> None:
    print(f"{what:<58} {text}", flush=True)


def tell(what: str, emitted: Emitted) -> None:
    ranked = sorted(emitted.each)
    row(
        what,
        f"{len(ranked) / emitted.wall:>7.0f} events/s  "
        f"median {percentile(ranked, 50) * 1e3:.3f} ms  "
        f"p99 {percentile(ranked, 99) * 1e3:.3f} ms  max {ranked[-1] * 1e3:.1f} ms  "
        f"CPU {emitted.cpu / len(ranked) * 1e6:.0f} µs",
    )


def outbox(place: Path, count: int) -> None:
    """What a run pays: no server answers, so that nothing but the outbox is measured."""
    dead = f"nats://127.0.0.1:{nats_server.free_port()}"
    for fsync, number in (("close", count), ("always", count // 10)):
        sink = JetStreamSink(dead, place / fsync, fsync=fsync, patience_seconds=0)  # type: ignore[arg-type]
        tell(f"emit, no server, fsync={fsync}", emit(sink, events(number, 1)))
        sink.close()
    plain = JsonlSink(place / "events.jsonl")
    tell("emit, JsonlSink, for comparison", emit(plain, events(count, 1)))
    plain.close()


def delivery(server: nats_server.Server, place: Path, count: int, runs: int) -> None:
    """From the first `emit` to the last acknowledgement."""
    server.purge()
    sink = JetStreamSink(server.url, place / "delivered", max_bytes=1 << 30)
    sink.emit(events(1, 1)[0])  # connected, and everything loaded
    sink.flush(30)
    given = events(count, runs)
    cpu, wall = time.process_time(), time.perf_counter()
    emitted = emit(sink, given)
    if not sink.flush(600):
        raise SystemExit(f"not delivered: {sink.problem}")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    sink.close()
    tell(f"emit, while {runs} runs are delivered", emitted)
    row(f"outbox to acknowledgement, {runs} runs at once",
        f"{count / wall:>7.0f} events/s  CPU {cpu / count * 1e6:.0f} µs")  # fmt: skip


def short(server: nats_server.Server, place: Path, runs: int) -> None:
    """What the end of a process with one run waits for: three events, and close."""
    taken = []
    for _ in range(runs):
        sink = JetStreamSink(server.url, place / "short", patience_seconds=2)
        time.sleep(0.15)  # the sandbox boots
        for event in events(3, 1):
            sink.emit(event)
        before = time.perf_counter()
        sink.flush(2)
        sink.close()
        taken.append(time.perf_counter() - before)
    taken.sort()
    row("one run: its last event to the end of close",
        f"median {percentile(taken, 50) * 1e3:.1f} ms  max {taken[-1] * 1e3:.1f} ms")  # fmt: skip


def outage(server: nats_server.Server, place: Path, count: int) -> None:
    """How soon what waited is in the stream, once the server is back."""
    server.purge()
    server.kill()
    sink = JetStreamSink(server.url, place / "outage", max_bytes=1 << 30)
    emit(sink, events(count, 64))
    server.start()
    before = time.perf_counter()
    if not sink.flush(600):
        raise SystemExit(f"not delivered: {sink.problem}")
    row(f"{count} events after an outage, 64 runs at once",
        f"{count / (time.perf_counter() - before):>7.0f} events/s")  # fmt: skip
    sink.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--directory", default=None, help="where; it is removed afterwards")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="jetstream-bench-", dir=options.directory))
    try:
        print(f"{os.cpu_count()} CPUs, Python {sys.version.split()[0]}, load {os.getloadavg()[0]}")
        outbox(place, options.events)
        with nats_server.running() as server:
            for runs in (1, 8, 64):
                delivery(server, place, options.events, runs)
            short(server, place, options.runs)
            outage(server, place, options.events)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
