"""A grammar of attempts and of capability sets, and what has to come of each: the oracle.

The oracle is a reference of its own: it knows the few forms that the grammar has, by
regular expressions, and nothing of the code that decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hypothesis import strategies as st

FILES = ("a.txt", "b.csv", "d/c.txt", "d/deep/e.txt")
PATTERNS = (*FILES, "*.txt", "d/*", "d/deep/*.txt", "**", "d/**")
NEW = ("new.txt", "d/new.txt", "d/deep/new.txt")
MASK = "d/deep"
SECRETS = ("ONE", "TWO")
PORTS = (0, 1)
COMMANDS = ("true", "sh")
ARTIFACTS = ("x.txt", "y.txt", "z.csv")

# number, arguments, what it is on record as; the filter ends whoever makes the last ones
CALLS: tuple[tuple[int, tuple[int | str, ...], str], ...] = (
    (165, ("none", "/tmp", "tmpfs", 0, 0), "mount"),
    (101, (16, 1, 0, 0), "ptrace"),
    (272, (0x10000000,), "unshare"),
    (308, (0, 0), "setns"),
    (161, ("/tmp",), "chroot"),
    (105, (0,), "setuid"),
    (62, (1, 9), "kill"),
    (170, ("x", 1), "sethostname"),
    (319, ("x", 0), "seccomp"),
    (90, ("/tmp", 0o4755), "seccomp"),
)

Kind = Literal[
    "read", "write", "create", "connect", "send", "look_up", "execute", "secret", "call", "leave"
]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing that a script tries.

    Attributes:
        kind: What.
        target: On what: a name within the area, an index, a name.
        way: By which way round.
        where: ``here``, in a ``thread``, in a ``child``.
    """

    kind: Kind
    target: str | int
    way: str = ""
    where: str = "here"


@dataclass(frozen=True, slots=True)
class Grants:
    """A capability set in the grammar's words, relative to an area and its ports.

    Attributes:
        read: Patterns.
        write: Patterns.
        ports: Indices.
        secrets: Names.
        commands: Names.
        artifacts: Patterns.
        masked: Whether `MASK` is taken out of a granted tree.
    """

    read: frozenset[str]
    write: frozenset[str]
    ports: frozenset[int]
    secrets: frozenset[str]
    commands: frozenset[str]
    artifacts: frozenset[str]
    masked: bool

    def texts(self, area: Path, ports: tuple[int, ...]) -> list[str]:
        """Writes them as capabilities."""
        return [
            "MEMORY:128MiB",
            *(f"FILE_READ:{area}/{pattern}" for pattern in sorted(self.read)),
            *(f"FILE_WRITE:{area}/{pattern}" for pattern in sorted(self.write)),
            *(f"NETWORK_CONNECT:127.0.0.1:{ports[index]}" for index in sorted(self.ports)),
            *(f"SECRET_ACCESS:{name}" for name in sorted(self.secrets)),
            *(f"EXTERNAL_COMMAND:{name}" for name in sorted(self.commands)),
            *(f"ARTIFACT_WRITE:{pattern}" for pattern in sorted(self.artifacts)),
        ]


def _matches(patterns: Iterable[str], name: str) -> bool:
    for pattern in patterns:
        text = re.escape(pattern).replace(r"\*\*", ".+").replace(r"\*", "[^/]*")
        if re.fullmatch(text, name):
            return True
    return False


def _within(patterns: Iterable[str], name: str) -> bool:
    """Whether a file that is made there is within a granted tree: no glob takes one in."""
    return _matches((pattern for pattern in patterns if pattern.endswith("**")), name)


def granted(attempt: Attempt, grants: Grants) -> bool:
    """Whether an attempt has to succeed."""
    target = str(attempt.target)
    if grants.masked and target.startswith(f"{MASK}/"):
        return False
    match attempt.kind:
        case "read":
            return _matches(grants.read | grants.write, target)
        case "write":
            return _matches(grants.write, target)
        case "create":
            return _within(grants.write, target.partition(" ")[0])
        case "connect":
            return attempt.target in grants.ports
        case "execute":
            return target in grants.commands
        case "secret":
            return target in grants.secrets
        case "leave":
            return _matches(grants.artifacts, target)
    return False


