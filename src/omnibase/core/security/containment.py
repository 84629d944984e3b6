"""Exact questions about languages: is there a resource in a pattern that meets a condition?

`find` is the one primitive. "The permits cover the request" is that no resource of
the request meets "no permit holds"; "a forbid touches it" that some resource meets
the forbid. A condition is any combination of comparisons of the resource's own
attributes; nothing is approximated, and what is too complex raises `Undecided`.

Paths and names are searched with an automaton: all ``like`` patterns of the
condition and the request advance together, one bit per position, so that a state
is a single number; the condition is evaluated where a text may end. Hosts need no
automaton, because any two host patterns are nested or disjoint.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, count

from omnibase.core.security.capabilities import CapabilityType
from omnibase.core.security.conditions import (
    Condition,
    Glob,
    Test,
    comparisons,
    evaluate,
    simplify,
)
from omnibase.core.security.host_patterns import HostPattern, host_contains, host_keys
from omnibase.core.security.name_patterns import MAX_SIZE, SecretPattern, SizePattern
from omnibase.core.security.path_patterns import NamePattern, PathPattern
from omnibase.core.security.patterns import Pattern
from omnibase.core.security.segments import SegmentPattern

__all__ = ["MAX_STEPS", "Meter", "Undecided", "attributes_of", "find", "is_concrete"]

MAX_STEPS = 60_000
"""Transitions or evaluations that one question may take (some 0.3 s) before it is given up."""

MAX_PORT = 65535


class Undecided(Exception):
    """A question is too complex to be answered within the bound."""


class Meter:
    """Counts steps, for one question or for several together."""

    def __init__(self, left: int = MAX_STEPS, whole: Meter | None = None) -> None:
        self.left, self.whole = left, whole

    def spend(self, steps: int) -> None:
        """Takes steps off; raises `Undecided` if there are none left."""
        self.left -= steps
        if self.left < 0:
            raise Undecided("it is too complex to be decided within the bound")
        if self.whole is not None:
            self.whole.spend(steps)


def attributes_of(type: CapabilityType, concrete: str) -> dict[str, str | int]:
    """Returns a concrete resource's attributes, as the engine is asked about them.

    Raises:
        CapabilityError: The resource is malformed.
    """
    if type in (CapabilityType.FILE_READ, CapabilityType.FILE_WRITE):
        return {"path": concrete}
    if type is CapabilityType.NETWORK_CONNECT:
        endpoint = HostPattern.parse(concrete)
        return {"host": endpoint.host, "port": endpoint.low}
    if type is CapabilityType.SECRET_ACCESS:
        use = SecretPattern.parse(concrete)
        # Without a host the script itself has the secret.
        return {"name": use.name, "host": use.host or ""}
    if type is CapabilityType.MEMORY:
        return {"bytes": SizePattern.parse(concrete).bytes}
    return {"name": concrete}


def find(
    type: CapabilityType, within: Pattern | None, condition: Condition, meter: Meter | None = None
) -> str | None:
    """Returns a concrete resource that a pattern matches and a condition holds for.

    Args:
        type: What the resource is of.
        within: The pattern; ``None`` for every resource of the type.
        condition: Without tests of the context.
        meter: Bounds several questions together; each has its own bound, too.

    Returns:
        The resource as text, for texts one of the shortest; ``None`` if there is none.

    Raises:
        Undecided: The question is too complex.
    """
    own = Meter(whole=meter)
    if type is CapabilityType.NETWORK_CONNECT:
        return _find_endpoint(within, condition, own)
    if type is CapabilityType.SECRET_ACCESS:
        return _find_secret(within, condition, own)
    if type is CapabilityType.MEMORY:
        return _find_size(within, condition, own)
    is_path = type in (CapabilityType.FILE_READ, CapabilityType.FILE_WRITE)
    return _find_text(within, condition, is_path, own)


# --- sizes -----------------------------------------------------------------------------


def _cuts(condition: Condition, attribute: str, low: int, high: int) -> list[tuple[int, int]]:
    """Splits a range of numbers where some comparison of the condition changes."""
    starts = {low}
    for test in comparisons(condition):
        if test.attribute == attribute and isinstance(test.value, int):
            starts |= {test.value, test.value + 1}
    inside = sorted(start for start in starts if low <= start <= high)
    return list(zip(inside, [start - 1 for start in inside[1:]] + [high], strict=True))


def _find_size(within: Pattern | None, condition: Condition, meter: Meter) -> str | None:
    most = within.bytes if isinstance(within, SizePattern) else MAX_SIZE
    cost = _cost(condition)
    for _, last in reversed(_cuts(condition, "bytes", 1, most)):
        meter.spend(cost)
        if evaluate(condition, lambda test, size=last: test.holds(size)):  # type: ignore[misc]
            return SizePattern(last).text
    return None


def _cost(condition: Condition) -> int:
    """Steps of one evaluation: a test is cheaper than a transition."""
    return 1 + sum(1 for _ in comparisons(condition)) // 8


# --- hosts -----------------------------------------------------------------------------


def _host_of(test: Test) -> str:
    """Returns the host pattern, in the capability's syntax, that a comparison stands for."""
    if isinstance(test.value, tuple):
        return "*" + (test.value[1] or "") if len(test.value) == 2 else "*"
    return str(test.value)


