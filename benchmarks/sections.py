"""The sections of ``docs/benchmarks.md``: each measures, and returns its part of the page."""

from __future__ import annotations

import concurrent.futures
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import omnibase
from benchmarks.measure import Sample, Scale, in_turns, pick
from benchmarks.pool_section import compare
from benchmarks.preload_section import preload
from benchmarks.rawrun import RawRunsc
from omnibase.core.sandbox import bundle, state

ROOT = Path(__file__).resolve().parent.parent
HELLO = "print(1)\n"
COMPUTE = "total = 0\nfor i in range(3_000_000):\n    total += i * i\nprint(total)\n"
OPENS = "import os\nfor _ in range(5000):\n    os.close(os.open('/etc/hosts', 0))\nprint('done')\n"
CONTEXT = omnibase.ExecutionContext(wall_seconds=120)


def _start_up(scale: Scale) -> str:
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
                pick(scale, 60, 20, 1),
                pick(scale, 2, 2, 0),
            )
        finally:
            raw.close()
    return table("Cold start of `print(1)`", samples, "raw `runsc run` of the same bundle") + (
        "\nCold is the sandbox: each run makes one from nothing. The process that calls "
        "`omnibase.run` is warm (imported, its image built, two runs before the first sample); "
        "the command is a new process each time.\n"
        "\nTargets: the API ≤ 1.15× raw, the CLI ≤ 1.8× raw. The API has the script's trace, "
        "cgroup and clean-up in it; raw has none.\n"
    )


def _monitor(scale: Scale) -> str:
    rounds = pick(scale, 30, 8, 1)
    parts = []
    for title, script in (("compute-heavy", COMPUTE), ("5,000 opens", OPENS)):
        samples = in_turns(
            {"monitor off": _unwatched(script), "monitor on": _watched(script)}, rounds, rounds > 1
        )
        parts.append(table(f"Cost of the monitor, {title}", samples, "monitor off"))
    return "\n".join(parts) + "\nTarget: ≤ 1.05× for compute; stated for opens.\n"


def _watched(script: str) -> Callable[[], object]:
    return lambda: omnibase.run(script, context=CONTEXT)


def _unwatched(script: str) -> Callable[[], object]:
    """The same run with every trace point but the sign of life taken out."""
    full = bundle.trace_config

    def bare(endpoint: str) -> dict[str, object]:
        config = full(endpoint)
        session = config["trace_session"]
        session["points"] = [p for p in session["points"] if not p["name"].startswith("syscall/")]
        return config

    def call() -> None:
        bundle.trace_config = bare
        try:
            omnibase.run(script, context=CONTEXT)
        finally:
            bundle.trace_config = full

    return call


def _throughput(scale: Scale) -> str:
    count = pick(scale, 100, 40, 4)
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