def on_record(attempt: Attempt, area: Path, ports: tuple[int, ...]) -> tuple[str, bool]:
    """What an attempt that is not granted is on record as, and whether it has to be.

    A link of the script's own hides where it leads from the trace; what is behind it is
    refused all the same, and told if the refusal shows that it was more than missing.
    """
    target = str(attempt.target)
    match attempt.kind:
        case "read" | "write" | "create":
            kind = "FILE_READ" if attempt.kind == "read" else "FILE_WRITE"
            return f"{kind}:{area}/{target.partition(' ')[0]}", attempt.way != "link"
        case "connect":
            return f"NETWORK_CONNECT:127.0.0.1:{ports[int(target)]}", True
        case "send":
            return "sendto", True
        case "look_up":
            return f"NETWORK_CONNECT:{target}:443", True
        case "execute":
            return f"EXTERNAL_COMMAND:{target}", True
        case "secret":
            return f"SECRET_ACCESS:{target}", True
        case "leave":
            return f"ARTIFACT_WRITE:{target}", True
        case "call":
            return CALLS[int(target)][2], True


def line(number: int, attempt: Attempt, area: Path, ports: tuple[int, ...]) -> str:
    """Writes an attempt as a line of a script; see `scripts/fuzz.py`."""
    target, way = attempt.target, attempt.way
    match attempt.kind:
        case "read" | "write" | "create":
            call = f"{attempt.kind}, {f'{area}/{target}'!r}, {way!r}"
        case "connect":
            call = f"connect, '127.0.0.1', {ports[int(target)]}, {way!r}"
        case "send":
            call = "send, '203.0.113.7', 53"
        case "look_up":
            call = f"look_up, {target!r}, 443"
        case "execute":
            call = f"execute, {target!r}, {way!r}"
        case "secret":
            call = f"read, {f'/run/secrets/{target}'!r}, 'plain'"
        case "leave":
            call = f"leave, {target!r}"
        case "call":
            sysno, arguments, _ = CALLS[int(target)]
            call = ", ".join(["call", str(sysno), *map(repr, arguments)])
    return f"attempt({number}, {attempt.where!r}, {call})"


_WAYS = ("plain", "..", "/proc", "directory", "C", "link")
_WHERE = st.sampled_from(["here", "thread", "child"])


def _of(kind: Kind, targets: Iterable[str | int], *ways: str) -> st.SearchStrategy[Attempt]:
    way = st.sampled_from(ways or ("",))
    return st.builds(Attempt, st.just(kind), st.sampled_from(list(targets)), way, _WHERE)


ATTEMPTS: st.SearchStrategy[Attempt] = st.one_of(
    _of("read", FILES, *_WAYS),
    _of("write", FILES, *_WAYS),
    _of("create", NEW, "plain", "..", "directory", "C"),
    _of("connect", PORTS, "plain", "C"),
    _of("send", ["203.0.113.7"]),
    _of("look_up", ["fuzz.example", "a.fuzz.example"]),
    _of("execute", COMMANDS, "name", "path"),
    _of("secret", SECRETS),
    _of("leave", ARTIFACTS),
    _of("call", range(len(CALLS))),
)


def _some(values: Iterable[str], most: int) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(list(values)), max_size=most)


@st.composite
def grants(draw: st.DrawFn) -> Grants:
    """Draws a capability set; a mask only where a tree holds it, and nothing else below it."""
    read, write = draw(_some(PATTERNS, 3)), draw(_some(PATTERNS, 2))
    patterns = read | write
    maskable = any(pattern in ("**", "d/**") for pattern in patterns) and not any(
        pattern.startswith(MASK) for pattern in patterns
    )
    return Grants(
        read=read,
        write=write,
        ports=draw(st.frozensets(st.sampled_from(PORTS))),
        secrets=draw(_some(SECRETS, 2)),
        commands=draw(_some(("true",), 1)),
        artifacts=draw(_some((*ARTIFACTS[:2], "*.txt"), 2)),
        masked=maskable and draw(st.booleans()),
    )


# Lists in a list: more attempts a script, and each still shrinks to nothing.
PROGRAMS: st.SearchStrategy[list[Attempt]] = st.lists(
    st.lists(ATTEMPTS, min_size=1, max_size=6), min_size=1, max_size=4
).map(lambda lists: [attempt for attempts in lists for attempt in attempts])
