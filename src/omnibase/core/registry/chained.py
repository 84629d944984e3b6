"""The rules of every store: what may change, how it is recorded, what is believed."""

from __future__ import annotations

import builtins
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import TypeVar
from uuid import UUID

from omnibase.core.registry import verification
from omnibase.core.registry.chain import GENESIS, LogLine, digest
from omnibase.core.registry.changes import (
    check_alive,
    check_free,
    check_new,
    check_size,
    check_update,
)
from omnibase.core.registry.checks import (
    MAX_COMPONENT_BYTES,
    MAX_NUMBER,
    MAX_POLICY_HISTORY,
    check_name,
    check_script_name,
    invalid,
)
from omnibase.core.registry.model import (
    Action,
    Component,
    Lifecycle,
    PolicyState,
    PolicyVersion,
    Revision,
)
from omnibase.core.registry.references import find, holders
from omnibase.core.registry.store import (
    MAX_POLICY_BYTES,
    MAX_SCRIPT_BYTES,
    Finding,
    FindingCode,
    Head,
    PolicyDocument,
    Tampered,
    Unsettled,
    Validator,
    conflict,
    missing,
)
from omnibase.core.registry.view import (
    Change,
    Transaction,
    View,
    last_line,
    load,
    load_history,
    load_old_policy,
    load_policy,
)

__all__ = ["ChainedStore"]

_T = TypeVar("_T")


def _now() -> datetime:
    return datetime.now(UTC)


_PATIENCE_SECONDS = 5.0
"""How long a caller who may not lock looks again before it takes a write for tampering."""
_AGAIN_SECONDS = 0.02
_ROUNDS = 5


