"""Decides recorded runs again: which would have gone otherwise under another policy."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console
from omnibase.cli.policy_words import aligned, counted, note, say
from omnibase.errors import ConfigurationError, OmniBaseError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omnibase.core.events import Event, PolicyDecided
    from omnibase.core.security.capabilities import Capability
    from omnibase.core.security.policy import Policy

__all__ = ["Difference", "Replay", "Run"]

MAX_LISTED: Final = 10_000
"""Runs that JSON lists; the others are counted."""

_TRUNCATED: Final = re.compile(r"\.\.\.\[truncated, [0-9]+ (items|characters)\]\Z")
_CHUNK: Final = 1 << 20


class _Incomparable(Exception):
    """A record does not say all that would have to be decided again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A capability that would get another answer.

    Attributes:
        capability: What was asked for.
        was: ``granted``, ``masked`` or ``denied``, as recorded.
        would_be: The same by the new policy.
        masks: What was covered of it, and what would be.
    """

    capability: str
    was: str
    would_be: str
    masks: tuple[tuple[str, ...], tuple[str, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Returns the difference as JSON-ready data."""
        return {
            "capability": self.capability,
            "was": self.was,
            "would_be": self.would_be,
            "masks_were": list(self.masks[0]),
            "masks_would_be": list(self.masks[1]),
        }

    def __str__(self) -> str:
        sides = zip((self.was, self.would_be), self.masks, strict=True)
        return " → ".join(word + _listed(masks) for word, masks in sides)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A recorded run that would have gone otherwise, or that cannot be compared.

    Attributes:
        event: The record.
        differences: What would be otherwise.
        problem: Why it cannot be compared, or ``None``.
    """

    event: Event
    differences: tuple[Difference, ...] = ()
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the run as JSON-ready data."""
        return {
            "run_id": self.event.runid,
            "time": self.event.time,
            "subject": self.event.subject,
            "differences": [one.to_dict() for one in self.differences],
            "problem": self.problem,
        }


class Replay:
    """One reading of an audit file, which may be larger than memory.

    Attributes:
        policy: What decides again.
        path: The file.
        runs: Decisions on record about the policy's component, so far.
        differing: Those of them that would have gone otherwise.
        incomparable: Those of them that cannot be compared.
        unreadable: Lines that are no events of ours: torn, foreign or too long.
    """

    def __init__(self, policy: Policy, path: str) -> None:
        """Raises `ConfigurationError` if the file cannot be read."""
        self.policy, self.path = policy, path
        self.runs = self.differing = self.incomparable = self.unreadable = 0
        self._fd = _open(path)

    @property
    def differs(self) -> bool:
        """Whether anything went otherwise, or may have."""
        return bool(self.differing or self.incomparable)

    def __iter__(self) -> Iterator[Run]:
        """Yields the runs that differ or cannot be compared, as the file is read; once."""
        from omnibase.core.events import Event, PolicyDecided

        component = str(self.policy.principal)
        for line in self._lines():
            try:
                event = None if line is None else Event.from_json(line)
            except ValueError:
                event = None
            if event is None:
                self.unreadable += 1
            elif isinstance(event.data, PolicyDecided) and event.componentid == component:
                self.runs += 1
                try:
                    differences = self._decide(event.data)
                except _Incomparable as problem:
                    self.incomparable += 1
                    yield Run(event=event, problem=str(problem))
                else:
                    if differences:
                        self.differing += 1
                        yield Run(event=event, differences=differences)

    def show(self) -> None:
        """Prints each run when it is found, and how many there were."""
        say(console.colour("bold", f"recorded runs in {console.printable(self.path)}", 1))
        for run in self:
            subject = console.printable(run.event.subject or "", 200)
            say(f"  {run.event.time}  {run.event.runid}  {subject}".rstrip())
            if run.problem is not None:
                say(f"    not comparable: {console.printable(run.problem, 2000)}")
            for line in aligned((one.capability, str(one)) for one in run.differences):
                say(f"    {line}")
        say(
            f"{counted(self.runs, 'run')} decided again: {self.differing} would have gone "
            f"otherwise, {self.incomparable} cannot be compared"
        )

    def tell(self) -> None:
        """Says on standard error what of the file was of no use."""
        if self.unreadable:
            lines = counted(self.unreadable, "line")
            note(f"{lines} of `{self.path}` {'is' if self.unreadable == 1 else 'are'} no event")
        if not self.runs:
            note(
                f"`{self.path}` has no decision about component `{self.policy.principal}`",
                "record runs with `omnibase run COMPONENT --events FILE`",
            )

    def to_dict(self) -> dict[str, Any]:
        """Reads the file and returns all that was found as JSON-ready data."""
        listed: list[dict[str, Any]] = []
        for run in self:
            if len(listed) < MAX_LISTED:
                listed.append(run.to_dict())
        return {
            "audit": self.path,
            "runs": self.runs,
            "differing": self.differing,
            "incomparable": self.incomparable,
            "unreadable_lines": self.unreadable,
            "unlisted": self.differing + self.incomparable - len(listed),
            "listed": listed,
        }

    def _lines(self) -> Iterator[bytes | None]:
        """Yields the lines that the file had when it was opened; ``None``: one too long."""
        from omnibase.core.events.model import MAX_LINE_BYTES

        try:
            with open(self._fd, "rb", buffering=_CHUNK) as file:
                left = os.fstat(self._fd).st_size
                while left > 0 and (line := file.readline(min(left, MAX_LINE_BYTES + 1))):
                    left -= len(line)
                    part = line
                    while len(line) > MAX_LINE_BYTES and part and not part.endswith(b"\n"):
                        part = file.readline(_CHUNK)
                        left -= len(part)
                    if part is not line:
                        yield None
                    elif line.strip():
                        yield line.removesuffix(b"\n")
        except OSError as error:
            raise _unreadable(self.path, error.strerror or str(error)) from None

    def _decide(self, recorded: PolicyDecided) -> tuple[Difference, ...]:
        from omnibase.core.security.capabilities import CapabilitySet
        from omnibase.core.security.decision import Outcome, PolicyContext

        requested = {str(one): one for one in map(_capability, _whole(recorded))}
        was = dict.fromkeys(recorded.granted, True) | dict.fromkeys(recorded.denied, False)
        if was.keys() != requested.keys() or len(was) != len(recorded.granted + recorded.denied):
            raise _Incomparable("what was granted and denied is not what was requested")
        try:
            context = PolicyContext(
                trust=recorded.trust,
                lifecycle=recorded.lifecycle,
                environment=recorded.environment,
            )
        except ConfigurationError as error:
            raise _Incomparable(error.message) from None
        decision = self.policy.decide(
            self.policy.principal, CapabilitySet(requested.values()), context
        )
        masks = tuple(mask.pattern for verdict in decision.verdicts for mask in verdict.masks)
        found = []
        for verdict in decision.verdicts:
            name = str(verdict.capability)
            one = Difference(
                capability=name,
                was="granted" if was[name] else "denied",
                would_be="denied" if verdict.outcome is Outcome.DENIED else "granted",
                masks=(_inside(name, recorded.masks), _inside(name, masks)),
            )
            one = _with_masks(one)
            if (one.was, one.masks[0]) != (one.would_be, one.masks[1]):
                found.append(one)
        return tuple(found)


