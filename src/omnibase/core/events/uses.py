"""Payloads of what a run was given, and what it made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from omnibase.core.events.payload import Count, Payload, Seconds, Sha256, declare

__all__ = [
    "ArtifactRead",
    "ArtifactRefused",
    "ArtifactStored",
    "CommandStarted",
    "DatabaseCopied",
    "EgressClosed",
    "EgressFailed",
    "EgressOpened",
    "LayerAttached",
    "LayerBuilt",
    "PackagesResolved",
    "PoolClientRefused",
    "RegistryAdded",
    "RegistryRead",
    "RegistryRefused",
    "RunRecovered",
    "SecretRead",
    "SessionCallEnd",
    "SessionCallStart",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecovered(Payload):
    """The process of a run was gone; what follows, its end, is written by another.

    Attributes:
        reason: What is known of it, for a person.
        pid: The process that is gone.
    """

    type: ClassVar[str] = "dev.omnibase.run.recovered.v1"
    reason: str
    pid: Count


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
        seconds: From the first step; ``None`` if not measured.
    """

    type: ClassVar[str] = "dev.omnibase.packages.resolved.v1"
    lock_digest: Sha256
    packages: tuple[str, ...] = ()
    seconds: Seconds | None = None


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
class SessionCallStart(Payload):
    """A session is about to run code; what is on record until its end happened meanwhile.

    Attributes:
        call: Its number within the session, from 1.
        code_sha256: Digest of the code, in hexadecimal.
        code_bytes: Its size.
    """

    type: ClassVar[str] = "dev.omnibase.session.call.start.v1"
    call: Count
    code_sha256: Sha256
    code_bytes: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCallEnd(Payload):
    """A call of a session is over, and the session goes on; else its `SandboxExit` ends both.

    Attributes:
        call: Its number within the session.
        exit_code: 0, 1 after an exception, or that of a ``SystemExit``: as the code's own
            interpreter told.
        outcome: ``ok``, ``failed`` or ``violation``.
        wall_seconds: From its start until now.
        output_bytes: Standard output and standard error, together.
        violations: Attempts beyond the grants since the call before had ended, all counted.
    """

    type: ClassVar[str] = "dev.omnibase.session.call.end.v1"
    call: Count
    exit_code: int | None
    outcome: str
    wall_seconds: Seconds
    output_bytes: Count
    violations: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolClientRefused(Payload):
    """The pool's daemon did not let a process in.

    Attributes:
        pid: The process, as the kernel noted it when it connected.
        uid: Its user, likewise.
        gid: Its group, likewise.
        reason: Why, for a person.
    """

    type: ClassVar[str] = "dev.omnibase.pool.refused.v1"
    pid: Count
    uid: Count
    gid: Count
    reason: str


declare(
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