class ChainedStore(ABC):
    """A `RegistryStore` over whatever can offer a `View` and a `Transaction`."""

    def __init__(
        self, *, validate: Validator | None = None, clock: Callable[[], datetime] = _now
    ) -> None:
        self._validate = validate
        self._clock = clock

    @abstractmethod
    def _reading(self) -> AbstractContextManager[View]:
        """Gives a view that may see a write half done."""

    @abstractmethod
    def _settled(self) -> AbstractContextManager[View]:
        """Gives a view that no write is under way in."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[Transaction]:
        """Gives a view that nobody else writes to; it commits what is applied."""

    @property
    @abstractmethod
    def directory(self) -> str | None:
        """See `RegistryStore.directory`."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of what the store holds open."""

    def _read(self, ask: Callable[[View], _T]) -> _T:
        # What looks wrong may be a write under way: it is wrong if it still is
        # when there is none.
        try:
            with self._reading() as view:
                return ask(view)
        except Tampered:
            pass
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                with self._settled() as view:
                    return ask(view)
            except Unsettled as error:
                if time.monotonic() >= deadline:
                    raise error.error() from None
            except Tampered as error:
                raise error.error() from None
            time.sleep(_AGAIN_SECONDS)

    def get(self, uuid: UUID) -> Component:
        """See `RegistryStore.get`."""
        return self._read(lambda view: _present(view, uuid))

    def find(self, reference: str) -> Component:
        """See `RegistryStore.find`."""
        return self._read(lambda view: find(view, reference))

    def uuids(self, name: str | None = None) -> Iterator[UUID]:
        """See `RegistryStore.uuids`."""

        def ask(view: View) -> set[UUID]:
            return set(view.uuids() if name is None else holders(view, name).values())

        if name is not None:
            check_name(name)
        yield from sorted(self._read(ask), key=attrgetter("int"))

    def list(
        self,
        *,
        name: str | None = None,
        owner: str | None = None,
        lifecycle: Lifecycle | None = None,
    ) -> Iterator[Component]:
        """See `RegistryStore.list`."""
        for uuid in self.uuids(name):
            component = self.get(uuid)
            if owner in (None, component.owner) and lifecycle in (None, component.lifecycle):
                yield component

    def history(self, uuid: UUID) -> tuple[Component, ...]:
        """See `RegistryStore.history`."""
        return self._read(lambda view: load_history(view, _present(view, uuid)))

    def get_policy(self, uuid: UUID, version: int | None = None) -> PolicyDocument:
        """See `RegistryStore.get_policy`."""

        def ask(view: View) -> PolicyDocument:
            component = _present(view, uuid)
            if component.policy is None:
                missing(f"component `{uuid}` has no policy", "put one first", uuid=str(uuid))
            if version in (None, component.policy_version):
                return load_policy(view, uuid, component.policy)
            found = load_old_policy(view, component, version or 0)
            if found is None:
                hint = f"the current version is {component.policy_version}"
                missing(f"component `{uuid}` has no policy version `{version}`", hint)
            return found

        policy = self._read(ask)
        if self._validate:
            self._validate(uuid, policy.document)
        return policy

    def load_entrypoint(self, component: Component) -> bytes:
        """See `RegistryStore.load_entrypoint`."""
        entrypoint, wanted = component.entrypoint, component.artifacts.get("entrypoint")
        if entrypoint is None:
            missing(f"component `{component.uuid}` has no script", "add one first")

        def ask(view: View) -> bytes:
            content = view.script(entrypoint)
            if content is not None and digest(content) == wanted:
                return content
            current = _present(view, component.uuid)
            if current.artifacts.get("entrypoint") != wanted:
                conflict(
                    f"the script of `{component.reference}` has changed since it was looked up",
                    "read the component again",
                )
            if content is None:
                raise Tampered(entrypoint, FindingCode.MISSING, "it is missing")
            message = f"it is not what was added: its digest is `{digest(content)}`"
            raise Tampered(entrypoint, FindingCode.CHANGED, message)

        return self._read(ask)

    def head(self) -> Head:
        """See `RegistryStore.head`."""
        line = self._read(last_line)
        return Head(line.sequence, line.seal) if line else Head(0, GENESIS)

    def verify(self, *, since: Head | None = None) -> builtins.list[Finding]:
        """See `RegistryStore.verify`."""
        # Without the lock a write under way looks like tampering: that does not last. While
        # others write all the time, what is wrong has to be so each time for longer.
        findings: set[Finding] | None = None
        end, rounds, deadline = None, 0, time.monotonic() + _PATIENCE_SECONDS
        while True:
            before = end
            try:
                again, end = self._verify(since)
            except Unsettled as error:  # such a moment says nothing, unless it is all there is
                if time.monotonic() >= deadline:
                    return sorted(findings or {error.finding})
            else:
                findings, rounds = findings & again if findings is not None else again, rounds + 1
                enough = rounds > _ROUNDS and (end == before or time.monotonic() >= deadline)
                if not findings or enough or self._may_lock():
                    return sorted(findings)
            time.sleep(_AGAIN_SECONDS)

    def _verify(self, since: Head | None) -> tuple[set[Finding], object]:
        """Returns what is wrong, and the end of the log after that."""
        found = verification.verify(
            self._reading, self._settled, since=since, validate=self._validate
        )
        try:
            with self._reading() as view:
                return set(found), verification.end(view)
        except Tampered:
            return set(found), None

    def _may_lock(self) -> bool:
        """Says whether the caller can keep others from writing while it looks."""
        return True

    def add(self, component: Component, *, author: str = "", comment: str = "") -> Component:
        """See `RegistryStore.add`."""
        check_new(component)

        def make(view: View) -> Component:
            if load(view, component.uuid) is not None:
                conflict(f"component `{component.uuid}` is already there", "update it")
            check_free(view, component)
            return component

        return self._write(make, Action.ADD, author, comment)

    def update(self, component: Component, *, author: str = "", comment: str = "") -> Component:
        """See `RegistryStore.update`."""

        def make(view: View) -> Component | None:
            current = _present(view, component.uuid)
            if component.revision != current.revision:
                conflict(
                    f"component `{current.uuid}` has changed: it is at revision "
                    f"{current.revision_number}, the update is of {component.revision_number}",
                    "read it again and repeat the change",
                    revision=current.revision_number,
                )
            if component == current:
                return None
            check_update(current, component)
            check_free(view, component)
            return component

        return self._write(make, Action.UPDATE, author, comment) or component

    def retire(self, uuid: UUID, *, author: str = "", comment: str = "") -> Component:
        """See `RegistryStore.retire`."""

        def make(view: View) -> Component | None:
            current = _present(view, uuid)
            if current.lifecycle is Lifecycle.RETIRED:
                return None
            return replace(current, lifecycle=Lifecycle.RETIRED)

        return self._write(make, Action.RETIRE, author, comment) or self.get(uuid)

    def put_policy(
        self,
        uuid: UUID,
        document: bytes,
        *,
        expected_version: int,
        author: str = "",
        comment: str = "",
    ) -> Component:
        """See `RegistryStore.put_policy`."""
        check_size(document, "the policy", MAX_POLICY_BYTES)
        if self._validate:
            self._validate(uuid, document)

        def make(view: View) -> Component:
            current = _present(view, uuid)
            check_alive(current)
            if current.policy_version != expected_version:
                conflict(
                    f"the policy of `{uuid}` is at version {current.policy_version}, "
                    f"not {expected_version}",
                    "read it again and repeat the change",
                    version=current.policy_version,
                )
            return current

        made = self._write(make, Action.PUT_POLICY, author, comment, policy=document)
        return made

    def add_script(
        self, uuid: UUID, name: str, content: bytes, *, author: str = "", comment: str = ""
    ) -> Component:
        """See `RegistryStore.add_script`."""
        check_script_name(name)
        check_size(content, "the script", MAX_SCRIPT_BYTES)
        entrypoint, sha256 = f"scripts/{uuid}/{name}", digest(content)

        def make(view: View) -> Component | None:
            current = _present(view, uuid)
            check_alive(current)
            artifacts = {**current.artifacts, "entrypoint": sha256}
            changed = replace(current, entrypoint=entrypoint, artifacts=artifacts)
            return None if changed == current else changed

        made = self._write(make, Action.ADD_SCRIPT, author, comment, script=content)
        return made or self.get(uuid)

    def _write(
        self,
        make: Callable[[View], _T],
        action: Action,
        author: str,
        comment: str,
        *,
        policy: bytes | None = None,
        script: bytes | None = None,
    ) -> _T:
        """Commits the component that ``make`` returns, if any, as its next revision."""
        try:
            with self._writing() as transaction:
                wanted = make(transaction)
                if isinstance(wanted, Component):
                    stamp = (action, author, comment)
                    change = self._stamped(transaction, wanted, stamp, policy, script)
                    transaction.apply(change)
                    return change.component  # type: ignore[return-value]
                return wanted
        except Tampered as error:
            raise error.error() from None

    def _stamped(
        self,
        view: View,
        wanted: Component,
        stamp: tuple[Action, str, str],
        policy: bytes | None,
        script: bytes | None,
    ) -> Change:
        action, author, comment = stamp
        last = last_line(view)
        time = self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        number, previous, replaced = 1, None, None
        if action is not Action.ADD:
            current = _present(view, wanted.uuid)
            number, previous = current.revision_number + 1, digest(current.to_json())
            if current.entrypoint != wanted.entrypoint:
                replaced = current.entrypoint
        if number > MAX_NUMBER:
            conflict(f"component `{wanted.uuid}` has had {MAX_NUMBER} revisions")
        if policy is not None:
            entry = PolicyVersion(
                version=wanted.policy_version + 1, sha256=digest(policy), revision=number,
                time=time, author=author, comment=comment,
            )  # fmt: skip
            before = wanted.policy.history if wanted.policy else ()
            kept = (*before, entry)[-MAX_POLICY_HISTORY:]
            state = PolicyState(version=entry.version, sha256=entry.sha256, history=kept)
            wanted = replace(wanted, policy=state)
        revision = Revision(
            number=number, sequence=last.sequence + 1 if last else 1, previous=previous,
            action=action, time=time, author=author, comment=comment,
        )  # fmt: skip
        component = replace(wanted, revision=revision)
        record = component.to_json()
        if len(record) > MAX_COMPONENT_BYTES:
            raise invalid(
                f"the component is larger than {MAX_COMPONENT_BYTES} bytes", "$", "make it shorter"
            )
        line = LogLine.after(last, component.uuid, number, record)
        return Change(
            component=component, record=record, line=line,
            policy=policy, script=script, replaced=replaced,
        )  # fmt: skip


def _present(view: View, uuid: UUID) -> Component:
    component = load(view, uuid)
    if component is None:
        missing(f"there is no component `{uuid}`", "see `omnibase registry list`", uuid=str(uuid))
    return component
