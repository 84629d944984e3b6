"""The section on preloading: one import, done when the run comes or before."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

import omnibase
from benchmarks.measure import Sample, Scale, pick

MODULE = "numpy"
SCRIPT = f"import {MODULE}\nprint({MODULE}.arange(5).sum())\n"
CONTEXT = omnibase.ExecutionContext(wall_seconds=120, default_memory_bytes=80 * 10**6)
_READY_SECONDS = 60


def preload(scale: Scale) -> str:
    """Measures ways to have a package, in turns, and returns the section."""
    layer = omnibase.install_packages([MODULE])
    cold = "`omnibase.run(packages=…)`"
    taken: dict[str, list[float]] = {}
    idle: dict[str, float] = {}
    late = "`Pool()`, bound when the run comes"
    ready = f'`Pool(packages=…, preload=("{MODULE}",))`'
    with ExitStack() as stack:
        pools = {
            name: stack.enter_context(omnibase.Pool(1, context=CONTEXT, **options))
            for name, options in {
                late: {},
                "`Pool(packages=…)`, bound before": {"packages": layer},
                ready: {"packages": layer, "preload": (MODULE,)},
            }.items()
        }
        for _ in range(pick(scale, 60, 6, 1)):
            _sample(taken, cold, lambda: omnibase.run(SCRIPT, packages=layer, context=CONTEXT))
            for name, pool in pools.items():
                # All are ready: none of them starts while this one is timed.
                for each in pools.values():
                    if not each.wait_ready(1, _READY_SECONDS):
                        raise SystemExit(f"no sandbox was ready: {each.stats()}")
                idle[name] = pool.stats().idle_memory_bytes
                packages = layer if name == late else None
                _sample(taken, name, lambda p=pool, q=packages: p.run(SCRIPT, packages=q))  # type: ignore[misc]
                if pool.stats().cold_runs:
                    raise SystemExit(f"{name}: {pool.stats()}")
    lines = [
        f"## `import {MODULE}`, then and before\n",
        "| what | p50 ms | p99 ms | a sandbox that waits, MiB | samples |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, seconds in taken.items():
        sample = Sample(name=name, seconds=tuple(seconds))
        waits = f"{idle[name] / (1 << 20):.0f}" if name in idle else "–"
        lines.append(
            f"| {name} | {sample.median * 1e3:.1f} | {sample.p99 * 1e3:.1f} | {waits} "
            f"| {len(seconds)} |"
        )
    return "\n".join(lines) + (
        f"\n\nThe script imports `{MODULE}` and prints a sum; from the call to the complete "
        "result, sampled in turns, the layer there before the first. Its files are compared with "
        "what was built by each run that names them, some 8 ms; those of a pool when "
        "a sandbox starts.\n"
    )


def _sample(
    taken: dict[str, list[float]], name: str, run: Callable[[], omnibase.RunResult]
) -> None:
    began = time.perf_counter()
    result = run()
    taken.setdefault(name, []).append(time.perf_counter() - began)
    if result.stdout != b"10\n":
        raise SystemExit(f"{name}: {result}")
