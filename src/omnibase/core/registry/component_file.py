"""Reads component files: strict JSON, bounded, each fault with its line."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

from omnibase.core.registry.checks import (
    FORMAT,
    MAX_ARTIFACTS,
    MAX_COMPONENT_BYTES,
    MAX_POLICY_HISTORY,
    invalid,
    parse_uuid,
)
from omnibase.core.registry.model import (
    Action,
    Component,
    Lifecycle,
    PolicyState,
    PolicyVersion,
    Revision,
    Trust,
)
from omnibase.core.registry.semver import Version
from omnibase.core.security.capabilities import Capability, CapabilitySet
from omnibase.core.security.capability_file import MAX_CAPABILITIES
from omnibase.core.security.patterns import quoted
from omnibase.core.security.strict_json import json_path, located, parse_json
from omnibase.errors import ConfigurationError, OmniBaseError, RegistryError

__all__ = ["parse_component", "read_component"]

_E = TypeVar("_E", bound=StrEnum)

REQUIRED = ("uuid", "name", "version", "owner")
OPTIONAL = (
    "format", "description", "entrypoint", "lifecycle", "trust", "capabilities_required",
    "idempotent", "artifacts", "policy", "revision",
)  # fmt: skip
_POLICY = ("version", "sha256", "history")
_POLICY_VERSION = ("version", "sha256", "revision", "time", "author", "comment")
_REVISION = ("number", "sequence", "previous", "action", "time", "author", "comment")
_HINT = 'write an object like `{"uuid": "…", "name": "…", "version": "1.0.0", "owner": "…"}`'


def parse_component(data: bytes, source: str) -> Component:
    """Reads the bytes of a component file; see `Component.from_json`."""
    try:
        text, document = parse_json(data, source, limit=MAX_COMPONENT_BYTES, hint=_HINT)
    except ConfigurationError as error:
        details = {**error.details, "reason": "invalid"}
        raise RegistryError(error.message, details=details, hint=error.hint) from None
    try:
        return read_component(document)
    except RegistryError as error:
        raise located(error, source, text) from None


def read_component(document: object) -> Component:
    """Reads a decoded component file.

    Raises:
        RegistryError: It is not valid; ``details["json_path"]`` says where.
    """
    found = _object(document, "$", REQUIRED, OPTIONAL)
    if "format" in found and (isinstance(found["format"], bool) or found["format"] != FORMAT):
        raise invalid("the format is not known", "$.format", f"write `{FORMAT}`")
    values: dict[str, Any] = {
        "uuid": parse_uuid(found["uuid"]),
        "name": found["name"],
        "version": _version(found["version"]),
        "owner": found["owner"],
    }
    for key in ("description", "idempotent"):
        if key in found:
            values[key] = found[key]
    if found.get("entrypoint") is not None:
        values["entrypoint"] = found["entrypoint"]
    if "lifecycle" in found:
        values["lifecycle"] = _choice(Lifecycle, found["lifecycle"], "$.lifecycle")
    if "trust" in found:
        values["trust"] = _choice(Trust, found["trust"], "$.trust")
    if "capabilities_required" in found:
        values["capabilities_required"] = _capabilities(found["capabilities_required"])
    if "artifacts" in found:
        values["artifacts"] = _artifacts(found["artifacts"])
    if found.get("policy") is not None:
        values["policy"] = _policy(found["policy"])
    if found.get("revision") is not None:
        values["revision"] = _revision(found["revision"])
    return Component(**values)


def _object(
    value: object, path: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid(f"`{path}` is not an object", path, _HINT)
    for key in value:
        if key not in required and key not in optional:
            place = path + json_path((key,))[1:]
            names = ", ".join(f"`{name}`" for name in (*required, *optional))
            raise invalid(f"unknown key {quoted(key)}", place, f"use only {names}")
    for key in required:
        if key not in value:
            raise invalid(f"the key `{key}` is missing", path, "add it")
    return value


def _version(value: object) -> Version:
    if not isinstance(value, str):
        raise invalid("`$.version` is not a text", "$.version", 'write e.g. `"1.0.0"`')
    try:
        return Version.parse(value)
    except RegistryError as error:
        raise invalid(error.message, "$.version", error.hint) from None


def _choice(kind: type[_E], value: object, path: str) -> _E:
    for member in kind:
        if value == member.value:
            return member
    names = ", ".join(f"`{member.value}`" for member in kind)
    shown = quoted(value) if isinstance(value, str) else f"a {type(value).__name__}"
    raise invalid(f"`{path}` is {shown}, which is not known", path, f"write one of {names}")


def _list(value: object, path: str, most: int) -> list[Any]:
    if not isinstance(value, list):
        raise invalid(f"`{path}` is not a list", path)
    if len(value) > most:
        raise invalid(f"`{path}` has {len(value)} items", path, f"at most {most} are accepted")
    return value


def _capabilities(value: object) -> CapabilitySet:
    path = "$.capabilities_required"
    members = []
    for index, item in enumerate(_list(value, path, MAX_CAPABILITIES)):
        place = f"{path}[{index}]"
        if not isinstance(item, str):
            raise invalid(f"`{place}` is not a text", place, "write `TYPE:resource`")
        try:
            members.append(Capability.parse(item))
        except OmniBaseError as error:
            raise invalid(error.message, place, error.hint) from None
    return CapabilitySet(members)


def _artifacts(value: object) -> dict[str, Any]:
    path = "$.artifacts"
    if not isinstance(value, dict):
        raise invalid(f"`{path}` is not an object", path, "write SHA-256 digests by name")
    if len(value) > MAX_ARTIFACTS:
        raise invalid(f"`{path}` has {len(value)} members", path, f"at most {MAX_ARTIFACTS}")
    return value


def _policy(value: object) -> PolicyState:
    path = "$.policy"
    found = _object(value, path, _POLICY)
    history = tuple(
        PolicyVersion(**_object(item, f"{path}.history[{index}]", _POLICY_VERSION))
        for index, item in enumerate(_list(found["history"], f"{path}.history", MAX_POLICY_HISTORY))
    )
    return PolicyState(version=found["version"], sha256=found["sha256"], history=history)


def _revision(value: object) -> Revision:
    found = dict(_object(value, "$.revision", _REVISION))
    found["action"] = _choice(Action, found["action"], "$.revision.action")
    return Revision(**found)
