"""Structured security events, the bus that carries them and its sinks."""

from omnibase.core.events._fields import FrozenMap, utc
from omnibase.core.events.bus import Emitter, EventBus, SinkFailure, Subscription, default_bus
from omnibase.core.events.jsonl import JsonlSink
from omnibase.core.events.model import (
    PAYLOADS,
    CapabilityDenied,
    CapabilityGranted,
    EgressClosed,
    EgressFailed,
    EgressOpened,
    Event,
    MonitorGap,
    Payload,
    PolicyDecided,
    ResourceLimitExceeded,
    RunRefused,
    RunRetried,
    SandboxExit,
    SandboxStart,
    SandboxViolation,
    SecretRead,
    UnsandboxedStart,
)
from omnibase.core.events.sinks import CollectingSink, Sink

__all__ = [
    "PAYLOADS",
    "CapabilityDenied",
    "CapabilityGranted",
    "CollectingSink",
    "EgressClosed",
    "EgressFailed",
    "EgressOpened",
    "Emitter",
    "Event",
    "EventBus",
    "FrozenMap",
    "JsonlSink",
    "MonitorGap",
    "Payload",
    "PolicyDecided",
    "ResourceLimitExceeded",
    "RunRefused",
    "RunRetried",
    "SandboxExit",
    "SandboxStart",
    "SandboxViolation",
    "SecretRead",
    "Sink",
    "SinkFailure",
    "Subscription",
    "UnsandboxedStart",
    "default_bus",
    "utc",
]
