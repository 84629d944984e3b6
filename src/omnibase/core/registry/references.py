"""How a component is named: a uuid, ``name``, ``name@version``, ``name@constraint``."""

from __future__ import annotations

from uuid import UUID

from omnibase.core.registry.checks import check_name, is_uuid
from omnibase.core.registry.model import Component, Lifecycle
from omnibase.core.registry.semver import Constraint, Version
from omnibase.core.registry.store import FindingCode, Tampered, missing
from omnibase.core.registry.view import View, component_file, load, version_file
from omnibase.core.security.patterns import quoted
from omnibase.errors import RegistryError

__all__ = ["find", "holders"]

_RANKS = (Lifecycle.DRAFT, Lifecycle.DEPRECATED, Lifecycle.ACTIVE)


def holders(view: View, name: str) -> dict[Version, UUID]:
    """Returns who holds each version that a name ever had, the highest first."""
    found = {}
    for text in view.versions(name):
        file = version_file(name, text)
        try:
            version = Version.parse(text)
        except RegistryError:
            raise Tampered(file, FindingCode.EXTRA, "its name is no version") from None
        uuid = view.holder(name, text)
        if uuid is None:
            raise Tampered(file, FindingCode.MISSING, "it is missing")
        found[version] = uuid
    return {version: found[version] for version in sorted(found, reverse=True)}


def find(view: View, reference: str) -> Component:
    """Returns the component that a reference names; see `RegistryStore.find`."""
    if is_uuid(reference):
        component = load(view, UUID(reference))
        if component is None:
            missing(f"there is no component {quoted(reference)}", "see `omnibase registry list`")
        return component
    name, at, text = reference.partition("@")
    try:
        check_name(name)
    except RegistryError:
        raise RegistryError(
            f"{quoted(reference)} names no component",
            details={"reason": "invalid"},
            hint="write a uuid, or a name such as `report`, `report@1.4.0` or `report@^1.4`",
        ) from None
    constraint = Constraint.parse(text) if at else None
    if constraint and constraint.exact:
        return _exact(view, name, constraint.exact)
    best: tuple[tuple[int, bool], Component] | None = None
    for version, uuid in holders(view, name).items():
        component = _held(view, name, version, uuid)
        if component.version.precedence != version.precedence:
            continue  # It has gone on to a higher version.
        if component.lifecycle is Lifecycle.RETIRED:
            continue
        if constraint and not constraint.allows(component.version):
            continue
        rank = (_RANKS.index(component.lifecycle), not version.prerelease)
        # The first of a rank is the highest version.
        if best is None or rank > best[0]:
            best = rank, component
        if rank == (len(_RANKS) - 1, True):
            break
    if best is None:
        missing(
            f"no component in use is called {quoted(reference)}",
            "see `omnibase registry list`; a retired one is found by its exact version",
        )
    return best[1]


def _exact(view: View, name: str, version: Version) -> Component:
    uuid = view.holder(name, version.precedence)
    wanted = f"{name}@{version}"
    if uuid is None:
        missing(f"there is no component `{wanted}`", "see `omnibase registry list`")
    component = _held(view, name, version, uuid)
    if component.version.precedence != version.precedence or version.build not in (
        "",
        component.version.build,
    ):
        missing(
            f"`{wanted}` is now `{component.reference}`",
            f"ask for `{component.reference}`",
            uuid=str(uuid),
        )
    return component


def _held(view: View, name: str, version: Version, uuid: UUID) -> Component:
    component = load(view, uuid)
    if component is None:
        raise Tampered(component_file(uuid), FindingCode.MISSING, "it is missing")
    if component.name != name or component.version < version:
        file = version_file(name, version.precedence)
        message = f"it names `{uuid}`, which never was `{name}@{version}`"
        raise Tampered(file, FindingCode.CHANGED, message)
    return component
