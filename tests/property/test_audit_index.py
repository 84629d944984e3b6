"""The index answers what a search through all events would."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnibase.core.audit import index as index_module
from omnibase.core.audit.filling import decision_of
from omnibase.core.audit.index import DECISIONS, Index, Query
from omnibase.core.audit.log import AuditLog
from omnibase.core.events import (
    CapabilityDenied,
    CapabilityGranted,
    Event,
    Payload,
    PolicyDecided,
    SandboxExit,
    SandboxViolation,
    utc,
)
from omnibase.errors import ConfigurationError

_CAPABILITIES = [f"FILE_READ:/data/{n}" for n in range(4)] + ["MEMORY:64MiB", "run-1"]
_RUNS = [f"run-{n}" for n in range(5)]
_COMPONENTS = [None, "c-1", "c-2"]


def _payload(kind: int, capability: str) -> Payload:
    made: tuple[Payload, ...] = (
        CapabilityGranted(capability=capability, enforcement="mount"),
        CapabilityDenied(capability=capability, reason="no"),
        SandboxViolation(operation="open", resource="/x", evidence="kernel", capability=capability),
        SandboxExit(outcome="ok", wall_seconds=1.0),
        PolicyDecided(
            requested=(capability, "MEMORY:64MiB"),
            denied=(capability,),
            trust="trusted",
            lifecycle="active",
            environment="default",
        ),
    )
    return made[kind]


_EVENTS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(_CAPABILITIES),
        st.sampled_from(_RUNS),
        st.sampled_from(_COMPONENTS),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=40,
)
_ASKED = st.fixed_dictionaries(
    {},
    optional={
        "component": st.sampled_from(["c-1", "c-2", "c-3"]),
        "type": st.sampled_from(["CapabilityDenied", "SandboxExit", "x.y.SandboxViolation"]),
        "capability": st.sampled_from(
            ["FILE_READ:/data/1", "FILE_READ:*", "FILE_READ:/data/2*", "*", "run-*", "none*"]
        ),
        "since": st.integers(0, 9).map(lambda s: s * 10**6),
        "until": st.integers(0, 9).map(lambda s: s * 10**6),
        "decision": st.sampled_from(DECISIONS),
        "run": st.sampled_from(["run-1", "run-*", "run-2*", "no"]),
        "limit": st.sampled_from([1, 3, 100]),
    },
)


def _fits(text: str | None, pattern: str | None) -> bool:
    if pattern is None:
        return True
    if text is None:
        return False
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


def _slowly(events: list[tuple[int, dict[str, Any]]], query: Query) -> list[int]:
    found = []
    for seq, event in events:
        data = event["data"]
        capabilities = [data.get("capability"), *data.get("requested", ())]
        kind = None if query.type is None else query.type.rpartition(".")[2]
        decision = decision_of(event["eventname"], data)
        if (
            _fits(event.get("componentid"), query.component)
            and _fits(event["eventname"], kind)
            and _fits(event["runid"], query.run)
            and (query.capability is None or any(_fits(c, query.capability) for c in capabilities))
            and (query.decision is None or decision == DECISIONS.index(query.decision) + 1)
            and (query.since is None or event["at"] >= query.since)
            and (query.until is None or event["at"] < query.until)
        ):
            found.append((event["at"], seq))
    return [seq for _, seq in sorted(found)[-query.limit :]]


@pytest.mark.parametrize("listed", [500, 1])
@settings(max_examples=40, deadline=None)
@given(rows=_EVENTS, split=st.integers(0, 40), asked=st.lists(_ASKED, min_size=1, max_size=6))
def test_answers_as_a_search_does(
    listed: int, rows: list[Any], split: int, asked: list[dict[str, Any]]
) -> None:
    """Built at once or grown, with few names in one statement or one after the other."""
    with (
        tempfile.TemporaryDirectory() as directory,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(index_module, "_MAX_LISTED", listed)
        log = AuditLog(Path(directory) / "log", fsync="never", segment_bytes=3000)
        seen: list[tuple[int, dict[str, Any]]] = []
        for part in (rows[:split], rows[split:]):
            for kind, capability, run, component, second in part:
                event = Event(
                    data=_payload(kind, capability), source="urn:x", runid=run, sequence=1,
                    componentid=component, time=utc(float(second)),
                )  # fmt: skip
                log.emit(event)
                seen.append((log.head.seq, {**event.to_dict(), "at": second * 10**6}))
            if part:
                Index(log.directory).close()
        log.close()
        with Index(log.directory) as index:
            for fields in asked:
                query = Query(**fields)
                many = sum(
                    len(index._names(text)) > listed
                    for text in (query.run, query.capability)
                    if text is not None
                )
                if many < 2:
                    assert [one.seq for one in index.find(query)] == _slowly(seen, query)
            stats = index.stats()
        events = [event for _, event in seen]
        decisions = Counter(decision_of(one["eventname"], one["data"]) for one in events)
        assert stats["events"] == len(events)
        assert stats["runs"] == len({one["runid"] for one in events})
        assert stats["components"] == len({one.get("componentid") for one in events} - {None})
        assert stats["types"] == Counter(one["eventname"] for one in events)
        assert stats["decisions"] == {DECISIONS[n - 1]: c for n, c in decisions.items() if n}
        moments = [one["at"] for one in events]
        assert (stats["first_microseconds"], stats["last_microseconds"]) == (
            min(moments), max(moments),
        )  # fmt: skip


def test_a_beginning_that_fits_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_MAX_LISTED", 1)
    log = AuditLog(tmp_path / "log")
    for number in range(5):
        denied = CapabilityDenied(capability=f"MEMORY:{number}", reason="no")
        log.emit(Event(data=denied, source="urn:x", runid=f"run-{number}", sequence=1))
    log.close()
    with Index(tmp_path / "log") as index:
        assert len(index.find(Query(capability="MEMORY:*"))) == 5
        with pytest.raises(ConfigurationError, match="fits more than"):
            index.find(Query(capability="MEMORY:*", run="run-*"))
        monkeypatch.setattr(index_module, "_MAX_NAMES", 4)
        with pytest.raises(ConfigurationError, match="`MEMORY:\\*` fits more than 4 names"):
            index.find(Query(capability="MEMORY:*"))
