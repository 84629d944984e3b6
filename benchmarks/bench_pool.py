"""One script, many ways: ``python -m benchmarks.bench_pool [--scale full|quick|smoke]``.

It prints JSON: seconds of each sample of each way, sampled in turns; a burst of five
times the pool's size; sustained load; memory of idle sandboxes; and how long after its
result a sandbox is gone. Peers are measured if they are installed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import omnibase
from benchmarks import peers
from benchmarks.measure import Scale, pick
from benchmarks.rawrun import RawRunsc
from omnibase.core.sandbox import state

HELLO = "print(1)\n"
CONTEXT = omnibase.ExecutionContext(wall_seconds=120)
RAW, COLD, WARM = "raw `runsc run`", "`omnibase.run`, cold", "`omnibase.Pool`, warm"
POOL_SIZE = 8
POOL = f"`omnibase.Pool` of {POOL_SIZE}"
SESSION = "`omnibase.Session`, next call"
COMMAND, SERVED = "`omnibase sandbox run`", "`omnibase sandbox run --pool`"
FLOOR = "plain `python`, no sandbox"
LEVELS = (1, 2, 4, 8)
_PAUSE = 0.5
_STEADY_SECONDS = 15.0


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", choices=("full", "quick", "smoke"), default="full")
    parser.add_argument("--plots", type=Path, help="draw the figures as SVG into this directory")
    options = parser.parse_args()
    scale: Scale = options.scale
    raw = RawRunsc(HELLO, CONTEXT)
    try:
        figures = {
            "peers": peers.available(),
            "latency": latency(raw, scale),
            "burst": burst(scale),
            "load": load(raw, scale),
            "density": density(scale),
            "gone": gone(scale),
        }
    finally:
        raw.close()
    if options.plots:
        from benchmarks.plots import draw

        draw(figures, options.plots)
    print(json.dumps(figures))
    return 0


def cold() -> omnibase.RunResult:
    """Runs the script in a sandbox that is made for it."""
    return _checked(omnibase.run(HELLO, context=CONTEXT))


def latency(raw: RawRunsc, scale: Scale) -> dict[str, Any]:
    """Returns the seconds of each sample, and the peak memory of our sandboxes in bytes."""
    rounds = pick(scale, 200, 12, 1)
    taken: dict[str, list[float]] = {}
    memory: dict[str, list[int]] = {COLD: [], WARM: [], SESSION: []}

    def sample(name: str, call: Callable[[], Any]) -> None:
        began = time.perf_counter()
        result = call()
        taken.setdefault(name, []).append(time.perf_counter() - began)
        if name in memory and result is not None:
            memory[name].append(result.usage.peak_memory_bytes)

    cold()
    with _pool(2) as pool, omnibase.Session(context=CONTEXT) as session, _daemon() as command:
        for _ in range(rounds):
            sample(FLOOR, peers.plain)
            sample(RAW, raw)
            sample(COLD, cold)
            _await_ready(pool)
            sample(WARM, lambda: _warm(pool))
            sample(SESSION, lambda: _checked(session.run(HELLO)))
            sample(COMMAND, lambda: _told(command))
            sample(SERVED, lambda: _told([*command, "--pool"]))
            for name in peers.available():
                box: list[peers.Box] = []
                sample(
                    f"PyPI `{name}`, start and first command",
                    lambda name=name, box=box: _start(name, box),  # type: ignore[misc]
                )
                try:
                    sample(f"PyPI `{name}`, next command", box[0].execute)
                finally:
                    box[0].close()
    return {
        "seconds": taken,
        "memory": {name: statistics.median(found) for name, found in memory.items() if found},
    }


def burst(scale: Scale) -> dict[str, Any]:
    """Returns the seconds of each of five times the pool's size, asked for at once."""
    size = pick(scale, POOL_SIZE, 4, 1)
    with _pool(size) as pool:
        began = time.perf_counter()

        def one(_: int) -> float:
            _checked(pool.run(HELLO))
            return time.perf_counter() - began

        with concurrent.futures.ThreadPoolExecutor(5 * size) as threads:
            done = sorted(threads.map(one, range(5 * size)))
        return {"size": size, "seconds": done, "warm": pool.stats().warm_runs}


