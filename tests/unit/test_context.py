"""Quotas have units and ranges, and nothing outside them is taken."""

from __future__ import annotations

import math
from typing import Any

import pytest

from omnibase.core.context import GIB, KIB, MIB, ExecutionContext, parse_size
from omnibase.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1B", 1),
        ("50MB", 50_000_000),
        ("128MiB", 128 * MIB),
        ("128mib", 128 * MIB),
        ("3KB", 3000),
        ("3KiB", 3 * KIB),
        ("2GB", 2 * 10**9),
        ("2GiB", 2 * GIB),
        ("007", 7),
        ("9" * 18, 10**18 - 1),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MB",
        "1.5MB",
        "-1",
        "+1",
        " 1",
        "1 MB",
        "1TB",
        "1K",
        "0x10",
        "9" * 19,
        "1\n",
        "٣",
        "1MiBs",
    ],
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a size") as caught:
        parse_size(text)
    assert caught.value.hint


def test_a_long_size_is_cut_in_the_message() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_size("x" * 10_000)
    assert len(caught.value.message) < 200


def test_defaults() -> None:
    context = ExecutionContext()
    assert context.cpus == 1
    assert context.memory_bytes == 256 * MIB
    assert context.default_memory_bytes == 50_000_000
    assert context.pids == 64
    assert context.wall_seconds == 30
    assert context.cpu_seconds is None
    assert context.output_bytes == 16 * MIB
    assert context.scratch_bytes == 64 * MIB
    assert context.egress_connections == 512
    assert context.egress_bytes == 16 << 30
    assert context.egress_idle_seconds == 60
    assert (context.on_violation, context.on_output_limit) == ("raise", "raise")


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("cpus", 0.01, 1024),
        ("memory_bytes", 40_000_000, 1 << 44),
        ("default_memory_bytes", 40_000_000, 1 << 44),
        ("pids", 1, 32768),
        ("wall_seconds", 0.001, 7 * 86400),
        ("cpu_seconds", 0.001, 7 * 86400),
        ("output_bytes", 0, 1 << 40),
        ("scratch_bytes", 64 * KIB, 1 << 40),
        ("egress_connections", 1, 4096),
        ("egress_bytes", 0, 1 << 50),
        ("egress_idle_seconds", 0.001, 7 * 86400),
    ],
)
def test_ranges(name: str, low: float, high: float) -> None:
    for good in (low, high):
        assert getattr(ExecutionContext(**{name: good}), name) == good
    for bad in (low - 1, high + 1, math.nan, math.inf, -math.inf, True):
        problem = f"`{name}=.*` is (out of range|not a (whole )?number)"
        with pytest.raises(ConfigurationError, match=problem):
            ExecutionContext(**{name: bad})
    with pytest.raises(ConfigurationError, match="is out of range") as caught:
        ExecutionContext(**{name: high + 1})
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("choose ")


@pytest.mark.parametrize(
    ("name", "value"),
    [("pids", 2.5), ("memory_bytes", 5e7), ("output_bytes", "1"), ("cpus", "1"), ("pids", None)],
)
def test_kinds_of_numbers(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"is not a (whole )?number"):
        ExecutionContext(**{name: value})


@pytest.mark.parametrize(
    "arguments",
    [
        {"on_violation": "ignore"},
        {"on_violation": ""},
        {"on_output_limit": "kill"},
        {"on_output_limit": None},
    ],
)
def test_choices(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="is not known") as caught:
        ExecutionContext(**arguments)
    assert caught.value.hint is not None


def test_it_is_frozen() -> None:
    with pytest.raises(AttributeError):
        ExecutionContext().cpus = 2  # type: ignore[misc]
