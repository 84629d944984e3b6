"""What every payload is: typed fields, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Literal, TypeAlias

from omnibase.core.events import _fields as f
from omnibase.core.events._fields import FrozenMap

Count: TypeAlias = int
Evidence: TypeAlias = Literal["kernel", "broker", "agent"]
Lag: TypeAlias = Literal["lagging", "caught-up"]
Number: TypeAlias = int | float
Seconds: TypeAlias = float
Sha256: TypeAlias = str
Stage: TypeAlias = Literal["pre-exec"]
Start: TypeAlias = Literal["cold", "warm"]
Timestamp: TypeAlias = str

# Keyed by annotation, so that a field's type is written once, where mypy reads it too.
_KINDS: dict[str, f.FieldType] = {
    "Count": f.COUNT,
    "Count | None": f.COUNT.or_none(),
    "Evidence": f.one_of("kernel", "broker", "agent"),
    "Lag": f.one_of("lagging", "caught-up"),
    "Mapping[str, Scalar]": f.SCALARS,
    "Number": f.NUMBER,
    "Seconds": f.SECONDS,
    "Seconds | None": f.SECONDS.or_none(),
    "Sha256": f.SHA256,
    "Stage": f.one_of("pre-exec"),
    "Start": f.one_of("cold", "warm"),
    "Timestamp": f.TIMESTAMP,
    "int | None": f.INTEGER.or_none(),
    "str": f.TEXT,
    "str | None": f.TEXT.or_none(),
    "tuple[str, ...]": f.STRINGS,
}


class Payload:
    """Base of every event's ``data``.

    Attributes:
        type: The CloudEvents ``type``: reverse DNS, ending in the version of the
            payload. A field is added or changed only under a new version.
    """

    __slots__ = ()
    type: ClassVar[str]

    def __post_init__(self) -> None:
        for name, kind in field_kinds(type(self)).items():
            object.__setattr__(self, name, kind.check(name, getattr(self, name)))

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON-ready data."""
        return {name: _plain(getattr(self, name)) for name in field_kinds(type(self))}


_kinds_of: dict[type[Payload], dict[str, f.FieldType]] = {}


def declare(*payloads: type[Payload]) -> None:
    """Makes classes known as payloads."""
    for payload in payloads:
        _kinds_of[payload] = {each.name: _KINDS[str(each.type)] for each in fields(payload)}  # type: ignore[arg-type]


def field_kinds(payload: type[Payload]) -> Mapping[str, f.FieldType]:
    """Returns each field of a payload class with its kind.

    Raises:
        ValueError: The class is not one of those that were declared.
    """
    try:
        return _kinds_of[payload]
    except KeyError:
        raise f.bad("data", "a payload of a known type", payload) from None


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, FrozenMap) else value
