"""Values as JSON and a blob of bytes, and back: by the types of their fields, strictly. Pure.

Numbers, text, tuples and frozen data classes, nothing else: what is read can be no object
that its field was not declared to be. Bytes are ``[offset, size]`` in the blob.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

__all__ = ["WireError", "named", "pack", "parse", "unpack"]

_LARGEST: Final = 1 << 63
_Reader = Callable[[Any, bytes], Any]


class WireError(ValueError):
    """What came is not what was agreed on."""


def parse(text: bytes) -> dict[str, Any]:
    """Reads one JSON object, without duplicate keys or numbers that are none.

    Raises:
        WireError: It is something else.
    """
    try:
        value = json.loads(
            text.decode("ascii"), object_pairs_hook=_object, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise WireError(f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise WireError("no object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"`{name}` is no number")


def pack(value: Any, blob: bytearray) -> Any:
    """Returns JSON-ready data, and adds the bytes in it to the blob.

    What is of this process alone is left out: its default takes its place.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        blob += value
        return [len(blob) - len(value), len(value)]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, frozenset):
        return [pack(one, blob) for one in sorted(value)]
    if dataclasses.is_dataclass(value):
        names = _names(cast(Any, type(value)))
        return {name: pack(getattr(value, name), blob) for name in names}
    if isinstance(value, tuple | list):
        return [pack(one, blob) for one in value]
    if isinstance(value, Mapping):
        return {name: pack(one, blob) for name, one in value.items()}
    raise TypeError(f"`{type(value).__name__}` stays in its process")


def unpack(kind: Any, data: Any, blob: bytes = b"") -> Any:
    """Returns the value of a type that was packed.

    Raises:
        WireError: It is none.
    """
    try:
        return _reader(kind)(data, blob)
    except RecursionError:
        raise WireError("nested too deeply") from None


@cache
def _fields(kind: Any) -> dict[str, Any]:
    """``name → type`` of what of a data class can be elsewhere."""
    hints = typing.get_type_hints(kind, localns=_Names())
    return {name: hints[name] for name in _names(kind)}


@cache
def _names(kind: Any) -> tuple[str, ...]:
    here = _LOCAL.get(kind.__name__, ())
    return tuple(field.name for field in dataclasses.fields(kind) if field.name not in here)


# What is of the process that asks: functions, and what is added to a result there.
_LOCAL: Final = {
    "RunRequest": ("covers",),
    "RunResult": ("artifacts", "component", "proposed"),
}


class _Names(dict[str, Any]):
    """What annotations name that their modules import for the type checker alone."""

    def __missing__(self, name: str) -> Any:
        return named(f"{_MODULES[name]}:{name}")


def named(place: str) -> Any:
    """Returns what ``module:Name`` names, below ``omnibase.core``."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"omnibase.core.{module}"), name)


_MODULES: Final = {
    "CommandLayer": "sandbox.commands.layout",
    "Limit": "sandbox.egress.reports",
    "RegistryFile": "sandbox.registry_files",
    "SandboxSpec": "sandbox.spec",
    "Secret": "secrets",
    "Violation": "sandbox.monitor.attempts",
}


@cache
def _reader(kind: Any) -> _Reader:
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _optional(kind, arguments)
    if origin is typing.Literal:
        return lambda data, _: _checked(isinstance(data, str) and data in arguments, kind, data)
    if origin is tuple and arguments[-1] is Ellipsis:
        return lambda data, blob: tuple(_each(arguments[0], data, blob))
    if origin is tuple:
        return lambda data, blob: _row(arguments, data, blob)
    if origin is frozenset:
        return lambda data, blob: frozenset(_each(arguments[0], data, blob))
    if origin is dict:
        return lambda data, blob: _mapping(arguments[1], data, blob)
    if dataclasses.is_dataclass(kind):
        return lambda data, blob: _instance(kind, data, blob)
    raise TypeError(f"`{kind}` stays in its process")


def _optional(kind: Any, arguments: tuple[Any, ...]) -> _Reader:
    inner = [one for one in arguments if one is not type(None)]
    if len(inner) != 1:
        raise TypeError(f"`{kind}` stays in its process")
    return lambda data, blob: None if data is None else _reader(inner[0])(data, blob)


def _checked(good: bool, kind: Any, data: Any) -> Any:
    if not good:
        name = getattr(kind, "__name__", str(kind))
        raise WireError(f"`{ascii(data)[:80]}` is no `{name}`")
    return data


def _each(kind: Any, data: Any, blob: bytes) -> list[Any]:
    reader = _reader(kind)
    return [reader(one, blob) for one in _checked(isinstance(data, list), list, data)]


def _row(kinds: tuple[Any, ...], data: Any, blob: bytes) -> tuple[Any, ...]:
    _checked(isinstance(data, list) and len(data) == len(kinds), tuple, data)
    return tuple(_reader(kind)(one, blob) for kind, one in zip(kinds, data, strict=True))


def _mapping(kind: Any, data: Any, blob: bytes) -> dict[str, Any]:
    _checked(isinstance(data, dict), dict, data)
    return {name: _reader(kind)(one, blob) for name, one in data.items()}


def _instance(kind: Any, data: Any, blob: bytes) -> Any:
    fields = _fields(kind)
    _checked(isinstance(data, dict) and data.keys() == fields.keys(), kind, data)
    return kind(**{name: _reader(fields[name])(one, blob) for name, one in data.items()})


def _integer(data: Any, _: bytes) -> int:
    whole = isinstance(data, int) and not isinstance(data, bool)
    return int(_checked(whole and -_LARGEST <= data < _LARGEST, int, data))


def _number(data: Any, _: bytes) -> float:
    if isinstance(data, float):
        return float(_checked(math.isfinite(data), float, data))
    return float(_integer(data, b""))


def _bytes(data: Any, blob: bytes) -> bytes:
    offset, size = _row((int, int), data, b"")
    _checked(0 <= offset <= len(blob) and 0 <= size <= len(blob) - offset, bytes, data)
    return blob[offset : offset + size]


def _path(data: Any, _: bytes) -> Path:
    return Path(_checked(isinstance(data, str) and "\0" not in data, Path, data))


_PLAIN: Final[dict[Any, _Reader]] = {
    bool: lambda data, _: _checked(isinstance(data, bool), bool, data),
    str: lambda data, _: _checked(isinstance(data, str), str, data),
    int: _integer,
    float: _number,
    bytes: _bytes,
    Path: _path,
}
