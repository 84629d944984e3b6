"""A spec never holds more than was granted, and a job reads back as it was written."""

from __future__ import annotations

import json
import os

from hypothesis import given
from hypothesis import strategies as st

from omnibase.core.context import MIB, ExecutionContext
from omnibase.core.sandbox.bundle import job_message, oci_config, to_bytes
from omnibase.core.sandbox.compile import compile_spec
from omnibase.core.sandbox.spec import SandboxSpec
from omnibase.core.security.capabilities import Capability, CapabilitySet
from omnibase.errors import CapabilityError
from tests.helpers import agent
from tests.helpers.specs import IMAGE, compiled

PARSE = agent.load()._parse_job
STATE, POLICIES = "/srv/state", "/srv/registry/policies"

segments = st.sampled_from(
    ["srv", "state", "registry", "policies", "data", "proc", "dev", "sys", "etc", "opt",
     "omnibase", "tmp", "run", "guest", "a", "b.txt", "*", "?", "s*", "st?te", "*.txt"]
)  # fmt: skip
resources = st.builds(
    lambda parts, tree: "/" + "/".join(parts) + ("/**" if tree else ""),
    st.lists(segments, min_size=1, max_size=4),
    st.booleans(),
)
files = st.builds(
    lambda kind, path: f"FILE_{kind}:{path}", st.sampled_from(["READ", "WRITE"]), resources
)
memory = st.integers(0, 400).map(lambda mib: f"MEMORY:{mib}MiB")
contexts = st.builds(
    ExecutionContext,
    memory_bytes=st.integers(40_000_000, 400 * MIB),
    default_memory_bytes=st.integers(40_000_000, 400 * MIB),
    cpus=st.floats(0.01, 64),
    pids=st.integers(1, 1000),
)


def attempt(capabilities: list[str], context: ExecutionContext) -> SandboxSpec | None:
    granted = []
    for text in capabilities:
        try:
            granted.append(Capability.parse(text))
        except CapabilityError:
            continue
    try:
        return compile_spec(
            CapabilitySet(granted), context, IMAGE,
            refused_areas=(STATE,), read_only_areas=(POLICIES,),
        )  # fmt: skip
    except CapabilityError:
        return None


def beneath(path: str, area: str) -> bool:
    return path == area or path.startswith(f"{area}/")


@given(st.lists(st.one_of(files, memory), max_size=6), contexts)
def test_a_spec_is_within_its_grants(capabilities: list[str], context: ExecutionContext) -> None:
    spec = attempt(capabilities, context)
    if spec is None:
        return
    grants = CapabilitySet.parse(spec.grants)
    for file in spec.files:
        kind = "FILE_WRITE" if file.writable else "FILE_READ"
        resource = f"{file.path}/**" if file.kind == "tree" else file.path
        assert grants.covers(Capability.parse(f"{kind}:{resource}"))
    assert spec.memory_bytes <= context.memory_bytes
    assert spec.memory_bytes >= min(context.default_memory_bytes, context.memory_bytes)


@given(st.lists(files, min_size=1, max_size=4))
def test_no_spec_reaches_a_refused_area(capabilities: list[str]) -> None:
    spec = attempt(capabilities, ExecutionContext())
    if spec is None:
        return
    masks = {mask.path for mask in spec.masks}
    for file in spec.files:
        areas = ["/proc", "/sys", "/dev", "/guest", "/grants", "/opt/omnibase", STATE]
        areas += [POLICIES] if file.writable else []
        for area in areas:
            assert not beneath(file.path, area)
            if file.kind == "tree" and beneath(area, file.path):
                assert area in masks and not file.writable
        guarded = spec.refused_areas + (spec.read_only_areas if file.writable else ())
        assert set(areas) <= set(guarded)  # what a glob must not lead into at start


@given(st.lists(st.one_of(files, memory), max_size=4), contexts, st.booleans())
def test_every_config_is_json(
    capabilities: list[str], context: ExecutionContext, staged: bool
) -> None:
    spec = attempt(capabilities, context)
    if spec is None:
        return
    document = oci_config(spec, scratch_dir="/s", grants_dir="/g" if staged else None)
    assert json.loads(to_bytes(document)) == document
    sources = {mount["source"] for mount in document["mounts"]}
    assert sources <= {"proc", "tmpfs", "/s", "/g"}  # no host path but the run's own


# Any bytes without NUL, as a path or an argument holds them.
texts = st.binary(max_size=40).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))
rows = st.tuples(texts, texts, st.booleans(), st.booleans())


@given(
    name=texts,
    script=st.binary(max_size=200),
    argv=st.lists(texts, max_size=5),
    mounts=st.lists(rows, max_size=4),
    masks=st.lists(st.tuples(texts, st.booleans()), max_size=3),
    pinned=st.lists(texts, max_size=3),
)
def test_a_job_reads_back(
    name: str, script: bytes, argv: list[str], mounts: list[tuple[str, str, bool, bool]],
    masks: list[tuple[str, bool]], pinned: list[str],
) -> None:  # fmt: skip
    message = job_message(
        compiled(), name=name, script=script, argv=tuple(argv), mounts=mounts, masks=masks,
        pinned=tuple(pinned),
    )  # fmt: skip
    size = int.from_bytes(message[:4], "little")
    job = PARSE(message[4 : 4 + size])
    assert job["path"] == f"/run/script/{name}"
    assert job["argv"] == argv
    assert job["pinned"] == pinned
    assert job["masks"] == masks
    assert job["mounts"] == mounts
    assert job["granted"] == [t + "/" * d for _, t, d, _ in mounts]
    assert job["size"] == len(script)
    assert message[4 + size :] == script
