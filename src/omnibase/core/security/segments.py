"""What patterns of texts made of segments share; ``/`` is between two segments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import ClassVar, Self, TypeVar

from omnibase.core.security.globs import (
    MAX_PIECES,
    intersection,
    is_glob,
    plainly_disjoint,
    plainly_outside,
    quoted,
    shortest,
    to_regex,
)
from omnibase.errors import CapabilityError

__all__ = [
    "MAX_BYTES",
    "MAX_SEGMENT_BYTES",
    "Fault",
    "SegmentPattern",
    "check_printable",
    "common_fault",
    "printable",
    "refusal",
    "width",
]

T = TypeVar("T")
Fault = tuple[str, str]
"""What is wrong with a text, and what to do about it."""

MAX_BYTES = 4096
"""Longest path or name in bytes (Linux ``PATH_MAX``)."""

MAX_SEGMENT_BYTES = 255
"""Longest file name in bytes (Linux ``NAME_MAX``)."""


def width(text: str) -> int:
    """Returns the number of bytes that the text has as a file name."""
    # An undecodable byte of a file name is one surrogate, and `replace` makes it one byte.
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def common_fault(text: str) -> Fault | None:
    """Says what keeps a text from being a name or the rest of a path."""
    if not text:
        return "is empty", "name the resource after the colon"
    if "\0" in text:
        return "contains a NUL character", "remove it"
    if len(text) > MAX_BYTES or width(text) > MAX_BYTES:
        return f"is longer than {MAX_BYTES} bytes", "use a shorter text"
    if "/." in text or text[0] == ".":
        segments = text.split("/")
        for dots in (".", ".."):
            if dots in segments:
                return f"contains the segment `{dots}`", "write the text without `.` and `..`"
    return None


def refusal(text: str, fault: Fault) -> CapabilityError:
    """Returns the error for a text with a fault."""
    return CapabilityError(
        f"{quoted(text)} {fault[0]}", details={"resource": quoted(text)[1:-1]}, hint=fault[1]
    )


def check_printable(text: str) -> None:
    """Raises `CapabilityError` if a character of a pattern cannot be shown."""
    if not text.isprintable():
        bad = next(c for c in text if not c.isprintable())
        raise refusal(text, (f"contains the character {quoted(bad)}", "write `?` where it stands"))


def printable(text: str) -> str:
    """Returns a concrete text with ``?`` for each character that no pattern names."""
    if "*" not in text and text.isprintable():
        return text
    return "".join("?" if c == "*" or not c.isprintable() else c for c in text)


@dataclass(frozen=True, slots=True)
class SegmentPattern:
    """What paths and names share: globs, one per segment.

    Attributes:
        segments: The globs, without the ``/`` between them.
        deep: Whether one or more further segments follow.
    """

    segments: tuple[str, ...]
    deep: bool = False

    ROOT: ClassVar[str]
    EMPTY: ClassVar[bool]
    SEGMENT_BYTES: ClassVar[int]

    @staticmethod
    def fault(text: str) -> Fault | None:
        """Says what is wrong with a concrete text of this kind."""
        raise NotImplementedError  # pragma: no cover

    @property
    def text(self) -> str:
        """The canonical text; parsing it gives an equal pattern."""
        return self.ROOT + "/".join(self.segments + ("**",) * self.deep)

    @property
    def is_literal(self) -> bool:
        """Whether the pattern matches its own text and nothing else."""
        return not (self.deep or any(map(is_glob, self.segments)))

    def __str__(self) -> str:
        return self.text

    def matches(self, concrete: str) -> bool:
        """Says whether a concrete text is in the language; a malformed one never is."""
        if self.fault(concrete) is not None:
            return False
        if self.is_literal:
            return concrete == self.text
        return _compiled(_source(self)).fullmatch(concrete, len(self.ROOT)) is not None

    def contains(self, other: Self) -> bool:
        """Says whether all that ``other`` matches is matched by this pattern.

        Raises:
            CapabilityError: The patterns are too complex to compare.
        """
        if any(map(plainly_outside, other.segments, self.segments)):
            return False
        return other.outside(self) is None

    def intersects(self, other: Self) -> bool:
        """Says whether some concrete text is matched by both.

        Raises:
            CapabilityError: The patterns are too complex to compare.
        """
        return self.witness(other) is not None

    def outside(self, other: Self) -> str | None:
        """Returns a concrete text that this pattern matches and ``other`` does not.

        Raises:
            CapabilityError: The patterns are too complex to compare.
        """
        own, others = len(self.segments), len(other.segments)
        if self.deep:
            fits = other.deep and own >= others
            # Of the lengths that this pattern has, take one that the other has not.
            extra = 2 if not other.deep and own + 1 == others else 1
        else:
            fits = own > others if other.deep else own == others
            extra = 0
        words = [self._shortest(glob) for glob in self.segments] + ["a"] * extra
        if not fits:
            return self._join(words)
        for i, glob in enumerate(other.segments):
            word = self._search((self.segments[i],), (glob,))
            if word is not None:
                return self._join([*words[:i], word, *words[i + 1 :]])
        return None

    def witness(self, other: Self) -> str | None:
        """Returns the shortest concrete text that both match, or ``None``.

        Raises:
            CapabilityError: The patterns are too complex to compare.
        """
        shape = self._aligned(other)
        if shape is None:
            return None
        words = []
        for globs in shape:
            word = self._search(globs, ())
            if word is None:
                return None
            words.append(word)
        found = self._join(words + ["a"] * (self.deep and other.deep))
        return found if width(found) <= MAX_BYTES else None

    def intersection(self, other: Self) -> tuple[Self, ...] | None:
        """Returns patterns whose union is exactly what both match.

        Returns:
            An empty tuple if they are disjoint; ``None`` if no union of at most
            `MAX_PIECES` patterns says it.

        Raises:
            CapabilityError: The patterns are too complex to compare.
        """
        shape = self._aligned(other)
        if shape is None:
            return ()
        choices: list[tuple[str, ...]] = []
        total = 1
        for globs in shape:
            pieces = globs if len(globs) == 1 else self._meet(*globs)
            if pieces is None:
                return None
            choices.append(pieces)
            total *= len(pieces)
        if total > MAX_PIECES:
            return None
        deep = self.deep and other.deep
        found = (type(self)(segments, deep) for segments in product(*choices))
        return tuple(pattern for pattern in found if width(pattern.text) <= MAX_BYTES)

    def _aligned(self, other: Self) -> list[tuple[str, ...]] | None:
        """Pairs the segments that must both match; ``None`` if no text can fit both."""
        short, long = sorted((self, other), key=lambda p: len(p.segments))
        n, m = len(short.segments), len(long.segments)
        if n == m:
            fits = short.deep == long.deep
        else:
            fits = short.deep
        if not fits or any(map(plainly_disjoint, self.segments, other.segments)):
            return None
        pairs: list[tuple[str, ...]] = list(zip(self.segments, other.segments, strict=False))
        return pairs + [(glob,) for glob in long.segments[n:]]

    def _join(self, words: list[str]) -> str:
        return self.ROOT + "/".join(words)

    def _search(self, inside: tuple[str, ...], outside: tuple[str, ...]) -> str | None:
        if len(inside) == len(outside) == 1:  # the frequent cases need no search
            if inside == outside or (outside == ("*",)):
                return None
            if not is_glob(inside[0]) and not is_glob(outside[0]):
                return inside[0]
        return shortest(inside, outside, empty=self._may_be_empty, limit=self.SEGMENT_BYTES)

    def _shortest(self, glob: str) -> str:
        return (self._search((glob,), ()) or "") if is_glob(glob) else glob

    def _meet(self, a: str, b: str) -> tuple[str, ...] | None:
        if not is_glob(a) and not is_glob(b):
            return (a,) if a == b else ()
        return intersection(a, b, empty=self._may_be_empty, limit=self.SEGMENT_BYTES)

    def _regex(self, glob: str) -> str:
        # The one canonical path with an empty segment is the root, and `/*` is not for it.
        return "[^/]+" if glob == "*" and not self.EMPTY else to_regex(glob)

    @property
    def _may_be_empty(self) -> bool:
        return self.EMPTY and len(self.segments) > 1  # the whole text never is

    @classmethod
    def finder(cls, entries: Iterable[tuple[Self, T]]) -> Callable[[str], T | None]:
        """Returns a function from a concrete text to the value of a pattern that matches.

        Literal patterns are looked up in a dictionary. The rest is filed under
        the literal directory in front of its first wildcard, and all patterns of
        one directory are one regular expression, compiled when first needed.
        """
        exact: dict[str, T] = {}
        sources: dict[str, list[str]] = {}
        values: dict[str, list[T]] = {}
        for pattern, value in entries:
            if pattern.is_literal:
                exact.setdefault(pattern.text, value)
                continue
            globs = pattern.segments
            k = next((i for i, glob in enumerate(globs) if is_glob(glob)), len(globs))
            anchor = "".join("/" + segment for segment in globs[:k])
            rest = "".join("/" + pattern._regex(glob) for glob in globs[k:])
            sources.setdefault(anchor, []).append(rest + "/.+" * pattern.deep)
            values.setdefault(anchor, []).append(value)
        regexes: dict[str, re.Pattern[str]] = {}
        longest = max(map(len, sources), default=-1)
        fault, prefix = cls.fault, "" if cls.ROOT else "/"

        def find(text: str) -> T | None:
            value = exact.get(text)
            if value is not None:
                return value
            if longest < 0 or fault(text) is not None:
                return None
            subject = prefix + text
            cut = subject.rfind("/", 0, longest + 1)
            while cut >= 0:
                anchor = subject[:cut]
                if anchor in sources:
                    regex = regexes.get(anchor)
                    if regex is None:
                        joined = "|".join(f"({source})" for source in sources[anchor])
                        regex = regexes[anchor] = re.compile(joined, re.DOTALL)
                    match = regex.fullmatch(subject, cut)
                    if match is not None and match.lastindex is not None:
                        return values[anchor][match.lastindex - 1]
                cut = subject.rfind("/", 0, cut)
            return None

        return find


def _source(pattern: SegmentPattern) -> str:
    body = "/".join(map(pattern._regex, pattern.segments))
    return body + ("/.+" if pattern.segments else ".+") * pattern.deep


@lru_cache(maxsize=1024)
def _compiled(source: str) -> re.Pattern[str]:
    return re.compile(source, re.DOTALL)
