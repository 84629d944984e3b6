"""The registry as a directory of files that people can read and compare.

Readers take no lock. A writer holds the lock, writes the journal, then each file
by rename, and removes the journal; see `journal`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from omnibase.core.registry import journal
from omnibase.core.registry.chain import LINE_BYTES, LogLine, digest
from omnibase.core.registry.chained import ChainedStore
from omnibase.core.registry.changes import check_free, check_step
from omnibase.core.registry.checks import MAX_COMPONENT_BYTES, is_uuid
from omnibase.core.registry.files import Tree
from omnibase.core.registry.store import (
    MAX_POLICY_BYTES,
    MAX_SCRIPT_BYTES,
    Finding,
    FindingCode,
    Tampered,
    Unsettled,
    Validator,
)
from omnibase.core.registry.view import (
    LOG_FILE,
    Change,
    Kind,
    Strays,
    Transaction,
    View,
    check_line,
    component_file,
    parse_stored,
    past_file,
    policy_file,
    version_file,
)
from omnibase.errors import RegistryError

__all__ = ["FileStore"]

LOCK = ".lock"
_DRAFT = f".{journal.JOURNAL}.tmp"
_LIMITS: dict[Kind, int] = {
    "component": MAX_COMPONENT_BYTES,
    "policy": MAX_POLICY_BYTES,
    "script": MAX_SCRIPT_BYTES,
}
_FOLDERS = ("components", "policies", "scripts", "history", "names")


class FileStore(ChainedStore):
    """A `RegistryStore` in a directory; the embedded default.

    Args:
        root: The directory, e.g. ``registry``; the first write makes it.
        validate: Called with each policy before it is written and after it is read.
        durable: Whether a write is on the disk when it returns. Without, a crash of
            the machine (not of the process) may lose or damage the last writes.
        lock_seconds: How long a write waits for the others.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        validate: Validator | None = None,
        durable: bool = True,
        lock_seconds: float = 30.0,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        options: dict[str, Any] = {"clock": clock} if clock else {}
        super().__init__(validate=validate, **options)
        self.root = os.path.realpath(root)
        self._view = _FileView(Tree(self.root, durable=durable))
        self._lock_seconds = lock_seconds

    @property
    def directory(self) -> str:
        """See `RegistryStore.directory`."""
        return self.root

    def close(self) -> None:
        """Does nothing: between two calls the store holds nothing open."""

    @contextmanager
    def _reading(self) -> Iterator[View]:
        with _io(self.root):
            yield self._view

    @contextmanager
    def _settled(self) -> Iterator[View]:
        tree = self._view.tree
        with _io(self.root), tree.locked(LOCK, self._lock_seconds, make=False) as lock:
            try:
                self._view.recover(writable=lock.writable)
                yield self._view
            except Tampered as error:
                if lock.held:
                    raise
                raise Unsettled(error.finding) from None

    def _may_lock(self) -> bool:
        return self._view.tree.may_open(LOCK)

    @contextmanager
    def _writing(self) -> Iterator[Transaction]:
        tree = self._view.tree
        with _io(self.root), tree.locked(LOCK, self._lock_seconds, make=True):
            self._view.recover(writable=True)
            yield self._view


