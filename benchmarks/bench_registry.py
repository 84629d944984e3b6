"""Times the registry with 1, 1000 and 100 000 components; prints JSON.

Run with ``python -m benchmarks.bench_registry [--sizes 1,1000] [--files] [--calls N]``.
Times are medians in microseconds, of calls on components picked at random; those of
``list`` and ``verify`` are of the whole registry, in seconds. The registry is
filled with ``durable=False`` (no fsync), and the writes that are timed are durable.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from omnibase.core.registry import Component, FileStore, Lifecycle, RegistryStore, open_store
from omnibase.core.security.capabilities import CapabilitySet

SIZES = (1, 1000, 100_000)
CALLS = 300
WRITES = 20
WANTED = CapabilitySet.parse(
    ["FILE_READ:/data/**", "NETWORK_CONNECT:api.example.com:443", "MEMORY:128MiB"]
)
SCRIPT = b"print('hello')\n" * 100
POLICY = b'{"staticPolicies": {}}\n' * 40


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--files", action="store_true", help="no SQLite")
    parser.add_argument("--in", dest="folder", help="where to make the registries")
    parser.add_argument("--calls", type=int, default=CALLS)
    options = parser.parse_args()
    results = {}
    for size in map(int, options.sizes.split(",")):
        with tempfile.TemporaryDirectory(prefix="ob-bench-", dir=options.folder) as folder:
            results[str(size)] = run(size, Path(folder), options.files, options.calls)
    print(json.dumps(results, indent=2))
    return 0


def run(size: int, folder: Path, only_files: bool, calls: int) -> dict[str, dict[str, float]]:
    """Returns the figures of one size, for files and for SQLite."""
    found = {"file": measure(FileStore(folder / "registry", durable=False), size, folder, calls)}
    # Each write is a transaction of its own: to fill a database is no benchmark.
    if size <= 1000 and not only_files:
        database = open_store(f"sqlite:///{folder}/registry.db")
        found["sqlite"] = measure(database, size, None, calls)
        database.close()
    return found


def measure(store: RegistryStore, size: int, folder: Path | None, calls: int) -> dict[str, float]:
    """Fills a store and times what is done with it."""
    began = time.perf_counter()
    made = []
    for number in range(size):
        component = Component.new(
            name=f"component-{number:06d}", version="1.2.3", owner="bench",
            capabilities_required=WANTED, lifecycle=Lifecycle.ACTIVE,
        )  # fmt: skip
        made.append(store.add(component))
    figures = {"fill_us_each": (time.perf_counter() - began) / size * 1e6}
    last = store.add_script(made[-1].uuid, "main.py", SCRIPT)
    last = store.put_policy(last.uuid, POLICY, expected_version=0)
    chance = random.Random(1)
    picked = [chance.choice(made) for _ in range(calls)]
    others = [component for component in picked if component is not made[-1]] or [last]
    figures["get_us"] = median(lambda c: store.get(c.uuid), others)
    figures["find_name_us"] = median(lambda c: store.find(c.name), picked)
    figures["find_version_us"] = median(lambda c: store.find(f"{c.name}@1.2.3"), picked)
    figures["get_policy_us"] = median(lambda c: store.get_policy(c.uuid), [last] * calls)
    figures["load_entrypoint_us"] = median(store.load_entrypoint, [last] * calls)
    figures["head_us"] = median(lambda _: store.head(), picked)
    figures["first_of_list_us"] = median(lambda _: next(store.list()), picked[:20])
    if folder is not None:
        durable = FileStore(folder / "registry")
        figures["update_durable_us"] = median(
            lambda number: durable.update(replace(durable.get(last.uuid), description=str(number))),
            list(range(min(WRITES, calls))),
        )
        figures["new_process_get_ms"] = new_process(
            folder / "registry", str(last.uuid), min(5, calls)
        )
        figures["new_process_find_ms"] = new_process(folder / "registry", last.name, min(5, calls))
    began = time.perf_counter()
    assert sum(1 for _ in store.list()) == size
    figures["list_s"] = time.perf_counter() - began
    began = time.perf_counter()
    assert store.verify() == []
    figures["verify_s"] = time.perf_counter() - began
    figures["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {name: round(value, 3) for name, value in figures.items()}


def median(call: Callable[[Any], object], arguments: list[Any]) -> float:
    """Returns the median time of a call, in microseconds."""
    times = []
    for argument in arguments:
        began = time.perf_counter_ns()
        call(argument)
        times.append(time.perf_counter_ns() - began)
    return statistics.median(times) / 1e3


def new_process(root: Path, reference: str, count: int) -> float:
    """Returns how long the first look-up takes in a fresh process, without its imports."""
    code = (
        "import sys, time; from omnibase.core.registry import FileStore; b = time.perf_counter();"
        "FileStore(sys.argv[1]).find(sys.argv[2]); print((time.perf_counter() - b) * 1000)"
    )
    command = [sys.executable, "-c", code, str(root), reference]
    times = [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(count)
    ]
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
