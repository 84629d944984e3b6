"""What a run reads of a registry: the components that its grants name, verified, as files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from omnibase.core import events
from omnibase.core.locations import holds_registry, sqlite_file
from omnibase.core.registry import Component, Lifecycle, RegistryStore, open_store
from omnibase.core.sandbox.registry_files import RegistryFile
from omnibase.core.sandbox.spec import RegistryGrant
from omnibase.core.security.path_patterns import NamePattern
from omnibase.errors import CapabilityError, ConfigurationError, RegistryError
from omnibase.inputs import registry_location

__all__ = ["MAX_COMPONENTS", "MAX_SHOWN_BYTES", "Registry", "Shown", "opened", "shown"]

Registry = RegistryStore | str | os.PathLike[str] | None

MAX_COMPONENTS: Final = 256
"""Components, each version counted, that one run is shown."""
MAX_SHOWN_BYTES: Final = 16 << 20
"""Bytes of their scripts and records together."""
_MAX_LOOKED_AT: Final = 10_000
_TRIES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a run is shown.

    Attributes:
        files: The files.
        events: What is said of each component.
    """

    files: tuple[RegistryFile, ...] = ()
    events: tuple[events.Payload, ...] = ()


@contextlib.contextmanager
def opened(registry: Registry) -> Iterator[RegistryStore]:
    """Yields the registry that a run's grants are about.

    Args:
        registry: The one that decided: a store, or where it is; by default
            ``$OMNIBASE_REGISTRY``, else ``registry``.

    Raises:
        ConfigurationError: There is none.
    """
    if isinstance(registry, RegistryStore):
        yield registry
        return
    location = registry_location(registry)
    file = sqlite_file(location) if "://" in location else location
    if file is not None and not holds_registry(file):
        raise ConfigurationError(
            f"there is no registry at `{os.path.abspath(file)}`",
            hint="name one with `OMNIBASE_REGISTRY`; `omnibase registry add` makes one",
        )
    store = open_store(location)
    try:
        yield store
    finally:
        store.close()


def shown(store: RegistryStore, grants: Iterable[RegistryGrant]) -> Shown:
    """Reads what grants name; retired components are not shown.

    Raises:
        CapabilityError: A grant names nothing that is there, or all of them too much.
        RegistryError: Something was tampered with, or the registry cannot be read.
    """
    files: dict[str, bytes] = {}
    told: list[events.Payload] = []
    seen = set()
    room = MAX_SHOWN_BYTES
    for grant in grants:
        try:
            found = list(_named(store, grant))
            for component in found:
                if component.uuid in seen:
                    continue
                seen.add(component.uuid)
                current, script = _whole(store, component)
                record = _record(current, script)
                room -= len(record) + len(script or b"")
                if len(seen) > MAX_COMPONENTS or room < 0:
                    raise _refused(
                        grant,
                        f"shows more than {MAX_COMPONENTS} components or "
                        f"{MAX_SHOWN_BYTES >> 20} MiB of them",
                        "name those that the script reads",
                    )
                place = f"{current.name}/{current.version}"
                files[f"{place}/component.json"] = record
                if script is not None:
                    files[f"{place}/script.py"] = script
                told.append(
                    events.RegistryRead(
                        capability=grant.capability,
                        component=str(current.uuid),
                        reference=current.reference,
                        revision=current.revision_number,
                    )
                )
        except RegistryError as error:
            error.details.setdefault("capability", grant.capability)
            raise
        if not found:
            raise _refused(
                grant,
                "names no component that is there",
                "see `omnibase registry list`; a retired component is not shown",
            )
    shown_files = (RegistryFile(path=path, content=data) for path, data in files.items())
    return Shown(files=tuple(shown_files), events=tuple(told))


def _named(store: RegistryStore, grant: RegistryGrant) -> Iterator[Component]:
    pattern = NamePattern.parse(grant.pattern)
    if pattern.is_literal:
        try:
            yield from _living(store.list(name=grant.pattern))
        except RegistryError as error:
            if error.details.get("reason") != "invalid":  # else no component has such a name
                raise
        return
    uuids = list(store.uuids())
    if len(uuids) > _MAX_LOOKED_AT:
        raise _refused(
            grant,
            f"has to look through more than {_MAX_LOOKED_AT} components",
            "name components without wildcards",
        )
    yield from (one for one in _living(map(store.get, uuids)) if pattern.matches(one.name))


def _living(components: Iterable[Component]) -> Iterator[Component]:
    # Where a component of that name would be, proposals are left.
    return (
        one for one in components if one.lifecycle is not Lifecycle.RETIRED and one.name != "out"
    )


def _whole(store: RegistryStore, component: Component) -> tuple[Component, bytes | None]:
    """Returns a component and its script, both of one moment."""
    for _ in range(_TRIES):
        if component.entrypoint is None:
            return component, None
        try:
            return component, store.load_entrypoint(component)
        except RegistryError as error:
            if error.details.get("reason") != "conflict":
                raise
        component = store.get(component.uuid)
    raise RegistryError(
        f"`{component.reference}` changes faster than it can be read",
        details={"reason": "busy"},
        hint="run it again",
    )


def _record(component: Component, script: bytes | None) -> bytes:
    """Writes what a script may know: nothing of policies, nor of who changed what."""
    document = {
        "uuid": str(component.uuid),
        "name": component.name,
        "version": str(component.version),
        "owner": component.owner,
        "description": component.description,
        "lifecycle": component.lifecycle.value,
        "trust": component.trust.value,
        "capabilities_required": [str(one) for one in component.capabilities_required],
        "idempotent": component.idempotent,
        "revision": component.revision_number,
        "script": None if script is None else component.artifacts["entrypoint"],
    }
    text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False)
    return text.encode() + b"\n"


def _refused(grant: RegistryGrant, why: str, hint: str) -> CapabilityError:
    return CapabilityError(
        f"`{grant.capability}` {why}", details={"capability": grant.capability}, hint=hint
    )
