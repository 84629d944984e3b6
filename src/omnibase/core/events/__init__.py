"""Structured security events, the bus that carries them and its sinks."""

from typing import TYPE_CHECKING, Any

from omnibase.core.events._fields import FrozenMap, utc
from omnibase.core.events.bus import EventBus, SinkFailure, Subscription, default_bus
from omnibase.core.events.emitter import Emitter
from omnibase.core.events.model import (
    CapabilityDenied,
    CapabilityGranted,
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
    SinkLag,
    UnsandboxedStart,
)
from omnibase.core.events.sinks import CollectingSink, Sink

if TYPE_CHECKING:
    from omnibase.core.events.jsonl import JsonlSink
    from omnibase.core.events.model import (
        PAYLOADS,
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
    "PAYLOADS",
    "ArtifactRead",
    "ArtifactRefused",
    "ArtifactStored",
    "CapabilityDenied",
    "CapabilityGranted",
    "CollectingSink",
    "CommandStarted",
    "DatabaseCopied",
    "EgressClosed",
    "EgressFailed",
    "EgressOpened",
    "Emitter",
    "Event",
    "EventBus",
    "FrozenMap",
    "JsonlSink",
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
    "Sink",
    "SinkFailure",
    "SinkLag",
    "Subscription",
    "UnsandboxedStart",
    "default_bus",
    "utc",
]


def __getattr__(name: str) -> Any:
    # Late: most runs use none of the others, and a command pays for what it loads.
    if name == "JsonlSink":
        from omnibase.core.events.jsonl import JsonlSink

        return JsonlSink
    if name in __all__:
        from omnibase.core.events import model

        return getattr(model, name)
    raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
