"""Every type of event. Reading events needs them all; writing some does not."""

from __future__ import annotations

from omnibase.core.events.payload import Payload
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

__all__ = ["BY_TYPE", "PAYLOADS"]

PAYLOADS: tuple[type[Payload], ...] = (
    SandboxStart,
    SandboxExit,
    CapabilityGranted,
    CapabilityDenied,
    PolicyDecided,
    RunRecovered,
    RunRefused,
    RunRetried,
    UnsandboxedStart,
    SandboxViolation,
    SecretRead,
    PackagesResolved,
    LayerBuilt,
    LayerAttached,
    CommandStarted,
    ArtifactRead,
    ArtifactStored,
    ArtifactRefused,
    DatabaseCopied,
    RegistryRead,
    RegistryAdded,
    RegistryRefused,
    EgressOpened,
    EgressClosed,
    EgressFailed,
    ResourceLimitExceeded,
    SinkLag,
    SessionCallStart,
    SessionCallEnd,
    PoolClientRefused,
    MonitorGap,
)
"""Every type of event."""

BY_TYPE: dict[str, type[Payload]] = {payload.type: payload for payload in PAYLOADS}
