"""Events as OCSF records, held to the schema that OCSF publishes."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from omnibase.core.audit.ocsf import VERSION, to_ocsf
from omnibase.core.events import CollectingSink, Emitter, EventBus, Payload, SandboxViolation
from tests.unit.test_events_model import SAMPLES, make

EVERY_TYPE = pytest.mark.parametrize("data", SAMPLES, ids=lambda data: type(data).__name__)


@cache
def published() -> dict[str, Any]:
    schema: dict[str, Any] = get_ocsf_schema(version=VERSION)
    assert schema["version"] == VERSION
    return schema


@cache
def validator(class_uid: int, profiles: tuple[str, ...]) -> jsonschema.Draft202012Validator:
    embedded = OcsfJsonSchemaEmbedded(published())
    name = embedded.lookup_class_name_from_uid(class_uid)
    schema = embedded.get_class_schema(name, list(profiles))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def complaints(record: dict[str, Any]) -> list[str]:
    held = validator(record["class_uid"], tuple(record["metadata"].get("profiles", ())))
    return [f"{list(error.path)}: {error.message}" for error in held.iter_errors(record)]


@EVERY_TYPE
@pytest.mark.parametrize(
    "envelope", [{}, {"subject": "report@1.0.0", "componentid": "c", "policydigest": "d"}]
)
def test_every_type_of_event_is_valid(data: Payload, envelope: dict[str, str]) -> None:
    event = make(data, **envelope).to_dict()
    record = to_ocsf(event)
    assert complaints(record) == []
    assert record["unmapped"] == event
    assert record["metadata"]["sequence"] == int(event["sequence"])


@EVERY_TYPE
def test_texts_are_those_of_the_numbers(data: Payload) -> None:
    record = to_ocsf(make(data).to_dict())
    (schema,) = [c for c in published()["classes"].values() if c["uid"] == record["class_uid"]]
    assert record["class_name"] == schema["caption"]
    assert record["category_name"] == schema["category_name"]
    named = [name for name in record if f"{name}_id" in record]
    assert {"severity"} <= set(named)
    assert record["activity_name"]
    for name in (*named, "activity"):
        text = record["activity_name" if name == "activity" else name]
        number = str(record[f"{name}_id"])
        caption = schema["attributes"][f"{name}_id"]["enum"][number]["caption"]
        assert text == caption or number == "99"
    (kind,) = [
        each["caption"]
        for number, each in schema["attributes"]["type_uid"]["enum"].items()
        if number == str(record["type_uid"])
    ]
    assert kind.startswith(record["class_name"])


def test_what_got_through_is_not_called_blocked() -> None:
    attempt = SandboxViolation(operation="open", resource="/x", errno=0, evidence="kernel")
    record = to_ocsf(make(attempt).to_dict())
    assert complaints(record) == []
    assert (record["action"], record["disposition"]) == ("Allowed", "Allowed")


def test_a_whole_run_is_valid() -> None:
    bus, sink = EventBus(), CollectingSink()
    bus.subscribe(sink)
    emitter = Emitter(bus, subject="x.py")
    for data in SAMPLES:
        emitter.emit(data)
    for event in sink.events:
        assert complaints(to_ocsf(event.to_dict())) == []


def test_the_schema_tells_a_wrong_record() -> None:
    record = to_ocsf(make(SAMPLES[0]).to_dict())
    del record["app"]["vendor_name"]
    assert complaints(record) == ["['app']: 'vendor_name' is a required property"]
    assert complaints({**record, "extra": 1})


def test_an_event_that_was_tampered_with_is_still_a_record() -> None:
    record = to_ocsf({"eventname": "SandboxViolation", "time": "soon", "sequence": "x", "data": 1})
    assert (record["time"], record["metadata"]["sequence"]) == (0, 0)
    assert record["class_uid"] == 2004
