"""The payloads: what each type of event carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeAlias

from omnibase.core.events import _fields as f
from omnibase.core.events._fields import FrozenMap, Scalar, utc

Count: TypeAlias = int
Evidence: TypeAlias = Literal["kernel", "broker", "agent"]
Number: TypeAlias = int | float
Seconds: TypeAlias = float
Sha256: TypeAlias = str
Stage: TypeAlias = Literal["pre-exec"]
Timestamp: TypeAlias = str

# Keyed by annotation, so that a field's type is written once, where mypy reads it too.
_KINDS: dict[str, f.FieldType] = {
    "Count": f.COUNT,
    "Count | None": f.COUNT.or_none(),
    "Evidence": f.one_of("kernel", "broker", "agent"),
    "Mapping[str, Scalar]": f.SCALARS,
    "Number": f.NUMBER,
    "Seconds": f.SECONDS,
    "Seconds | None": f.SECONDS.or_none(),
    "Sha256": f.SHA256,
    "Stage": f.one_of("pre-exec"),
    "Timestamp": f.TIMESTAMP,
    "int | None": f.INTEGER.or_none(),
    "str": f.TEXT,
    "str | None": f.TEXT.or_none(),
    "tuple[str, ...]": f.STRINGS,
}


class Payload:
    """Base of every event's ``data``.

    Attributes:
        type: The CloudEvents ``type``: reverse DNS, ending in the version of the
            payload. A field is added or changed only under a new version.
    """

    __slots__ = ()
    type: ClassVar[str]

    def __post_init__(self) -> None:
        for name, kind in field_kinds(type(self)).items():
            object.__setattr__(self, name, kind.check(name, getattr(self, name)))

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON-ready data."""
        return {name: _plain(getattr(self, name)) for name in field_kinds(type(self))}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxExit(Payload):
    """The run is over, in a sandbox or not; nothing of it is left.

    Attributes:
        exit_code: The script's own, or ``None`` if it did not exit by itself.
        signal: Number of the signal that ended it, or ``None``.
        outcome: ``ok``, ``failed``, ``violation``, ``timeout``, ``limit``,
            ``cancelled`` or ``aborted``.
        wall_seconds: From the start of the run to its end.
        cpu_seconds: CPU time of the whole sandbox; ``None`` if not measured.
        peak_memory_bytes: Of the whole sandbox; ``None`` if not measured.
        output_bytes: Standard output and standard error, together.
        violations: Attempts beyond the grants, all counted.
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

    Attributes:
        code: The error's code, e.g. ``policy_error``.
        reason: Why, for a person.
        file: File of the registry that is to blame, if one is.
    """

    type: ClassVar[str] = "dev.omnibase.run.refused.v1"
    code: str
    reason: str
    file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsandboxedStart(Payload):
    """A trusted component is about to run on the host, without a sandbox.

    Attributes:
        script: Name of the script.
        script_sha256: Digest of the bytes that run, in hexadecimal.
        python: The interpreter.
        policies: Ids of the policies that permit it.
    """

    type: ClassVar[str] = "dev.omnibase.unsandboxed.start.v1"
    script: str
    script_sha256: Sha256
    python: str
    policies: tuple[str, ...]


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
class SecretRead(Payload):
    """The script opened a secret that it was granted, or may have: once for each secret.

    Attributes:
        secret: Its name; the value is in no event.
        operation: ``open`` if the trace showed it, ``hidden`` if the script kept it
            from the trace, ``withheld`` if the run was ended by force, or the trace
            lost messages, before it could be told: then it counts as read.
        pid: Process inside the sandbox; 0 if unknown.
        process_name: Its name, chosen by the code itself.
    """

    type: ClassVar[str] = "dev.omnibase.secret.read.v1"
    secret: str
    operation: str
    pid: int | None = None
    process_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagesResolved(Payload):
    """Requirements were resolved to files of the index, and those were fetched.

    Attributes:
        lock_digest: SHA-256 of the lock.
        packages: Each ``name==version sha256:…``.
    """

    type: ClassVar[str] = "dev.omnibase.packages.resolved.v1"
    lock_digest: Sha256
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBuilt(Payload):
    """A layer of packages was unpacked, and is kept.

    Attributes:
        lock_digest: SHA-256 of its lock.
        files: How many it has.
        layer_bytes: Of all of them.
        seconds: From the first step to the last.
    """

    type: ClassVar[str] = "dev.omnibase.packages.built.v1"
    lock_digest: Sha256
    files: Count
    layer_bytes: Count
    seconds: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAttached(Payload):
    """The run that starts next may import from a layer of packages.

    Attributes:
        lock_digest: SHA-256 of its lock.
        packages: Each ``name==version sha256:…``.
    """

    type: ClassVar[str] = "dev.omnibase.packages.attached.v1"
    lock_digest: Sha256
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandStarted(Payload):
    """The guest's kernel has executed a command that was granted.

    Once for the first start of each command, and once more at the end if there
    were others.

    Attributes:
        command: Its name.
        count: How often it was started until now.
    """

    type: ClassVar[str] = "dev.omnibase.command.started.v1"
    command: str
    count: Count = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRead(Payload):
    """The script was given an artifact, as a file that it can read.

    Attributes:
        artifact: Its name.
        version: Of the name.
        digest: ``sha256:`` and the digest of its bytes, which were checked.
        size_bytes: How many.
    """

    type: ClassVar[str] = "dev.omnibase.artifact.read.v1"
    artifact: str
    version: Count
    digest: str
    size_bytes: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactStored(Payload):
    """A file that the script left is in the store.

    Attributes:
        artifact: Its name.
        version: Of the name.
        digest: ``sha256:`` and the digest of its bytes.
        size_bytes: How many.
        kind: ``image``, ``table``, ``text``, ``json`` or ``binary``, by its content.
        media_type: E.g. ``image/png``, by its content.
    """

    type: ClassVar[str] = "dev.omnibase.artifact.stored.v1"
    artifact: str
    version: Count
    digest: str
    size_bytes: Count
    kind: str
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRefused(Payload):
    """A file that the script left became no artifact, though a grant covers its name.

    Attributes:
        artifact: As the script named it.
        reason: Why, as the rest of a sentence about it.
    """

    type: ClassVar[str] = "dev.omnibase.artifact.refused.v1"
    artifact: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseCopied(Payload):
    """A copy of a database was made, for the script to read.

    Attributes:
        capability: The grant.
        database: Path of its file, on the host and in the sandbox.
        size_bytes: Of the copy.
    """

    type: ClassVar[str] = "dev.omnibase.database.copied.v1"
    capability: str
    database: str
    size_bytes: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryRead(Payload):
    """The script is shown a component of the registry.

    Attributes:
        capability: The grant.
        component: Its UUID.
        reference: ``name@version``.
        revision: Of its record.
    """

    type: ClassVar[str] = "dev.omnibase.registry.read.v1"
    capability: str
    component: str
    reference: str
    revision: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAdded(Payload):
    """A component that the script proposed is an untrusted draft in the registry now.

    Attributes:
        component: Its UUID.
        reference: ``name@version``.
        script_sha256: Of its script, in hexadecimal.
    """

    type: ClassVar[str] = "dev.omnibase.registry.added.v1"
    component: str
    reference: str
    script_sha256: Sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryRefused(Payload):
    """A component that the script proposed was not added to the registry.

    Attributes:
        name: What it was called: the script's choice.
        reason: Why, for a person.
    """

    type: ClassVar[str] = "dev.omnibase.registry.refused.v1"
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressOpened(Payload):
    """The broker has made a connection that a grant covers.

    Attributes:
        connection: Its number within the run.
        target: What the code asked for, ``host:port``.
        address: What that was resolved to, was checked, and is connected to.
        capability: The grant that covers it.
    """

    type: ClassVar[str] = "dev.omnibase.egress.opened.v1"
    connection: Count
    target: str
    address: str
    capability: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressClosed(Payload):
    """A connection that the broker had made is over.

    Attributes:
        connection: Its number within the run.
        target: What the code asked for, ``host:port``.
        address: What it was connected to.
        capability: The grant that covers it.
        sent_bytes: From the code to the target.
        received_bytes: From the target to the code.
        seconds: From the code's connect to the end.
        reason: ``end`` in order, ``reset`` by a side, ``idle``, ``time`` or
            ``bytes`` by a limit, ``run`` with the run.
    """

    type: ClassVar[str] = "dev.omnibase.egress.closed.v1"
    connection: Count
    target: str
    address: str
    capability: str
    sent_bytes: Count
    received_bytes: Count
    seconds: Seconds
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressFailed(Payload):
    """A connection that a grant covers was not made.

    Attributes:
        target: What the code asked for, ``host:port``.
        capability: The grant that covers it.
        reason: Why, for a person: the target's answer, a limit, or that the script or its
            run ended first.
    """

    type: ClassVar[str] = "dev.omnibase.egress.failed.v1"
    target: str
    capability: str
    reason: str


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


PAYLOADS: tuple[type[Payload], ...] = (
    SandboxStart,
    SandboxExit,
    CapabilityGranted,
    CapabilityDenied,
    PolicyDecided,
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
    MonitorGap,
)
"""Every type of event."""

_KINDS_OF: dict[type[Payload], dict[str, f.FieldType]] = {
    payload: {each.name: _KINDS[str(each.type)] for each in fields(payload)}  # type: ignore[arg-type]
    for payload in PAYLOADS
}


def field_kinds(payload: type[Payload]) -> Mapping[str, f.FieldType]:
    """Returns each field of a payload class with its kind.

    Raises:
        ValueError: The class is not one of `PAYLOADS`.
    """
    try:
        return _KINDS_OF[payload]
    except KeyError:
        raise f.bad("data", "a payload of a known type", payload) from None


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, FrozenMap) else value
