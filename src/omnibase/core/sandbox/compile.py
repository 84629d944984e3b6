"""Grants and quotas → a frozen `SandboxSpec`. Pure: it looks at no file.

This is the one place where capabilities turn into mechanism. A grant that the
backend cannot enforce exactly is refused here, never approximated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from omnibase.core.context import ExecutionContext, parse_size
from omnibase.core.sandbox.collect.grants import artifact_name, outlet
from omnibase.core.sandbox.commands import layout as commands_layout
from omnibase.core.sandbox.commands.granting import COMMAND_PROBES, command_name, commands_of
from omnibase.core.sandbox.databases.grants import KINDS, PASSWORDS, Databases
from omnibase.core.sandbox.egress import layout
from omnibase.core.sandbox.image import GUEST_PREFIX, Image
from omnibase.core.sandbox.monitor.reads import ARTIFACTS, OUTLET
from omnibase.core.sandbox.monitor.registry import PROPOSALS, REGISTRY
from omnibase.core.sandbox.registry_grants import proposals, registry_grant
from omnibase.core.sandbox.spec import (
    EgressGrant,
    EgressLimits,
    FileGrant,
    Mask,
    Outlet,
    RegistryGrant,
    SandboxSpec,
    ServerGrant,
    WatchRules,
)
from omnibase.core.sandbox.syscalls import SECCOMP
from omnibase.core.security.capabilities import Capability, CapabilitySet, CapabilityType
from omnibase.core.security.host_patterns import HostPattern
from omnibase.errors import CapabilityError, ConfigurationError

__all__ = ["ENFORCEMENT", "compile_spec"]

ENFORCEMENT: Final[Mapping[CapabilityType, str]] = {
    CapabilityType.FILE_READ: "read-only bind mount of exactly what is named",
    CapabilityType.FILE_WRITE: "read-write bind mount of exactly what is named",
    CapabilityType.NETWORK_CONNECT: "the guest has no network; each TCP connection is decided and "
    "made by the run's broker on the host",
    CapabilityType.EXTERNAL_COMMAND: "the program and its libraries are in the guest, read-only, "
    "and nothing else can be executed; it reaches what the script does",
    CapabilityType.MEMORY: "memory limit of the run's cgroup",
    CapabilityType.ARTIFACT_READ: "read-only copy of exactly what is named, its digest checked",
    CapabilityType.ARTIFACT_WRITE: "what is left in `/artifacts/out` is collected once the script "
    "has ended, name by name",
    CapabilityType.SECRET_ACCESS: "file in a tmpfs of the guest, for the script's user alone",
    CapabilityType.DATABASE_READ: "read-only mount of a consistent copy, made at the start",
    CapabilityType.DATABASE_WRITE: "connections to that server alone, and the role's password; the "
    "server decides what the role may do",
    CapabilityType.REGISTRY_WRITE: "what is left in /registry/out under such a name is checked on "
    "the host and added as an untrusted draft, if the run was a clean one",
    CapabilityType.REGISTRY_READ: "read-only mount of exactly those components, verified at the "
    "start, without their policies",
}
"""How each capability type is enforced; a type that is not here is refused."""

# No grant reaches the kernel's own file systems, whatever it says.
_FORBIDDEN: Final = ("/proc", "/sys", "/dev")
# The guest's own world: a tree mounted over one of these would break the guest.
_GUEST_OWN: Final = ("/etc", "/opt", "/run", "/tmp", "/lib64")
_GUEST_INTERNAL: Final = (
    "/guest", "/grants", commands_layout.DIRECTORY, GUEST_PREFIX,
    "/run/raised", "/run/script", "/run/secrets",
    "/.lookup", ARTIFACTS, REGISTRY,
)  # fmt: skip

_INSTEAD: Final = {
    "/run/secrets": "grant `SECRET_ACCESS:NAME`",
    REGISTRY: "grant `REGISTRY_READ:NAME`",
}

_OWNED: Final = (f"{GUEST_PREFIX}/", "/dev/", "/proc/", "/run/script/",
                 "/sys/", "/tmp/")  # fmt: skip
_PROBES: Final = frozenset(
    {
        "/etc/inputrc",
        "/etc/mailcap",
        "/etc/terminfo",
        # libc's name service cache, and libuuid's daemon and clock
        "/run/nscd/socket",
        "/var/run/nscd/socket",
        "/run/uuidd/request",
        "/var/run/uuidd/request",
        "/var/lib/libuuid/clock.txt",
    }
)
_HIDDEN: Final = "the sandbox's own state and stores of secrets are never visible"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_BASE_ENVIRONMENT: Final = {
    "HOME": "/tmp",
    "LOGNAME": "nobody",
    "TMPDIR": "/tmp",
    "TZ": "UTC",
    "USER": "nobody",
}
_MAX_PORTS: Final = 256
_MAX_EGRESS: Final = 200
_MAX_LISTENERS: Final = 1024
# Unspecified ("this host"), multicast and broadcast addresses, in canonical form.
_NO_HOST: Final = re.compile(r"0\.|2(2[4-9]|3[0-9])\.|255\.255\.255\.255|\[::\]|\[ff")
_MAX_ENVIRONMENT: Final = 128 * 1024  # ARG_MAX leaves room for more; nobody needs it


def compile_spec(
    grants: CapabilitySet,
    context: ExecutionContext,
    image: Image,
    *,
    environment: Mapping[str, str] | None = None,
    refused_areas: tuple[str, ...] = (),
    read_only_areas: tuple[str, ...] = (),
    masks: tuple[Mask, ...] = (),
) -> SandboxSpec:
    """Compiles grants and quotas into the spec of one run.

    Args:
        grants: What was decided to be allowed.
        context: Quotas.
        image: The guest's root.
        environment: Variables for the script, besides the fixed ones.
        refused_areas: Canonical host directories that no grant may reach (the
            runtime's own state); in a tree that is only read it is masked.
        read_only_areas: Likewise, but for writing only (registries, own code).
        masks: Subtrees that a policy takes out of a granted tree.

    Raises:
        CapabilityError: A grant cannot be enforced, or reaches where none may.
        ConfigurationError: The environment is malformed.
    """
    files: list[FileGrant] = []
    secrets: set[str] = set()
    commands: set[str] = set()
    artifacts: set[str] = set()
    outlets: dict[str, Outlet] = {}
    covered = list(masks)
    memory = 0
    egress: list[EgressGrant] = []
    databases = Databases()
    registry: list[RegistryGrant] = []
    for grant in grants:
        if grant.type not in ENFORCEMENT:
            raise CapabilityError(
                f"`{grant}` cannot be enforced by this sandbox yet",
                details={"capability": str(grant)},
                hint="enforced today: " + ", ".join(sorted(ENFORCEMENT)),
            )
        if grant.type is CapabilityType.MEMORY:
            memory = max(memory, _memory(grant, context))
            continue
        if grant.type is CapabilityType.SECRET_ACCESS:
            secrets.add(_secret(grant))
            continue
        if grant.type is CapabilityType.EXTERNAL_COMMAND:
            commands.add(command_name(grant))
            continue
        if grant.type is CapabilityType.REGISTRY_READ:
            registry.append(registry_grant(grant))
            continue
        if grant.type is CapabilityType.REGISTRY_WRITE:
            outlets[PROPOSALS] = proposals(grant)
            continue
        if grant.type is CapabilityType.ARTIFACT_READ:
            artifacts.add(artifact_name(grant))
            continue
        if grant.type is CapabilityType.ARTIFACT_WRITE:
            artifact_name(grant)
            outlets[OUTLET] = outlet(grant.type, OUTLET, context)
            continue
        if grant.type in KINDS:
            database = databases.add(grant)
            if isinstance(database, ServerGrant):
                endpoint = Capability.parse(f"NETWORK_CONNECT:{database.host}:{database.port}")
                egress.append(replace(_egress_grant(endpoint), capability=str(grant)))
            else:
                # Not to be read either: what a registry is asked for goes through a view of it.
                _check_areas(database.file, (*refused_areas, *read_only_areas))
            continue
        if grant.type is CapabilityType.NETWORK_CONNECT:
            egress.append(_egress_grant(grant))
            continue
        file = _file_grant(grant)
        covered += _check_areas(file, refused_areas)
        if file.writable:
            _check_areas(file, read_only_areas)
        files.append(file)
    # A grant raises the default; it never lowers it.
    memory = max(memory, min(context.default_memory_bytes, context.memory_bytes))
    directory = commands_layout.BIN if commands else f"{GUEST_PREFIX}/bin"
    files.sort(key=lambda grant: (grant.path.count("/"), grant.path, grant.writable))
    return SandboxSpec(
        image_path=image.path,
        image_digest=image.digest,
        python=image.python,
        files=tuple(files),
        commands=commands_of(commands),
        artifacts=tuple(sorted(artifacts)),
        outlets=tuple(outlets.values()),
        secrets=tuple(sorted(secrets | databases.secrets(secrets))),
        databases=databases.copied(masks),
        servers=tuple(databases.servers),
        registry=tuple(registry),
        egress=_bounded(egress),
        egress_limits=EgressLimits(
            at_once=context.egress_connections,
            total_bytes=context.egress_bytes,
            idle_seconds=context.egress_idle_seconds,
            connection_seconds=context.wall_seconds,
        ),
        masks=tuple(sorted(set(covered), key=lambda mask: mask.path)),
        environment=_environment(environment or {}, image, directory, databases),
        memory_bytes=memory,
        cpus=context.cpus,
        pids=context.pids,
        wall_seconds=context.wall_seconds,
        cpu_seconds=context.cpu_seconds,
        output_bytes=context.output_bytes,
        truncate_output=context.on_output_limit == "truncate",
        scratch_bytes=context.scratch_bytes,
        kill_on_violation=context.on_violation == "kill",
        seccomp=SECCOMP,
        watch=WatchRules(
            owned=_OWNED + (f"{commands_layout.DIRECTORY}/",) * bool(commands),
            probes=_PROBES.union(image.probes, COMMAND_PROBES if commands else ()),
            command_directory=directory,
            nameserver=layout.NAMESERVER,
        ),
        grants=tuple(str(grant) for grant in grants),
        refused_areas=(*_FORBIDDEN, *_GUEST_INTERNAL, *refused_areas),
        read_only_areas=read_only_areas,
    )


def _memory(grant: Capability, context: ExecutionContext) -> int:
    size = parse_size(grant.resource)
    if size > context.memory_bytes:
        raise CapabilityError(
            f"`{grant}` is more than the ceiling of {context.memory_bytes} bytes",
            details={"capability": str(grant), "ceiling_bytes": context.memory_bytes},
            hint="ask for less, or raise `memory_bytes` in the ExecutionContext (`--memory`)",
        )
    return size


def _secret(grant: Capability) -> str:
    name, at, host = grant.resource.partition("@")
    if at:
        raise CapabilityError(
            f"`{grant}` cannot be enforced: a value that the script must not see would have to be "
            f"put into its connection to `{host}`, and TLS keeps everyone from doing that",
            details={"capability": str(grant)},
            hint=f"grant `SECRET_ACCESS:{name}`, and no connection but to that host",
        )
    return name


def _egress_grant(grant: Capability) -> EgressGrant:
    pattern = HostPattern.parse(grant.resource)
    host = pattern.host

    def refused(why: str, hint: str) -> CapabilityError:
        return CapabilityError(f"`{grant}` {why}", details={"capability": str(grant)}, hint=hint)

    if pattern.high - pattern.low >= _MAX_PORTS:
        raise refused(
            f"has more than {_MAX_PORTS} ports, and each is a listener in the guest",
            "name the ports that are needed, e.g. `:443` or `:8000-8010`",
        )
    if host == "localhost" or host.endswith(".localhost"):
        raise refused(
            "names the script's own loopback", "grant the host's by its address: `127.0.0.1`"
        )
    if layout.is_address(host):
        if _NO_HOST.match(host):
            raise refused("is no address of a host", "grant the address of one host")
        if host == layout.NAMESERVER or layout.in_pool(host):
            raise refused("is an address that the sandbox itself uses inside", "use a name for it")
    return EgressGrant(host=host, low=pattern.low, high=pattern.high, capability=str(grant))


def _bounded(grants: list[EgressGrant]) -> tuple[EgressGrant, ...]:
    if len(grants) > _MAX_EGRESS or sum(g.high - g.low + 1 for g in grants) > _MAX_LISTENERS:
        raise CapabilityError(
            f"there are more than {_MAX_EGRESS} network grants or {_MAX_LISTENERS} ports in them",
            hint="grant a wildcard such as `*.example.com:443`",
        )
    return tuple(grants)


def _file_grant(grant: Capability) -> FileGrant:
    resource = grant.resource
    writable = grant.type is CapabilityType.FILE_WRITE
    if resource.endswith("/**"):
        top = resource[: -len("/**")] or "/"
        if "*" in top or "?" in top:
            raise CapabilityError(
                f"`{grant}` has a wildcard above `/**`, which no mount can express",
                details={"capability": str(grant)},
                hint="grant each directory with a pattern of its own",
            )
        return FileGrant(path=top, kind="tree", writable=writable, capability=str(grant))
    kind = "glob" if "*" in resource or "?" in resource else "file"
    return FileGrant(path=resource, kind=kind, writable=writable, capability=str(grant))  # type: ignore[arg-type]


def _check_areas(grant: FileGrant, refused: tuple[str, ...]) -> list[Mask]:
    """Refuses what no grant may reach; returns masks for what a tree to be read contains."""
    fixed = _literal_prefix(grant.path)
    for area in (*_FORBIDDEN, *_GUEST_INTERNAL, *refused):
        if fixed == area or fixed.startswith(f"{area}/"):
            raise CapabilityError(
                f"`{grant.capability}` reaches `{area}`, which no grant may",
                details={"capability": grant.capability, "area": area},
                hint=_INSTEAD.get(area, "copy what is needed elsewhere and grant that"),
            )
    if grant.kind != "tree":
        return []
    if grant.path == "/" or grant.path in _GUEST_OWN:
        raise CapabilityError(
            f"`{grant.capability}` would cover the sandbox's own `{grant.path}`",
            details={"capability": grant.capability},
            hint="grant a directory below it",
        )
    inside = [area for area in refused if area.startswith(f"{grant.path}/")]
    if inside and grant.writable:
        # A cover over it goes when the host renames something in its place.
        raise CapabilityError(
            f"`{grant.capability}` contains `{inside[0]}`, which no grant may write",
            details={"capability": grant.capability, "area": inside[0]},
            hint="grant the directories beside it, one by one",
        )
    return [Mask(path=area, reason=_HIDDEN) for area in inside]


def _literal_prefix(path: str) -> str:
    """The part of a pattern before its first wildcard segment."""
    kept = []
    for segment in path.split("/"):
        if "*" in segment or "?" in segment:
            break
        kept.append(segment)
    return "/".join(kept) or "/"


def _environment(
    extra: Mapping[str, str], image: Image, command_directory: str, databases: Databases
) -> tuple[tuple[str, str], ...]:
    for name, value in extra.items():
        if not _NAME.fullmatch(str(name)) or type(name) is not str:
            raise ConfigurationError(
                f"`{str(name)[:80]}` is not the name of an environment variable",
                hint="use letters, digits and `_`, not a digit first",
            )
        if name.startswith(("PYTHON", "LD_")) or name == "GCONV_PATH":
            raise ConfigurationError(
                f"`{name}` would steer the interpreter before the script starts",
                hint="set it inside the script",
            )
        if not isinstance(value, str):
            raise ConfigurationError(f"the value of `{name}` is not a string")
        if "\0" in value:
            raise ConfigurationError(f"the value of `{name}` contains a NUL byte")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ConfigurationError(
                f"the value of `{name}` is not valid Unicode",
                hint="pass bytes on standard input or through a granted file",
            ) from error
    own = {"PATH": command_directory} | dict(image.environment)
    merged = _BASE_ENVIRONMENT | own | dict(extra)
    if databases.servers:
        merged = {"PGPASSFILE": f"/run/secrets/{PASSWORDS}"} | merged
    if sum(len(name) + len(value) for name, value in merged.items()) > _MAX_ENVIRONMENT:
        raise ConfigurationError(
            f"the environment is larger than {_MAX_ENVIRONMENT} bytes",
            hint="pass data on standard input or through a granted file",
        )
    return tuple(sorted(merged.items()))
