"""Patterns of file paths and of plain names."""

from __future__ import annotations

from typing import Self

from omnibase.core.security.globs import normalise
from omnibase.core.security.segments import (
    MAX_BYTES,
    MAX_SEGMENT_BYTES,
    Fault,
    SegmentPattern,
    check_printable,
    common_fault,
    printable,
    refusal,
    width,
)

__all__ = ["NamePattern", "PathPattern", "literal_name", "literal_path"]


def _path_fault(text: str) -> Fault | None:
    """Says what keeps a text from being a canonical absolute path, and what to do."""
    if not text.startswith("/"):
        return "is not an absolute path", "write it from the root, e.g. `/data/input.csv`"
    if text.endswith("/") and text != "/":
        return "ends with `/`", "drop the last `/`, or write `/**` at the end for all below it"
    if "//" in text:
        return "contains an empty segment", "write one `/` between two names"
    if (len(text) > MAX_SEGMENT_BYTES or not text.isascii()) and any(
        width(segment) > MAX_SEGMENT_BYTES for segment in text.split("/")
    ):
        return f"has a name longer than {MAX_SEGMENT_BYTES} bytes", "no file can have that name"
    return common_fault(text)


class PathPattern(SegmentPattern):
    """A set of absolute file paths, such as ``/data/*.csv`` or ``/data/**``.

    ``*`` and ``?`` stay within one segment; ``**`` is the whole last segment and
    stands for one or more segments, so ``/data/**`` does not match ``/data``.
    Case and Unicode form count: file names are not normalised.
    """

    __slots__ = ()
    ROOT = "/"
    EMPTY = False
    SEGMENT_BYTES = MAX_SEGMENT_BYTES
    fault = staticmethod(_path_fault)

    @classmethod
    def parse(cls, text: str) -> PathPattern:
        """Reads a canonical pattern; nothing is resolved silently.

        Raises:
            CapabilityError: The text is not absolute, not canonical, too long,
                not printable, or has ``**`` elsewhere than as the last segment.
        """
        fault = _path_fault(text)
        if fault is not None:
            raise refusal(text, fault)
        check_printable(text)
        segments = text[1:].split("/") if text != "/" else []
        deep = bool(segments) and segments[-1] == "**"
        if deep:
            segments.pop()
        if any("**" in segment for segment in segments):
            raise refusal(
                text,
                ("has `**` elsewhere than as the whole last segment",
                 "write `*` within a segment, and `**` only at the end"),
            )  # fmt: skip
        # No file name is empty, so a whole segment `?*` says no more than `*`.
        globs = (normalise(segment) for segment in segments)
        return cls(tuple("*" if glob == "?*" else glob for glob in globs), deep)

    @staticmethod
    def literal(concrete: str) -> str:
        """Is `literal_path`."""
        return literal_path(concrete)


class NamePattern(SegmentPattern):
    """A set of names: commands, artifacts, components of a registry.

    Any printable text, such as ``models/m1``; ``*``
    and ``?`` match any character except ``/``, and there is no ``**``.
    """

    __slots__ = ()
    ROOT = ""
    EMPTY = True
    SEGMENT_BYTES = MAX_BYTES
    fault = staticmethod(common_fault)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a pattern.

        Raises:
            CapabilityError: The text is empty, too long, not printable, begins
                or ends with a space, or has a segment ``.``, ``..`` or ``**``.
        """
        fault = cls.fault(text)
        if fault is not None:
            raise refusal(text, fault)
        check_printable(text)
        if text.strip() != text:
            raise refusal(text, ("begins or ends with a space", "remove it, or write `?`"))
        if "**" in text:
            raise refusal(text, ("contains `**`", "write `*`; only a path can end in `**`"))
        return cls(tuple(map(normalise, text.split("/"))))

    @staticmethod
    def literal(concrete: str) -> str:
        """Is `literal_name`."""
        return literal_name(concrete)


def literal_path(path: str) -> str:
    """Returns the narrowest pattern text that matches a concrete path.

    The path itself, with ``?`` for each character that a pattern cannot name:
    a ``*``, and whatever is not printable.

    Raises:
        CapabilityError: The path is not absolute and canonical.
    """
    fault = _path_fault(path)
    if fault is not None:
        raise refusal(path, fault)
    text = printable(path)
    return PathPattern.parse(text).text if "?" in text else text


def literal_name(name: str) -> str:
    """Returns the narrowest pattern text that matches a concrete name.

    Raises:
        CapabilityError: The name is empty, too long, or has a segment ``.`` or ``..``.
    """
    fault = common_fault(name)
    if fault is not None:
        raise refusal(name, fault)
    text = printable(name)
    text = "?" + text[1:] if text[0] == " " else text
    text = text[:-1] + "?" if text[-1] == " " else text
    return NamePattern.parse(text).text if "?" in text else text
