"""Checks a whole registry against its log, while others read and write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from uuid import UUID

from omnibase.core.registry.chain import GENESIS, LogLine, digest
from omnibase.core.registry.changes import check_step
from omnibase.core.registry.model import Action, Component
from omnibase.core.registry.store import Finding, FindingCode, Head, Tampered, Unsettled, Validator
from omnibase.core.registry.view import (
    LOG_FILE,
    Kind,
    Strays,
    View,
    component_file,
    load,
    load_policy,
    parse_stored,
    past_file,
    policy_file,
    version_file,
)
from omnibase.errors import OmniBaseError

__all__ = ["end", "verify"]

MAX_LOG_FINDINGS = 1000

_Opener = Callable[[], AbstractContextManager[View]]


@dataclass(slots=True)
class _Log:
    """What the log says of each component, and what is wrong with the log."""

    end: tuple[int, bytes | None] = (0, None)
    lines: dict[UUID, list[LogLine]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def wrong(self, message: str) -> None:
        self.findings.append(Finding(file=LOG_FILE, code=FindingCode.LOG, message=message))


def verify(
    reading: _Opener, settled: _Opener, *, since: Head | None, validate: Validator | None
) -> list[Finding]:
    """Returns everything that is wrong; see `RegistryStore.verify`.

    Raises:
        Unsettled: Perhaps a write is under way, and who looks may not keep it away.
    """
    try:
        with settled() as view:
            log = _read_log(view, since)
            there = set(view.uuids())
    except Unsettled:
        raise
    except Tampered as error:
        # Without the log, or with a write that cannot be finished, there is
        # nothing to compare the rest with.
        return [error.finding]
    findings: list[Finding] = []
    strays = Strays(set(), set(), set(), {})
    with reading() as view:
        suspects = {
            uuid for uuid in sorted(there | log.lines.keys(), key=str)
            if list(_check(view, uuid, log, strays, validate))
        }  # fmt: skip
    # What was wrong may have been a write under way; now there is none.
    try:
        with settled() as view:
            if end(view) != log.end:
                before, log = log.lines, _read_log(view, since)
                now = set(view.uuids()) | log.lines.keys()
                suspects |= {u for u in now if before.get(u) != log.lines.get(u)}
            for uuid in sorted(suspects, key=str):
                findings += _check(view, uuid, log, strays, validate)
            findings += view.strays(strays)
    except Unsettled:
        raise
    except Tampered as error:
        findings.append(error.finding)
    return sorted({*findings, *log.findings})


def end(view: View) -> tuple[int, bytes | None]:
    """Returns the length of the log, and its last line."""
    length = view.length()
    return length, view.line(length) if length else None


def _read_log(view: View, since: Head | None) -> _Log:
    log = _Log(end=end(view))
    seal, count = GENESIS, 0
    for count, raw in enumerate(view.lines(), 1):
        if len(log.findings) >= MAX_LOG_FINDINGS:
            log.wrong(f"it is not read any further than line {count}")
            break
        line = LogLine.decode(raw)
        if line is None:
            log.wrong(f"line {count} is not one that the registry writes")
            continue
        if line.sequence != count or line.sealed(seal) != line.seal:
            log.wrong(f"line {count} does not continue the one before")
        seal = line.seal
        lines = log.lines.setdefault(UUID(line.uuid), [])
        lines.append(line)
        if line.revision != len(lines):
            log.wrong(f"line {count} is of revision {line.revision}, not {len(lines)}")
        if since and count == since.entries and seal != since.sha256:
            log.wrong(f"line {count} is not the one that was noted")
    if since and count < since.entries:
        log.wrong(f"it has {count} lines, and had {since.entries}: it was rolled back")
    return log


def _check(
    view: View, uuid: UUID, log: _Log, strays: Strays, validate: Validator | None
) -> Iterator[Finding]:
    """Yields what is wrong with one component, and notes what it should have."""
    lines = log.lines.get(uuid, [])
    file = component_file(uuid)
    strays.uuids.add(uuid)
    if not lines:
        message = "the log does not know it"
        yield Finding(file=file, code=FindingCode.EXTRA, message=message)
        return
    current: Component | None = None
    try:
        current = load(view, uuid)
        if current is None:
            raise Tampered(file, FindingCode.MISSING, "it is missing")
        if current.revision_number < len(lines):
            message = f"it is revision {current.revision_number} of {len(lines)}"
            raise Tampered(file, FindingCode.ROLLBACK, message)
    except Tampered as error:
        yield error.finding
    expected: set[str] = set()
    names: set[tuple[str, str]] = set()
    latest: Component | None = None
    previous: str | None = None
    for number, line in enumerate(lines, 1):
        expected.add(past_file(uuid, number, "component"))
        try:
            before, latest = latest, _past(view, uuid, line, previous, current)
            # What follows a broken revision cannot be compared with it.
            if (before.revision_number if before else 0) == number - 1:
                check_step(before, latest, past_file(uuid, number, "component"))
            previous = line.sha256
            names.add((latest.name, latest.version.precedence))
            content = _content(latest)
            if content:
                expected.add(past_file(uuid, number, content[0]))
                _kept(view, uuid, number, *content)
        except Tampered as error:
            yield error.finding
    if latest is not None:
        expected |= {latest.entrypoint} if latest.entrypoint else set()
        yield from _check_current(view, latest, strays, validate)
    for name, version in sorted(names):
        strays.versions[name, version] = uuid
        yield from _check_name(view, uuid, name, version)
    try:
        for extra in sorted(view.files(uuid) - expected):
            yield Finding(file=extra, code=FindingCode.EXTRA, message="nothing refers to it")
    except Tampered as error:
        yield error.finding


def _past(
    view: View, uuid: UUID, line: LogLine, previous: str | None, current: Component | None
) -> Component:
    file = past_file(uuid, line.revision, "component")
    data = _kept(view, uuid, line.revision, "component", line.sha256)
    # The current record has been parsed already, and is most of a registry.
    if current is not None and current.revision_number == line.revision:
        component = current
    else:
        component = parse_stored(data, file)
    revision = component.revision
    if (
        component.uuid != uuid
        or revision is None
        or (revision.number, revision.sequence) != (line.revision, line.sequence)
        or revision.previous != previous
    ):
        raise Tampered(file, FindingCode.CHANGED, "it does not follow the revision before")
    return component


def _content(component: Component) -> tuple[Kind, str | None] | None:
    """Returns what a revision brought besides the record, and its digest."""
    action = component.revision.action if component.revision else None
    if action is Action.PUT_POLICY:
        return "policy", component.policy_sha256
    if action is Action.ADD_SCRIPT:
        return "script", component.artifacts.get("entrypoint")
    return None


def _kept(view: View, uuid: UUID, revision: int, kind: Kind, sha256: str | None) -> bytes:
    file = past_file(uuid, revision, kind)
    data = view.past(uuid, revision, kind)
    if data is None:
        raise Tampered(file, FindingCode.MISSING, "it is missing")
    if digest(data) != sha256:
        raise Tampered(file, FindingCode.CHANGED, "it differs from what was written")
    return data


def _check_current(
    view: View, latest: Component, strays: Strays, validate: Validator | None
) -> Iterator[Finding]:
    """Checks the policy and the script that the newest revision calls for."""
    uuid = latest.uuid
    if latest.policy is not None:
        strays.policies.add(uuid)
        try:
            document = load_policy(view, uuid, latest.policy).document
            if validate:
                validate(uuid, document)
        except Tampered as error:
            yield error.finding
        except OmniBaseError as error:
            yield Finding(file=policy_file(uuid), code=FindingCode.POLICY, message=error.message)
    if latest.entrypoint is not None:
        strays.scripts.add(uuid)
        try:
            content = view.script(latest.entrypoint)
            if content is None:
                raise Tampered(latest.entrypoint, FindingCode.MISSING, "it is missing")
            if digest(content) != latest.artifacts["entrypoint"]:
                message = "it differs from what was added"
                raise Tampered(latest.entrypoint, FindingCode.CHANGED, message)
        except Tampered as error:
            yield error.finding


def _check_name(view: View, uuid: UUID, name: str, version: str) -> Iterator[Finding]:
    try:
        holder = view.holder(name, version)
        if holder != uuid:
            code = FindingCode.MISSING if holder is None else FindingCode.SWAPPED
            raise Tampered(version_file(name, version), code, f"it does not name `{uuid}`")
    except Tampered as error:
        yield error.finding
