"""SandboxSpec: everything that a run is, decided before anything starts.

The runner, the monitor and the bundle know this and nothing of capabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omnibase.core.sandbox.syscalls import SeccompRule

__all__ = [
    "Attachment",
    "DatabaseGrant",
    "EgressGrant",
    "EgressLimits",
    "FileGrant",
    "Mask",
    "Outlet",
    "RegistryGrant",
    "SandboxSpec",
    "ServerGrant",
    "WatchRules",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileGrant:
    """One file capability, as mounts will carry it out.

    Attributes:
        path: For ``file`` the path; for ``tree`` the directory at its top; for
            ``glob`` the pattern (``*`` and ``?`` within one segment).
        kind: ``file`` mounts one regular file, ``tree`` a directory with all
            below it, ``glob`` each regular file that matches at the start.
        writable: Read-write, else read-only.
        capability: The grant's text, for messages.
    """

    path: str
    kind: Literal["file", "tree", "glob"]
    writable: bool
    capability: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A host directory of OmniBase's own that a run is given, beside its grants.

    Attributes:
        source: The host directory.
        target: Where it appears in the guest.
        writable: Read-write, else read-only.
    """

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseGrant:
    """One SQLite database, of which the script gets a copy to read.

    Attributes:
        path: The database's file, and where the copy appears.
        capability: The grant's text, for messages.
    """

    path: str
    capability: str

    @property
    def file(self) -> FileGrant:
        """The database's file, as what checks files takes it."""
        return FileGrant(path=self.path, kind="file", writable=False, capability=self.capability)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A file or directory inside a granted tree that is covered by an empty one.

    Attributes:
        path: The file or directory.
        reason: Why, for the violation that an attempt on it makes.
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressGrant:
    """One network capability, as the broker will carry it out.

    Attributes:
        host: In canonical form: a name, ``*.`` and a name, ``*``, or an address
            (IPv6 in brackets).
        low: First port.
        high: Last port, itself included.
        capability: The grant's text, for messages.
    """

    host: str
    low: int
    high: int
    capability: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressLimits:
    """What each network grant of a run may use.

    Attributes:
        at_once: Connections at one time.
        connections: Connections in all.
        total_bytes: Both directions of all connections together.
        idle_seconds: A connection on which nothing moves for so long is ended.
        connection_seconds: So is one that lasts longer.
        connect_seconds: Look-up and connect together.
    """

    at_once: int = 512
    connections: int = 100_000
    total_bytes: int = 16 << 30
    idle_seconds: float = 60.0
    connection_seconds: float = 3600.0
    connect_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlet:
    """A directory of the guest whose files come out once the script has ended.

    Attributes:
        path: Where it is in the guest; the script may write there.
        capability: Type of the capability that a file's name is decided by.
        max_files: Most files that come out.
        max_bytes: Most bytes of them, in all.
    """

    path: str
    capability: str
    max_files: int
    max_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryGrant:
    """Components of the registry that the script is shown, in all their versions.

    Attributes:
        pattern: Their name, perhaps with ``*`` and ``?``.
        capability: The grant's text, for messages.
    """

    pattern: str
    capability: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerGrant:
    """One role on a PostgreSQL server; the connection to it is an `EgressGrant`.

    Attributes:
        host: In canonical form.
        port: Its port.
        role: Who connects.
        database: To which database.
        capability: The grant's text, for messages.
    """

    host: str
    port: int
    role: str
    database: str
    capability: str

    @property
    def secret(self) -> str:
        """Name of the secret that is the role's password."""
        return f"pg_{self.role}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRules:
    """What the monitor needs to tell an attempt from a harmless probe.

    Attributes:
        owned: Path prefixes (with a trailing slash) of the guest's own world.
        probes: Exact paths that the runtime looks for and may miss.
        command_directory: Where ``PATH`` points inside.
        nameserver: Address in the guest's ``resolv.conf``.
    """

    owned: tuple[str, ...]
    probes: frozenset[str]
    command_directory: str
    nameserver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """One run, frozen.

    Attributes:
        image_path: Host directory that is the guest's root, read only.
        image_digest: SHA-256 of the image's manifest.
        python: The interpreter's path in the guest.
        files: File grants, shallow paths first.
        databases: Databases that are copied for it.
        registry: Components that it is shown.
        servers: Roles on database servers that it may use.
        secrets: Names of the secrets that it gets, sorted; their values are elsewhere.
        commands: Names of the commands that it may start, sorted.
        egress: Network grants.
        egress_limits: For each of them.
        attached: Directories that come with the run: packages.
        imports: Guest directories that the script may import from, last in its path.
        layer: Digest of the packages' lock, if they are a layer.
        artifacts: Names, or patterns of them, that the script may read; sorted.
        outlets: Where the script may leave files that are to come out.
        masks: Covered subtrees.
        environment: ``(name, value)`` pairs; the script sees no others.
        memory_bytes: Hard limit of the whole sandbox.
        cpus: CFS quota in CPUs.
        pids: Processes and threads of the script.
        wall_seconds: Deadline from the start of the run.
        cpu_seconds: CPU time limit, or ``None``.
        output_bytes: Cap of both output streams together.
        truncate_output: Cut at the cap instead of ending the run.
        scratch_bytes: Size of ``/tmp``.
        kill_on_violation: End the run at the first violation.
        seccomp: Rules of the guest's filter.
        read_only_areas: Host paths that no grant may reach for writing.
        watch: Rules of the monitor.
        grants: Text of all capabilities granted, sorted, for the record.
        refused_areas: Host paths that no grant may reach, masked where one contains them.
    """

    image_path: str
    image_digest: str
    python: str
    files: tuple[FileGrant, ...]
    secrets: tuple[str, ...]
    commands: tuple[str, ...] = ()
    databases: tuple[DatabaseGrant, ...] = ()
    registry: tuple[RegistryGrant, ...] = ()
    servers: tuple[ServerGrant, ...] = ()
    egress: tuple[EgressGrant, ...] = ()
    egress_limits: EgressLimits = EgressLimits()
    attached: tuple[Attachment, ...] = ()
    imports: tuple[str, ...] = ()
    layer: str | None = None
    artifacts: tuple[str, ...] = ()
    outlets: tuple[Outlet, ...] = ()
    masks: tuple[Mask, ...]
    environment: tuple[tuple[str, str], ...]
    memory_bytes: int
    cpus: float
    pids: int
    wall_seconds: float
    cpu_seconds: float | None
    output_bytes: int
    truncate_output: bool
    scratch_bytes: int
    kill_on_violation: bool
    seccomp: tuple[SeccompRule, ...]
    watch: WatchRules
    grants: tuple[str, ...]
    refused_areas: tuple[str, ...]
    read_only_areas: tuple[str, ...]
