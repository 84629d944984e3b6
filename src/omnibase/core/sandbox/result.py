"""What a run gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from omnibase.core.artifacts.store import Artifacts
from omnibase.core.sandbox.script_error import ScriptError

if TYPE_CHECKING:
    from omnibase.core.sandbox.egress.reports import Limit
    from omnibase.core.sandbox.monitor.violations import Violation

__all__ = [
    "ComponentRun",
    "LimitKind",
    "NetworkLimit",
    "Proposed",
    "RunResult",
    "Unreached",
    "Usage",
]

LimitKind = Literal["memory", "cpu", "pids", "output", "time", "disk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the whole sandbox consumed (script, interpreter and Sentry).

    Attributes:
        cpu_seconds: CPU time by the cgroup's account.
        peak_memory_bytes: Highest memory charge of the cgroup.
        wall_seconds: From the start of the run to its end.
        output_bytes: What the script wrote to both streams, kept or not.
        scratch_bytes: Most that ``/tmp`` was seen to occupy on disk.
    """

    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    wall_seconds: float = 0.0
    output_bytes: int = 0
    scratch_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentRun:
    """Which component ran, and what its policy decided.

    Attributes:
        uuid: The component.
        reference: ``name@version``.
        policy_version: As the registry counts it; ``None`` if it has none.
        policy_sha256: Of the policy's document; likewise.
        environment: Where it ran, for the policy.
        granted: Capabilities, each ``TYPE:resource``.
        masks: What was taken out of granted trees: paths.
    """

    uuid: str
    reference: str
    policy_version: int | None
    policy_sha256: str | None
    environment: str
    granted: tuple[str, ...]
    masks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready data."""
        return {
            "uuid": self.uuid,
            "reference": self.reference,
            "policy_version": self.policy_version,
            "policy_sha256": self.policy_sha256,
            "environment": self.environment,
            "granted": list(self.granted),
            "masks": list(self.masks),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreached:
    """What the script could not be connected to, though a grant covers it: no violation.

    Attributes:
        target: ``host:port``, as it asked for it.
        reason: Why, for a person: the target's answer, a limit, or that the run ended first.
        count: How often; a limit that stood against it counts once.
    """

    target: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkLimit:
    """A limit that a network grant has reached.

    Attributes:
        capability: The grant.
        limit: ``egress_connections``, ``egress_bytes`` or ``egress_idle_seconds``, of the
            `ExecutionContext`.
    """

    capability: str
    limit: Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A component that the script proposed to the registry.

    Attributes:
        name: What it is called: untrusted text if it was refused.
        reference: ``name@version``, if it is a draft in the registry now.
        uuid: Its UUID, likewise.
        reason: Why it was refused, if it was.
    """

    name: str
    reference: str | None = None
    uuid: str | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready data."""
        return {
            "name": self.name,
            "reference": self.reference,
            "uuid": self.uuid,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A finished run. A non-zero exit code is a result, not an error.

    Attributes:
        run_id: Unguessable id, the same as in the events.
        exit_code: The script's own; ``128 + n`` if signal ``n`` ended it.
        signal: The signal that ended the script, if one did.
        stdout: Bytes kept, at most ``output_bytes`` for both streams together.
        stderr: Likewise.
        violations: Distinct attempts beyond the grants, in order of first sight.
        unreached: Granted connections that were not made, at most 100 kinds; the
            script sees a connection that is reset.
        network_limits: Limits that network grants have reached, each once: connections
            were refused or ended because of them.
        usage: What the run consumed.
        limits: Quotas that were reached, e.g. ``("pids",)``.
        truncated: Output went past its cap and was cut.
        trace_dropped: Trace messages that the Sentry could not deliver.
        denied: Requested capabilities that were not granted (``--degrade``).
        sandboxed: False for a trusted component that opted out.
        component: What ran, if it came from a registry.
        layer: Digest of the lock of the packages that it could import.
        artifacts: What it left in ``/artifacts/out``, by name; ``artifacts.left_out`` is
            what of that was not stored. Empty if the script did not end by itself.
        error: The exception that it did not catch, as data: untrusted text.
        proposed: What it left in ``/registry/out``, added or refused.
        warm: It ran in a sandbox of a `Pool` that had been started before.
        cold_reason: Why not, if it was to run through a pool.
    """

    run_id: str
    exit_code: int
    signal: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    violations: tuple[Violation, ...] = ()
    unreached: tuple[Unreached, ...] = ()
    network_limits: tuple[NetworkLimit, ...] = ()
    usage: Usage = field(default_factory=Usage)
    limits: tuple[LimitKind, ...] = ()
    truncated: bool = False
    trace_dropped: int = 0
    denied: tuple[str, ...] = ()
    sandboxed: bool = True
    component: ComponentRun | None = None
    layer: str | None = None
    artifacts: Artifacts = field(default_factory=Artifacts)
    error: ScriptError | None = None
    proposed: tuple[Proposed, ...] = ()
    warm: bool = False
    cold_reason: str | None = None

    @property
    def registered(self) -> tuple[Proposed, ...]:
        """The components that are drafts in the registry now."""
        return tuple(one for one in self.proposed if one.reason is None)

    @property
    def ok(self) -> bool:
        """Whether it exited 0, tried nothing beyond its grants, met no limit, and lost nothing."""
        met = self.violations or self.limits or self.network_limits or self.artifacts.left_out
        refused = len(self.registered) != len(self.proposed)
        return self.exit_code == 0 and not met and not refused

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready data; output is decoded as UTF-8 with replacement."""
        usage = self.usage
        return {
            "run_id": self.run_id,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "stdout": self.stdout.decode("utf-8", "replace"),
            "stderr": self.stderr.decode("utf-8", "replace"),
            "violations": [violation.to_dict() for violation in self.violations],
            "unreached": [
                {"target": one.target, "reason": one.reason, "count": one.count}
                for one in self.unreached
            ],
            "network_limits": [
                {"capability": one.capability, "limit": one.limit} for one in self.network_limits
            ],
            "usage": {
                "cpu_seconds": round(usage.cpu_seconds, 6),
                "peak_memory_bytes": usage.peak_memory_bytes,
                "wall_seconds": round(usage.wall_seconds, 6),
                "output_bytes": usage.output_bytes,
                "scratch_bytes": usage.scratch_bytes,
            },
            "limits": list(self.limits),
            "truncated": self.truncated,
            "trace_dropped": self.trace_dropped,
            "denied": list(self.denied),
            "sandboxed": self.sandboxed,
            "warm": self.warm,
            "cold_reason": self.cold_reason,
            "layer": self.layer,
            "component": self.component and self.component.to_dict(),
            "script_error": self.error and self.error.to_dict(),
            "artifacts": [artifact.to_dict() for artifact in self.artifacts.values()],
            "registry_proposed": [one.to_dict() for one in self.proposed],
            "artifacts_left_out": [left.to_dict() for left in self.artifacts.left_out],
        }
