"""The trace that a run belongs to: its caller's, or one that begins with it.

Source of the format: https://www.w3.org/TR/trace-context/#traceparent-header.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Final

__all__ = ["TraceContext", "begin", "current_span", "parse"]

_FORM: Final = r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
_SAMPLED: Final = 0x01


class TraceContext:
    """A place in a trace.

    Attributes:
        traceid: 32 hexadecimal digits, not all zero.
        spanid: 16 hexadecimal digits, not all zero.
        flags: The lowest bit: the caller may have recorded the trace.
    """

    # By hand: every short process loads this module, and a dataclass takes 0.25 ms to make.
    __slots__ = ("flags", "spanid", "traceid")

    def __init__(self, *, traceid: str, spanid: str, flags: int) -> None:
        self.traceid = traceid
        self.spanid = spanid
        self.flags = flags

    def __str__(self) -> str:
        return f"00-{self.traceid}-{self.spanid}-{self.flags:02x}"


def parse(header: str | None) -> TraceContext | None:
    """Reads a ``traceparent``; ``None`` if there is none or it is not valid.

    A version that we do not know is read as far as version 00 goes, as the
    specification demands.
    """
    if not header:
        return None
    found = re.fullmatch(_FORM, header.strip(" \t"))
    if found is None:
        return None
    version, traceid, spanid, flags, more = found.groups()
    if version == "ff" or not int(traceid, 16) or not int(spanid, 16):
        return None
    if version == "00" and more:
        return None
    # Of the flags only those that version 00 has may be passed on.
    return TraceContext(traceid=traceid, spanid=spanid, flags=int(flags, 16) & _SAMPLED)


def begin(parent: TraceContext | None) -> TraceContext:
    """Returns a new span's place: below its parent, or in a trace of its own."""
    if parent is None:
        return TraceContext(traceid=_random(16), spanid=_random(8), flags=_SAMPLED)
    return TraceContext(traceid=parent.traceid, spanid=_random(8), flags=parent.flags)


def current_span() -> TraceContext | None:
    """Returns the place of the current OpenTelemetry span, if the process uses that."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return TraceContext(
        traceid=f"{context.trace_id:032x}",
        spanid=f"{context.span_id:016x}",
        flags=context.trace_flags & _SAMPLED,
    )


def _random(size: int) -> str:
    while not any(data := os.urandom(size)):
        pass  # all zero is no id
    return data.hex()