def _with_masks(one: Difference) -> Difference:
    """Returns it with masks only where something is granted."""
    words, masks = [], []
    for word, inside in zip((one.was, one.would_be), one.masks, strict=True):
        masks.append(() if word == "denied" else inside)
        words.append("masked" if masks[-1] else word)
    return replace(one, was=words[0], would_be=words[1], masks=(masks[0], masks[1]))


def _inside(capability: str, masks: Iterable[str]) -> tuple[str, ...]:
    """Returns the masks within a tree: whoever is granted it finds them covered."""
    kind, _, resource = capability.partition(":")
    if not kind.startswith("FILE_") or not resource.endswith("/**"):
        return ()
    return tuple(sorted({mask for mask in masks if mask.startswith(resource[:-2])}))


def _whole(recorded: PolicyDecided) -> tuple[str, ...]:
    """Returns what was requested, if the record is whole."""
    for name in ("requested", "granted", "masks", "denied"):
        for text in getattr(recorded, name):
            if _TRUNCATED.search(text):
                raise _Incomparable(f"the record is truncated: `{name}` has `{text[-60:]}`")
    return recorded.requested


def _capability(text: str) -> Capability:
    from omnibase.core.security.capabilities import Capability

    try:
        found = Capability.parse(text)
    except OmniBaseError as error:
        raise _Incomparable(error.message) from None
    if str(found) != text:
        raise _Incomparable(f"`{text}` is not in canonical form")
    return found


def _listed(masks: tuple[str, ...]) -> str:
    more = f" and {len(masks) - 3} more" if len(masks) > 3 else ""
    return " (without " + ", ".join(masks[:3]) + more + ")" if masks else ""


def _open(path: str) -> int:
    try:
        # Opening a FIFO must not wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from None
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise _unreadable(
            path, "it is a directory" if stat.S_ISDIR(mode) else "it is not a regular file"
        )
    return fd


def _unreadable(path: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"`--replay {path}` cannot be read: {reason.lower()}",
        hint="name a file that `omnibase run --events` wrote",
    )