def figures_of(*command: str) -> dict[str, Any]:
    """Runs a benchmark in a process of its own; it prints JSON."""
    output = subprocess.run(
        [sys.executable, *command], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    found: dict[str, Any] = json.loads(output)
    return found


def _capabilities(scale: Scale) -> str:
    calls = pick(scale, 20_000, 2_000, 200)
    figures = figures_of("benchmarks/bench_capabilities.py", f"--calls={calls}")
    lines = ["## Capability checks\n", "| check | median µs | p99 µs |", "| --- | --- | --- |"]
    for name, row in figures.items():
        lines.append(f"| {name} | {row['median']:.2f} | {row['p99']:.2f} |")
    slow = [name for name, row in figures.items() if row["median"] > 10]
    return "\n".join(lines) + (
        "\n\nTarget: ≤ 10 µs against a set of 100 capabilities. "
        + (f"Missed by: {', '.join(slow)}. " if slow else "Met by all. ")
        + "What misses it is 100 globs with three stars each in one directory: nothing tells "
        "them apart but trying them, and a glob with three stars has more ways to try.\n"
    )


def _policy(scale: Scale) -> str:
    sizes = pick(scale, (10, 100, 1000), (10, 100, 1000), (10, 20, 30))
    figures = figures_of(
        "benchmarks/bench_policy.py",
        f"--sizes={','.join(map(str, sizes))}",
        f"--calls={pick(scale, 5000, 5000, 5)}",
    )
    rows = {
        "read and validate the document": "parse_{}",
        "ten files, anew": "concrete_{}",
        "eight trees, a domain, a size, anew": "patterns_{}",
        "ten files, again": "concrete_{}_repeated",
        "eight trees, a domain, a size, again": "patterns_{}_repeated",
    }
    lines = [
        "## Decisions of a policy\n",
        "Ten requested capabilities in one decision; median and p99 in µs.\n",
        "| what | "
        + " | ".join(f"{size} policies" for size in sizes)
        + f" | {sizes[1]} → {sizes[2]} |",
        "| --- | --- | --- | --- | --- |",
    ]
    for what, key in rows.items():
        found = [figures[key.format(size)] for size in sizes]
        cells = [f"{one['median']:.0f} ({one['p99']:.0f})" for one in found]
        growth = found[2]["median"] / found[1]["median"]
        lines.append(f"| {what} | {' | '.join(cells)} | × {growth:.1f} |")
    return "\n".join(lines) + (
        "\n\nAnew: the document is read, and no decision is remembered. The cost grows linearly "
        "with the number of policies: Cedar evaluates each for "
        "every question, and our own code looks at each once. Again: an equal request in the "
        "same context, found by the policy's digest; it does not grow. Target: ≤ 20 µs.\n"
    )


def _egress(scale: Scale) -> str:
    rounds, megabytes = pick(scale, (7, 512), (3, 64), (1, 1))
    ways = figures_of(
        "-m", "benchmarks.bench_egress", f"--rounds={rounds}", f"--megabytes={megabytes}"
    )
    host, ours = ways["`runsc --network=host`"], ways["a network grant"]
    lines = [
        "## Network grants\n",
        f"One connection, {megabytes} MiB each way, to a server of the host's loopback; then 300 "
        f"connections, one after the other. Medians of {rounds} rounds.\n",
        "| what | up MiB/s | down MiB/s | connect ms (p99) | to the first byte ms (p99) "
        "| the first connection ms |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, way in ways.items():
        connect, byte = (
            f"{way[key] * 1e3:.2f} ({way[f'{key}_p99'] * 1e3:.2f})" for key in ("connect", "byte")
        )
        lines.append(
            f"| {name} | {way['up']:.0f} | {way['down']:.0f} | {connect} | {byte} "
            f"| {way['first'] * 1e3:.1f} |"
        )
    up, down = (f"{ours[key] / host[key]:.0%}" for key in ("up", "down"))
    return "\n".join(lines) + (
        f"\n\nAgainst `--network=host`: {up} of the throughput up, {down} down, and "
        f"{(ours['byte'] - host['byte']) * 1e3:.2f} ms more to the first byte. Targets: ≥ 40 %, "
        "≤ 2 ms. With a grant, `connect` is answered by the guest's own loopback: the host's "
        "connection is part of the time to the first byte.\n"
    )


def _registry(scale: Scale) -> str:
    sizes: tuple[int, ...] = pick(scale, (1, 1000, 100_000), (1, 1000), (1,))
    figures = figures_of(
        "-m",
        "benchmarks.bench_registry",
        "--files",
        f"--sizes={','.join(map(str, sizes))}",
        f"--calls={pick(scale, 300, 300, 2)}",
    )
    rows = {
        "`get(uuid)`": ("get_us", 1e-3, "ms", "nothing"),
        "`find(name)`": ("find_name_us", 1e-3, "ms", "versions of that name"),
        "`find(name@version)`": ("find_version_us", 1e-3, "ms", "nothing"),
        "`get_policy(uuid)`": ("get_policy_us", 1e-3, "ms", "the document"),
        "`load_entrypoint`": ("load_entrypoint_us", 1e-3, "ms", "the script"),
        "first look-up of a new process": ("new_process_get_ms", 1, "ms", "nothing"),
        "`update`, on the disk when it returns": ("update_durable_us", 1e-3, "ms", "nothing"),
        "`list()`, all of it": ("list_s", 1, "s", "components"),
        "`verify()`": ("verify_s", 1, "s", "changes"),
    }
    lines = [
        "## The registry, in files\n",
        "| what | " + " | ".join(f"{size:,}" for size in sizes) + " | grows with |",
        "| --- |" + " --- |" * (len(sizes) + 1),
    ]
    for what, (key, factor, unit, grows) in rows.items():
        cells = [f"{figures[str(size)]['file'][key] * factor:.3g} {unit}" for size in sizes]
        lines.append(f"| {what} | {' | '.join(cells)} | {grows} |")
    left_out = "100,000 components take minutes to make: only the full run has them. "
    left_out = "" if scale == "full" else left_out
    return "\n".join(lines) + (
        f"\n\n{left_out}Medians. To load a component costs the same among any number of "
        "others: its record is read when it is asked for. To load all of them, `list()`, costs "
        "each of them.\n"
    )


def _audit(scale: Scale) -> str:
    events = pick(scale, 1_000_000, 50_000, 500)
    figures = figures_of(
        "-m", "benchmarks.bench_audit", f"--events={events}",
        f"--emitted={pick(scale, 20_000, 5_000, 50)}", f"--runs={pick(scale, 100, 30, 2)}",
        f"--times={pick(scale, 3, 3, 1)}",
        f"--questions={pick(scale, 99, 99, 3)}",
    )  # fmt: skip
    rates, run, log = figures["rates"], figures["run"], figures["log"]
    lines = [
        "## The audit log\n",
        "| what | figure |",
        "| --- | --- |",
        f"| one run in a new process, CPU time: load the modules, open, note, three events, close "
        f"| {run['median_ms']:.2f} ms (p99 {run['p99_ms']:.2f} ms) |",
        f"| of which loading and opening | {run['opening_ms']:.2f} ms |",
    ]
    for policy, rate in rates.items():
        lines.append(f'| events per second, `fsync="{policy}"` | {rate:,.0f} |')
    lines += [
        f"| `verify`, {events:,} events in {log['bytes'] / 1e6:,.0f} MB "
        f"| {log['verify_s']:.1f} s |",
        f"| building the index of them ({log['index_bytes'] / 1e6:,.0f} MB) "
        f"| {log['index_s']:.1f} s |",
    ]
    for command, seconds in log["questions"].items():
        lines.append(f"| `omnibase audit {command}` | {seconds:.2f} s |")
    return "\n".join(lines) + (
        "\n\nThe commands are as a user types them: a new process each, the index up to date, "
        "the worst of three. Targets: ≤ 2 ms for a run; ≤ 2 s for a question, of ten million "
        "events, too (`python -m benchmarks.bench_audit --events 10000000`, 10 GB of disk).\n"
    )


def _jetstream(scale: Scale) -> str:
    """Its lines are what is measured, in 58 columns, and the figures."""
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_jetstream",
         f"--events={pick(scale, 5000, 1000, 20)}", f"--runs={pick(scale, 30, 10, 1)}"],
        check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    ).stdout  # fmt: skip
    lines = ["## Events to NATS JetStream\n", "| what | figures |", "| --- | --- |"]
    for line in output.splitlines()[1:]:
        lines.append(f"| {line[:58].strip()} | {' '.join(line[58:].split())} |")
    return "\n".join(lines) + "\n"


def table(title: str, samples: dict[str, Sample], base: str) -> str:
    reference = samples[base].median
    lines = [f"## {title}\n", "| what | median ms | p99 ms | × | samples |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for sample in samples.values():
        lines.append(
            f"| {sample.name} | {sample.median * 1e3:.1f} | {sample.p99 * 1e3:.1f} "
            f"| {sample.median / reference:.2f} | {len(sample.seconds)} |"
        )
    return "\n".join(lines) + "\n"


SECTIONS: dict[str, Callable[[Scale], str]] = {
    "start": _start_up,
    "pool": compare,
    "preload": preload,
    "monitor": _monitor,
    "throughput": _throughput,
    "capabilities": _capabilities,
    "policy": _policy,
    "registry": _registry,
    "egress": _egress,
    "audit": _audit,
    "jetstream": _jetstream,
}
"""By name, in the page's order."""
