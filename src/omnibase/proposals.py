"""What a run proposes to a registry: new drafts, appended if the run was a clean one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omnibase.core import events
from omnibase.core.registry.checks import check_name
from omnibase.core.registry.proposal import MAX_PROPOSAL_BYTES, parse_proposal
from omnibase.core.registry.store import MAX_SCRIPT_BYTES
from omnibase.core.sandbox.collect.reports import Collected, Left
from omnibase.core.sandbox.result import Proposed
from omnibase.core.sandbox.runner import Ended
from omnibase.core.security.capabilities import CapabilityType
from omnibase.errors import OmniBaseError
from omnibase.registry_access import Registry, opened

if TYPE_CHECKING:
    from omnibase.core.registry import RegistryStore

__all__ = ["Proposals"]

_WRITE: Final = CapabilityType.REGISTRY_WRITE.value
_RECORD, _SCRIPT = "component.json", "script.py"
_LIMITS: Final = {_RECORD: MAX_PROPOSAL_BYTES, _SCRIPT: MAX_SCRIPT_BYTES}
_SHAPE: Final = f"a proposal is `NAME/{_RECORD}` and `NAME/{_SCRIPT}`"


class Proposals:
    """Takes what one run leaves in ``/registry/out``, and adds it once the run is over.

    Args:
        registry: The one that decided, or the implied one.
        proposer: Who proposes: a component, if one runs.
        emitter: Of the run.

    Raises:
        ConfigurationError: There is no registry.
    """

    def __init__(self, registry: Registry, proposer: str | None, emitter: events.Emitter) -> None:
        self._registry = registry
        self._emitter = emitter
        self._author = f"run:{emitter.runid}"
        self._owner = f"component:{proposer}" if proposer else self._author
        self._files: dict[str, dict[str, bytes]] = {}
        self._faults: dict[str, str] = {}
        with opened(registry):
            pass

    def stage(self, directory: Path) -> None:
        """Gives nothing; see `record.Exchange`."""

    def take(self, collected: Iterable[Collected], left: Iterable[Left]) -> None:
        """Reads what the script left, while it is there; see `record.Exchange`."""
        for one in left:
            if one.capability == _WRITE and not one.denied:
                self._fault(one.name, f"`{one.name}` {one.reason}")
        for file in collected:
            if file.capability != _WRITE:
                continue
            name, _, part = file.name.partition("/")
            limit = _LIMITS.get(part)
            if limit is None:
                self._fault(file.name, f"`{file.name}` is no part of one: {_SHAPE}")
            elif file.size > limit:
                self._fault(file.name, f"`{part}` is larger than {limit >> 10} KiB")
            else:
                self._files.setdefault(name, {})[part] = file.path.read_bytes()

    def _fault(self, path: str, reason: str) -> None:
        self._faults.setdefault(path.partition("/")[0], reason)

    def finish(self, ended: Ended) -> tuple[Proposed, ...]:
        """Adds what was proposed, or says why not, and puts either on record.

        Args:
            ended: The run: what a run leaves that failed, or that tried what it was not
                granted, is not added.
        """
        names = sorted({*self._files, *self._faults})
        if not names:
            return ()
        unclean = _unclean(ended)
        if unclean is not None:
            return tuple(self._refused(name, unclean) for name in names)
        try:
            with opened(self._registry) as store:
                return tuple(self._decide(store, name) for name in names)
        except OmniBaseError as error:
            return tuple(self._refused(name, error.message) for name in names)

    def _decide(self, store: RegistryStore, name: str) -> Proposed:
        fault, files = self._faults.get(name), self._files.get(name, {})
        if fault is None and set(files) != set(_LIMITS):
            fault = f"it has no `{_RECORD if _RECORD not in files else _SCRIPT}`: {_SHAPE}"
        if fault is not None:
            return self._refused(name, fault)
        try:
            check_name(name)
            component = parse_proposal(files[_RECORD], name=name, owner=self._owner)
            comment = f"proposed by {self._owner}"
            component = store.add(component, author=self._author, comment=comment)
            component = store.add_script(
                component.uuid, _SCRIPT, files[_SCRIPT], author=self._author, comment=comment
            )
        except OmniBaseError as error:
            return self._refused(name, error.message)
        self._emitter.emit(
            events.RegistryAdded(
                component=str(component.uuid),
                reference=component.reference,
                script_sha256=component.artifacts["entrypoint"],
            )
        )
        return Proposed(name=name, reference=component.reference, uuid=str(component.uuid))

    def _refused(self, name: str, reason: str) -> Proposed:
        self._emitter.emit(events.RegistryRefused(name=name, reason=reason))
        return Proposed(name=name, reason=reason)


def _unclean(ended: Ended) -> str | None:
    """Says why nothing of a run is added, if nothing is."""
    result = ended.result
    if ended.fault is not None or ended.cause != "exit":
        return "the run did not come to its own end"
    if result.exit_code:
        return f"the script ended with {result.exit_code}"
    if result.violations or result.trace_dropped:
        return "the script tried what it was not granted"
    return "the run reached a limit" if result.limits else None