def _fresh_host(node: str, others: list[str]) -> str | None:
    """Returns a host of a pattern that is in none of the others, all of them inside it."""
    if not node.startswith("*"):
        return node
    base = node[1:]
    taken = {host[: -len(base)].rpartition(".")[2] if base else host.removeprefix("*.")
             for host in others}  # fmt: skip
    if not base:
        taken |= {host.rpartition(".")[2] for host in taken}
    fresh = next(label for label in _labels() if label not in taken) + base
    return fresh if len(fresh) <= 253 else None


def _labels() -> Iterator[str]:
    return chain("abcdefghijklmnopqrstuvwxyz", (f"a{number}" for number in count()))


def _host_cells(within: str, condition: Condition) -> Iterator[str]:
    """Yields a host for each way in which the comparisons of hosts can come out."""
    nodes = {within} | {
        _host_of(test)
        for test in comparisons(condition)
        if test.attribute == "host" and test.value != ""
    }
    inside = [node for node in nodes if host_contains(within, node)]
    # The widest first: what a condition leaves out is mostly there.
    for node in sorted(inside, key=lambda host: (host != within, host)):
        below = [other for other in inside if other != node and host_contains(node, other)]
        fresh = _fresh_host(node, below)
        if fresh is None:
            raise Undecided(f"the host `{node}` is too long")
        yield fresh


def _judge(**actual: str | int) -> Callable[[Test], bool]:
    keys = set(host_keys(str(actual["host"]))) if actual.get("host") else set()

    def judge(test: Test) -> bool:
        if test.attribute == "host" and test.value != "" and keys:
            return _host_of(test) in keys
        return test.holds(actual[test.attribute])

    return judge


def _find_endpoint(within: Pattern | None, condition: Condition, meter: Meter) -> str | None:
    asked = within if isinstance(within, HostPattern) else HostPattern("*", 1, MAX_PORT)
    ports = _cuts(condition, "port", asked.low, asked.high)
    cost = _cost(condition)
    for host in _host_cells(asked.host, condition):
        for first, _ in ports:
            meter.spend(cost)
            if evaluate(condition, _judge(host=host, port=first)):
                return f"{host}:{first}"
    return None


def _find_secret(within: Pattern | None, condition: Condition, meter: Meter) -> str | None:
    if isinstance(within, SecretPattern):
        names, plain, hosts = [within.name], within.host is None, within.host or "*"
    else:
        known = {str(t.value) for t in comparisons(condition) if t.attribute == "name"}
        other = next(name for name in ("OTHER" + "_" * n for n in range(250)) if name not in known)
        names, plain, hosts = [other, *sorted(known)], True, "*"
    cost = _cost(condition)
    for name in names:
        if plain and evaluate(condition, _judge(name=name, host="")):
            return name
        for host in _host_cells(hosts, condition):
            meter.spend(cost)
            if evaluate(condition, _judge(name=name, host=host)):
                return f"{name}@{host}"
    return None


# --- paths and names -------------------------------------------------------------------


def _find_text(
    within: Pattern | None, condition: Condition, is_path: bool, meter: Meter
) -> str | None:
    asked = within if isinstance(within, PathPattern | NamePattern) else None
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
        self.condition, self.is_path = condition, is_path
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
        return evaluate(self.condition, lambda test: bool(bits & self.ends[test]))

    def run(self, meter: Meter) -> str | None:
        queue = deque([("", _BEGIN, self.start)])
        seen = {(_BEGIN, self.start)}
        while queue:
            word, place, bits = queue.popleft()
            if self._accepts(place, bits):
                return word
            # A letter that no pattern waits for here does what any other letter does.
            live = [c for c in self.letters if c in "/." or bits & self.literal[c]]
            meter.spend(1 + len(live) + len(self.ends) // 8)
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


def _glob_of(test: Test) -> Glob:
    return test.value if isinstance(test.value, tuple) else (str(test.value),)


def _characters() -> Iterator[str]:
    """Returns characters, the plain ones first; more than patterns of bounded length name."""
    spans = (range(0x61, 0x7B), range(0x30, 0x3A), range(0xE0, 0x180), range(0x4E00, 0x9F00))
    return map(chr, chain(*spans))


def is_concrete(pattern: Pattern) -> bool:
    """Says whether a pattern is one resource, which the engine can be asked about."""
    # A secret without a host stands for the one with any host, too.
    return pattern.is_literal and not (isinstance(pattern, SecretPattern) and not pattern.host)
