"""The payloads: what each type of event carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from omnibase.core.events._fields import FrozenMap, Scalar, utc
from omnibase.core.events.payload import (
    Count,
    Evidence,
    Lag,
    Number,
    Payload,
    Seconds,
    Sha256,
    Stage,
    Start,
    Timestamp,
    declare,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxStart(Payload):
    """The script is about to run.

    Attributes:
        script: Name of the script, as the caller gave it.
        script_sha256: Digest of the bytes that run, in hexadecimal.
        grants: Granted capabilities, each ``TYPE:resource``.
        quotas: Limit by name, the unit in the name (``memory_bytes``).
        platform: gVisor platform, e.g. ``systrap``.
        runtime_version: Version of ``runsc``.
        image_digest: Digest of the guest's root file system.
        commands: Commands that were brought in: file on the host by name.
        commands_sha256: Digest of each of those files, by name.
        prepare_seconds: From the request to the boot: the decision, what is brought
            in, the wait for a place, tries that failed; ``None`` if not measured.
        boot_seconds: From there until the sandbox has the script; likewise.
        start: ``warm`` if the sandbox had been started before there was a script.
    """

    type: ClassVar[str] = "dev.omnibase.sandbox.start.v1"
    script: str
    script_sha256: Sha256
    grants: tuple[str, ...] = ()
    quotas: Mapping[str, Scalar] = field(default_factory=FrozenMap)
    platform: str
    runtime_version: str
    image_digest: str | None = None
    commands: Mapping[str, Scalar] = field(default_factory=FrozenMap)
    commands_sha256: Mapping[str, Scalar] = field(default_factory=FrozenMap)
    prepare_seconds: Seconds | None = None
    boot_seconds: Seconds | None = None
    start: Start = "cold"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxExit(Payload):
    """The run is over, in a sandbox or not; nothing of it is left.

    Attributes:
        exit_code: The script's own, or ``None`` if it did not exit by itself.
        signal: Number of the signal that ended it, or ``None``.
        outcome: ``ok``, ``failed``, ``violation``, ``timeout``, ``limit``,
            ``cancelled`` or ``aborted``.
        wall_seconds: From the start of the run to its end; after a `RunRecovered`, to
            its last event before.
        cpu_seconds: CPU time of the whole sandbox; ``None`` if not measured.
        peak_memory_bytes: Of the whole sandbox; ``None`` if not measured.
        output_bytes: Standard output and standard error, together.
        violations: Attempts beyond the grants, all counted.
        script_seconds: From the start of the script to its end; ``None`` if not measured.
        teardown_seconds: From there until nothing was left; likewise.
    """

    type: ClassVar[str] = "dev.omnibase.sandbox.exit.v1"
    exit_code: int | None = None
    signal: int | None = None
    outcome: str
    wall_seconds: Seconds
    cpu_seconds: Seconds | None = None
    peak_memory_bytes: Count | None = None
    output_bytes: Count = 0
    violations: Count = 0
    script_seconds: Seconds | None = None
    teardown_seconds: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilityGranted(Payload):
    """A requested capability is allowed for this run.

    Attributes:
        capability: ``TYPE:resource``, as granted (perhaps smaller than requested).
        enforcement: What holds the run to it, e.g. ``mount`` or ``broker``.
    """

    type: ClassVar[str] = "dev.omnibase.capability.granted.v1"
    capability: str
    enforcement: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilityDenied(Payload):
    """A requested capability is refused.

    Attributes:
        capability: ``TYPE:resource``, as requested.
        reason: Why, for a person.
        policies: Ids of the policies that forbid it; none if nothing permits it.
        stage: ``pre-exec``: nothing of the script ran.
    """

    type: ClassVar[str] = "dev.omnibase.capability.denied.v1"
    capability: str
    reason: str
    policies: tuple[str, ...] = ()
    stage: Stage = "pre-exec"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDecided(Payload):
    """A component's policy was asked what a run may have.

    With this on record, `omnibase policy diff --replay` can ask another policy.

    Attributes:
        requested: Capabilities that the component and its caller asked for.
        granted: Those that the policy grants, masked ones included.
        masks: What is covered in granted trees, each a path or ``path/**``.
        denied: Those that it does not grant.
        trust: The component's trust, as conditions see it.
        lifecycle: The component's lifecycle, likewise.
        environment: Where the run happens, likewise.
        policy_version: Version of the policy in the registry; ``None`` if the
            component has none, which denies everything.
        seconds: What the decision took; ``None`` if not measured.
    """

    type: ClassVar[str] = "dev.omnibase.policy.decided.v1"
    requested: tuple[str, ...] = ()
    granted: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    trust: str
    lifecycle: str
    environment: str
    policy_version: Count | None = None
    seconds: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRetried(Payload):
    """The sandbox failed, not the script: the run is tried again.

    Attributes:
        attempt: The try that failed, from 1.
        reason: Why, for a person.
        delay_seconds: Until the next.
    """

    type: ClassVar[str] = "dev.omnibase.run.retried.v1"
    attempt: Count
    reason: str
    delay_seconds: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRefused(Payload):
    """A script or component was to run, and nothing of it was started.

    Comes last, after the `CapabilityDenied` events if that is why.

    Attributes:
        code: The error's code, e.g. ``policy_error``; ``cancelled`` for an interrupt,
            ``internal_error`` for a defect.
        reason: Why, for a person.
        file: File of the registry that is to blame, if one is.
        seconds: From the request; ``None`` if not measured.
    """

    type: ClassVar[str] = "dev.omnibase.run.refused.v1"
    code: str
    reason: str
    file: str | None = None
    seconds: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsandboxedStart(Payload):
    """A trusted component is about to run on the host, without a sandbox.

    Attributes:
        script: Name of the script.
        script_sha256: Digest of the bytes that run, in hexadecimal.
        python: The interpreter.
        policies: Ids of the policies that permit it.
        prepare_seconds: From the request to the start; ``None`` if not measured.
    """

    type: ClassVar[str] = "dev.omnibase.unsandboxed.start.v1"
    script: str
    script_sha256: Sha256
    python: str
    policies: tuple[str, ...]
    prepare_seconds: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxViolation(Payload):
    """The code tried something beyond its grants.

    Attributes:
        capability: What would have allowed it; ``None`` if nothing would.
        operation: What was tried, e.g. ``openat`` or ``connect``.
        resource: On what: a path, an address, a command.
        errno: What the code got back, or ``None`` if it was not told.
        errno_name: The same by name, e.g. ``ENOENT``.
        pid: Process inside the sandbox.
        process_name: Its name, chosen by the code itself.
        count: How often this attempt was seen.
        reason: The policy that covers the resource, and why; ``None`` if none does.
        evidence: Who saw it: the guest's ``kernel``, the host's ``broker``, or
            the ``agent`` inside the guest, which hostile code can fool.
        first_seen: When it was seen first.
        last_seen: When it was seen last.
    """

    type: ClassVar[str] = "dev.omnibase.sandbox.violation.v1"
    capability: str | None = None
    operation: str
    resource: str
    errno: int | None = None
    errno_name: str | None = None
    pid: int | None = None
    process_name: str | None = None
    count: Count = 1
    reason: str | None = None
    evidence: Evidence
    first_seen: Timestamp = field(default_factory=utc)
    last_seen: Timestamp = field(default_factory=utc)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimitExceeded(Payload):
    """A quota was reached.

    Attributes:
        kind: ``memory``, ``cpu``, ``pids``, ``output``, ``time`` or ``disk``.
        limit: The quota.
        unit: Of the quota: ``bytes``, ``seconds`` or ``processes``.
        detail: What happened, for a person.
    """

    type: ClassVar[str] = "dev.omnibase.sandbox.limit.v1"
    kind: str
    limit: Number
    unit: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorGap(Payload):
    """Something was not observed or not recorded.

    Attributes:
        dropped: How many observations or events are missing, as far as known.
        reason: Where and why, for a person.
    """

    type: ClassVar[str] = "dev.omnibase.monitor.gap.v1"
    dropped: Count
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkLag(Payload):
    """A sink has not delivered what it keeps, or has caught up.

    Attributes:
        sink: The sink's class, e.g. ``JetStreamSink``.
        state: ``lagging``, once for each time that it falls behind, or ``caught-up``.
        pending: How many events it keeps and has not delivered.
        oldest_seconds: How long ago the oldest of them happened; 0 if there is none.
        reason: What is in the way, or was, for a person.
    """

    type: ClassVar[str] = "dev.omnibase.sink.lag.v1"
    sink: str
    state: Lag
    pending: Count
    oldest_seconds: Seconds
    reason: str


declare(
    SandboxStart,
    SandboxExit,
    CapabilityGranted,
    CapabilityDenied,
    PolicyDecided,
    RunRefused,
    RunRetried,
    UnsandboxedStart,
    SandboxViolation,
    ResourceLimitExceeded,
    SinkLag,
    MonitorGap,
)
