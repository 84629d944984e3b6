"""What a field of an event may hold: checks, bounds and the JSON Schema of each."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

MAX_TEXT = 4096
"""Characters in one string: Linux's ``PATH_MAX``, so a whole path fits."""

MAX_ITEM = 1024
"""Characters in one item of a list, and in one key or value of a map."""

MAX_ITEMS = 128
"""Items in one list or map."""

Scalar: TypeAlias = str | int | float | None

_INT64 = 2**63 - 1
_TIMESTAMP = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$"
_VISIBLE = r"^[!-~]{1,256}$"
_SHA256 = r"^[0-9a-f]{64}$"
# The characters of RFC 3986; whether they parse is the reader's business.
_URI_REFERENCE = r"^[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]{1,1024}$"
# https://www.w3.org/TR/trace-context/#traceparent-header: version ff and all-zero ids are invalid.
_SPAN = r"^(?!0{16})[0-9a-f]{16}$"
_TRACEPARENT = r"^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$"
# What CloudEvents 1.0 forbids in an attribute: controls, surrogates, noncharacters.
_PLANES = range(0, 0x110000, 0x10000)
_NOT_IN_ATTRIBUTE = (
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in _PLANES)
    + "]"
)


def bounded(text: str, limit: int = MAX_TEXT) -> str:
    """Returns text that is valid Unicode and at most ``limit`` characters long.

    A lone surrogate (how Python spells a byte that is not UTF-8) becomes the six
    characters of its escape, for example ``\\udcff``: many JSON parsers refuse a
    whole document that holds one. What is too long ends in
    ``...[truncated, N characters]``, where N is the original length.
    """
    clean = text[: limit + 1].encode("utf-8", "backslashreplace").decode()
    if len(text) <= limit and len(clean) <= limit:
        return clean
    marker = f"...[truncated, {len(text)} characters]"
    return clean[: limit - len(marker)] + marker


def utc(unix_seconds: float | None = None) -> str:
    """Returns an instant (default: now) as RFC 3339 in UTC, with microseconds."""
    micros = time.time_ns() // 1000 if unix_seconds is None else round(unix_seconds * 1e6)
    seconds, fraction = divmod(micros, 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:06d}Z"


def new_id() -> str:
    """Returns 128 random bits in hexadecimal: unique, and nobody can guess it."""
    return os.urandom(16).hex()


class FrozenMap(Mapping[str, Scalar]):
    """A small mapping that cannot change and can be hashed."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Scalar] | None = None) -> None:
        self._items = dict(items or {})

    def __getitem__(self, key: str) -> Scalar:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return f"FrozenMap({self._items!r})"


Check: TypeAlias = Callable[[str, object], Any]


class FieldType(NamedTuple):
    """How one kind of field is checked and described.

    Attributes:
        check: Takes the field's name and a value; returns the value to keep, or
            raises `ValueError`.
        schema: The JSON Schema of what ``check`` lets through.
    """

    check: Check
    schema: dict[str, Any]

    def or_none(self) -> FieldType:
        """Returns this kind of field, ``None`` allowed."""
        return FieldType(
            lambda name, value: None if value is None else self.check(name, value),
            {"anyOf": [self.schema, {"type": "null"}]},
        )


def bad(name: str, wanted: str, value: object) -> ValueError:
    """Returns the error that names the field and what is wrong with it."""
    return ValueError(f"{name}: expected {wanted}, got `{bounded(ascii(value), 80)}`")


def text(limit: int = MAX_TEXT) -> FieldType:
    """A string, bounded."""

    def check(name: str, value: object) -> str:
        if not isinstance(value, str):
            raise bad(name, "a string", value)
        return bounded(value, limit)

    return FieldType(check, {"type": "string", "maxLength": limit})


def matching(pattern: str, wanted: str) -> FieldType:
    """A string that a regular expression matches."""

    def check(name: str, value: object) -> str:
        # `re` compiles at the first use and keeps it: the import stays fast.
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
            raise bad(name, wanted, value)
        return value

    return FieldType(check, {"type": "string", "pattern": pattern})


def one_of(*values: str) -> FieldType:
    """One of a few words."""

    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in values:
            raise bad(name, f"one of {', '.join(values)}", value)
        return value

    return FieldType(check, {"enum": list(values)})


def integer(low: int = -_INT64, high: int = _INT64) -> FieldType:
    """An integer in a range; a boolean is none."""

    def check(name: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise bad(name, f"an integer from {low} to {high}", value)
        return int(value)

    return FieldType(check, {"type": "integer", "minimum": low, "maximum": high})


def _number(name: str, value: object) -> int | float:
    if isinstance(value, float) and math.isfinite(value) and value >= 0:
        return float(value)
    return int(COUNT.check(name, value))


def _seconds(name: str, value: object) -> float:
    return float(_number(name, value))


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _attribute(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise bad(name, "a string that is not empty", value)
    escaped = value[: MAX_ITEM + 1]
    if not escaped.isprintable():  # true of all that is forbidden, and of a little more
        escaped = re.sub(_NOT_IN_ATTRIBUTE, _escape, escaped)
    if len(value) > MAX_ITEM or len(escaped) > MAX_ITEM:
        marker = f"...[truncated, {len(value)} characters]"
        return escaped[: MAX_ITEM - len(marker)] + marker
    return escaped


def _strings(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise bad(name, "a list of strings", value)
    kept = value if len(value) <= MAX_ITEMS else value[: MAX_ITEMS - 1]
    items = tuple(ITEM.check(f"{name}[{index}]", item) for index, item in enumerate(kept))
    if len(value) > MAX_ITEMS:
        items += (f"...[truncated, {len(value)} items]",)
    return items


def _scalar(name: str, value: object) -> Scalar:
    if value is None:
        return None
    return ITEM.check(name, value) if isinstance(value, str) else _number(name, value)


def _scalars(name: str, value: object) -> FrozenMap:
    if not isinstance(value, Mapping) or len(value) > MAX_ITEMS:
        raise bad(name, f"a map of at most {MAX_ITEMS} entries", value)
    return FrozenMap({ITEM.check(name, k): _scalar(f"{name}.{k}", v) for k, v in value.items()})


TEXT = text()
ITEM = text(MAX_ITEM)
INTEGER = integer()
COUNT = integer(low=0)
NUMBER = FieldType(_number, {"type": "number", "minimum": 0})
SECONDS = FieldType(_seconds, {"type": "number", "minimum": 0})
TIMESTAMP = matching(_TIMESTAMP, "an RFC 3339 time in UTC")
SHA256 = matching(_SHA256, "64 lower-case hexadecimal digits")
STRINGS = FieldType(_strings, {"type": "array", "items": ITEM.schema, "maxItems": MAX_ITEMS})
SCALARS = FieldType(
    _scalars,
    {
        "type": "object",
        "maxProperties": MAX_ITEMS,
        "propertyNames": {"maxLength": MAX_ITEM},
        "additionalProperties": {"anyOf": [ITEM.schema, NUMBER.schema, {"type": "null"}]},
    },
)

TOKEN = matching(_VISIBLE, "1 to 256 visible ASCII characters")
URI_REFERENCE = matching(_URI_REFERENCE, "a URI reference")
TRACEPARENT = matching(_TRACEPARENT, "a W3C traceparent")
SPAN = matching(_SPAN, "a span id of 16 hexadecimal digits")
ATTRIBUTE = FieldType(_attribute, {"type": "string", "minLength": 1, "maxLength": MAX_ITEM})
# A CloudEvents sequence is a signed 32-bit integer that starts at 1.
SEQUENCE = integer(low=1, high=2**31 - 1)
