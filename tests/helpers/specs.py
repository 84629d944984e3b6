"""Specs and messages for tests that need some, with what matters to the test named."""

from __future__ import annotations

from typing import Any

from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox.compile import compile_spec
from omnibase.core.sandbox.image import Image
from omnibase.core.sandbox.spec import SandboxSpec
from omnibase.core.security.capabilities import CapabilitySet

IMAGE = Image(
    path="/state/images/abc",
    digest="abc",
    python="/opt/omnibase/bin/python3.11",
    probes=("/etc/ld.so.preload",),
    environment=(("LANG", "C.UTF-8"),),
)


def compiled(
    *capabilities: str,
    context: ExecutionContext | None = None,
    image: Image = IMAGE,
    **options: Any,
) -> SandboxSpec:
    """Compiles capabilities under default quotas."""
    return compile_spec(
        CapabilitySet.parse(capabilities), context or ExecutionContext(), image, **options
    )
