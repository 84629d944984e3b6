"""The OCI bundle of a run: pure functions from a spec to bytes.

Field names are the OCI runtime specification's (v1.2); annotations, and the
trace session in the pod-init configuration, are gVisor's.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any, Final

from omnibase.core.context import MAX_PROCESSES
from omnibase.core.sandbox.commands.layout import DIRECTORY as COMMANDS
from omnibase.core.sandbox.commands.layout import Command
from omnibase.core.sandbox.egress.layout import agent_rows
from omnibase.core.sandbox.monitor.reads import ARTIFACTS
from omnibase.core.sandbox.seccomp import compile_filter
from omnibase.core.sandbox.spec import SandboxSpec
from omnibase.core.sandbox.syscalls import (
    EXIT,
    EXIT_GROUP,
    FILE_CHANGES,
    FORKS,
    NAMED,
    NATIVE,
    PRIVILEGE,
    SENDS,
)
from omnibase.core.secrets import Secret

__all__ = [
    "SCRIPT_DIRECTORY",
    "boot_message",
    "job_message",
    "oci_config",
    "to_bytes",
    "trace_config",
]

SCRIPT_DIRECTORY: Final = "/run/script"
_AGENT: Final = "/opt/omnibase/agent/init.pyc"

# What the agent needs before it drops everything; the script has none of it.
_AGENT_CAPABILITIES: Final = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
    "CAP_SYS_ADMIN", "CAP_SYS_CHROOT",
)  # fmt: skip
# To give the guest's loopback the granted addresses, and to listen on their ports.
_EGRESS_CAPABILITIES: Final = ("CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE")
_OPEN_FILES: Final = 1024
_AGENT_OPEN_FILES: Final = 8192  # a listener for each granted port, two for each connection
_SHM_BYTES: Final = 16 << 20
_SAFE: Final = ("nosuid", "nodev", "noexec")


def oci_config(
    spec: SandboxSpec,
    *,
    scratch_dir: str,
    grants_dir: str | None,
    commands_dir: str | None = None,
    warm: bool = False,
) -> dict[str, Any]:
    """Returns the content of ``config.json``.

    Args:
        spec: The run.
        scratch_dir: Empty host directory that backs ``/tmp`` with disk, not memory.
        grants_dir: Host directory with the staged mounts, if there are file grants.
        commands_dir: Host directory with the layer of the commands, if any are granted.
        warm: It is started without a job: the agent may get anything that a job can ask
            for, and the script's process limits itself once it knows the job.
    """
    mounts: list[dict[str, Any]] = [
        _mount("/proc", "proc"),
        _mount("/dev", "tmpfs"),
        _mount("/dev/shm", "tmpfs", *_SAFE, "mode=1777", f"size={_SHM_BYTES}"),
        _mount("/sys", "tmpfs", *_SAFE, "mode=755"),
        _mount("/run", "tmpfs", *_SAFE, "mode=755"),
        {**_mount("/tmp", "bind", "rw", *_SAFE), "source": scratch_dir},
    ]
    if grants_dir is not None:
        mounts.append(
            {**_mount("/grants", "bind", "rw", "rbind", "rslave", *_SAFE), "source": grants_dir}
        )
    if commands_dir is not None:  # the one mount without noexec
        mounts.append(
            {**_mount(COMMANDS, "bind", "ro", "rbind", "nosuid", "nodev"), "source": commands_dir}
        )
    # The script's first process is not counted: it was forked before it became nobody.
    # With egress, the agent needs more files and gives the script its own limit.
    egress = warm or bool(spec.egress)
    files = _AGENT_OPEN_FILES if egress else _OPEN_FILES
    capabilities = _AGENT_CAPABILITIES + (_EGRESS_CAPABILITIES if egress else ())
    limits = {"NOFILE": files, "NPROC": (MAX_PROCESSES if warm else spec.pids) - 1, "CORE": 0}
    return {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            # -P: no script directory on the path but the one the agent adds.
            "args": [spec.python, "-B", "-s", "-P", _AGENT, *(["warm"] if warm else [])],
            "env": [f"{name}={value}" for name, value in spec.environment],
            "cwd": "/tmp",
            "capabilities": {
                kind: list(capabilities) for kind in ("bounding", "effective", "permitted")
            },
            "noNewPrivileges": True,
            "rlimits": [
                {"type": f"RLIMIT_{name}", "hard": value, "soft": value}
                for name, value in limits.items()
            ],
        },
        "root": {"path": spec.image_path, "readonly": False},  # an overlay in memory takes writes
        "hostname": "sandbox",
        "mounts": mounts,
        "annotations": _scratch_annotations(scratch_dir, spec.scratch_bytes),
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
        },
    }


def _mount(destination: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": list(options)}


def _scratch_annotations(source: str, size: int) -> dict[str, str]:
    """Asks gVisor for a tmpfs whose pages live in a file on the host's disk.

    A plain tmpfs would be charged to the run's memory: a script could not fill
    its scratch without dying of memory.
    """
    prefix = "dev.gvisor.spec.mount.scratch"
    return {
        f"{prefix}.source": source,
        f"{prefix}.type": "tmpfs",
        f"{prefix}.share": "container",
        f"{prefix}.options": f"rw,noexec,nosuid,nodev,mode=1777,size={size}",
    }


def trace_config(endpoint: str) -> dict[str, Any]:
    """Returns the pod-init configuration: one trace session to a Unix socket.

    A wrong field name makes gVisor drop the session silently, which the runner
    notices by the missing ``container/start``.
    """
    context = ["group_id", "process_name", "cwd"]
    points: list[dict[str, Any]] = [
        {"name": "container/start", "context_fields": ["container_id"]},
        # No strings: what decides must not be lost to a name that is not UTF-8.
        {"name": "sentry/task_exit", "context_fields": ["group_id", "thread_id"]},
    ]
    # What the kernel is about to run, links followed: what it was asked for may be anything.
    points.append(
        {
            "name": "sentry/execve",
            "context_fields": ["group_id", "thread_id", "process_name"],
        }
    )
    for name in ("open", "creat", "execve", "connect", "bind", "socket", "clone", "chroot",
                 "chdir", "setuid", "setgid", "setresuid", "setresgid"):  # fmt: skip
        points.append({"name": f"syscall/{name}/exit", "context_fields": context})
    for name in ("openat", "execveat"):
        points.append(
            {
                "name": f"syscall/{name}/exit",
                "optional_fields": ["fd_path"],
                "context_fields": context,
            }
        )
    # The raw points carry no context, whatever is asked for.
    for number in sorted({*NAMED, *NATIVE, *FILE_CHANGES, *SENDS, *FORKS, *PRIVILEGE}):
        points.append({"name": f"syscall/sysno/{number}/exit"})
    for number in (EXIT, EXIT_GROUP):
        points.append({"name": f"syscall/sysno/{number}/enter"})
    # 60 retries of 25 µs, doubling up to 10 ms: a slow reader slows the guest for
    # up to half a second a message before one is dropped, and a drop is counted.
    sink = {"name": "remote", "config": {"endpoint": endpoint, "retries": 60}}
    return {"trace_session": {"name": "Default", "points": points, "sinks": [sink]}}


def job_message(
    spec: SandboxSpec,
    *,
    name: str,
    script: bytes,
    argv: tuple[str, ...],
    mounts: list[tuple[str, str, bool, bool]],
    masks: list[tuple[str, bool]] | None = None,
    pinned: tuple[str, ...] = (),
    secrets: tuple[Secret, ...] = (),
    commands: tuple[Command, ...] = (),
    warm: bool = False,
    session: bool = False,
) -> bytes:
    """Returns what the agent reads first: a length, NUL-separated fields, script, secrets.

    Args:
        spec: The run.
        name: File name of the script inside.
        script: Its source.
        argv: Its arguments.
        mounts: ``(guest source, guest target, is directory, writable)``.
        masks: ``(guest path, is directory)`` to cover.
        pinned: Directories above a mask, which must not be renamed away from it.
        secrets: Their values follow the script, one after the other.
        commands: Their paths on the host lead to them in the guest as well.
        warm: The sandbox was started before: it has its filter, and no environment yet.
        session: The script's process takes call after call.
    """
    granted = [mount[1] + ("/" if mount[2] else "") for mount in mounts if mount[1] != ARTIFACTS]
    granted += [outlet.path + "/" for outlet in spec.outlets]
    cpus = _shown_cpus(spec)
    fields = [f"{SCRIPT_DIRECTORY}/{name}", str(len(script)), str(cpus), str(spec.pids - 1)]
    outlets = [
        text
        for outlet in spec.outlets
        for text in (outlet.path, str(outlet.max_files), str(outlet.max_bytes))
    ]
    filter_program = [] if warm else [compile_filter(spec.seccomp).hex()]
    environment = [f"{name}={value}" for name, value in spec.environment] if warm else []
    places = [place for command in commands for place in command.places]
    for group in (
        list(argv), granted, list(pinned), filter_program, agent_rows(spec.egress), places,
        outlets, list(spec.imports), environment, ["session"] if session else [],
    ):  # fmt: skip
        fields += [str(len(group)), *group]
    fields.append(str(len(masks or [])))
    for target, is_directory in masks or []:
        fields += [target, "d" if is_directory else "f"]
    fields.append(str(len(mounts)))
    for source, target, is_directory, writable in mounts:
        fields += [source, target, "d" if is_directory else "f", "w" if writable else "r"]
    fields.append(str(len(secrets)))
    for secret in secrets:
        fields += [secret.name, str(len(secret.value))]
    head = os.fsencode("\0".join(fields))
    values = b"".join(secret.value for secret in secrets)
    return _framed(head) + script + values


def boot_message(
    spec: SandboxSpec, preload: tuple[str, ...], mounts: list[tuple[str, str, bool, bool]]
) -> bytes:
    """Returns what the agent of a warm sandbox reads first.

    Args:
        spec: What it is started for.
        preload: Modules to import.
        mounts: What is there before a job is: trees to read, as for `job_message`.
    """
    fields = [compile_filter(spec.seccomp).hex(), str(_shown_cpus(spec))]
    places = [text for source, target, _, _ in mounts for text in (source, target)]
    for group in (places, spec.imports):
        fields += [str(len(group)), *group]
    return _framed(os.fsencode("\0".join((*fields, *preload))))


def _shown_cpus(spec: SandboxSpec) -> int:
    return max(1, math.ceil(spec.cpus))


def _framed(head: bytes) -> bytes:
    return len(head).to_bytes(4, "little") + head


def to_bytes(document: dict[str, Any]) -> bytes:
    """Serialises a bundle file."""
    return json.dumps(document, separators=(",", ":")).encode("utf-8", "surrogateescape")
