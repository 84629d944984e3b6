"""Reads capability files: strict JSON, bounded, each fault with its line.

A document is ``{"version": 1, "capabilities": [...]}`` or the bare list. An item
is ``"TYPE:resource"`` or ``{"capability": "TYPE:resource", "reason": "why"}``.
"""

from __future__ import annotations

import os
from typing import Any, NoReturn

from omnibase.core.security.capabilities import Capability, CapabilitySet
from omnibase.core.security.capability_schema import MAX_CAPABILITIES, capability_file_schema
from omnibase.core.security.patterns import quoted
from omnibase.core.security.strict_json import JsonPath, json_path, located, parse_json, read_file
from omnibase.errors import CapabilityError, ConfigurationError

__all__ = [
    "MAX_CAPABILITIES",
    "MAX_FILE_BYTES",
    "capability_file_schema",
    "load_capabilities",
    "parse_capabilities",
    "read_document",
]

MAX_FILE_BYTES = 1 << 20

_EXAMPLE = '{"version": 1, "capabilities": ["FILE_READ:/data/**"]}'
_SHAPE_HINT = f"write a document like `{_EXAMPLE}`"


def load_capabilities(path: str | os.PathLike[str]) -> CapabilitySet:
    """Reads a capability file.

    Raises:
        ConfigurationError: The file cannot be read, is not a regular file, is
            larger than 1 MiB, or is not a valid document.
        CapabilityError: A capability in it is malformed.
    """
    source = os.fspath(path)
    return parse_capabilities(read_file(source, limit=MAX_FILE_BYTES), source)


def parse_capabilities(data: bytes, source: str) -> CapabilitySet:
    """Reads the bytes of a capability file.

    Args:
        data: The document, UTF-8.
        source: Where it came from, for errors.

    Raises:
        ConfigurationError: The document is not valid; ``details`` has ``source``
            and, where known, ``line``, ``column`` and ``json_path``.
        CapabilityError: A capability in it is malformed; with the same details.
    """
    text, document = parse_json(data, source, limit=MAX_FILE_BYTES, hint=_SHAPE_HINT)
    try:
        return read_document(document)
    except (CapabilityError, ConfigurationError) as error:
        raise located(error, source, text) from None


def read_document(document: object) -> CapabilitySet:
    """Reads a decoded document.

    Raises:
        ConfigurationError: It does not have the shape of the published schema;
            ``details["json_path"]`` says where.
        CapabilityError: A capability in it is malformed; likewise.
    """
    items: object = document
    path: JsonPath = ()
    if isinstance(document, dict):
        _check_keys(document, (), required=("version", "capabilities"))
        version = document["version"]
        if isinstance(version, bool) or version != 1:
            _misfit(("version",), f"the version is {_shown(version)}", "write `1`")
        items, path = document["capabilities"], ("capabilities",)
    if not isinstance(items, list):
        _misfit(path, f"expected a list of capabilities, found {_shown(items)}", _SHAPE_HINT)
    if len(items) > MAX_CAPABILITIES:
        _misfit(
            path,
            f"there are {len(items)} capabilities",
            f"use patterns; at most {MAX_CAPABILITIES} are accepted",
        )
    return CapabilitySet(_read_item(item, (*path, i)) for i, item in enumerate(items))


def _read_item(item: object, path: JsonPath) -> Capability:
    if isinstance(item, dict):
        _check_keys(item, path, required=("capability",), optional=("reason",))
        reason = item.get("reason", "")
        if not isinstance(reason, str):
            hint = "write why the capability is needed, or leave it out"
            _misfit((*path, "reason"), f"the reason is {_shown(reason)}, not a text", hint)
        item, path = item["capability"], (*path, "capability")
    if not isinstance(item, str):
        _misfit(
            path,
            f"expected a capability, found {_shown(item)}",
            'write `"TYPE:resource"` or `{"capability": "TYPE:resource", "reason": "why"}`',
        )
    try:
        return Capability.parse(item)
    except CapabilityError as error:
        error.details["json_path"] = json_path(path)
        raise


def _check_keys(
    found: dict[Any, object],
    path: JsonPath,
    *,
    required: tuple[str, ...],
    optional: tuple[str, ...] = (),
) -> None:
    known = (*required, *optional)
    for key in found:
        if key not in known:
            hint = "use only " + ", ".join(f"`{name}`" for name in known)
            _misfit((*path, str(key)), f"unknown key {quoted(str(key))}", hint)
    for key in required:
        if key not in found:
            _misfit(path, f"the key `{key}` is missing", _SHAPE_HINT)


def _misfit(path: JsonPath, message: str, hint: str) -> NoReturn:
    raise ConfigurationError(message, details={"json_path": json_path(path)}, hint=hint)


def _shown(value: object) -> str:
    """Names a JSON value without repeating more than its start."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    # Never through `json`: a caller's own object may be anything, a huge number too.
    named = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return f"`{named[value]}`"
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge number"
    if isinstance(value, int | float):
        return quoted(str(value))
    return f"a {quoted(type(value).__name__)}"