@contextmanager
def _io(root: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RegistryError(
            f"the registry `{root}` cannot be used: {(error.strerror or str(error)).lower()}",
            details={"reason": "unavailable"},
            hint="check its permissions and the space on its disk",
        ) from error


class _FileView:
    """Reads one registry's files, and writes them for whoever holds the lock."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree

    def record(self, uuid: UUID) -> bytes | None:
        return self.tree.read(_path(component_file(uuid)), MAX_COMPONENT_BYTES)

    def policy(self, uuid: UUID) -> bytes | None:
        return self.tree.read(_path(policy_file(uuid)), MAX_POLICY_BYTES)

    def script(self, entrypoint: str) -> bytes | None:
        return self.tree.read(_path(entrypoint), MAX_SCRIPT_BYTES)

    def past(self, uuid: UUID, revision: int, kind: Kind) -> bytes | None:
        return self.tree.read(_path(past_file(uuid, revision, kind)), _LIMITS[kind])

    def has_past(self, uuid: UUID, revision: int) -> bool:
        return self.tree.exists(_path(past_file(uuid, revision, "component")))

    def line(self, sequence: int) -> bytes | None:
        return self.tree.read_at((LOG_FILE,), (sequence - 1) * LINE_BYTES, LINE_BYTES) or None

    def length(self) -> int:
        size = self.tree.size((LOG_FILE,))
        if size % LINE_BYTES:
            raise Tampered(LOG_FILE, FindingCode.LOG, "it ends within a line")
        if not size and self.tree.names(("components",)):
            raise Tampered(LOG_FILE, FindingCode.MISSING, "it is missing or empty")
        return size // LINE_BYTES

    def lines(self) -> Iterator[bytes]:
        return self.tree.chunks((LOG_FILE,), LINE_BYTES)

    def uuids(self) -> list[UUID]:
        found = (name.partition(".")[0] for name in self.tree.names(("components",)))
        return [UUID(text) for text in found if is_uuid(text)]

    def versions(self, name: str) -> list[str]:
        found = self.tree.names(("names", name))
        # A draft is what a write under way has not renamed yet.
        return [text for text in found if not text.startswith(".")]

    def holder(self, name: str, precedence: str) -> UUID | None:
        file = version_file(name, precedence)
        data = self.tree.read(_path(file), 64)
        if data is None:
            return None
        text = data.decode(errors="replace")
        if not text.endswith("\n") or not is_uuid(text[:-1]):
            raise Tampered(file, FindingCode.CHANGED, "it does not hold a uuid")
        return UUID(text[:-1])

    def files(self, uuid: UUID) -> set[str]:
        return {
            f"{folder}/{uuid}/{name}"
            for folder in ("history", "scripts")
            for name in self.tree.names((folder, str(uuid)))
        }

    def strays(self, expected: Strays) -> Iterator[Finding]:
        uuids = {str(uuid) for uuid in expected.uuids}
        wanted = {
            "components": {f"{uuid}.json" for uuid in uuids},
            "policies": {f"{uuid}.cedar.json" for uuid in expected.policies},
            "scripts": {str(uuid) for uuid in expected.scripts},
            "history": uuids,
            "names": {name for name, _ in expected.versions},
        }
        for name in sorted(self.tree.names(())):
            if name not in (*_FOLDERS, LOG_FILE, LOCK, journal.JOURNAL, _DRAFT):
                yield _extra(name)
        if self.tree.size_unread(LOCK):
            yield Finding(file=LOCK, code=FindingCode.CHANGED, message="it is not empty")
        for folder, names in wanted.items():
            try:
                found = set(self.tree.names((folder,)))
            except Tampered as error:
                yield error.finding
                continue
            for name in sorted(found - names):
                yield _extra(f"{folder}/{name}")
        versions: dict[str, set[str]] = {}
        for name, precedence in expected.versions:
            versions.setdefault(name, set()).add(precedence)
        for name, known in sorted(versions.items()):
            try:
                for text in sorted(set(self.tree.names(("names", name))) - known):
                    yield _extra(f"names/{name}/{text}")
            except Tampered as error:
                yield error.finding

    def recover(self, *, writable: bool) -> None:
        """Finishes the write that a process died in."""
        data = self.tree.read((journal.JOURNAL,), journal.MAX_JOURNAL_BYTES)
        if data is None:
            if writable:
                self.tree.remove((_DRAFT,))
            return
        change = journal.decode(data)
        component = change.component
        before = self.line(change.line.sequence - 1) if change.line.sequence > 1 else None
        previous = LogLine.decode(before) if before is not None else None
        size = self.tree.size((LOG_FILE,))
        start = (change.line.sequence - 1) * LINE_BYTES
        begun = self.tree.read_at((LOG_FILE,), start, LINE_BYTES + 1) or b""
        current = self.record(component.uuid)
        old = component.revision.previous if component.revision else None
        fits = (
            check_line(change, previous)
            and start <= size
            and change.line.encode().startswith(begun)
            and (current == change.record or (digest(current) if current else None) == old)
        )
        if not fits:
            message = "it is not a change that the registry could be in the middle of"
            raise Tampered(journal.JOURNAL, FindingCode.INTERRUPTED, message)
        self._check_journal(change, current)
        if not writable:
            message = "a write was interrupted; its owner has to open the registry"
            raise Tampered(journal.JOURNAL, FindingCode.INTERRUPTED, message)
        self._carry_out(change)

    def _check_journal(self, change: Change, current: bytes | None) -> None:
        """Refuses a journal of what no method of the store could have begun."""
        component = change.component
        number = component.revision_number
        if current == change.record:  # all but done
            current = self.past(component.uuid, number - 1, "component") if number > 1 else None
        try:
            before = None if current is None else parse_stored(current, journal.JOURNAL)
            check_step(before, component, journal.JOURNAL)
            check_free(self, component)
        except (RegistryError, Tampered) as error:
            text = error.message if isinstance(error, RegistryError) else error.finding.message
            message = f"the registry did not write it: {text}"
            raise Tampered(journal.JOURNAL, FindingCode.INTERRUPTED, message) from None
        gone = before.entrypoint if before is not None else None
        if change.replaced != (gone if gone != component.entrypoint else None):
            message = "it removes what it does not replace"
            raise Tampered(journal.JOURNAL, FindingCode.INTERRUPTED, message)

    def apply(self, change: Change) -> None:
        """Makes a change: once the journal is there, it will be made whole."""
        self.tree.write((journal.JOURNAL,), journal.encode(change))
        self._carry_out(change)

    def _carry_out(self, change: Change) -> None:
        component = change.component
        uuid, number = component.uuid, component.revision_number
        write = self.tree.write
        self.tree.write_at(
            (LOG_FILE,), (change.line.sequence - 1) * LINE_BYTES, change.line.encode()
        )
        if change.policy is not None:
            write(_path(past_file(uuid, number, "policy")), change.policy)
            write(_path(policy_file(uuid)), change.policy)
        if change.script is not None and component.entrypoint:
            write(_path(past_file(uuid, number, "script")), change.script)
            write(_path(component.entrypoint), change.script)
        version = version_file(component.name, component.version.precedence)
        if self.tree.read(_path(version), 64) is None:
            write(_path(version), f"{uuid}\n".encode())
        write(_path(past_file(uuid, number, "component")), change.record)
        write(_path(component_file(uuid)), change.record)
        if change.replaced is not None:
            self.tree.remove(_path(change.replaced))
        self.tree.remove((journal.JOURNAL,))


def _path(file: str) -> tuple[str, ...]:
    return tuple(file.split("/"))


def _extra(file: str) -> Finding:
    return Finding(file=file, code=FindingCode.EXTRA, message="nothing refers to it")
