"""ExecutionContext: the quotas of one run, with their units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from omnibase.errors import ConfigurationError

__all__ = ["GIB", "KIB", "MIB", "ExecutionContext", "OnOutputLimit", "OnViolation", "parse_size"]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MAX_PROCESSES = 32768

OnViolation = Literal["raise", "kill", "record"]
OnOutputLimit = Literal["raise", "truncate"]

_UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9,
    "KIB": KIB, "MIB": MIB, "GIB": GIB,
}  # fmt: skip
_SIZE = re.compile(r"([0-9]{1,18})([A-Za-z]*)")


def parse_size(text: str) -> int:
    """Reads a size such as ``128MiB``, ``50MB`` or ``4096`` as bytes.

    ``KB``, ``MB``, ``GB`` are powers of ten; ``KiB``, ``MiB``, ``GiB`` of two.

    Raises:
        ConfigurationError: The text is not a whole number with a known unit.
    """
    match = _SIZE.fullmatch(text)
    if match is None or match[2].upper() not in _UNITS:
        raise ConfigurationError(
            f"`{text[:80]}` is not a size",
            hint="write a whole number with a unit, e.g. `128MiB` or `50MB`",
        )
    return int(match[1]) * _UNITS[match[2].upper()]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionContext:
    """Quotas of one run. All are hard limits, enforced from outside the script.

    Attributes:
        cpus: CPUs, as a CFS quota; ``os.cpu_count()`` inside shows it, rounded up.
        memory_bytes: Ceiling for the whole sandbox (interpreter, script and
            Sentry). A run gets `default_memory_bytes` unless a ``MEMORY`` grant
            raises it; no grant goes past this ceiling.
        default_memory_bytes: What a run with no ``MEMORY`` grant gets.
        pids: Processes and threads of the script at one time.
        wall_seconds: From the start of the run to its forced end.
        cpu_seconds: CPU time of the whole sandbox, or ``None`` for no bound of
            its own (wall time × CPUs bounds it anyway).
        output_bytes: Standard output and standard error together.
        scratch_bytes: Size of the writable ``/tmp``, and of what the script leaves
            to be collected.
        artifact_count: Most artifacts that the script may leave.
        artifact_bytes: Most bytes of them, in all.
        egress_connections: Connections that each network grant may have at one time.
        egress_bytes: What each network grant may send and receive, together, in all.
        egress_idle_seconds: A connection on which nothing moves for so long is ended.
        on_violation: ``raise`` at the end, ``kill`` at the first, or ``record``.
        on_output_limit: ``raise`` ends the run; ``truncate`` drops what is past
            the cap, lets the script finish, and sets ``result.truncated``.
    """

    cpus: float = 1.0
    memory_bytes: int = 256 * MIB
    default_memory_bytes: int = 50 * 10**6
    pids: int = 64
    wall_seconds: float = 30.0
    cpu_seconds: float | None = None
    output_bytes: int = 16 * MIB
    scratch_bytes: int = 64 * MIB
    artifact_count: int = 64
    artifact_bytes: int = 64 * MIB
    egress_connections: int = 512
    egress_bytes: int = 16 * GIB
    egress_idle_seconds: float = 60.0
    on_violation: OnViolation = "raise"
    on_output_limit: OnOutputLimit = "raise"

    def __post_init__(self) -> None:
        # Callers without a type checker pass anything.
        ranges: tuple[tuple[str, Any, float, float], ...] = (
            ("cpus", self.cpus, 0.01, 1024),
            # Measured: a sandbox with a Python hello starts with 40 MB and uses 22.
            ("memory_bytes", self.memory_bytes, 40 * 10**6, 1 << 44),
            ("default_memory_bytes", self.default_memory_bytes, 40 * 10**6, 1 << 44),
            ("pids", self.pids, 1, MAX_PROCESSES),
            ("wall_seconds", self.wall_seconds, 0.001, 7 * 86400),
            ("cpu_seconds", self.cpu_seconds, 0.001, 7 * 86400),
            ("output_bytes", self.output_bytes, 0, 1 << 40),
            ("scratch_bytes", self.scratch_bytes, 64 * KIB, 1 << 40),
            ("artifact_count", self.artifact_count, 0, 4096),
            ("artifact_bytes", self.artifact_bytes, 0, 1 << 40),
            ("egress_connections", self.egress_connections, 1, 4096),
            ("egress_bytes", self.egress_bytes, 0, 1 << 50),
            ("egress_idle_seconds", self.egress_idle_seconds, 0.001, 7 * 86400),
        )
        for name, value, low, high in ranges:
            if value is None and name == "cpu_seconds":
                continue
            whole = name in ("pids", "artifact_count", "egress_connections") or name.endswith(
                "_bytes"
            )
            kind = int if whole else int | float
            if isinstance(value, bool) or not isinstance(value, kind):
                raise ConfigurationError(
                    f"`{name}={value!r:.40}` is not a {'whole ' if whole else ''}number",
                    hint=f"choose {low:g} to {high:g}",
                )
            if not low <= value <= high:  # also refuses NaN
                raise ConfigurationError(
                    f"`{name}={value}` is out of range", hint=f"choose {low:g} to {high:g}"
                )
        if self.on_violation not in ("raise", "kill", "record"):
            raise ConfigurationError(
                f"`on_violation={self.on_violation}` is not known",
                hint="choose `raise`, `kill` or `record`",
            )
        if self.on_output_limit not in ("raise", "truncate"):
            raise ConfigurationError(
                f"`on_output_limit={self.on_output_limit}` is not known",
                hint="choose `raise` or `truncate`",
            )
