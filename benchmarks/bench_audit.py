"""The audit log: ``python -m benchmarks.bench_audit [--events N]``.

Events per second for each way to synchronise, what a short process pays, and how long
verifying, indexing and asking a generated log take (by default 200,000 events;
``--events 10000000`` takes 10 GB of disk).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from omnibase.core.audit.chain import FORMAT, GENESIS, compact, seal
from omnibase.core.audit.checker import Keys
from omnibase.core.audit.index import Index, Query
from omnibase.core.audit.log import AuditLog
from omnibase.core.audit.segments import segment_name
from omnibase.core.audit.verification import verify
from omnibase.core.events import Event, SandboxViolation, utc

SEGMENT_BYTES = 64 << 20
COMPONENTS = [f"{n:08x}-0a4f-4c3e-9f6b-1e8a5d7c2b90" for n in range(200)]
NAMES = ("SandboxStart", "CapabilityGranted", "SandboxViolation", "CapabilityDenied", "SandboxExit")


def event(number: int) -> Event:
    data = SandboxViolation(operation="openat", resource="/etc/passwd", evidence="kernel")
    return Event(data=data, source="urn:omnibase:run:bench", runid="bench", sequence=number)


def generate(directory: Path, count: int) -> None:
    """Writes a log of runs of five events; real chain, events in outline."""
    directory.mkdir(mode=0o700)
    dice, head, number, run = random.Random(1), GENESIS, 0, ""
    file, size = None, 0
    start = time.time() - count / 10
    for index in range(count):
        if file is None or size >= SEGMENT_BYTES:
            if file is not None:
                file.close()
            number += 1
            file = (directory / segment_name(number)).open("wb")
            body = {"format": FORMAT, "log": "0" * 32, "number": number, "time": utc(),
                    "previous": str(head)}  # fmt: skip
            line, head = seal(head, "segment", compact(body))
            size = file.write(line)
        step = index % 5
        if step == 0:
            run, component = f"{dice.getrandbits(128):032x}", dice.choice(COMPONENTS)
        name = NAMES[step]
        data: dict[str, object] = {"script": "job.py", "outcome": "ok"}
        if step in (1, 2, 3):
            data = {"capability": f"FILE_READ:/data/{dice.randrange(5000)}/file.csv",
                    "operation": "openat", "resource": "/data/x"}  # fmt: skip
        text = json.dumps({
            "specversion": "1.0", "type": f"dev.omnibase.{name.lower()}.v1",
            "id": f"{index:032x}", "source": f"urn:omnibase:run:{run}",
            "time": utc(start + index / 10), "subject": "job.py", "runid": run,
            "sequence": f"{step + 1:010d}", "componentid": component,
            "sequencetype": "Integer", "eventname": name,
            "datacontenttype": "application/json", "data": data,
        }, separators=(",", ":"))  # fmt: skip
        line, head = seal(head, "event", text)
        size += file.write(line)
    if file is not None:
        file.close()


def timed(what: str, call: Callable[[], object], times: int = 1) -> None:
    durations = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        durations.append(time.perf_counter() - begin)
    durations.sort()
    print(f"{what:<60} {durations[len(durations) // 2] * 1e3:>12.2f} ms", flush=True)


def rate(place: Path, fsync: str, count: int) -> None:
    log = AuditLog(place / fsync, fsync=fsync)  # type: ignore[arg-type]
    events = [event(n + 1) for n in range(count)]
    begin = time.perf_counter()
    for each in events:
        log.emit(each)
    log.flush(5)
    print(f"fsync={fsync:<8} {count / (time.perf_counter() - begin):>12.0f} events/s", flush=True)
    log.close()


def short(place: Path) -> None:
    """What a process with one run pays: open, four events, close."""
    log = AuditLog(place / "short")
    for number in range(4):
        log.emit(event(number + 1))
    log.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--directory", default=None, help="where; it is removed afterwards")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="audit-bench-", dir=options.directory))
    try:
        print(f"{os.cpu_count()} CPUs, Python {sys.version.split()[0]}, load {os.getloadavg()[0]}")
        rate(place, "batch", 20_000)
        rate(place, "always", 2_000)
        short(place)
        timed("one run: open, 4 events, close", lambda: short(place), 50)
        log = place / "generated"
        timed(f"generate {options.events} events", lambda: generate(log, options.events))
        size = sum(path.stat().st_size for path in log.iterdir())
        print(f"the log: {size / 1e6:.0f} MB")
        timed("verify all", lambda: verify(log, Keys(set(), None)))
        timed("build the index", lambda: Index.rebuild(log).__exit__(None, None, None))
        print(f"the index: {(log / 'index.sqlite').stat().st_size / 1e6:.0f} MB")
        with Index(log) as index:
            middle = round((time.time() - options.events / 20) * 1e6)
            run = index.find(Query(limit=1))[0].event["runid"]
            for query in (
                Query(), Query(run=run), Query(type="SandboxViolation"),
                Query(decision="denied", until=middle), Query(component=COMPONENTS[7]),
                Query(component=COMPONENTS[7], type="CapabilityDenied", until=middle),
                Query(capability="FILE_READ:/data/17/file.csv"),
                Query(capability="FILE_READ:/data/17*", decision="violation"),
                Query(component=COMPONENTS[7], capability="FILE_READ:/data/17/file.csv"),
                Query(type="SandboxExit", decision="denied"),
            ):  # fmt: skip
                asked = {n: getattr(query, n) for n in Query.__slots__
                         if getattr(query, n) is not None and n != "limit"}  # fmt: skip
                timed(f"query {asked}"[:60], lambda query=query: index.find(query), 3)  # type: ignore[misc]
            timed("stats", index.stats)
        timed("open the index, nothing new", lambda: Index(log).__exit__(None, None, None))
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
