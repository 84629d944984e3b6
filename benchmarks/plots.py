"""The figures of ``bench_pool`` as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["draw"]


def draw(figures: dict[str, Any], directory: Path) -> None:
    """Writes ``latency.svg``, ``load.svg`` and ``density.svg``.

    Args:
        figures: What `bench_pool` prints.
        directory: Where to; made if need be.
    """
    import matplotlib  # type: ignore[import-not-found]

    matplotlib.use("svg")
    # The same figures give the same file: no date in it, and no random ids.
    matplotlib.rcParams["svg.hashsalt"] = "omnibase"
    matplotlib.rcParams["svg.fonttype"] = "none"
    directory.mkdir(parents=True, exist_ok=True)
    _latency(figures["latency"]["seconds"], directory / "latency.svg")
    _load(figures["load"], directory / "load.svg")
    _density(figures["density"], directory / "density.svg")


def _figure(title: str, x: str, y: str) -> tuple[Any, Any]:
    from matplotlib import pyplot  # type: ignore[import-not-found]

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _label(name: str) -> str:
    return name.replace("`", "")


def _latency(seconds: dict[str, list[float]], path: Path) -> None:
    figure, axes = _figure("print(1), from the call to the result", "ms", "share of runs")
    axes.set_xscale("log")
    for name, values in seconds.items():
        ranked = sorted(values)
        share = [(number + 1) / len(ranked) for number in range(len(ranked))]
        axes.step([value * 1e3 for value in ranked], share, where="post", label=_label(name))
    axes.legend(fontsize="small")
    _save(figure, path)


def _load(load: dict[str, dict[str, dict[str, Any]]], path: Path) -> None:
    figure, axes = _figure("Sustained load", "at a time", "runs per second")
    for name, levels in load.items():
        numbers = [int(level) for level in levels]
        rates = [len(one["seconds"]) / one["wall"] for one in levels.values()]
        axes.plot(numbers, rates, marker="o", label=_label(name))
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
    _save(figure, path)


def _density(density: dict[str, dict[str, float]], path: Path) -> None:
    figure, axes = _figure("Idle sandboxes", "sandboxes", "MiB in all")
    for name, counts in density.items():
        sizes = [value / (1 << 20) for value in counts.values()]
        axes.plot([int(count) for count in counts], sizes, marker="o", label=_label(name))
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
    _save(figure, path)
