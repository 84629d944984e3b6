"""Events as a Parquet file, read back by pyarrow."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from omnibase.core.audit import parquet as ours
from omnibase.core.audit.parquet import COLUMNS, ParquetFile
from omnibase.core.events import Event, MonitorGap, SandboxViolation
from tests.unit.test_events_model import SAMPLES, make


def table_of(*events: dict[str, Any]) -> pa.Table:
    file = io.BytesIO()
    writer = ParquetFile(file)
    for event in events:
        writer.take(event)
    writer.close()
    return parquet.read_table(io.BytesIO(file.getvalue()))


def test_every_type_of_event_comes_back() -> None:
    events = [
        make(data, sequence=number, componentid="c", subject="job.py")
        for number, data in enumerate(SAMPLES, 1)
    ]
    rows = table_of(*(event.to_dict() for event in events)).to_pylist()
    for event, row in zip(events, rows, strict=True):
        assert json.loads(row["data"]) == event.data.to_dict()
        assert row["time"] == datetime.fromisoformat(event.time)
        assert (row["sequence"], row["runid"], row["id"]) == (event.sequence, event.runid, event.id)
        assert (row["eventname"], row["type"]) == (event.name, event.type)
        assert (row["componentid"], row["policydigest"]) == ("c", None)
        own = event.data.to_dict()
        for name, value in own.items():
            shown = row[name]
            if COLUMNS[name] == "time":
                value = datetime.fromisoformat(value)
            elif COLUMNS[name] == "map":
                value = [(key, str(each)) for key, each in value.items()]
            assert shown == value, name
        others = row.keys() - own.keys() - make(SAMPLES[0]).to_dict().keys() - {"decision"}
        assert {name for name in others if row[name] is not None} <= {"componentid", "subject"}


def test_columns_have_types() -> None:
    schema = table_of(make(SAMPLES[0]).to_dict()).schema
    assert schema.names == list(COLUMNS) and schema.names[-1] == "data"
    expected = {
        "time": pa.timestamp("us", tz="UTC"), "sequence": pa.int64(), "eventname": pa.string(),
        "decision": pa.string(), "errno": pa.int64(), "wall_seconds": pa.float64(),
        "boot_seconds": pa.float64(), "count": pa.int64(), "resource": pa.string(),
        "first_seen": pa.timestamp("us", tz="UTC"), "grants": pa.list_(pa.string()),
        "quotas": pa.map_(pa.string(), pa.string()), "limit": pa.float64(),
    }  # fmt: skip
    assert {name: schema.field(name).type for name in expected} == expected


def test_decisions_are_words() -> None:
    attempt = SandboxViolation(operation="open", resource="/x", evidence="kernel")
    table = table_of(make(attempt).to_dict(), make(MonitorGap(dropped=1, reason="r")).to_dict())
    assert table.column("decision").to_pylist() == ["violation", None]


def test_groups_are_written_as_they_fill(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    event = make(MonitorGap(dropped=1, reason="r" * 100)).to_dict()
    monkeypatch.setattr(ours, "GROUP_ROWS", 100)
    with path.open("wb") as file:
        writer = ParquetFile(file)
        for number in range(1050):
            writer.take(event)
            assert len(writer._rows) < 100
            if number == 999:
                assert file.tell() > 10_000, "what is full has left the memory"
        writer.close()
    read = parquet.ParquetFile(path)
    sizes = [read.metadata.row_group(n).num_rows for n in range(read.num_row_groups)]
    assert sizes == [100] * 10 + [50]
    assert read.metadata.row_group(0).column(0).compression == "ZSTD"


def test_groups_are_bounded_by_size_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "GROUP_BYTES", 10_000)
    writer = ParquetFile(io.BytesIO())
    event = make(MonitorGap(dropped=1, reason="r" * 4000)).to_dict()
    for _ in range(20):
        writer.take(event)
        assert len(writer._rows) < 3
    writer.close()


def test_an_empty_file_has_its_columns() -> None:
    table = table_of()
    assert table.num_rows == 0 and table.schema.names == list(COLUMNS)


@pytest.mark.parametrize(
    "changes",
    [
        {"time": "yesterday"}, {"time": 3}, {"time": "9999-99-99T00:00:00Z"},
        {"time": "0001-01-01T00:00:00+14:00"}, {"sequence": "x"}, {"sequence": 3},
        {"data": None}, {"data": [1]}, {"data": {}}, {"data": {"errno": "x", "count": True}},
        {"data": {"count": 2**70, "wall_seconds": 1e308, "limit": "x", "grants": "x"}},
        {"data": {"grants": [1, None], "quotas": {"a": None}, "resource": "\ud800", "new": 1}},
        {"eventname": 1, "type": None}, {"componentid": ["x"]},
    ],
)  # fmt: skip
def test_what_does_not_fit_is_in_the_json_alone(changes: dict[str, Any]) -> None:
    event = {**make(SAMPLES[0]).to_dict(), **changes}
    (row,) = table_of(event).to_pylist()
    assert json.loads(row["data"]) == event["data"]
    for name in changes.keys() & {"time", "sequence", "eventname", "type", "componentid"}:
        assert row[name] is None


def test_a_large_whole_number_fits_if_it_can() -> None:
    gap = Event(data=MonitorGap(dropped=2**63 - 1, reason="r"), source="x", runid="r", sequence=1)
    assert table_of(gap.to_dict()).column("dropped").to_pylist() == [2**63 - 1]


def test_times_are_exact() -> None:
    event = make(SAMPLES[0], time="2026-11-29T15:10:28.123456Z").to_dict()
    (time,) = table_of(event).column("time").to_pylist()
    assert time == datetime(2026, 11, 29, 15, 10, 28, 123456, tzinfo=UTC)


def test_a_field_that_clashes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import dataclass

    @dataclass
    class Clash:
        resource: Count  # type: ignore[name-defined]  # noqa: F821

    monkeypatch.setattr(ours, "PAYLOADS", (SandboxViolation, Clash))
    with pytest.raises(TypeError, match=r"`Clash.resource` needs a column of another name"):
        ours._columns()
