"""Which runs a warm sandbox can take: what is fixed when it starts, and what is not. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from omnibase.core.sandbox.spec import SandboxSpec

__all__ = ["at_start", "late", "misfit"]

# By these the interpreter, the C library or its loader do something once, at their start.
_AT_START: Final = re.compile(
    r"PYTHON.*|LC_.*|LANG|LANGUAGE|LOCPATH|LD_.*|GLIBC_TUNABLES|MALLOC_.*|OPENSSL_.*"
)
# By these a numerical library decides how it is to work, once, when it is loaded.
_AT_IMPORT: Final = re.compile(
    r"OMP_.*|KMP_.*|GOMP_.*|OPENBLAS_.*|GOTO_.*|MKL_.*|BLIS_.*|NUMEXPR_.*|NPY_.*"
)
_OWN: Final = {"matplotlib": "MPL.*"}


def misfit(base: SandboxSpec, spec: SandboxSpec, preload: tuple[str, ...] = ()) -> str | None:
    """Returns why a run cannot have a sandbox that was started for another spec.

    Args:
        base: What the sandbox was started for.
        spec: Of the run.
        preload: Modules that the sandbox has imported.

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
    if base.attached and (spec.attached, spec.layer) != (base.attached, base.layer):
        return "it comes with other packages than the pool" if spec.attached else (
            "it comes without packages, and the pool with some"
        )  # fmt: skip
    if spec.environment == base.environment:
        return None
    fixed, wanted = at_start(base), at_start(spec)
    for name in sorted(fixed.keys() | wanted.keys()):
        if fixed.get(name) != wanted.get(name):
            return f"`{name}` acts when the interpreter starts"
    return _read_too_early(base, spec, preload) if base.attached else None


def at_start(spec: SandboxSpec) -> dict[str, str]:
    """Returns the variables by which something is done once, at the start."""
    return {name: value for name, value in spec.environment if _AT_START.fullmatch(name)}


def late(base: SandboxSpec, spec: SandboxSpec) -> SandboxSpec:
    """Returns what is left to be brought in: a spec without the packages that are there."""
    return replace(spec, attached=()) if base.attached else spec


def _read_too_early(base: SandboxSpec, spec: SandboxSpec, preload: tuple[str, ...]) -> str | None:
    """Says which variable would have been read by what was imported without it."""
    tops = dict.fromkeys(name.partition(".")[0] for name in preload)
    for name in sorted({name for name, _ in {*base.environment} ^ {*spec.environment}}):
        for module in tops:
            if re.fullmatch(_OWN.get(module, f"{module.upper()}_.*"), name):
                return f"`{name}` acts when `{module}` is imported"
        if tops and _AT_IMPORT.fullmatch(name):
            return f"`{name}` acts when what is preloaded is imported"
    return None
