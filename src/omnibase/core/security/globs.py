"""Globs within one segment: what ``*`` and ``?`` mean, decided exactly in one place.

A segment is a text without ``/``. ``?`` stands for one character, ``*`` for any
number of them, a leading dot included; everything else stands for itself. There
is no escape: a character that cannot be written (a literal ``*``, a control
character) is covered by ``?``. The segments ``.`` and ``..`` are in no language.
"""

from __future__ import annotations

import re
from functools import lru_cache
from heapq import heappop, heappush
from itertools import product

from omnibase.errors import CapabilityError

__all__ = [
    "MAX_PIECES",
    "intersection",
    "is_glob",
    "normalise",
    "plainly_disjoint",
    "plainly_outside",
    "quoted",
    "quoted_path",
    "shortest",
    "to_regex",
]

MAX_STEPS = 100_000
"""Transitions that one comparison may try (about 0.3 s) before it is refused."""

MAX_PIECES = 8
"""Patterns that an intersection may be split into."""

_RUN = re.compile(r"[*?]{2,}")
_WILD = re.compile(r"[*?]")
_DOTS = (".", "..")


def quoted(text: str) -> str:
    """Returns the text in backticks, cut to 80 characters, nothing unprintable in it."""
    shown = text[:80]
    if not shown.isprintable():
        escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
        shown = "".join(escaped)
    return f"`{shown}…`" if len(text) > 80 else f"`{shown}`"


def quoted_path(path: str) -> str:
    """Returns a file's name as `quoted` does, but cut in front: its end tells files apart."""
    return quoted(path) if len(path) <= 80 else f"`…{quoted(path[-80:])[1:]}"


def is_glob(text: str) -> bool:
    """Says whether a pattern text stands for more than itself."""
    return "*" in text or "?" in text


def normalise(glob: str) -> str:
    """Orders each run of wildcards: ``*?*`` and ``?*`` are both written ``?*``."""

    def order(run: re.Match[str]) -> str:
        text: str = run.group()
        return "?" * text.count("?") + ("*" if "*" in text else "")

    return _RUN.sub(order, glob)


def to_regex(glob: str) -> str:
    """Returns a regular expression for the segment that matches in O(n·m), never worse."""
    first, *rest = ["".join("[^/]" if c == "?" else re.escape(c) for c in part)
                    for part in glob.split("*")]  # fmt: skip
    if not rest:
        return first
    # The leftmost place for a middle part is always good enough, so it is never retried.
    middle = "".join(f"(?>[^/]*?{part})" for part in rest[:-1])
    return f"{first}{middle}[^/]*{rest[-1]}"


@lru_cache(maxsize=4096)
def _ends(glob: str) -> tuple[str, str]:
    """Returns what stands before the first and after the last wildcard."""
    return _WILD.split(glob, maxsplit=1)[0], _WILD.split(glob)[-1]


def plainly_disjoint(a: str, b: str) -> bool:
    """Says that no word is in both because they begin or end differently; a quick test."""
    (start, end), (begin, finish) = _ends(a), _ends(b)
    return not (
        (start.startswith(begin) or begin.startswith(start))
        and (end.endswith(finish) or finish.endswith(end))
    )


def plainly_outside(inner: str, outer: str) -> bool:
    """Says that ``outer`` does not contain ``inner`` since its ends are stricter."""
    (start, end), (begin, finish) = _ends(inner), _ends(outer)
    return not (start.startswith(begin) and end.endswith(finish))


def _machine(glob: str) -> tuple[str, int]:
    """Returns the characters and, as bits, the positions where any character loops."""
    loops, tokens = 0, ""
    for c in glob:
        if c == "*":
            loops |= 1 << len(tokens)
        else:
            tokens += c
    return tokens, loops


def _other_letter(letters: set[str]) -> str:
    """Returns a character that none of the globs names; it stands for all such."""
    # Short ones first; the last range has more letters than two patterns can name.
    ranges = (range(0x61, 0x7B), range(0x30, 0x3A), range(0xE0, 0x180), range(0x4E00, 0x9F00))
    return next(c for span in ranges for c in map(chr, span) if c not in letters)


