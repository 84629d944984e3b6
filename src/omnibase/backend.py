"""What runs need on this machine: a runner, an image, and what no grant may reach."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Mapping
from typing import NamedTuple

from omnibase.core import audit
from omnibase.core.context import ExecutionContext
from omnibase.core.locations import directory_of, holds_registry
from omnibase.core.resilience import Guard
from omnibase.core.sandbox import _runsc, compile, image, platforms, state
from omnibase.core.sandbox.admission import Admission
from omnibase.core.sandbox.cgroup import Hierarchy
from omnibase.core.sandbox.resilient import ResilientRunner
from omnibase.core.sandbox.runner import GVisorRunner, SandboxRunner
from omnibase.core.sandbox.spec import Mask, SandboxSpec
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.errors import SandboxUnavailable
from omnibase.inputs import registry_location

__all__ = ["Backend", "backend", "compile_grants", "drain", "places", "require_root"]


class Backend(NamedTuple):
    """What runs need, found and built once per process and configuration."""

    runner: SandboxRunner
    image: image.Image
    gvisor: GVisorRunner


def compile_grants(
    grants: CapabilitySet,
    context: ExecutionContext,
    root: image.Image,
    env: Mapping[str, str] | None,
    *,
    masks: tuple[Mask, ...] = (),
    registry: str | None = None,
    hidden: tuple[str, ...] = (),
) -> SandboxSpec:
    """Compiles as `run` does, with the same areas out of reach; starts nothing.

    Args:
        grants: What the script may do.
        context: Quotas.
        root: The guest's image.
        env: The script's environment variables.
        masks: What a policy takes out of granted trees.
        registry: Directory of the registry that decided, besides the implied one.
        hidden: Directories of secrets.
    """
    refused: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    if grants:  # else nothing could reach there
        refused = (os.path.realpath(state.state_dir()), *audit.reserved(), *hidden)
        read_only = (*_registries(registry), *_own_files())
    return compile.compile_spec(
        grants,
        context,
        root,
        environment=env,
        refused_areas=refused,
        read_only_areas=read_only,
        masks=masks,
    )


def _registries(used: str | None) -> tuple[str, ...]:
    """Directories of registries: a script that wrote there could grant itself anything."""
    named = os.environ.get("OMNIBASE_REGISTRY")
    found = {} if used is None else {used: None}
    with contextlib.suppress(FileNotFoundError):  # the working directory itself may be gone
        directory = directory_of(registry_location())
        # The implied one counts where it exists; a named one before it does.
        if directory is not None and (named or holds_registry(directory)):
            found[directory] = None
    return tuple(found)


def _own_files() -> tuple[str, ...]:
    """Directories of what OmniBase itself runs as root: never to be written by a script."""
    own = {os.path.realpath(os.path.dirname(__file__))}
    own |= {os.path.realpath(prefix) for prefix in (sys.prefix, sys.base_prefix)}
    with contextlib.suppress(SandboxUnavailable):
        own.add(os.path.realpath(os.path.dirname(_runsc.find_runtime().path)))
    # The system's directories are the operator's to protect, by not granting them.
    return tuple(sorted(own - {"/usr", "/usr/bin", "/usr/local", "/usr/local/bin", "/bin", "/"}))


_lock = threading.Lock()
# A child forked while another thread holds the lock would wait for it for ever.
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]
_cache: dict[str, Backend] = {}
# Nor do the parent's runs take places of the child's.
_admissions: list[Admission] = []
os.register_at_fork(after_in_child=_cache.clear)
os.register_at_fork(after_in_child=_admissions.clear)


def require_root() -> None:
    """Refuses to run where limits cannot be enforced.

    Raises:
        SandboxUnavailable: We are not root.
    """
    if os.geteuid() != 0:
        raise SandboxUnavailable(
            "sandboxes need root: memory, CPU and process limits are cgroups, and "
            "granted files are mounts",
            hint="run as root, e.g. with `sudo`; no run gets fewer limits than stated",
        )


def drain(timeout_seconds: float) -> bool:
    """Lets this process start no more runs, and waits for those that run.

    Args:
        timeout_seconds: Longest wait.

    Returns:
        Whether all have ended. Further runs raise `SandboxUnavailable`.
    """
    with _lock:
        admission = places()
    return admission.drain(timeout_seconds)


def places() -> Admission:
    """Returns the places for runs of this process, whatever their configuration."""
    if not _admissions:
        _admissions.append(Admission.from_environment())
    return _admissions[0]


def backend() -> Backend:
    """Finds and builds what runs need, once per process and configuration.

    Raises:
        SandboxUnavailable: This machine cannot run sandboxes; the hint helps.
    """
    require_root()
    directory = state.state_dir()
    key = "\0".join(
        [str(directory), *(os.environ.get(n, "") for n in ("RUNSC", "OMNIBASE_PLATFORM"))]
    )
    with _lock:
        if key not in _cache or not os.path.isdir(_cache[key].image.path):
            runtime = _runsc.find_runtime(directory)
            hierarchy = Hierarchy.detect()
            state.recover(directory)
            gvisor = GVisorRunner(
                runtime=runtime,
                platform=platforms.choose_platform(runtime, directory),
                state=directory,
                hierarchy=hierarchy,
            )
            runner = ResilientRunner(
                inner=gvisor, guard=Guard(f"`{runtime.path}`"), admission=places()
            )
            _cache[key] = Backend(runner, image.ensure_image(directory), gvisor)
        return _cache[key]
