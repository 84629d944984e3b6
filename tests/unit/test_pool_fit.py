"""Which runs a warm sandbox can take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from omnibase.core.context import MIB, ExecutionContext
from omnibase.core.sandbox.pool_fit import at_start, late, misfit
from omnibase.core.sandbox.spec import Attachment
from tests.helpers.specs import compiled

BASE = compiled()
SITE = "/opt/omnibase/lib/python3.11/site-packages"
LAYER = Attachment(source="/state/packages/layers/1/site", target=SITE)
OTHER = Attachment(source="/state/packages/layers/2/site", target=SITE)
PACKED = replace(BASE, attached=(LAYER,), imports=(SITE,), layer="1")


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


def test_packages_come_late_to_a_pool_that_has_none() -> None:
    assert misfit(BASE, PACKED, ("json",)) is None
    assert late(BASE, PACKED) == PACKED


def test_packages_of_the_pool_are_there() -> None:
    assert misfit(PACKED, PACKED, ("numpy",)) is None
    more = replace(PACKED, imports=(SITE, "/srv/venv/site-packages"))  # and some that come late
    assert misfit(PACKED, more, ("numpy",)) is None
    assert late(PACKED, more) == replace(more, attached=())


@pytest.mark.parametrize(
    "changed",
    [{"attached": (OTHER,), "layer": "2"}, {"attached": (OTHER,)}, {"layer": "2"},
     {"attached": (LAYER, OTHER)}],
)  # fmt: skip
def test_others_than_the_pools_do_not_fit(changed: dict[str, object]) -> None:
    spec = replace(PACKED, **changed)  # type: ignore[arg-type]
    assert misfit(PACKED, spec) == "it comes with other packages than the pool"


def test_nor_does_a_run_without_any() -> None:
    assert misfit(PACKED, BASE) == "it comes without packages, and the pool with some"


@pytest.mark.parametrize(
    ("name", "module", "what"),
    [("OPENBLAS_NUM_THREADS", "numpy", "what is preloaded"), ("NUMPY_X", "numpy", "`numpy`"),
     ("NPY_PROMOTION_STATE", "numpy", "what is preloaded"),
     ("OMP_NUM_THREADS", "scipy", "what is preloaded"),
     ("MPLBACKEND", "matplotlib", "`matplotlib`")],
)  # fmt: skip
def test_a_variable_that_acts_at_an_import_does_not(name: str, module: str, what: str) -> None:
    spec = replace(PACKED, environment=(*PACKED.environment, (name, "1")))
    preload = ("json", f"{module}.linalg", module)
    assert misfit(PACKED, spec, preload) == f"`{name}` acts when {what} is imported"
    assert misfit(spec, spec, preload) is None
    assert misfit(PACKED, spec) is None  # nothing was imported
    assert misfit(BASE, spec, ("json",)) is None  # no packages, nothing that reads it


def test_a_variable_of_the_scripts_own_comes_late() -> None:
    spec = replace(PACKED, environment=(*PACKED.environment, ("MODE", "fast"), ("MPLBACKEND", "x")))
    assert misfit(PACKED, spec, ("numpy",)) is None
