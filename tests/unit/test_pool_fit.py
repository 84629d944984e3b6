"""Which runs a warm sandbox can take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from omnibase.core.context import MIB, ExecutionContext
from omnibase.core.sandbox.pool_fit import at_start, misfit
from tests.helpers.specs import compiled

BASE = compiled()


def test_the_same_fits() -> None:
    assert misfit(BASE, BASE) is None


def test_grants_and_quotas_come_late() -> None:
    wanted = compiled(
        "FILE_READ:/data/**", "NETWORK_CONNECT:example.com:443", "SECRET_ACCESS:KEY",
        "MEMORY:128MiB",
        context=ExecutionContext(cpus=2.5, pids=3, wall_seconds=1, output_bytes=7),
        environment={"MINE": "1", "TZ": "Europe/Berlin"},
    )  # fmt: skip
    assert misfit(BASE, wanted) is None


@pytest.mark.parametrize(
    "name",
    ["PYTHONHASHSEED", "PYTHONUTF8", "LANG", "LC_ALL", "LANGUAGE", "LOCPATH", "LD_PRELOAD",
     "GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "OPENSSL_CONF"],
)  # fmt: skip
def test_a_variable_that_acts_at_the_start_does_not(name: str) -> None:
    spec = replace(BASE, environment=(*BASE.environment, (name, "x")))
    assert misfit(BASE, spec) == f"`{name}` acts when the interpreter starts"
    assert misfit(spec, BASE) == f"`{name}` acts when the interpreter starts"
    assert misfit(spec, spec) is None
    other = replace(spec, environment=(*spec.environment, ("MINE", "1")))
    assert misfit(spec, other) is None
    assert at_start(spec)[name] == "x"


def test_another_scratch_does_not() -> None:
    spec = compiled(context=ExecutionContext(scratch_bytes=MIB))
    assert misfit(BASE, spec) == "it wants a scratch of 1048576 bytes, the pool's is 67108864"


def test_another_image_does_not() -> None:
    for changed in (
        replace(BASE, image_path="/other"), replace(BASE, image_digest="0"),
        replace(BASE, python="/opt/omnibase/bin/python3.13"),
    ):  # fmt: skip
        assert misfit(BASE, changed) == "the image has changed"


def test_another_filter_does_not() -> None:
    assert misfit(BASE, replace(BASE, seccomp=())) == "its system call filter is another"
