"""The payloads, the envelope and their JSON, checked against CloudEvents 1.0."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from omnibase.core.events import (
    PAYLOADS,
    ArtifactRead,
    ArtifactRefused,
    ArtifactStored,
    CapabilityDenied,
    CapabilityGranted,
    CommandStarted,
    DatabaseCopied,
    EgressClosed,
    EgressFailed,
    EgressOpened,
    Event,
    FrozenMap,
    LayerAttached,
    LayerBuilt,
    MonitorGap,
    PackagesResolved,
    Payload,
    PolicyDecided,
    PoolClientRefused,
    RegistryAdded,
    RegistryRead,
    RegistryRefused,
    ResourceLimitExceeded,
    RunRecovered,
    RunRefused,
    RunRetried,
    SandboxExit,
    SandboxStart,
    SandboxViolation,
    SecretRead,
    SessionCallEnd,
    SessionCallStart,
    SinkLag,
    UnsandboxedStart,
    utc,
)
from omnibase.core.events._fields import MAX_ITEM, MAX_ITEMS, MAX_TEXT, bounded
from omnibase.core.events.model import MAX_LINE_BYTES
from omnibase.core.events.schema import events_schema, events_schema_json

DOCS = Path(__file__).parents[2] / "docs"

SAMPLES: tuple[Payload, ...] = (
    SandboxStart(
        script="job.py",
        script_sha256="0" * 64,
        grants=("FILE_READ:/data/**",),
        quotas={"memory_bytes": 50_000_000, "cpus": 1.5, "cpu_seconds": None, "on": "raise"},
        platform="systrap",
        runtime_version="20240729.0",
        image_digest="sha256:" + "1" * 64,
    ),
    SandboxExit(exit_code=0, outcome="ok", wall_seconds=1, cpu_seconds=0.25, violations=2),
    CapabilityGranted(capability="FILE_READ:/data/**", enforcement="mount"),
    CapabilityDenied(capability="SECRET_ACCESS:key", reason="no policy permits it"),
    PolicyDecided(
        requested=("FILE_READ:/data/**", "FILE_READ:/etc/x"),
        granted=("FILE_READ:/data/**",),
        masks=("/data/secret/**",),
        denied=("FILE_READ:/etc/x",),
        trust="untrusted",
        lifecycle="active",
        environment="default",
        policy_version=3,
    ),
    RunRecovered(reason="its process did not come to tell its end", pid=4711),
    RunRefused(code="policy_error", reason="it is not what the registry wrote", file="policies/u"),
    RunRetried(attempt=1, reason="runsc exited 128", delay_seconds=0.15),
    UnsandboxedStart(
        script="job.py", script_sha256="0" * 64, python="/usr/bin/python3", policies=("host",)
    ),
    SandboxViolation(
        capability="FILE_READ:/etc/passwd",
        operation="openat",
        resource="/etc/passwd",
        errno=2,
        errno_name="ENOENT",
        pid=7,
        process_name="python3",
        evidence="kernel",
    ),
    SecretRead(secret="API_TOKEN", operation="open", pid=2, process_name="python3"),
    PackagesResolved(lock_digest="0" * 64, packages=(f"numpy==2.4.0 sha256:{'1' * 64}",)),
    LayerBuilt(lock_digest="0" * 64, files=1200, layer_bytes=61_000_000, seconds=8.5),
    LayerAttached(lock_digest="0" * 64, packages=(f"numpy==2.4.0 sha256:{'1' * 64}",)),
    CommandStarted(command="git", count=3),
    ArtifactRead(artifact="in.csv", version=3, digest=f"sha256:{'0' * 64}", size_bytes=8),
    ArtifactStored(
        artifact="plot.png",
        version=1,
        digest=f"sha256:{'0' * 64}",
        size_bytes=20,
        kind="image",
        media_type="image/png",
    ),
    ArtifactRefused(artifact="link", reason="is not a regular file"),
    DatabaseCopied(
        capability="DATABASE_READ:sqlite:/data/app.db", database="/data/app.db", size_bytes=8192
    ),
    RegistryRead(
        capability="REGISTRY_READ:report", component="u", reference="report@1.0.0", revision=2
    ),
    RegistryAdded(component="u", reference="report@1.0.0", script_sha256="0" * 64),
    RegistryRefused(name="report", reason="it has no script"),
    EgressOpened(
        connection=1,
        target="a.example:443",
        address="192.0.2.7",
        capability="NETWORK_CONNECT:*.example:443",
    ),
    EgressClosed(
        connection=1,
        target="a.example:443",
        address="192.0.2.7",
        capability="NETWORK_CONNECT:*.example:443",
        sent_bytes=517,
        received_bytes=5312,
        seconds=0.182,
        reason="end",
    ),
    EgressFailed(target="a.example:443", capability="NETWORK_CONNECT:*:443", reason="refused"),
    ResourceLimitExceeded(kind="memory", limit=50_000_000, unit="bytes", detail="killed"),
    SinkLag(
        sink="JetStreamSink",
        state="lagging",
        pending=12,
        oldest_seconds=10.5,
        reason="connection refused",
    ),
    SessionCallStart(call=1, code_sha256="0" * 64, code_bytes=21),
    SessionCallEnd(
        call=1, exit_code=0, outcome="ok", wall_seconds=0.0012, output_bytes=6, violations=0
    ),
    PoolClientRefused(pid=4242, uid=1000, gid=1000, reason="it is of another user"),
    MonitorGap(dropped=3, reason="the trace's queue was full"),
)


def make(data: Payload = SAMPLES[-1], **changes: Any) -> Event:
    given: dict[str, Any] = {"source": "urn:omnibase:run:r1", "runid": "r1", "sequence": 1}
    return Event(**{"data": data} | given | changes)


def raw(**changes: Any) -> str:
    return json.dumps(make().to_dict() | changes)


@pytest.mark.parametrize("data", SAMPLES, ids=lambda data: type(data).__name__)
class TestEveryType:
    def test_survives_json(self, data: Payload) -> None:
        event = make(data, subject="job.py", componentid="c", policydigest="d")
        assert Event.from_json(event.to_json()) == event
        assert Event.from_json(event.to_json().encode()) == event

    def test_satisfies_the_schema(self, data: Payload) -> None:
        jsonschema.validate(make(data).to_dict(), events_schema())

    def test_the_schema_refuses_what_it_does_not_know(self, data: Payload) -> None:
        broken = make(data).to_dict()
        broken["data"]["extra"] = 1
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, events_schema())

    def test_has_a_versioned_reverse_dns_type_and_a_short_name(self, data: Payload) -> None:
        assert re.fullmatch(r"dev\.omnibase\.[a-z.]+\.v1", data.type)
        assert make(data).name == type(data).__name__ == make(data).to_dict()["eventname"]

    def test_cannot_change(self, data: Payload) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(data, dataclasses.fields(data)[0].name, "x")  # type: ignore[arg-type]
        assert not hasattr(data, "__dict__")

    def test_is_hashable_and_copied_equal(self, data: Payload) -> None:
        assert hash(copy.deepcopy(data)) == hash(data)
        assert copy.deepcopy(data) == data

    def test_is_documented(self, data: Payload) -> None:
        section = (DOCS / "events.md").read_text().partition(f"### {type(data).__name__}\n")[2]
        section = section.partition("\n### ")[0]
        assert f"`{data.type}`" in section
        rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
        assert rows == list(data.to_dict())
        example = re.search(r"```json\n(.*?)```", section, re.DOTALL)
        assert example is not None
        assert Event.from_json(example[1]).name == type(data).__name__


def test_every_type_has_a_sample() -> None:
    assert tuple(type(each) for each in SAMPLES) == PAYLOADS
    assert len({each.type for each in PAYLOADS}) == len(PAYLOADS)


def test_the_schema_file_is_current() -> None:
    assert (DOCS / "schemas" / "events.schema.json").read_text() == events_schema_json()
    jsonschema.Draft202012Validator.check_schema(events_schema())


class TestEnvelope:
    def test_has_the_required_attributes_of_cloudevents(self) -> None:
        written = make().to_dict()
        assert written["specversion"] == "1.0"
        assert {"id", "source", "type", "time", "datacontenttype"} < written.keys()
        assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in written)

    def test_an_attribute_without_a_value_is_absent(self) -> None:
        assert (
            make()
            .to_dict()
            .keys()
            .isdisjoint({"subject", "componentid", "policydigest", "traceparent", "parentspan"})
        )

    def test_the_sequence_is_text_that_sorts(self) -> None:
        written = [make(sequence=n).to_dict()["sequence"] for n in (1, 9, 10, 2**31 - 1)]
        assert written == sorted(written)
        assert [int(each) for each in written] == [1, 9, 10, 2**31 - 1]
        assert make().to_dict()["sequencetype"] == "Integer"

    def test_ids_are_unguessable_and_times_are_utc(self) -> None:
        assert len({make().id for _ in range(100)}) == 100
        assert len(make().id) == 32
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", make().time)
        assert utc(0) == "1970-01-01T00:00:00.000000Z"
        assert utc(1_700_000_000.25) == "2023-11-14T22:13:20.250000Z"

    def test_an_attribute_has_no_controls_and_a_bound(self) -> None:
        hostile = make(subject="a\nb\x1b[2J\x7f\x85\udcff\ufffe\U0001ffff\u202eé")
        assert hostile.subject == "a\\nb\\x1b[2J\\x7f\\x85\\udcff\\ufffe\\U0001ffff\u202eé"
        long = make(subject="x" * 5000).subject
        assert long is not None
        assert len(long) == MAX_ITEM
        assert long.endswith("...[truncated, 5000 characters]")
        assert make(subject=long).subject == long

    def test_a_trace_context_is_kept(self) -> None:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01"
        assert make(traceparent=parent).to_dict()["traceparent"] == parent

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("id", ""),
            ("id", "a b"),
            ("id", "a\n"),
            ("source", ""),
            ("source", "urn:a b"),
            ("source", None),
            ("time", "2024-01-01T00:00:00+01:00"),
            ("time", "2024-01-01T00:00:00Z\n"),
            ("time", "\uff12024-01-01T00:00:00Z"),
            ("subject", ""),
            ("subject", 1),
            ("runid", "é"),
            ("sequence", 0),
            ("sequence", 2**31),
            ("sequence", True),
            ("sequence", "1"),
            ("traceparent", "00-" + "0" * 32 + "-b9c7c989f97918e1-01"),
            ("parentspan", "0" * 16),
            ("parentspan", "B9C7C989F97918E1"),
            ("traceparent", "ff-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01"),
            ("data", {"dropped": 1}),
        ],
    )
    def test_refuses_a_malformed_attribute(self, name: str, value: Any) -> None:
        with pytest.raises(ValueError, match=name):
            make(**{name: value})


class TestFields:
    @pytest.mark.parametrize(
        "change",
        [
            {"script": 1},
            {"script": None},
            {"script_sha256": "0" * 63},
            {"script_sha256": "0" * 64 + "\n"},
            {"script_sha256": "A" * 64},
            {"grants": "FILE_READ:/x"},
            {"grants": (1,)},
            {"quotas": {1: 2}},
            {"quotas": {"cpus": float("nan")}},
            {"quotas": {"cpus": float("inf")}},
            {"quotas": {"cpus": -1}},
            {"quotas": {"cpus": True}},
            {"quotas": {"cpus": []}},
            {"quotas": [("cpus", 1)]},
            {"quotas": {str(n): n for n in range(MAX_ITEMS + 1)}},
        ],
    )
    def test_refuses_a_wrong_value(self, change: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(change))):
            dataclasses.replace(SAMPLES[0], **change)  # type: ignore[type-var]

    @pytest.mark.parametrize("count", [-1, True, 1.0, 2**63, "1", None])
    def test_refuses_a_wrong_count(self, count: Any) -> None:
        with pytest.raises(ValueError, match="dropped"):
            MonitorGap(dropped=count, reason="")

    @pytest.mark.parametrize("seconds", [-0.5, float("nan"), float("inf"), True, "1"])
    def test_refuses_wrong_seconds(self, seconds: Any) -> None:
        with pytest.raises(ValueError, match="wall_seconds"):
            SandboxExit(outcome="ok", wall_seconds=seconds)

    def test_refuses_an_unknown_word(self) -> None:
        with pytest.raises(ValueError, match="one of kernel, broker, agent"):
            SandboxViolation(operation="x", resource="y", evidence="rumour")  # type: ignore[arg-type]

    def test_a_long_list_says_what_is_missing(self) -> None:
        start = dataclasses.replace(SAMPLES[0], grants=["x"] * 1000)  # type: ignore[type-var]
        assert isinstance(start, SandboxStart)
        assert len(start.grants) == MAX_ITEMS
        assert start.grants[-1] == "...[truncated, 1000 items]"

    def test_quotas_are_a_frozen_map(self) -> None:
        given = {"pids": 64}
        start = dataclasses.replace(SAMPLES[0], quotas=given)  # type: ignore[type-var]
        assert isinstance(start, SandboxStart)
        given["pids"] = 1
        assert start.quotas == {"pids": 64}
        assert repr(start.quotas) == "FrozenMap({'pids': 64})"
        with pytest.raises(TypeError):
            start.quotas["pids"] = 1  # type: ignore[index]
        assert hash(FrozenMap({"a": 1, "b": 2})) == hash(FrozenMap({"b": 2, "a": 1}))

    def test_a_class_of_another_kind_is_no_payload(self) -> None:
        class Other(Payload):
            type = "dev.example.other.v1"

        with pytest.raises(ValueError, match="payload of a known type"):
            make(Other.__new__(Other))


class TestBounds:
    @pytest.mark.parametrize("length", [0, 1, MAX_TEXT - 1, MAX_TEXT])
    def test_what_fits_is_kept(self, length: int) -> None:
        assert bounded("x" * length) == "x" * length

    def test_what_does_not_fit_ends_in_a_marker(self) -> None:
        assert bounded("x" * (MAX_TEXT + 1)).endswith("x...[truncated, 4097 characters]")
        assert len(bounded("x" * 10**6)) == MAX_TEXT

    def test_lone_surrogates_become_text(self) -> None:
        assert bounded("\udcff \ud83d\ude00 \U0001f600") == "\\udcff \\ud83d\\ude00 \U0001f600"
        assert len(bounded("\udcff" * MAX_TEXT)) == MAX_TEXT

    def test_the_largest_event_can_be_read_back(self) -> None:
        wide = "\U0001f600"
        event = make(
            SandboxStart(
                script=wide * MAX_TEXT,
                script_sha256="0" * 64,
                grants=(wide * MAX_ITEM,) * MAX_ITEMS,
                quotas={
                    f"{n:03}" + wide * (MAX_ITEM - 3): wide * MAX_ITEM for n in range(MAX_ITEMS)
                },
                platform=wide * MAX_TEXT,
                runtime_version=wide * MAX_TEXT,
                image_digest=wide * MAX_TEXT,
            ),
            subject=wide * MAX_ITEM,
            componentid=wide * MAX_ITEM,
            policydigest=wide * MAX_ITEM,
        )
        assert len(event.to_json()) < MAX_LINE_BYTES
        assert Event.from_json(event.to_json()) == event

    def test_a_violation_on_the_longest_path_fits_a_portable_event(self) -> None:
        path = "/" + "\x01" * 4095
        violation = SandboxViolation(operation="openat", resource=path, evidence="kernel")
        assert len(make(violation).to_json()) < 64 * 1024


def test_hostile_text_stays_on_its_line_and_off_the_terminal() -> None:
    name = 'a\n{"type":"forged"}\r\u2028\x1b]0;x\x07\x1b[31m\x9b\x7f\u202e\u2066\udcff\x00"\\'
    line = make(SandboxViolation(operation="openat", resource=name, evidence="kernel")).to_json()
    assert re.fullmatch("[ -~]+", line)
    data = Event.from_json(line).data
    assert isinstance(data, SandboxViolation)
    assert data.resource == name.replace("\udcff", "\\udcff")


class TestStrictReading:
    @pytest.mark.parametrize(
        ("line", "match"),
        [
            ("", "Expecting value"),
            ("[]", "an object"),
            ("{}", "type"),
            ('{"type":[]}', "type"),
            (raw(type="dev.omnibase.monitor.gap.v2"), "known type"),
            (raw(extra=1), "extra"),
            (raw(**{"x\n": 1}), "keys"),
            (raw(subject=None), "subject"),
            (raw(specversion="0.3"), "specversion"),
            (raw(eventname="SandboxStart"), "eventname"),
            (raw(sequencetype="x"), "sequencetype"),
            (raw(datacontenttype="text/plain"), "datacontenttype"),
            (raw(sequence=1), "sequence"),
            (raw(sequence="1"), "sequence"),
            (raw(sequence="-000000001"), "sequence"),
            (raw(sequence="\u0660" * 9 + "\u0661"), "sequence"),
            (raw(sequence="9" * 5000), "sequence"),
            (raw(data=None), "data"),
            (raw(data=[]), "data"),
            (raw(data={}), "missing"),
            (raw(data={"dropped": 1}), "missing"),
            (raw(data={"dropped": 1, "reason": "", "x": 1}), "'x'"),
            (raw(data={"dropped": 1.5, "reason": ""}), "dropped"),
            (raw(data={"dropped": 1, "reason": "x" * 5000}), "data"),
            (raw(data={"dropped": 1, "reason": "\udcff"}), "data"),
            (raw(data={"dropped": float("nan"), "reason": ""}), "NaN"),
            (raw().replace('"runid"', '"id": "x", "runid"'), "twice"),
            ('{"a":' * 100_000, "nested"),
            (" " * (MAX_LINE_BYTES + 1), "at most"),
            (raw() + raw(), "Extra data"),
        ],
    )  # fmt: skip
    def test_refuses(self, line: str, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            Event.from_json(line)

    def test_refuses_a_number_that_overflows(self) -> None:
        line = make(SAMPLES[1]).to_json().replace('"wall_seconds":1.0', '"wall_seconds":1e999')
        with pytest.raises(ValueError, match="wall_seconds"):
            Event.from_json(line)

    def test_refuses_bytes_that_are_not_utf8(self) -> None:
        with pytest.raises(ValueError, match="utf-8"):
            Event.from_json(b'{"\xff":1}')

    def test_names_a_missing_attribute(self) -> None:
        written = make().to_dict()
        for name in written:
            with pytest.raises(ValueError, match=name):
                Event.from_dict({key: value for key, value in written.items() if key != name})
