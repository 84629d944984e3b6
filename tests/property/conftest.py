"""What was fuzzed is told at the end of the run: how many cases, and by which seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Iterator[Callable[[], None]]:
    """Gives a test what it calls once for each case of its ``seed``."""
    count = 0

    def one() -> None:
        nonlocal count
        count += 1

    yield one
    record_property("cases", count)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints a line for each test that has seeds, those that failed included."""
    cases: dict[str, int] = {}
    seeds: dict[str, list[str]] = {}
    for report in sorted(
        (one for found in terminalreporter.stats.values() for one in found
         if isinstance(one, pytest.TestReport) and one.when == "teardown"),
        key=lambda one: one.nodeid,
    ):  # fmt: skip
        told = dict(report.user_properties)
        if "cases" in told:
            name, _, seed = report.nodeid.rpartition("::")[2].removesuffix("]").partition("seed-")
            name = name.replace("[", " ").strip(" -")
            cases[name] = cases.get(name, 0) + int(str(told["cases"]))
            seeds.setdefault(name, []).append(seed)
    if cases:
        terminalreporter.section(f"fuzz: {sum(cases.values())} cases")
        for name, count in cases.items():
            terminalreporter.line(f"{count:6} {name}: seeds {' '.join(seeds[name])}")
