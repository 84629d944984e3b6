"""What no grant may write to: registries, wherever they are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnibase.backend import compile_grants
from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox.image import Image
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.errors import CapabilityError

_IMAGE = Image(path="/", digest="", python="", probes=())


def areas(registry: str | None = None) -> tuple[str, ...]:
    spec = compile_grants(CapabilitySet(), ExecutionContext(), _IMAGE, None, registry=registry)
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
    assert str(tmp_path / "used") in areas("used")
    monkeypatch.setenv("OMNIBASE_REGISTRY", str(tmp_path / "named"))
    assert {str(tmp_path / "named"), str(tmp_path / "used")} <= set(areas("used"))


@pytest.mark.parametrize(
    ("url", "directory"),
    [
        ("sqlite:///data/registry.db", "data"),
        ("sqlite+pysqlite:///data/registry.db?timeout=3", "data"),
        ("postgresql+psycopg://user@/registry", None),
    ],
)
def test_a_database_counts_with_the_directory_that_it_is_in(
    tmp_path: Path, url: str, directory: str | None
) -> None:
    found = set(areas(url)) - set(areas())
    assert found == ({str(tmp_path / directory)} if directory else set())


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert str(tmp_path / "real") in areas("link")


def test_a_grant_to_write_there_is_refused(tmp_path: Path) -> None:
    grants = CapabilitySet.parse([f"FILE_WRITE:{tmp_path}/r/policies/x"])
    with pytest.raises(CapabilityError):
        compile_grants(grants, ExecutionContext(), _IMAGE, None, registry=f"{tmp_path}/r")
