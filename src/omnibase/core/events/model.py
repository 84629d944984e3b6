"""The event: a payload in a CloudEvents 1.0 envelope, and its JSON.

Everything is checked and bounded when it is built, so an event in memory and its
JSON say the same: ``Event.from_json(event.to_json()) == event`` always holds.

Source of the format: CloudEvents 1.0.2 (spec, JSON format, the ``sequence`` and
``distributed-tracing`` extensions), https://github.com/cloudevents/spec.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from omnibase.core.events import _fields as f
from omnibase.core.events._fields import new_id, utc
from omnibase.core.events.payload import (
    Payload,
    field_kinds,
)
from omnibase.core.events.payloads import (
    CapabilityDenied,
    CapabilityGranted,
    MonitorGap,
    PolicyDecided,
    ResourceLimitExceeded,
    RunRefused,
    RunRetried,
    SandboxExit,
    SandboxStart,
    SandboxViolation,
    SinkLag,
    UnsandboxedStart,
)

if TYPE_CHECKING:
    from omnibase.core.events.catalogue import PAYLOADS
    from omnibase.core.events.uses import (
        ArtifactRead,
        ArtifactRefused,
        ArtifactStored,
        CommandStarted,
        DatabaseCopied,
        EgressClosed,
        EgressFailed,
        EgressOpened,
        LayerAttached,
        LayerBuilt,
        PackagesResolved,
        PoolClientRefused,
        RegistryAdded,
        RegistryRead,
        RegistryRefused,
        RunRecovered,
        SecretRead,
        SessionCallEnd,
        SessionCallStart,
    )

__all__ = [
    "MAX_LINE_BYTES",
    "PAYLOADS",
    "ArtifactRead",
    "ArtifactRefused",
    "ArtifactStored",
    "CapabilityDenied",
    "CapabilityGranted",
    "CommandStarted",
    "DatabaseCopied",
    "EgressClosed",
    "EgressFailed",
    "EgressOpened",
    "Event",
    "LayerAttached",
    "LayerBuilt",
    "MonitorGap",
    "PackagesResolved",
    "Payload",
    "PolicyDecided",
    "PoolClientRefused",
    "RegistryAdded",
    "RegistryRead",
    "RegistryRefused",
    "ResourceLimitExceeded",
    "RunRecovered",
    "RunRefused",
    "RunRetried",
    "SandboxExit",
    "SandboxStart",
    "SandboxViolation",
    "SecretRead",
    "SessionCallEnd",
    "SessionCallStart",
    "SinkLag",
    "UnsandboxedStart",
]

MAX_LINE_BYTES = 8 << 20
"""`Event.from_json` reads no more; `Event.to_json` stays below by its bounds."""

# Attribute → kind, in the order of the JSON. `None` means absent.
ENVELOPE: dict[str, f.FieldType] = {
    "id": f.TOKEN,
    "source": f.URI_REFERENCE,
    "time": f.TIMESTAMP,
    "subject": f.ATTRIBUTE.or_none(),
    "runid": f.TOKEN,
    "sequence": f.SEQUENCE,
    "componentid": f.ATTRIBUTE.or_none(),
    "policydigest": f.ATTRIBUTE.or_none(),
    "traceparent": f.TRACEPARENT.or_none(),
    "parentspan": f.SPAN.or_none(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event: a payload in a CloudEvents 1.0 envelope.

    Attributes:
        data: What happened.
        source: Who says so, a URI reference; ``sequence`` counts within it.
        runid: The run it belongs to.
        sequence: Position within the source: 1, 2, 3 and so on, without gaps.
        id: 128 random bits; an event that is delivered twice keeps its id.
        time: When it happened, RFC 3339 in UTC.
        subject: What it is about, e.g. the script's name; controls are escaped.
        componentid: UUID of the component that runs.
        policydigest: Digest of the policy that decided.
        traceparent: W3C trace context of the run: its trace, and its own span there.
        parentspan: Span of the caller in that trace; ``None`` if the run has begun it.

    Raises:
        ValueError: A field has the wrong type or form.
    """

    specversion: ClassVar[str] = "1.0"
    datacontenttype: ClassVar[str] = "application/json"

    data: Payload
    source: str
    runid: str
    sequence: int
    id: str = field(default_factory=new_id)
    time: str = field(default_factory=utc)
    subject: str | None = None
    componentid: str | None = None
    policydigest: str | None = None
    traceparent: str | None = None
    parentspan: str | None = None

    def __post_init__(self) -> None:
        field_kinds(type(self.data))
        for name, kind in ENVELOPE.items():
            object.__setattr__(self, name, kind.check(name, getattr(self, name)))

    @property
    def type(self) -> str:
        """The CloudEvents type, e.g. ``dev.omnibase.sandbox.start.v1``."""
        return self.data.type

    @property
    def name(self) -> str:
        """The short name of the type, e.g. ``SandboxStart``."""
        return type(self.data).__name__

    def to_dict(self) -> dict[str, Any]:
        """Returns the event in the CloudEvents JSON format, as JSON-ready data."""
        out: dict[str, Any] = {"specversion": self.specversion, "type": self.type}
        out |= {name: getattr(self, name) for name in ENVELOPE}
        # A string by its extension, padded so that it sorts as text.
        out["sequence"] = f"{self.sequence:010d}"
        out["sequencetype"] = "Integer"
        out["eventname"] = self.name
        out["datacontenttype"] = self.datacontenttype
        out["data"] = self.data.to_dict()
        return {name: value for name, value in out.items() if value is not None}

    def to_json(self) -> str:
        """Returns the event as one line of printable ASCII, without its end.

        Nothing in an event can end the line, move a terminal's cursor or reorder
        what it shows: whatever is not printable ASCII is a ``\\u`` escape.
        """
        import json

        # `ensure_ascii` escapes all but space to `~`, DEL included.
        return json.dumps(self.to_dict(), ensure_ascii=True, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Event:
        """Reads an event from what `to_dict` returns, and from nothing else.

        Raises:
            ValueError: A key is missing, unknown or has a value that `to_dict`
                would not write.
        """
        from omnibase.core.events.catalogue import BY_TYPE

        payload = BY_TYPE.get(raw["type"]) if isinstance(raw.get("type"), str) else None
        if payload is None:
            raise f.bad("type", "a known type of event", raw.get("type"))
        data = raw.get("data")
        if not isinstance(data, Mapping):
            raise f.bad("data", "an object", data)
        _same_keys("data", data, set(field_kinds(payload)))
        given = {name: raw.get(name) for name in ENVELOPE}
        sequence = given.pop("sequence")
        if not isinstance(sequence, str) or not (sequence.isascii() and sequence.isdigit()):
            raise f.bad("sequence", "ten decimal digits", sequence)
        event = cls(data=payload(**data), sequence=int(sequence[:16]), **given)  # type: ignore[arg-type]
        written = event.to_dict()
        _same_keys("event", raw, set(written))
        for name, value in written.items():
            if raw[name] != value:
                raise f.bad(name, f"`{f.bounded(ascii(value), 80)}`", raw[name])
        return event

    @classmethod
    def from_json(cls, line: str | bytes) -> Event:
        """Reads one event, strictly: see `from_dict`.

        Raises:
            ValueError: Not JSON, a key twice, a number that is not finite, longer
                than `MAX_LINE_BYTES`, or not what `to_dict` writes.
        """
        import json

        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"an event has at most {MAX_LINE_BYTES} bytes")
        try:
            raw = json.loads(
                line if isinstance(line, str) else line.decode("utf-8"),
                object_pairs_hook=_unique,
                parse_constant=_not_finite,
            )
        except RecursionError:
            raise ValueError("not an event: nested too deeply") from None
        if not isinstance(raw, dict):
            raise f.bad("event", "an object", raw)
        return cls.from_dict(raw)


def __getattr__(name: str) -> Any:
    # Late: most processes emit few types of events, and a class takes a third of a millisecond.
    if name in __all__:
        from omnibase.core.events import catalogue

        return getattr(catalogue, name)
    raise AttributeError(f"module `{__name__}` has no attribute `{name}`")


def _same_keys(where: str, got: Mapping[str, Any], wanted: set[str]) -> None:
    if got.keys() != wanted:
        missing, unknown = sorted(wanted - got.keys()), sorted(got.keys() - wanted, key=ascii)
        raise f.bad(where, f"the keys of the type (missing: {missing})", unknown)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("not an event: the same key twice in one object")
    return found


def _not_finite(text: str) -> float:
    raise ValueError(f"not an event: the number `{text}`")
