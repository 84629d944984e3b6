"""Times one capability check against a set of 100; prints JSON, in microseconds.

Run with ``python benchmarks/bench_capabilities.py [--calls N]``. Each name gives the median and
the 99th percentile of 20 000 calls, each timed by itself, the timer's own cost
taken off. The target is a median of at most 10 µs for hits and misses. A *hit*
returns; a *miss* builds and raises `CapabilityDenied`; *covering* is the lookup
alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

from omnibase.core.security.capabilities import CapabilitySet, CapabilityType
from omnibase.errors import CapabilityDenied

CALLS = 20_000

MIXED = [
    *(f"FILE_READ:/data/set-{i}/input.csv" for i in range(20)),
    *(f"FILE_READ:/data/tree-{i}/**" for i in range(15)),
    *(f"FILE_READ:/logs/*/part-{i}.txt" for i in range(10)),
    *(f"FILE_WRITE:/out/{i}/**" for i in range(10)),
    *(f"NETWORK_CONNECT:host-{i}.example.com:443" for i in range(10)),
    *(f"NETWORK_CONNECT:*.zone-{i}.example.com:8000-8010" for i in range(10)),
    *(f"SECRET_ACCESS:TOKEN_{i}" for i in range(10)),
    *(f"ARTIFACT_READ:models/m{i}-*" for i in range(14)),
    "MEMORY:128MiB",
]

# name: the set, the type, a resource that it allows, one that it does not
CASES: dict[str, tuple[list[str], str, str, str]] = {
    "mixed_file": (MIXED, "FILE_READ", "/logs/today/part-9.txt", "/etc/passwd"),
    "mixed_network": (
        MIXED, "NETWORK_CONNECT", "a.zone-9.example.com:8005", "evil.example.org:443",
    ),
    "100_exact_paths": (
        [f"FILE_READ:/data/{i}.csv" for i in range(100)],
        "FILE_READ", "/data/99.csv", "/data/100.csv",
    ),
    "100_trees": (
        [f"FILE_READ:/data/{i}/**" for i in range(100)],
        "FILE_READ", "/data/99/a/b/c.csv", "/data/100/a/b/c.csv",
    ),
    "100_globs_in_one_directory": (
        [f"FILE_READ:/data/*-{i}.csv" for i in range(100)],
        "FILE_READ", "/data/sales-99.csv", "/data/sales-100.csv",
    ),
    "100_globs_with_three_stars_in_one_directory": (
        [f"FILE_READ:/data/*a*{i}*b*" for i in range(100)],
        "FILE_READ", "/data/xa-99-b.csv", "/data/xa-zz-b.csv",
    ),
    "100_host_wildcards": (
        [f"NETWORK_CONNECT:*.zone-{i}.example.com:443" for i in range(100)],
        "NETWORK_CONNECT", "api.zone-99.example.com:443", "api.example.org:443",
    ),
    "100_port_ranges_of_one_host": (
        [f"NETWORK_CONNECT:a.example.com:{10 * i}-{10 * i + 9}" for i in range(100, 200)],
        "NETWORK_CONNECT", "a.example.com:1999", "a.example.com:2000",
    ),
    "100_artifact_globs": (
        [f"ARTIFACT_READ:models/m{i}-*" for i in range(100)],
        "ARTIFACT_READ", "models/m99-large", "models/x99-large",
    ),
    "100_secrets_per_host": (
        [f"SECRET_ACCESS:TOKEN@*.h{i}.example.com" for i in range(100)],
        "SECRET_ACCESS", "TOKEN@a.h99.example.com", "TOKEN@a.example.org",
    ),
}  # fmt: skip


def time_calls(call: Callable[[], object], calls: int) -> dict[str, float]:
    """Returns the median and the 99th percentile of one call, in microseconds."""
    clock = time.perf_counter_ns
    call()  # builds what is built once
    empty, full = [], []
    for _ in range(calls):
        start = clock()
        empty.append(clock() - start)
        start = clock()
        call()
        full.append(clock() - start)
    timer = statistics.median(empty)
    return {
        "median": round((statistics.median(full) - timer) / 1000, 2),
        "p99": round((statistics.quantiles(full, n=100)[98] - timer) / 1000, 2),
    }


def main() -> None:
    """Runs all cases and prints them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=CALLS)
    calls = parser.parse_args().calls
    results = {}
    for name, (texts, kind, hit, miss) in CASES.items():
        granted = CapabilitySet.parse(texts)
        assert len(granted) == 100
        type = CapabilityType(kind)

        def allow(granted=granted, type=type, hit=hit):  # type: ignore[no-untyped-def]
            granted.check(type, hit)

        def deny(granted=granted, type=type, miss=miss):  # type: ignore[no-untyped-def]
            try:
                granted.check(type, miss)
            except CapabilityDenied:
                return
            raise AssertionError(miss)

        def look(granted=granted, type=type, miss=miss):  # type: ignore[no-untyped-def]
            granted.covering(type, miss)

        results[f"{name}_hit"] = time_calls(allow, calls)
        results[f"{name}_miss"] = time_calls(deny, calls)
        results[f"{name}_covering_miss"] = time_calls(look, calls)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
