"""Setting a run up: its namespaces, its mounts, its bundle, and what watches it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omnibase.core.sandbox import _runsc, bundle, covers, resolving, staging
from omnibase.core.sandbox.cgroup import Cgroup
from omnibase.core.sandbox.collect.inputs import staged_artifacts
from omnibase.core.sandbox.collect.reports import own_files
from omnibase.core.sandbox.egress.layout import Layout
from omnibase.core.sandbox.monitor.reads import ARTIFACTS, SECRETS
from omnibase.core.sandbox.monitor.registry import REGISTRY
from omnibase.core.sandbox.monitor.violations import Granted, Judge
from omnibase.core.sandbox.registry_files import registry_granted, staged_registry
from omnibase.core.sandbox.runner import Cancel, GVisorRunner, RunRequest
from omnibase.errors import SandboxStartError

if TYPE_CHECKING:
    from omnibase.core.sandbox.databases.copying import DatabaseCopied
    from omnibase.core.sandbox.resolving import StagedMount
    from omnibase.core.sandbox.spec import SandboxSpec

__all__ = [
    "Prepared",
    "Staged",
    "check_commands",
    "judge_of",
    "make_places",
    "prepare",
    "stage",
    "stage_early",
    "start",
    "write_bundle",
]


class Prepared(NamedTuple):
    """A run that can be started.

    Attributes:
        job: What the agent reads first.
        judge: Knows what was granted.
        endpoint: Path of the socket for the Sentry's trace.
        staged: What was made for the script to read.
    """

    job: bytes
    judge: Judge
    endpoint: str
    staged: tuple[DatabaseCopied, ...]


class Staged(NamedTuple):
    """What was mounted for a run.

    Attributes:
        rows: ``(guest source, guest target, is directory, writable)``.
        masked: How masks are applied.
        copied: What was made for the script to read.
    """

    rows: list[tuple[str, str, bool, bool]]
    masked: covers.Covers
    copied: tuple[DatabaseCopied, ...]

    def job(self, request: RunRequest) -> dict[str, Any]:
        """Returns what `bundle.job_message` is to be told."""
        return {
            "name": request.name,
            "script": request.script,
            "argv": request.argv,
            "mounts": self.rows,
            "masks": list(self.masked.covered),
            "pinned": self.masked.pinned,
            "secrets": request.secrets,
            "commands": request.commands.commands if request.commands is not None else (),
            "session": request.session,
        }


def prepare(
    request: RunRequest, path: Path, fill: Callable[[Path], None], cancel: Cancel
) -> Prepared:
    """Enters namespaces of the calling thread, stages the grants, and writes the bundle.

    Args:
        request: The run.
        path: Its directory.
        fill: Puts the artifacts that it may read below a directory.
        cancel: Ends it early.

    Raises:
        SandboxStartError: The commands that are granted were not brought in.
        CapabilityError: What is granted cannot be mounted or copied as it stands.
        OSError: The directory cannot be written.
    """
    layer = request.commands
    make_places(path)
    _runsc.enter_mount_namespace()
    staged = stage(request, path, fill, cancel)
    _runsc.enter_pid_namespace()  # after staging: the first child becomes PID 1
    endpoint = write_bundle(
        request.spec, path, grants=bool(staged.rows), commands=None if layer is None else layer.path
    )
    job = bundle.job_message(request.spec, **staged.job(request))
    return Prepared(job, judge_of(request, staged), endpoint, staged.copied)


def make_places(path: Path) -> None:
    """Makes the directories that each run needs below its own."""
    for name in ("scratch", "grants", "root"):
        (path / name).mkdir(mode=0o700)


def write_bundle(
    spec: SandboxSpec, path: Path, *, grants: bool, commands: str | None = None, warm: bool = False
) -> str:
    """Writes the files that ``runsc`` reads; returns the path of the socket for the trace."""
    config = bundle.oci_config(
        spec,
        scratch_dir=str(path / "scratch"),
        grants_dir=str(path / "grants") if grants else None,
        commands_dir=commands,
        warm=warm,
    )
    endpoint = str(path / "trace")
    (path / "config.json").write_bytes(bundle.to_bytes(config))
    (path / "trace.json").write_bytes(bundle.to_bytes(bundle.trace_config(endpoint)))
    return endpoint


def stage(request: RunRequest, path: Path, fill: Callable[[Path], None], cancel: Cancel) -> Staged:
    """Mounts what a run is granted below ``grants``, in the calling thread's mount namespace.

    Args, Raises: See `prepare`.
    """
    spec = request.spec
    check_commands(request)
    with (
        resolving.resolve_grants(spec) as mounts,
        _copies(spec, str(path / "databases"), cancel) as copies,
        staged_registry(request.registry, spec.outlets, str(path / "registry")) as shown,
        staged_artifacts(spec, path / "artifacts", fill) as inputs,
    ):
        masked = covers.resolve_masks(spec, mounts)
        copied = tuple(mount for mount, _ in copies)
        rows = staging.stage(
            mounts + copied + shown + inputs, str(path / "grants"), masked.left_out
        )
        return Staged(rows, masked, tuple(told for _, told in copies))


def stage_early(spec: SandboxSpec, path: Path) -> Staged:
    """Mounts what a sandbox comes with before it has a job, as `stage`, out of its way."""
    if not spec.attached:
        return Staged([], covers.Covers(), ())
    with resolving.resolve_grants(spec) as mounts:
        rows = staging.stage(mounts, str(path / "grants"), prefix="early-")
    return Staged(rows, covers.Covers(), ())


def _copies(
    spec: SandboxSpec, directory: str, cancel: Cancel
) -> AbstractContextManager[tuple[tuple[StagedMount, DatabaseCopied], ...]]:
    if not spec.databases:
        return contextlib.nullcontext(())
    from omnibase.core.sandbox.databases.copying import copies  # most runs have no database

    return copies(spec.databases, directory, seconds=spec.wall_seconds, cancel=cancel)


def check_commands(request: RunRequest) -> None:
    """Refuses a request without the commands that it is granted.

    Raises:
        SandboxStartError: They were not brought in.
    """
    commands = () if request.commands is None else request.commands.commands
    if request.spec.commands != tuple(command.name for command in commands):
        raise SandboxStartError("the commands that are granted were not brought in")


def judge_of(request: RunRequest, staged: Staged) -> Judge:
    """Returns a judge who knows what a run was granted."""
    spec, rows, masked = request.spec, staged.rows, staged.masked
    secrets = tuple(secret.name for secret in request.secrets)
    granted = [
        Granted(path=target, tree=is_directory, writable=writable)
        for _, target, is_directory, writable in rows
        if target not in (ARTIFACTS, REGISTRY)
    ]
    granted += registry_granted(request.registry)
    granted += own_files(spec, request.artifacts)
    granted += [Granted(path=f"{SECRETS}/{name}", tree=False, writable=False) for name in secrets]
    return Judge(
        spec.watch,
        tuple(granted),
        spec.masks,
        on_host=os.path.lexists,
        covered=dict(masked.covered),
        resolve=_resolve,
        secrets=secrets,
        network=Layout(spec.egress),
        commands=spec.commands,
        databases=tuple(grant.path for grant in spec.databases),
    )


def _resolve(path: str) -> str:
    """Follows the host's links, as far as it can: a path of the guest is untrusted text."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return path


