"""OmniBase: runs untrusted Python in gVisor, under typed capabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.5.0"

if TYPE_CHECKING:
    from omnibase.api import Chunk, Sandbox, arun, plan, run
    from omnibase.backend import drain
    from omnibase.call import Plan
    from omnibase.components import (
        ComponentPlan,
        arun_component,
        plan_component,
        run_component,
    )
    from omnibase.core.artifacts.store import Artifact, Artifacts, ArtifactStore
    from omnibase.core.context import ExecutionContext
    from omnibase.core.events import EventBus, JsonlSink, default_bus
    from omnibase.core.events.jetstream import JetStreamSink
    from omnibase.core.sandbox.monitor.violations import Violation
    from omnibase.core.sandbox.result import NetworkLimit, RunResult, Unreached, Usage
    from omnibase.core.sandbox.script_error import ScriptError
    from omnibase.core.secrets import SecretStore
    from omnibase.core.security.capabilities import Capability, CapabilitySet, CapabilityType
    from omnibase.core.security.capability_file import load_capabilities
    from omnibase.errors import (
        ArtifactError,
        CapabilityDenied,
        CapabilityError,
        CircuitOpenError,
        ConfigurationError,
        ExternalCommandError,
        OmniBaseError,
        PackageError,
        PolicyError,
        RegistryError,
        ResourceLimitExceeded,
        SandboxError,
        SandboxStartError,
        SandboxTimeout,
        SandboxUnavailable,
        SandboxViolationError,
        SecretAccessError,
        SessionClosed,
    )
    from omnibase.exchange import open_artifacts
    from omnibase.packages import PackageLayer, install_packages
    from omnibase.pools import Pool, PoolStats
    from omnibase.registries import open_registry
    from omnibase.sessions import CallResult, Session

# Each name is imported when it is first used: `omnibase --version` needs none.
_HOMES = {
    "omnibase.api": ("Chunk", "Sandbox", "arun", "plan", "run"),
    "omnibase.backend": ("drain",),
    "omnibase.call": ("Plan",),
    "omnibase.components": (
        "ComponentPlan",
        "arun_component",
        "plan_component",
        "run_component",
    ),
    "omnibase.packages": ("PackageLayer", "install_packages"),
    "omnibase.pools": ("Pool", "PoolStats"),
    "omnibase.sessions": ("CallResult", "Session"),
    "omnibase.exchange": ("open_artifacts",),
    "omnibase.registries": ("open_registry",),
    "omnibase.core.artifacts.store": ("Artifact", "ArtifactStore", "Artifacts"),
    "omnibase.core.context": ("ExecutionContext",),
    "omnibase.core.events": ("EventBus", "JsonlSink", "default_bus"),
    "omnibase.core.events.jetstream": ("JetStreamSink",),
    "omnibase.core.sandbox.monitor.violations": ("Violation",),
    "omnibase.core.sandbox.result": ("NetworkLimit", "RunResult", "Unreached", "Usage"),
    "omnibase.core.sandbox.script_error": ("ScriptError",),
    "omnibase.core.secrets": ("SecretStore",),
    "omnibase.core.security.capabilities": ("Capability", "CapabilitySet", "CapabilityType"),
    "omnibase.core.security.capability_file": ("load_capabilities",),
    "omnibase.errors": (
        "ArtifactError",
        "CapabilityDenied",
        "CapabilityError",
        "CircuitOpenError",
        "ConfigurationError",
        "ExternalCommandError",
        "OmniBaseError",
        "PackageError",
        "PolicyError",
        "RegistryError",
        "ResourceLimitExceeded",
        "SandboxError",
        "SandboxStartError",
        "SandboxTimeout",
        "SandboxUnavailable",
        "SandboxViolationError",
        "SecretAccessError",
        "SessionClosed",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Artifact",
    "ArtifactError",
    "ArtifactStore",
    "Artifacts",
    "CallResult",
    "Capability",
    "CapabilityDenied",
    "CapabilityError",
    "CapabilitySet",
    "CapabilityType",
    "Chunk",
    "CircuitOpenError",
    "ComponentPlan",
    "ConfigurationError",
    "EventBus",
    "ExecutionContext",
    "ExternalCommandError",
    "JetStreamSink",
    "JsonlSink",
    "NetworkLimit",
    "OmniBaseError",
    "PackageError",
    "PackageLayer",
    "Plan",
    "PolicyError",
    "Pool",
    "PoolStats",
    "RegistryError",
    "ResourceLimitExceeded",
    "RunResult",
    "Sandbox",
    "SandboxError",
    "SandboxStartError",
    "SandboxTimeout",
    "SandboxUnavailable",
    "SandboxViolationError",
    "ScriptError",
    "SecretAccessError",
    "SecretStore",
    "Session",
    "SessionClosed",
    "Unreached",
    "Usage",
    "Violation",
    "__version__",
    "arun",
    "arun_component",
    "default_bus",
    "drain",
    "install_packages",
    "load_capabilities",
    "open_artifacts",
    "open_registry",
    "plan",
    "plan_component",
    "run",
    "run_component",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module `omnibase` has no attribute `{name}`")
    import importlib

    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
