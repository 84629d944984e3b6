"""Which runs a warm sandbox can take: what is fixed when it starts, and what is not. Pure."""

from __future__ import annotations

import re
from typing import Final

from omnibase.core.sandbox.spec import SandboxSpec

__all__ = ["at_start", "misfit"]

# By these the interpreter, the C library or its loader do something once, at their start.
_AT_START: Final = re.compile(
    r"PYTHON.*|LC_.*|LANG|LANGUAGE|LOCPATH|LD_.*|GLIBC_TUNABLES|MALLOC_.*|OPENSSL_.*"
)


def misfit(base: SandboxSpec, spec: SandboxSpec) -> str | None:
    """Returns why a run cannot have a sandbox that was started for another spec.

    Args:
        base: What the sandbox was started for.
        spec: Of the run.

    Returns:
        A clause such as ``it wants a scratch of 1024 bytes, the pool's is 2048``, or
        ``None`` if it can.
    """
    if (spec.image_path, spec.image_digest, spec.python) != (
        base.image_path, base.image_digest, base.python,
    ):  # fmt: skip
        return "the image has changed"
    if spec.seccomp != base.seccomp:
        return "its system call filter is another"
    if spec.scratch_bytes != base.scratch_bytes:
        wanted_bytes, its_bytes = spec.scratch_bytes, base.scratch_bytes
        return f"it wants a scratch of {wanted_bytes} bytes, the pool's is {its_bytes}"
    if spec.environment == base.environment:
        return None
    fixed, wanted = at_start(base), at_start(spec)
    for name in sorted(fixed.keys() | wanted.keys()):
        if fixed.get(name) != wanted.get(name):
            return f"`{name}` acts when the interpreter starts"
    return None


def at_start(spec: SandboxSpec) -> dict[str, str]:
    """Returns the variables by which something is done once, at the start."""
    return {name: value for name, value in spec.environment if _AT_START.fullmatch(name)}
