"""Exact questions about languages: is there a resource in a pattern that meets a condition?

`find` is the one primitive. "The permits cover the request" is that no resource of
the request meets "no permit holds"; "a forbid touches it" that some resource meets
the forbid. A condition is any combination of comparisons of the resource's own
attributes; nothing is approximated, and what is too complex raises `Undecided`.

Paths and names are searched with an automaton, see `text_search`. Hosts need none,
because any two host patterns are nested or disjoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, count

from omnibase.core.security.capabilities import CapabilityType
from omnibase.core.security.conditions import (
    Condition,
    Test,
    comparisons,
    evaluate,
)
from omnibase.core.security.database_patterns import DatabasePattern
from omnibase.core.security.host_patterns import HostPattern, host_contains, host_keys
from omnibase.core.security.metering import MAX_STEPS, Meter, Undecided
from omnibase.core.security.name_patterns import MAX_SIZE, SecretPattern, SizePattern
from omnibase.core.security.path_patterns import NamePattern, PathPattern
from omnibase.core.security.patterns import Pattern
from omnibase.core.security.text_search import find_text
from omnibase.errors import CapabilityError

__all__ = ["MAX_STEPS", "Meter", "Undecided", "attributes_of", "find", "is_concrete"]

MAX_PORT = 65535


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
    if type in (CapabilityType.DATABASE_READ, CapabilityType.DATABASE_WRITE):
        return _find_database(within, condition, own)
    is_path = type in (CapabilityType.FILE_READ, CapabilityType.FILE_WRITE)
    asked = within if isinstance(within, PathPattern | NamePattern) else None
    return find_text(asked, condition, is_path, own)


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


# --- databases ---------------------------------------------------------------------------

# What all addresses look like, and more than they; of those of servers the plainest first.
_SQLITE = (NamePattern(("sqlite:",), deep=True),)
_POSTGRES = tuple(
    NamePattern.parse(f"postgres://?*@{server}/?*")
    for server in ("a*:5432", "a*:1", "?*:5432", "?*:1", "?*:?*")
)


def _find_database(within: Pattern | None, condition: Condition, meter: Meter) -> str | None:
    def meets(address: str) -> bool:
        return evaluate(condition, lambda test: test.holds(address))

    if isinstance(within, DatabasePattern):
        return within.text if meets(within.text) else None
    unsure = False
    for asked in (*_SQLITE, *_POSTGRES):
        found = find_text(asked, condition, False, meter)
        # A name may end with `/`, a path does not.
        for text in () if found is None else (found, f"{found}a"):
            if _is_address(text) and meets(text):
                return text
        unsure |= found is not None
    if unsure:
        raise Undecided("no database was found that shows it")
    return None


def _is_address(text: str) -> bool:
    try:
        return DatabasePattern.parse(text).text == text
    except CapabilityError:
        return False


def is_concrete(pattern: Pattern) -> bool:
    """Says whether a pattern is one resource, which the engine can be asked about."""
    # A secret without a host stands for the one with any host, too.
    return pattern.is_literal and not (isinstance(pattern, SecretPattern) and not pattern.host)
