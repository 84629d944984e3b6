"""Runs the benchmarks, prints the tables, and writes ``docs/benchmarks.md``.

python -m benchmarks [--quick] [--output docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import omnibase
from benchmarks.measure import Sample, in_turns
from benchmarks.rawrun import RawRunsc
from omnibase.backend import backend
from omnibase.core.sandbox import lifecycle, state

ROOT = Path(__file__).resolve().parent.parent
HELLO = "print(1)\n"
COMPUTE = "total = 0\nfor i in range(3_000_000):\n    total += i * i\nprint(total)\n"
OPENS = "import os\nfor _ in range(5000):\n    os.close(os.open('/etc/hosts', 0))\nprint('done')\n"
CONTEXT = omnibase.ExecutionContext(wall_seconds=120)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer samples; two minutes in all")
    parser.add_argument("--output", type=Path, help="write the tables to this file as Markdown")
    options = parser.parse_args()
    rounds, many = (20, 24) if options.quick else (60, 100)
    sections = [
        _machine(),
        _start_up(rounds),
        _monitor(max(5, rounds // 3)),
        _throughput(many),
        _capabilities(),
    ]
    text = "# Benchmarks\n\n" + "\n".join(sections)
    print(text)
    if options.output:
        options.output.write_text(text)
    return 0


def _machine() -> str:
    runner = backend().runner
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((x.split(":")[1].strip() for x in cpuinfo.splitlines() if "model name" in x), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return (
        "All figures come from one run of `make bench` on one machine; what is compared was "
        "sampled in turns.\n\n"
        f"- machine: {os.cpu_count()} × {model}, {memory} GiB, Linux {platform.release()}\n"
        f"- runsc {runner.runtime.version}, platform "
        f"{runner.platform}, cgroup v{runner.hierarchy.version}\n"
        f"- CPython {platform.python_version()}, OmniBase {omnibase.__version__}\n"
        f"- {datetime.date.today().isoformat()}\n"
    )


def _start_up(rounds: int) -> str:
    raw = RawRunsc(HELLO, CONTEXT)
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "hello.py"
        script.write_text(HELLO)
        cli = [sys.executable, "-m", "omnibase", "sandbox", "run", str(script)]
        try:
            samples = in_turns(
                {
                    "raw `runsc run` of the same bundle": raw,
                    '`omnibase.run("print(1)")`': lambda: omnibase.run(HELLO, context=CONTEXT),
                    "`omnibase sandbox run hello.py`": lambda: subprocess.run(
                        cli, check=True, capture_output=True
                    ),
                    "plain `python hello.py`, no sandbox": lambda: subprocess.run(
                        [sys.executable, str(script)], check=True, capture_output=True
                    ),
                },
                rounds,
            )
        finally:
            raw.close()
    return _table("Cold start of `print(1)`", samples, "raw `runsc run` of the same bundle") + (
        "\nTargets: the API ≤ 1.15× raw, the CLI ≤ 1.8× raw. The API has the script's trace, "
        "cgroup and clean-up in it; raw has none.\n"
    )


def _monitor(rounds: int) -> str:
    parts = []
    for title, script in (("compute-heavy", COMPUTE), ("5,000 opens", OPENS)):
        samples = in_turns(
            {"monitor off": _unwatched(script), "monitor on": _watched(script)}, rounds, 1
        )
        parts.append(_table(f"Cost of the monitor, {title}", samples, "monitor off"))
    return "\n".join(parts) + "\nTarget: ≤ 1.05× for compute; stated for opens.\n"


def _watched(script: str) -> Callable[[], object]:
    return lambda: omnibase.run(script, context=CONTEXT)


def _unwatched(script: str) -> Callable[[], object]:
    """The same run with every trace point but the sign of life taken out."""
    full = lifecycle.bundle.trace_config

    def bare(endpoint: str) -> dict[str, object]:
        config = full(endpoint)
        session = config["trace_session"]
        session["points"] = [p for p in session["points"] if not p["name"].startswith("syscall/")]
        return config

    def call() -> None:
        lifecycle.bundle.trace_config = bare
        try:
            omnibase.run(script, context=CONTEXT)
        finally:
            lifecycle.bundle.trace_config = full

    return call


def _throughput(count: int) -> str:
    raw = RawRunsc(HELLO, CONTEXT)
    rows = []
    try:
        for name, call in (
            ("raw `runsc run`", raw),
            ("`omnibase.run`", lambda: omnibase.run(HELLO, context=CONTEXT)),
        ):
            began = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                for future in [pool.submit(call) for _ in range(count)]:
                    future.result()
            rows.append((name, count / (time.perf_counter() - began)))
    finally:
        raw.close()
    left = len(state.leftovers(state.state_dir()))
    lines = [f"## {count} runs, 4 at a time\n", "| what | runs per second |", "| --- | --- |"]
    lines += [f"| {name} | {rate:.1f} |" for name, rate in rows]
    return "\n".join(lines) + f"\n\nRun directories left behind: {left}.\n"


def _capabilities() -> str:
    output = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "bench_capabilities.py")],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    figures = json.loads(output)
    lines = ["## Capability checks\n", "| check | median µs | p99 µs |", "| --- | --- | --- |"]
    for name, row in figures.items():
        lines.append(f"| {name} | {row['median']:.2f} | {row['p99']:.2f} |")
    return "\n".join(lines) + "\n\nTarget: ≤ 10 µs against a set of 100 capabilities.\n"


def _table(title: str, samples: dict[str, Sample], base: str) -> str:
    reference = samples[base].median
    lines = [f"## {title}\n", "| what | median ms | p99 ms | × | samples |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for sample in samples.values():
        lines.append(
            f"| {sample.name} | {sample.median * 1e3:.1f} | {sample.p99 * 1e3:.1f} "
            f"| {sample.median / reference:.2f} | {len(sample.seconds)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
