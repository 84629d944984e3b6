"""The JSON Schema of every event, generated from the classes.

``python -m omnibase.core.events.schema > docs/schemas/events.schema.json``
"""

from __future__ import annotations

import json
import sys
from typing import Any

from omnibase.core.events.catalogue import PAYLOADS
from omnibase.core.events.model import ENVELOPE, Event
from omnibase.core.events.payload import Payload, field_kinds

_OPTIONAL = ("subject", "componentid", "policydigest", "traceparent", "parentspan")


def events_schema() -> dict[str, Any]:
    """Returns the schema (draft 2020-12) that every line of an event log satisfies."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "OmniBase events, in the CloudEvents 1.0 JSON format",
        "oneOf": [{"$ref": f"#/$defs/{payload.__name__}"} for payload in PAYLOADS],
        "$defs": {payload.__name__: _event(payload) for payload in PAYLOADS},
    }


def events_schema_json() -> str:
    """Returns the schema as the text of ``docs/schemas/events.schema.json``."""
    return json.dumps(events_schema(), indent=2) + "\n"


def _event(payload: type[Payload]) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "specversion": {"const": Event.specversion},
        "type": {"const": payload.type},
    }
    for name, kind in ENVELOPE.items():
        # An attribute without a value is absent, never null.
        properties[name] = kind.schema["anyOf"][0] if name in _OPTIONAL else kind.schema
    properties |= {
        "sequence": {"type": "string", "pattern": "^[0-9]{10}$"},
        "sequencetype": {"const": "Integer"},
        "eventname": {"const": payload.__name__},
        "datacontenttype": {"const": Event.datacontenttype},
        "data": _object({name: kind.schema for name, kind in field_kinds(payload).items()}),
    }
    summary = (payload.__doc__ or "").partition("\n")[0]
    return {"description": summary, **_object(properties, optional=_OPTIONAL)}


def _object(properties: dict[str, Any], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


if __name__ == "__main__":
    sys.stdout.write(events_schema_json())