@lru_cache(maxsize=4096)
def shortest(
    inside: tuple[str, ...], outside: tuple[str, ...], *, empty: bool, limit: int
) -> str | None:
    """Finds the shortest segment in every glob of one list and in none of the other.

    With ``inside=(b,), outside=(a,)`` ``None`` means that ``a`` contains ``b``; with
    ``inside=(a, b)`` it means that they are disjoint.

    Args:
        inside: Globs that must all match.
        outside: Globs none of which may match.
        empty: Whether the empty text is a segment.
        limit: The most bytes of UTF-8 that a segment may have.

    Raises:
        CapabilityError: The globs are too complex to compare within the bound.
    """
    letters = set("".join(inside + outside)) - {"*", "?"}
    alphabet = (*sorted(letters), _other_letter(letters))
    width = {c: len(c.encode("utf-8", "replace")) for c in alphabet}
    yes = [_machine(glob) for glob in inside]
    no = [
        (
            {c: sum(1 << i for i, token in enumerate(tokens) if token in (c, "?"))
             for c in alphabet},
            loops,
            1 << len(tokens),
        )
        for tokens, loops in map(_machine, outside)
    ]  # fmt: skip
    # A state: a position in each glob of `inside`, the set of positions in each of
    # `outside`, and how far the word is `.` or `..` (3: neither).
    heap = [(0, "", (0,) * len(yes), (1,) * len(no), 0)]
    seen = set()
    steps = 0
    while heap:
        cost, word, at, masks, dots = heappop(heap)
        if (at, masks, dots) in seen:
            continue
        seen.add((at, masks, dots))
        if (
            (dots == 3 or (dots == 0 and empty))
            and all(i == len(tokens) for i, (tokens, _) in zip(at, yes, strict=True))
            and not any(mask & end for mask, (_, _, end) in zip(masks, no, strict=True))
        ):
            return word
        for c in alphabet:
            if cost + width[c] > limit:
                continue
            moves = [
                ((i + 1,) if i < len(tokens) and tokens[i] in (c, "?") else ())
                + ((i,) if loops >> i & 1 else ())
                for i, (tokens, loops) in zip(at, yes, strict=True)
            ]
            if not all(moves):
                continue
            step = tuple(
                (mask & table[c]) << 1 | mask & loops
                for mask, (table, loops, _) in zip(masks, no, strict=True)
            )
            dotted = dots + 1 if c == "." and dots < 2 else 3
            for target in product(*moves):
                heappush(heap, (cost + width[c], word + c, target, step, dotted))
                steps += 1
        if steps > MAX_STEPS:
            raise CapabilityError(
                f"{' and '.join(map(quoted, inside + outside))} are too complex to compare",
                hint="use fewer wildcards in one segment",
            )
    return None


class _TooManyPieces(Exception):
    pass


def intersection(a: str, b: str, *, empty: bool, limit: int) -> tuple[str, ...] | None:
    """Returns globs whose union is exactly what both globs match, or ``None``.

    ``None`` means that no union of a few globs was found; an empty tuple that the
    two are disjoint. ``ab*`` and ``*bc`` give ``ab*bc`` and ``abc``.

    Raises:
        CapabilityError: The globs are too complex to compare within the bound.
    """
    for small, large in ((a, b), (b, a)):
        if shortest((small,), (large,), empty=empty, limit=limit) is None:
            return (small,)
    if len(a) + len(b) > 400:  # the recursion below is as deep as this
        return None
    memo: dict[tuple[int, int], frozenset[str]] = {}

    def meet(i: int, j: int) -> frozenset[str]:
        """Aligns ``a[i:]`` with ``b[j:]``: each way to do so is one glob."""
        if (i, j) in memo:
            return memo[i, j]
        x, y = a[i : i + 1], b[j : j + 1]
        pieces: set[str] = set()
        if not x and not y:
            pieces.add("")
        elif x == "*" and y == "*":
            # The star that ends first is spent; the other one goes on.
            pieces.update("*" + tail for tail in meet(i + 1, j) | meet(i, j + 1))
        elif x == "*":
            pieces |= meet(i + 1, j)
            pieces.update(y + tail for tail in (meet(i, j + 1) if y else ()))
        elif y == "*":
            pieces |= meet(i, j + 1)
            pieces.update(x + tail for tail in (meet(i + 1, j) if x else ()))
        elif x and y and (x == y or "?" in (x, y)):
            pieces.update((y if x == "?" else x) + tail for tail in meet(i + 1, j + 1))
        if len(pieces) > 8 * MAX_PIECES:
            raise _TooManyPieces
        return memo.setdefault((i, j), frozenset(pieces))

    try:
        found = sorted({normalise(piece) for piece in meet(0, 0)}, key=lambda p: (-len(p), p))
    except _TooManyPieces:
        return None
    kept = [
        piece
        for piece in found
        if piece not in _DOTS
        and (piece or empty)
        and len(piece.encode("utf-8", "replace")) <= limit
    ]
    for piece in tuple(kept):
        rest = tuple(other for other in kept if other != piece)
        if any(shortest((piece,), (r,), empty=empty, limit=limit) is None for r in rest):
            kept.remove(piece)
    return tuple(kept) if len(kept) <= MAX_PIECES else None
