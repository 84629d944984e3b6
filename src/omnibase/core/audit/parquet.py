"""Events as a Parquet file: one typed column for each attribute and field.

Written in row groups as the events come, so that what is in memory does not grow
with the log.
"""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Final

from omnibase.core.audit.filling import decision_of
from omnibase.core.audit.index import DECISIONS
from omnibase.core.events.catalogue import PAYLOADS
from omnibase.core.events.model import ENVELOPE

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

__all__ = ["COLUMNS", "GROUP_BYTES", "GROUP_ROWS", "ParquetFile"]

GROUP_ROWS: Final = 20_000
GROUP_BYTES: Final = 32 << 20
"""A row group ends at whichever comes first; bytes are those of the payloads' JSON."""

_INT64: Final = 2**63
# By annotation of a payload's field; what is not here is a string.
_TYPES: Final = {
    "Count": "int", "int": "int", "Number": "float", "Seconds": "float", "Timestamp": "time",
    "Mapping[str, Scalar]": "map", "tuple[str, ...]": "list",
}  # fmt: skip


def _columns() -> dict[str, str]:
    """Returns each column's type by its name, the fields of all payloads included.

    Raises:
        TypeError: A field has the name of another column and another type.
    """
    found = {name: "str" for name in ENVELOPE}
    found |= {"time": "time", "sequence": "int", "eventname": "str", "type": "str"}
    own = {*found, "decision", "data"}
    found["decision"] = "str"
    for payload in PAYLOADS:
        for each in fields(payload):  # type: ignore[arg-type]
            name, kind = each.name, _TYPES.get(str(each.type).removesuffix(" | None"), "str")
            if name in own or found.setdefault(name, kind) != kind:
                raise TypeError(f"`{payload.__name__}.{name}` needs a column of another name")
    return {**found, "data": "str"}


COLUMNS: Final = _columns()


class ParquetFile:
    """Takes events, and is whole once it is closed.

    Args:
        file: Open for writing bytes; it is written from its beginning to its end.

    Raises:
        ImportError: There is no ``pyarrow``.
    """

    def __init__(self, file: IO[bytes]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        types = {
            "str": pa.string(),
            "int": pa.int64(),
            "float": pa.float64(),
            "time": pa.timestamp("us", tz="UTC"),
            "list": pa.list_(pa.string()),
            "map": pa.map_(pa.string(), pa.string()),
        }
        self._pa = pa
        self._schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def take(self, event: dict[str, Any]) -> None:
        """Adds an event, given as its JSON data."""
        row = _row(event)
        self._rows.append(row)
        self._bytes += len(row["data"])
        if len(self._rows) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._write_group()

    def close(self) -> None:
        """Writes what is left, and the file's end."""
        if self._rows:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        rows, self._rows, self._bytes = self._rows, [], 0
        columns: list[pa.Array] = [
            self._pa.array([row.get(field.name) for row in rows], field.type)
            for field in self._schema
        ]
        table = self._pa.Table.from_arrays(columns, schema=self._schema)
        self._writer.write_table(table, row_group_size=len(rows))


def _row(event: dict[str, Any]) -> dict[str, Any]:
    """Returns a row; a value that does not fit its column is in ``data`` alone."""
    data = event.get("data")
    said = data if isinstance(data, dict) else {}
    decision = decision_of(str(event.get("eventname")), said)
    found = {
        **said,
        **{name: value for name, value in event.items() if name in ENVELOPE},
        "sequence": _integer(event.get("sequence")),
        "eventname": event.get("eventname"),
        "type": event.get("type"),
        "decision": DECISIONS[decision - 1] if decision else None,
        "data": json.dumps(data, ensure_ascii=True, separators=(",", ":")),
    }
    return {name: _fit(COLUMNS[name], value) for name, value in found.items() if name in COLUMNS}


def _fit(kind: str, value: Any) -> Any:
    match kind, value:
        case "str", str():
            return _text(value)
        case "int", int() if not isinstance(value, bool) and -_INT64 <= value < _INT64:
            return value
        case "float", int() | float() if not isinstance(value, bool):
            return float(value) if abs(value) < 1e300 else None
        case "time", str():
            return _moment(value)
        case "list", list():
            return [_text(str(each)) for each in value]
        case "map", dict():
            return [(_text(str(key)), _text(str(each))) for key, each in value.items()]
    return None


def _text(text: str) -> str:
    """Replaces what is no Unicode: a log that was tampered with may hold lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


def _integer(text: Any) -> int | None:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else None


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