def load(raw: RawRunsc, scale: Scale) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns the seconds of each run under sustained load, by way and number at a time."""
    seconds = pick(scale, 60.0, 2.0, 0.1)
    levels = pick(scale, LEVELS, LEVELS, (2,))
    found: dict[str, dict[str, dict[str, Any]]] = {RAW: {}, COLD: {}, POOL: {}}
    for level in levels:
        found[RAW][str(level)] = _sustained(raw, level, seconds)
        found[COLD][str(level)] = _sustained(cold, level, seconds)
        with _pool(pick(scale, POOL_SIZE, POOL_SIZE, 1)) as pool:
            warm = _sustained(lambda pool=pool: _checked(pool.run(HELLO)), level, seconds)  # type: ignore[misc]
            found[POOL][str(level)] = warm | {"warm": pool.stats().warm_runs}
    return found


def _sustained(call: Callable[[], object], level: int, seconds: float) -> dict[str, Any]:
    start = time.perf_counter()
    until = start + seconds

    def worker(_: int) -> list[float]:
        taken = []
        while (began := time.perf_counter()) < until:
            call()
            taken.append(time.perf_counter() - began)
        return taken

    with concurrent.futures.ThreadPoolExecutor(level) as threads:
        taken = [each for part in threads.map(worker, range(level)) for each in part]
    return {"seconds": taken, "wall": time.perf_counter() - start}


def density(scale: Scale) -> dict[str, dict[str, float]]:
    """Returns the bytes of the machine's memory that idle sandboxes take, by number."""
    counts = pick(scale, (10, 50, 100), (10,), (1,))
    found: dict[str, dict[str, float]] = {}
    for count in counts:
        before = _used()
        with _pool(count):
            found.setdefault(WARM, {})[str(count)] = _used() - before
        for name in peers.available() if count <= 10 else ():  # they take a minute for fifty
            before = _used()
            with contextlib.ExitStack() as boxes:
                for _ in range(count):
                    boxes.callback(peers.PEERS[name]().close)
                found.setdefault(f"PyPI `{name}`", {})[str(count)] = _used() - before
    return found


def gone(scale: Scale) -> dict[str, list[float]]:
    """Returns how many seconds after its result a run's sandbox is gone."""
    found: dict[str, list[float]] = {COLD: [], WARM: []}
    rounds = pick(scale, 50, 5, 1)
    for _ in range(rounds):
        found[COLD].append(_until_gone(cold().run_id))
    with _pool(2) as pool:
        for _ in range(rounds):
            _await_ready(pool)
            _warm(pool)
            began = time.perf_counter()
            while (stats := pool.stats()).running or stats.ending:
                time.sleep(0.0005)
            found[WARM].append(time.perf_counter() - began)
    return {name: seconds for name, seconds in found.items() if seconds}


def _until_gone(run_id: str) -> float:
    """Waits until no control group, process in one, or directory of a run is left."""
    began = time.perf_counter()
    places = _places_of(run_id)
    while any(os.path.lexists(place) for place in places):
        if time.perf_counter() - began > 10:
            raise RuntimeError(f"the sandbox of run {run_id} is still there")
        time.sleep(0.0005)
    return time.perf_counter() - began


def _places_of(run_id: str) -> list[str]:
    from omnibase.backend import backend
    from omnibase.core.sandbox.cgroup import Cgroup

    cgroup = Cgroup(backend().gvisor.hierarchy, run_id)
    return [str(state.state_dir() / "runs" / run_id), *cgroup.paths]


def _checked(result: omnibase.RunResult) -> omnibase.RunResult:
    if result.stdout != b"1\n":
        raise RuntimeError(f"not what was printed: {result}")
    return result


def _start(name: str, box: list[peers.Box]) -> None:
    box.append(peers.PEERS[name]())
    box[0].execute()


@contextlib.contextmanager
def _pool(size: int) -> Iterator[omnibase.Pool]:
    """Yields a pool that is full."""
    with omnibase.Pool(size, context=CONTEXT) as pool:
        _await_ready(pool)
        yield pool


@contextlib.contextmanager
def _daemon() -> Iterator[list[str]]:
    """Yields the command line that runs the script, while a pool's daemon is there for it."""
    omni = [sys.executable, "-m", "omnibase"]
    running = subprocess.run([*omni, "pool", "status"], capture_output=True, check=False)
    if running.returncode == 0:
        raise RuntimeError("a pool's daemon is running: end it, `omnibase pool stop`")
    subprocess.run([*omni, "pool", "start", "--size=2"], capture_output=True, check=True)
    try:
        with tempfile.TemporaryDirectory() as directory:
            script = Path(directory) / "hello.py"
            script.write_text(HELLO)
            yield [*omni, "sandbox", "run", str(script)]
    finally:
        subprocess.run([*omni, "pool", "stop"], capture_output=True, check=True)


def _told(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.stdout != peers.EXPECTED:
        raise RuntimeError(f"{command}: {done.stdout[:80]}{done.stderr[:300]}")


def _await_ready(pool: omnibase.Pool) -> None:
    if not pool.wait_ready(timeout_seconds=600):
        raise RuntimeError(f"the pool does not get ready: {pool.stats()}")


def _warm(pool: omnibase.Pool) -> omnibase.RunResult:
    """Runs the script in a sandbox that was ready."""
    result = _checked(pool.run(HELLO))
    if result.cold_reason is not None:
        raise RuntimeError(f"not a warm run: {result.cold_reason}")
    return result


def _used() -> int:
    """Returns the bytes that processes and their kernel objects use, once that is steady.

    Not the fall of what is available: that moves by tens of megabytes when files that
    were read before are let go.
    """
    gc.collect()
    used, before = _counted(), 0
    until = time.monotonic() + _STEADY_SECONDS
    while abs(used - before) > 1 << 20 and time.monotonic() < until:
        time.sleep(_PAUSE)
        used, before = _counted(), used
    return used


def _counted() -> int:
    kinds = ("AnonPages", "Shmem", "Slab", "KernelStack", "PageTables")
    with open("/proc/meminfo") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith(kinds))


if __name__ == "__main__":
    sys.exit(main())