def start(
    runner: GVisorRunner,
    path: Path,
    cgroup: Cgroup,
    streams: Sequence[int],
    passed: Mapping[int, int],
    late_grants: bool = False,
) -> _runsc.Process:
    """Starts ``runsc`` on the bundle in a directory.

    Args:
        runner: Its binary and platform.
        path: The run's directory.
        cgroup: Joined before anything runs.
        streams: Standard input, output and error.
        passed: Further descriptors, by their number in the guest.
        late_grants: Files are mounted on the host after the start: gVisor is not to
            believe that it knows them all, which costs it time at each use.

    Raises:
        SandboxStartError: It could not be started.
    """
    arguments = [
        runner.runtime.path,
        f"--root={path}/root",
        f"--platform={runner.platform}",
        "--network=none",
        "--ignore-cgroups",
        "--overlay2=root:memory",
        "--host-uds=none",
        "--host-fifo=none",
        *(["--file-access-mounts=shared"] if late_grants else []),
        f"--pod-init-config={path}/trace.json",
        "run",
        f"--bundle={path}",
        *(f"--pass-fd={fd}:{number}" for number, fd in passed.items()),
        path.name,
    ]
    stdin, stdout, stderr = streams
    try:
        return _runsc.start_isolated(
            arguments,
            cgroup_files=cgroup.join_files,
            pass_fds=list(passed.values()),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=str(path),
            # Not the Sentry's, which has no environment: what waits beside it may be slow.
            environment={"GOMAXPROCS": "1"} if late_grants else None,
        )
    except OSError as error:
        raise SandboxStartError(f"runsc could not be started: {error}") from error
