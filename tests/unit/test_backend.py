"""What no grant may write to: registries, wherever they are named."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from omnibase.backend import compile_grants
from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox.image import Image
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.errors import CapabilityError
from omnibase.registries import open_registry

_IMAGE = Image(path="/", digest="", python="", probes=())


def areas(registry: str | None = None) -> tuple[str, ...]:
    grants = CapabilitySet.parse(["FILE_READ:/data/x"])  # without one, nothing is in reach
    spec = compile_grants(grants, ExecutionContext(), _IMAGE, None, registry=registry)
    return spec.read_only_areas


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMNIBASE_REGISTRY", raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_implied_registry_counts_where_there_is_one(tmp_path: Path) -> None:
    here = str(tmp_path / "registry")
    assert here not in areas()
    (tmp_path / "registry").mkdir()
    assert here not in areas(), "any project may have a directory of that name"
    (tmp_path / "registry" / "policies").mkdir()
    assert here in areas()


def test_a_named_one_counts_before_it_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNIBASE_REGISTRY", str(tmp_path / "named"))
    used = str(tmp_path / "used")
    assert {str(tmp_path / "named"), used} <= set(areas(used))


@pytest.mark.parametrize(
    ("location", "directory"),
    [
        ("named", "named"),
        ("sqlite:///data/registry.db", "data"),
        ("sqlite+pysqlite:///data/registry.db", "data"),
        ("postgresql+psycopg://user@/registry", None),
    ],
)
def test_what_is_named_counts_with_the_directory_that_it_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, directory: str | None
) -> None:
    before = set(areas())
    monkeypatch.setenv("OMNIBASE_REGISTRY", location)
    assert set(areas()) - before == ({str(tmp_path / directory)} if directory else set())


def test_links_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setenv("OMNIBASE_REGISTRY", "link")
    assert str(tmp_path / "real") in areas()


@pytest.mark.parametrize("location", ["dir", "sqlite:///dir/r.db"])
def test_a_store_says_where_it_is(tmp_path: Path, location: str) -> None:
    (tmp_path / "dir").mkdir()
    with contextlib.closing(open_registry(location)) as store:
        assert store.directory == str(tmp_path / "dir")


def test_a_grant_to_write_there_is_refused(tmp_path: Path) -> None:
    grants = CapabilitySet.parse([f"FILE_WRITE:{tmp_path}/r/policies/x"])
    with pytest.raises(CapabilityError):
        compile_grants(grants, ExecutionContext(), _IMAGE, None, registry=f"{tmp_path}/r")
