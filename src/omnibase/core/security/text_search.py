"""The search for a text, a path or a name, that a pattern matches and a condition holds for.

An automaton: all ``like`` patterns of the condition and the request advance together,
one bit per position, so that a state is a single number; the condition is evaluated
where a text may end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain

from omnibase.core.security.conditions import (
    AllOf,
    AnyOf,
    Condition,
    Glob,
    Not,
    Test,
    comparisons,
    evaluate,
    simplify,
)
from omnibase.core.security.metering import Meter, Undecided
from omnibase.core.security.path_patterns import NamePattern, PathPattern
from omnibase.core.security.segments import SegmentPattern

__all__ = ["find_text"]


def find_text(
    asked: SegmentPattern | None, condition: Condition, is_path: bool, meter: Meter
) -> str | None:
    """Returns one of the shortest texts of a pattern that meet a condition, or ``None``.

    Args:
        asked: The pattern; ``None`` for every path or name.
        condition: Tests of one attribute, the text.
        is_path: Whether texts are absolute paths; else they are names.
        meter: Bounds the search.

    Raises:
        Undecided: The search is too long, or the text is longer than any can be.
    """
    if asked is not None and asked.is_literal:
        found = evaluate(condition, lambda test: test.holds(asked.text))
        return asked.text if found else None
    rest = simplify(condition, _outlook(asked))
    if rest is False:
        return None
    word = _Search(asked, rest, is_path).run(meter)
    fault = (PathPattern if is_path else NamePattern).fault
    if word is not None and fault(word) is not None:
        raise Undecided("the shortest text that shows it is longer than any file's name")
    return word


def _outlook(asked: SegmentPattern | None) -> Callable[[Test], bool | None]:
    """Returns a quick judge: what a test says for *every* text of a pattern, or ``None``."""
    prefix, suffix = _fixed_ends(asked) if asked else ("", "")

    def judge(test: Test) -> bool | None:
        if isinstance(test.value, tuple):
            begin, end = test.value[0] or "", test.value[-1] or ""
            if len(test.value) == 2 and not end and prefix.startswith(begin):
                return True
        else:
            begin = end = str(test.value)
        starts = begin.startswith(prefix) or prefix.startswith(begin)
        ends = end.endswith(suffix) or suffix.endswith(end)
        return None if starts and ends else False

    return judge


def _fixed_ends(asked: SegmentPattern) -> tuple[str, str]:
    """Returns what every text of a pattern begins and ends with."""
    text = asked.text
    wild = [i for i, c in enumerate(text) if c in "*?"]
    return text[: wild[0]], "" if asked.deep else text[wild[-1] + 1 :]


# Where a text is within its segment; a segment `.` or `..` makes the text invalid, and
# in a path an empty one does, too.
_BEGIN, _SEGMENT, _DOT, _DOTS, _INSIDE, _ROOT, _DEAD = range(7)


def _advance(place: int, character: str, is_path: bool) -> int:
    if place == _BEGIN and is_path:
        return _ROOT if character == "/" else _DEAD
    fresh = place in (_BEGIN, _SEGMENT, _ROOT)
    if character == "/":
        return _DEAD if place in (_DOT, _DOTS) or (fresh and is_path) else _SEGMENT
    if character == ".":
        if fresh:
            return _DOT
        return _DOTS if place == _DOT else _INSIDE
    return _INSIDE


class _Search:
    """A breadth-first search for the shortest text; one run each."""

    def __init__(self, asked: SegmentPattern | None, condition: Condition, is_path: bool) -> None:
        self.is_path = is_path
        self.literal: dict[str, int] = {}
        self.any = self.any_in_segment = self.loop = self.loop_in_segment = 0
        self.start = 0
        self.size = 0
        self.accept_root = asked is None or asked.text == "/"
        self.asked_bits = self.asked_end = 0
        if asked is not None:
            self.asked_end = self._add_asked(asked)
            self.asked_bits = (1 << self.size) - 1
        self.ends: dict[Test, int] = {}
        for test in comparisons(condition):
            if test not in self.ends:
                self.ends[test] = self._add_glob(_glob_of(test))
        for character in "/.":
            self.literal.setdefault(character, 0)
        self.letters = sorted(self.literal)
        self.meets, parts = _compiled(condition, self.ends)
        # A step takes longer over very long patterns and over very long conditions.
        self.weight = 1 + (self.size >> 14) + len(self.letters) // 256 + parts // 16
        self.other = next(c for c in _characters() if c not in self.literal)

    def _place(self, character: str) -> None:
        self.literal[character] = self.literal.get(character, 0) | 1 << self.size
        self.size += 1

    def _finish(self) -> int:
        """Ends one pattern; returns the bit that says that it matches."""
        self.size += 1
        return 1 << self.size - 1

    def _add_glob(self, glob: Glob) -> int:
        self.start |= 1 << self.size
        for part in glob:
            if part is None:
                self.loop |= 1 << self.size
            else:
                for character in part:
                    self._place(character)
        return self._finish()

    def _add_asked(self, asked: SegmentPattern) -> int:
        self.start |= 1 << self.size
        for character in asked.ROOT + "/".join(asked.segments):
            if character == "*":
                self.loop_in_segment |= 1 << self.size
            elif character == "?":
                self.any_in_segment |= 1 << self.size
                self.size += 1
            else:
                self._place(character)
        if asked.deep:
            if asked.segments:
                self._place("/")
            self.any |= 1 << self.size
            self.size += 1
            self.loop |= 1 << self.size
        return self._finish()

    def _step(self, bits: int, character: str) -> int:
        move = self.any | self.literal.get(character, 0)
        stay = self.loop
        if character != "/":
            move |= self.any_in_segment
            stay |= self.loop_in_segment
        return (bits & move) << 1 | bits & stay

    def _accepts(self, place: int, bits: int) -> bool:
        if self.asked_end and not bits & self.asked_end:
            return False
        if place == _ROOT:
            if not self.accept_root:
                return False
        elif place != _INSIDE and (self.is_path or place != _SEGMENT):
            return False
        return self.meets(bits)

    def run(self, meter: Meter) -> str | None:
        queue = deque([("", _BEGIN, self.start)])
        seen = {(_BEGIN, self.start)}
        while queue:
            word, place, bits = queue.popleft()
            if self._accepts(place, bits):
                return word
            # A letter that no pattern waits for here does what any other letter does.
            live = [c for c in self.letters if c in "/." or bits & self.literal[c]]
            meter.spend((1 + len(live)) * self.weight)
            for character in (self.other, *live):
                target = _advance(place, character, self.is_path)
                if target == _DEAD:
                    continue
                reached = self._step(bits, character)
                if self.asked_bits and not reached & self.asked_bits:
                    continue
                if (target, reached) not in seen:
                    seen.add((target, reached))
                    queue.append((word + character, target, reached))
        return None


def _compiled(condition: Condition, ends: dict[Test, int]) -> tuple[Callable[[int], bool], int]:
    """Turns a condition into a function of a state's bits; also returns its number of parts.

    The tests that are joined directly, negated or not, are one comparison of bits.
    """
    if isinstance(condition, bool):
        return lambda bits: condition, 1
    parts = condition.parts if isinstance(condition, AllOf | AnyOf) else (condition,)
    set_bits = unset = 0
    others = []
    size = 1
    for part in parts:
        if isinstance(part, Test):
            set_bits |= ends[part]
        elif isinstance(part, Not) and isinstance(part.part, Test):
            unset |= ends[part.part]
        elif isinstance(part, Not):
            meets, inner = _compiled(part.part, ends)
            others.append(_opposite(meets))
            size += inner
        else:
            meets, inner = _compiled(part, ends)
            others.append(meets)
            size += inner

    if isinstance(condition, AnyOf):
        return (
            lambda bits: (
                bool(bits & set_bits) or bits & unset != unset or any(one(bits) for one in others)
            ),
            size,
        )
    return (
        lambda bits: (
            bits & set_bits == set_bits and not bits & unset and all(one(bits) for one in others)
        ),
        size,
    )


def _opposite(meets: Callable[[int], bool]) -> Callable[[int], bool]:
    return lambda bits: not meets(bits)


def _glob_of(test: Test) -> Glob:
    return test.value if isinstance(test.value, tuple) else (str(test.value),)


def _characters() -> Iterator[str]:
    """Returns characters, the plain ones first; more than patterns of bounded length name."""
    spans = (range(0x61, 0x7B), range(0x30, 0x3A), range(0xE0, 0x180), range(0x4E00, 0x9F00))
    return map(chr, chain(*spans))
