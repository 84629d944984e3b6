"""Many runs in one process, and what they leave in it: ``python tests/helpers/soak.py --help``.

Prints one JSON object. It is a process of its own, so that its memory is that of runs.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import omnibase
from omnibase.core.audit.keys import SigningKey
from omnibase.core.sandbox.state import RunDirectory
from tests.helpers.faults import parts_of
from tests.security import leaks

_ERRORS: dict[str, type[BaseException] | None] = {
    "fine": None,
    "fails": None,
    "reads": None,
    "writes": None,
    "violates": omnibase.SandboxViolationError,
    "hungry": omnibase.ResourceLimitExceeded,
    "talks": omnibase.ResourceLimitExceeded,
    "slow": omnibase.SandboxTimeout,
    "killed": omnibase.SandboxError,
}
_SOURCES: dict[str, bytes] = {
    "fine": b"import json; print(json.dumps([1, 2]))",
    "fails": b"raise SystemExit(3)",
    "reads": b"print(open(__import__('sys').argv[1]).read())",
    "writes": b"open('/tmp/x', 'wb').write(b'x' * 100_000); print('written')",
    "violates": b"open('/etc/shadow')",
    "hungry": b"x = bytearray(1 << 30)\nfor i in range(0, 1 << 30, 4096): x[i] = 1",
    "talks": b"while True: print('x' * 1000)",
    "slow": b"while True: pass",
    "killed": b"import time; print('up', flush=True); time.sleep(30)",
}
_OUTPUT: dict[str, bytes] = {"fine": b"[1, 2]\n", "fails": b"", "writes": b"written\n"}


_how: list[Callable[..., omnibase.RunResult]] = [omnibase.run]
_READY_SECONDS = 120.0


@contextlib.contextmanager
def _pool(size: int, told: dict[str, Any]) -> Iterator[None]:
    """Has what runs meanwhile run in a pool, if it has a size."""
    if not size:
        yield
        return
    with omnibase.Pool(size, wait_seconds=_READY_SECONDS) as pool:
        pool.wait_ready(size, _READY_SECONDS)
        _how[0] = pool.run
        try:
            yield
        finally:
            _how[0] = omnibase.run
            stats = pool.stats()
            told |= {"warm": stats.warm_runs, "lost": stats.lost, "cold": stats.cold_reasons}


def _once(kind: str, file: str) -> str:
    """Does one run; returns what is wrong with its end, or nothing."""
    options: dict[str, Any] = {"context": omnibase.ExecutionContext(wall_seconds=60)}
    if kind == "reads":
        options |= {"capabilities": [f"FILE_READ:{file}"], "args": [file]}
    elif kind == "talks":
        options["context"] = omnibase.ExecutionContext(output_bytes=100_000, wall_seconds=60)
    elif kind == "slow":
        options["context"] = omnibase.ExecutionContext(wall_seconds=1)
    elif kind == "killed":
        options["on_output"] = lambda _stream, _chunk: _kill_mine()
    wanted = _ERRORS[kind]
    try:
        result = _how[0](_SOURCES[kind], **options)
    except omnibase.OmniBaseError as error:
        if wanted is not None and isinstance(error, wanted):
            return ""
        return f"{kind}: {type(error).__name__}: {error}"
    right = _OUTPUT.get(kind, Path(file).read_bytes() + b"\n")
    if wanted is not None or result.stdout != right or result.exit_code != 3 * (kind == "fails"):
        return f"{kind}: exit {result.exit_code}, {result.stdout[:80]!r}, {result.stderr[-80:]!r}"
    return ""


_mine = threading.local()


def _kill_mine() -> None:
    for pid in parts_of(_mine.run).get("sentry", []):
        os.kill(pid, signal.SIGKILL)


def _note_runs() -> None:
    create = RunDirectory.create.__func__  # type: ignore[attr-defined]

    def noting(cls: type[RunDirectory], state: Path, run_id: str = "") -> RunDirectory:
        directory: RunDirectory = create(cls, state, run_id)
        _mine.run = directory.run_id
        return directory

    RunDirectory.create = classmethod(noting)  # type: ignore[assignment, method-assign]


def _rss() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what an allocator keeps is no leak
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="how many, at most")
    parser.add_argument("--seconds", type=float, default=1e9, help="how long, at most")
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--pool", type=int, default=0, help="in one of this size (default: none)")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--file", required=True, help="a small file to read")
    parser.add_argument("--kinds", default=",".join(_SOURCES), help="what runs (default: all)")
    options = parser.parse_args()
    _note_runs()
    state = Path(os.environ["OMNIBASE_STATE_DIR"])
    dice, kinds = random.Random(options.seed), options.kinds.split(",")
    wrong: list[str] = []
    done: Counter[str] = Counter()
    # What is loaded late is loaded now: the log signs its thousandth record.
    SigningKey.new().sign(b"")
    for kind in kinds:
        wrong += filter(None, [_once(kind, options.file)])
    lock, left = threading.Lock(), [options.runs]
    until = float("inf")
    took: list[float] = []
    samples: list[int] = []
    told: dict[str, Any] = {}

    def work() -> None:
        while time.monotonic() < until:
            with lock:
                if left[0] <= 0:
                    return
                left[0] -= 1
                kind = dice.choice(kinds)
            began = time.monotonic()
            try:
                problem = _once(kind, options.file)
            except BaseException as error:  # no error but ours may come out of a run
                problem = f"{kind}: {type(error).__name__}: {error}"
            with lock:
                took.append(time.monotonic() - began)
                done[kind] += 1
                if problem:
                    wrong.append(problem)
                if len(took) % 50 == 0:
                    samples.append(_rss())

    def spell() -> None:
        with _pool(options.pool, told):
            threads = [threading.Thread(target=work) for _ in range(options.at_once)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    # The memory that so many threads take for themselves is taken before it is counted.
    keep, left[0] = left[0], min(options.runs, 5 * options.at_once)
    spell()
    left[0] = keep
    before, rss = leaks.Snapshot.take(state), _rss()
    began = time.monotonic()
    until = began + options.seconds
    took.clear()
    done.clear()
    spell()
    seconds = time.monotonic() - began
    after = leaks.Snapshot.take(state)
    took.sort()
    print(json.dumps({
        "runs": len(took),
        "seconds": seconds,
        "median_seconds": took[len(took) // 2],
        "most_seconds": took[-1],
        "kinds": done,
        **told,
        "wrong": wrong[:20],
        "rss_before": rss,
        "rss_after": _rss(),
        "rss_samples": samples,
        "same": before == after,
        "before": [str(before)] * (before != after),
        "after": [str(after)] * (before != after),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
