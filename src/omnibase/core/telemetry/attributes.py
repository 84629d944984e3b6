"""Attributes of spans and metrics, from events. Pure.

Names are those of OpenTelemetry's semantic conventions where there is one,
else they begin with ``omnibase.``. Text that hostile code chose is escaped.
Source: https://opentelemetry.io/docs/specs/semconv/registry/attributes/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from omnibase.core.events.model import Event
from omnibase.core.events.payloads import PolicyDecided
from omnibase.core.events.payloads import SandboxExit as Exit
from omnibase.core.events.payloads import SandboxStart as Start
from omnibase.core.printable import printable

__all__ = ["Attributes", "Value", "capability_type", "of_decision", "of_end", "of_event", "of_run"]

Value: TypeAlias = str | int | float | bool | list[str]
Attributes: TypeAlias = dict[str, Value]

_MAX_TEXT: Final = 4096
# By short name of the event and field.
_STANDARD: Final = {
    ("SandboxViolation", "pid"): "process.vpid",
    ("SandboxViolation", "process_name"): "process.executable.name",
    ("SecretRead", "pid"): "process.vpid",
    ("SecretRead", "process_name"): "process.executable.name",
    ("EgressOpened", "address"): "network.peer.address",
    ("EgressClosed", "address"): "network.peer.address",
    ("RunRefused", "code"): "error.type",
    ("SandboxExit", "exit_code"): "process.exit.code",
}


def of_event(event: Event) -> Attributes:
    """Returns the attributes of the span event that an event becomes."""
    out: Attributes = {
        "cloudevents.event_id": event.id,
        "cloudevents.event_type": event.type,
        "omnibase.sequence": event.sequence,
    }
    fields = event.data.to_dict()
    target = fields.get("target")
    if event.name.startswith("Egress") and isinstance(target, str):
        host, _, port = fields.pop("target").rpartition(":")
        out["server.address"] = _text(host.strip("[]") or target)
        if port.isascii() and port.isdigit():
            out["server.port"] = int(port[:5])
    for field, value in fields.items():
        _put(out, _STANDARD.get((event.name, field), f"omnibase.{field}"), value)
    return out


def of_run(event: Event) -> Attributes:
    """Returns what an event's envelope says of its run."""
    out: Attributes = {"omnibase.run.id": event.runid, "cloudevents.event_source": event.source}
    _put(out, "cloudevents.event_subject", event.subject)
    _put(out, "omnibase.component.id", event.componentid)
    _put(out, "omnibase.policy.digest", event.policydigest)
    if isinstance(event.data, Start):
        start = event.data
        out |= {
            "container.id": event.runid,
            "container.runtime.name": "runsc",
            "container.runtime.version": _text(start.runtime_version),
            "omnibase.sandbox.platform": _text(start.platform),
            "omnibase.sandbox.start": start.start,
            "omnibase.script.sha256": start.script_sha256,
        }
        _put(out, "container.image.id", start.image_digest)
        _put(out, "omnibase.grants", list(start.grants))
        _put(out, "omnibase.quotas", start.quotas)
    return out


def of_decision(decided: PolicyDecided) -> Attributes:
    """Returns the attributes of the span of a policy's decision."""
    out: Attributes = {}
    for field, value in decided.to_dict().items():
        if field != "seconds":
            _put(out, f"omnibase.policy.{field.removeprefix('policy_')}", value)
    return out


def of_end(end: Exit) -> Attributes:
    """Returns the attributes that a run's span gets at its end."""
    out: Attributes = {"omnibase.outcome": end.outcome}
    _put(out, "process.exit.code", end.exit_code)
    for field in ("signal", "cpu_seconds", "peak_memory_bytes", "output_bytes", "violations"):
        _put(out, f"omnibase.{field}", getattr(end, field))
    return out


def capability_type(capability: str | None) -> str:
    """Returns the type of a capability: a word of a small set, as metrics need it."""
    word = (capability or "").partition(":")[0]
    return word if word.isascii() and word.replace("_", "").isupper() and len(word) < 40 else "none"


def _put(out: Attributes, name: str, value: Any) -> None:
    """Adds a value, if there is one, as a type that attributes have."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            _put(out, f"{name}.{_text(str(key))}", each)
    elif isinstance(value, list | tuple):
        out[name] = [_text(str(each)) for each in value]
    elif isinstance(value, str):
        out[name] = _text(value)
    elif value is not None:
        out[name] = value


def _text(text: str) -> str:
    return printable(text, _MAX_TEXT)
