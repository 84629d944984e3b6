"""The section that compares: one script, many ways, and what the pool does under load."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import Scale, percentile

ROOT = Path(__file__).resolve().parent.parent
PLOTS = ROOT / "docs" / "assets" / "benchmarks"
ENVIRONMENT = ROOT / ".venv-bench" / "bin" / "python"
_RAW = "raw `runsc run`"


def compare(scale: Scale) -> str:
    """Measures in an environment that has the peers, and returns the section."""
    command = [sys.executable if scale == "smoke" else str(ENVIRONMENT)]
    if not Path(command[0]).exists():
        raise SystemExit(f"no {ENVIRONMENT.relative_to(ROOT)}: `make bench` makes it")
    command += ["-m", "benchmarks.bench_pool", f"--scale={scale}"]
    if scale == "full":
        command.append(f"--plots={PLOTS}")
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
    return section(json.loads(output), plots=scale == "full")


def section(figures: dict[str, Any], *, plots: bool) -> str:
    """Returns the section for what ``bench_pool`` printed."""
    versions = ", ".join(f"`{name}` {version}" for name, version in figures["peers"].items())
    parts = [
        "## One script, many ways\n\n`print(1)`, from the call to the complete result, sampled in "
        f"turns.{f' Peers: {versions}.' if versions else ''}\n",
        _latency(figures["latency"]),
        "The same interpreter everywhere, in the peers as `python -I -c`. Memory is the peak of "
        "the sandbox's own control group, Sentry included. Peers keep their sandbox, and a session "
        "its interpreter: the next command runs where the last one has been. A warm run of the "
        "pool never does.\n",
        _load(figures["load"]),
        _burst(figures["burst"]),
        _density(figures["density"]),
        _gone(figures["gone"]),
    ]
    if plots:
        parts += [
            f"![{path.stem}](assets/benchmarks/{path.name})\n"
            for path in sorted(PLOTS.glob("*.svg"))
        ]
    return "\n".join(parts)


def _latency(latency: dict[str, Any]) -> str:
    seconds, memory = latency["seconds"], latency["memory"]
    base = statistics.median(seconds[_RAW])
    lines = ["| what | p50 ms | p95 ms | p99 ms | × raw | runs/s, one at a time | MiB | samples |"]
    lines.append("| --- |" + " --- |" * 7)
    for name, values in seconds.items():
        middle = statistics.median(values)
        used = f"{memory[name] / (1 << 20):.0f}" if name in memory else "–"
        lines.append(
            f"| {name} | {_ms(middle)} | {_ms(percentile(values, 95))} "
            f"| {_ms(percentile(values, 99))} | {middle / base:.2f} "
            f"| {len(values) / sum(values):.1f} | {used} | {len(values)} |"
        )
    return "\n".join(lines) + "\n"


def _load(load: dict[str, dict[str, dict[str, Any]]]) -> str:
    walls = [one["wall"] for levels in load.values() for one in levels.values()]
    lines = [
        f"### Sustained load, {min(walls):.0f} s each\n",
        "| what | at a time | runs per second | p50 ms | p95 ms | p99 ms | warm |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, levels in load.items():
        for level, one in levels.items():
            values = one["seconds"]
            warm = f"{one['warm'] / len(values):.0%}" if "warm" in one else "–"
            lines.append(
                f"| {name} | {level} | {len(values) / one['wall']:.1f} "
                f"| {_ms(statistics.median(values))} | {_ms(percentile(values, 95))} "
                f"| {_ms(percentile(values, 99))} "
                f"| {warm} |"
            )
    return "\n".join(lines) + "\n"


def _burst(burst: dict[str, Any]) -> str:
    seconds, size = burst["seconds"], burst["size"]
    lines = [
        f"### A burst of {len(seconds)} at a pool of {size}\n",
        "| answered | after ms |",
        "| --- | --- |",
    ]
    for count in (size, len(seconds) // 2, len(seconds)):
        lines.append(f"| {count} of {len(seconds)} | {_ms(seconds[count - 1])} |")
    return "\n".join(lines) + (
        f"\n\n{burst['warm']} of them found a sandbox that was ready in time; the others got one "
        "of their own, and none an error.\n"
    )


def _density(density: dict[str, dict[str, float]]) -> str:
    lines = [
        "### Idle sandboxes\n",
        "What the machine uses more of: memory of processes, shared memory, and what the kernel "
        "needs for both. Ours have Python in them, with the process of the script already forked; "
        "the peers' run `sleep`.\n",
        "| what | sandboxes | MiB in all | MiB each |",
        "| --- | --- | --- | --- |",
    ]
    for name, counts in density.items():
        for count, size in counts.items():
            whole = size / (1 << 20)
            lines.append(f"| {name} | {count} | {whole:.0f} | {whole / int(count):.1f} |")
    return "\n".join(lines) + "\n"


def _gone(gone: dict[str, list[float]]) -> str:
    lines = [
        "### After the result\n",
        "How long until nothing of the sandbox is left: no process, no control group, no file.\n",
        "| what | p50 ms | p99 ms | samples |",
        "| --- | --- | --- | --- |",
    ]
    for name, values in gone.items():
        middle, late = statistics.median(values), percentile(values, 99)
        lines.append(f"| {name} | {_ms(middle)} | {_ms(late)} | {len(values)} |")
    return "\n".join(lines) + "\n"


def _ms(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
