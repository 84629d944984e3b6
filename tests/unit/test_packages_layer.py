"""The cache of layers: whole layers only, whatever happens; and what is read of this host."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from omnibase.core.packages import sources
from omnibase.core.packages.layer import Cache, prune, settle
from omnibase.core.packages.lock import Lock, Locked
from omnibase.errors import ConfigurationError, PackageError
from omnibase.packages import find_site, wanted_of

ONE = Locked(name="a", version="1.0", file="a-1.0-py3-none-any.whl", sha256="a" * 64)
LOCK = Lock(platform="cp", packages=(ONE,))


@pytest.fixture
def kept(tmp_path: Path) -> Cache:
    return Cache(tmp_path, "cp")


def build(kept: Cache, lock: Lock = LOCK, text: str = "V = 1\n") -> None:
    with kept.building("k" * 64) as place:
        (place / "site" / "a").mkdir(parents=True)
        (place / "site" / "a" / "a.py").write_text(text)
        kept.add(lock, place)


def test_a_layer_is_found_again(kept: Cache) -> None:
    with kept.hold(LOCK.digest) as layer:
        assert layer is None
    build(kept)
    with kept.hold(LOCK.digest) as layer:
        assert layer is not None and layer.lock == LOCK
        assert Path(layer.path, "a", "a.py").read_text() == "V = 1\n"
    assert [layer.digest for layer in kept.layers()] == [LOCK.digest]
    build(kept, text="V = 2\n")  # another builder: the first stays
    with kept.hold(LOCK.digest) as layer:
        assert layer is not None and Path(layer.path, "a", "a.py").read_text() == "V = 1\n"


def test_resolutions_are_remembered(kept: Cache, tmp_path: Path) -> None:
    assert kept.resolved("x" * 64) is None
    kept.remember("x" * 64, LOCK.digest)
    assert kept.resolved("x" * 64) == LOCK.digest
    (tmp_path / "packages" / "resolved" / ("x" * 64)).write_text("../../etc")
    assert kept.resolved("x" * 64) is None


def change(top: Path) -> None:
    (top / "site" / "a" / "a.py").write_text("V = 9\n")


def disguise(top: Path) -> None:
    """Changes a file, and gives it back its size and its time."""
    path = top / "site" / "a" / "a.py"
    before = path.stat()
    path.write_text("V = 9\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def add(top: Path) -> None:
    (top / "site" / "b.py").write_text("")


def take(top: Path) -> None:
    (top / "site" / "a" / "a.py").unlink()


def open_up(top: Path) -> None:
    (top / "site").chmod(0o777)


def link(top: Path) -> None:
    (top / "site").rename(top / "elsewhere")
    (top / "site").symlink_to("elsewhere")


def relock(top: Path) -> None:
    record = json.loads((top / "layer.json").read_text())
    record["lock"][0][3] = "b" * 64
    (top / "layer.json").write_text(json.dumps(record))


def garble(top: Path) -> None:
    (top / "layer.json").write_text("{")


@pytest.mark.parametrize("tamper", [change, disguise, add, take, open_up, link, relock, garble])
def test_what_was_changed_is_not_used(kept: Cache, tmp_path: Path, tamper: object) -> None:
    build(kept)
    assert callable(tamper)
    tamper(tmp_path / "packages" / "layers" / LOCK.digest)
    with pytest.raises(PackageError) as caught, kept.hold(LOCK.digest):
        pass
    assert caught.value.reason == "tampered"
    build(kept)  # a new build takes its place
    with kept.hold(LOCK.digest) as layer:
        assert layer is not None


def test_what_is_in_use_is_not_pruned(kept: Cache, tmp_path: Path) -> None:
    build(kept)
    kept.remember("x" * 64, LOCK.digest)
    with kept.hold(LOCK.digest) as layer, kept.building("b" * 64) as place:
        assert layer is not None
        assert prune(tmp_path) == []
        assert Path(layer.path).is_dir() and place.is_dir()
        assert kept.resolved("x" * 64) == LOCK.digest
    (tmp_path / "packages" / "builds" / "left-by-a-killed-one").mkdir()
    assert len(prune(tmp_path)) == 2
    assert kept.layers() == [] and kept.resolved("x" * 64) is None
    assert prune(tmp_path / "elsewhere") == []


def test_builders_of_the_same_wait_for_each_other(kept: Cache) -> None:
    inside: list[int] = []
    most: list[int] = []

    def builder() -> None:
        with kept.building("k" * 64):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=builder) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(most) == 5


@pytest.mark.parametrize("kind", ["link", "fifo", "hard", "deep"])
def test_only_files_and_directories_become_a_layer(tmp_path: Path, kind: str) -> None:
    top = tmp_path / "site"
    top.mkdir()
    if kind == "link":
        (top / "l").symlink_to("/etc/passwd")
    elif kind == "fifo":
        os.mkfifo(top / "f")
    elif kind == "hard":
        (tmp_path / "x").write_text("")
        (top / "x").hardlink_to(tmp_path / "x")
    else:
        top.joinpath(*["d"] * 80).mkdir(parents=True)
    with pytest.raises(PackageError) as caught:
        settle(top)
    assert caught.value.reason == "hostile"


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(bytes(100))
    (tmp_path / "x").chmod(0o6777)
    assert settle(tmp_path) == (1, 100)
    assert (tmp_path / "x").stat().st_mode & 0o7777 == 0o644
    for name in ("MAX_LAYER_BYTES", "MAX_FILES"):
        with monkeypatch.context() as patch, pytest.raises(PackageError, match="more than"):
            patch.setattr(f"omnibase.core.packages.layer.{name}", 0)
            settle(tmp_path)


class TestSources:
    def test_the_pip_of_this_environment(self) -> None:
        pip = sources.find_pip()
        assert os.path.isdir(pip.directory)
        assert pip.default[0].startswith("https://") and pip.default[1]

    def test_the_pip_that_python_brings_along(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources.importlib.util, "find_spec", lambda _name: None)
        pip = sources.find_pip()
        assert pip.inside.endswith(".whl") and pip.default == sources.find_pip().default
        monkeypatch.setattr(sources.Path, "glob", lambda _self, _pattern: [])
        with pytest.raises(ConfigurationError, match="no pip"):
            sources.find_pip()

    def test_settings_are_read_from_where_pip_reads_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in list(os.environ):
            if name.startswith(("PIP_", "SSL_", "XDG_")):
                monkeypatch.delenv(name)
        (tmp_path / "pip").mkdir()
        (tmp_path / "pip" / "pip.conf").write_text("[global]\nindex-url = https://a.test/simple\n")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        pip = sources.find_pip()
        assert "a.test:443" in sources.host_index(pip).endpoints
        named = tmp_path / "named.conf"
        named.write_text("[global]\nindex-url = https://b.test/simple\n")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(named))
        assert "b.test:443" in sources.host_index(pip).endpoints
        monkeypatch.setenv("PIP_INDEX_URL", "https://c.test/simple")
        assert "c.test:443" in sources.host_index(pip).endpoints
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.delenv("PIP_INDEX_URL")
        assert sources.host_index(pip).arguments[1] == pip.default[0]

    def test_private_addresses(self) -> None:
        wanted = ["127.0.0.1:80", "[::1]:81", "0.0.0.0:1", "169.254.1.1:80", "no.such.name.test:1"]
        assert sources.private_addresses(wanted) == ["127.0.0.1:80", "[::1]:81"]

    def test_the_platform_is_named(self) -> None:
        assert sources.platform_name().startswith("cpython-3")


class TestInputs:
    def test_requirements(self, tmp_path: Path) -> None:
        (tmp_path / "r.txt").write_text("a>1\n")
        assert wanted_of(tmp_path / "r.txt") == wanted_of(["a>1"])
        (tmp_path / "bytes").write_bytes(b"\xff\xfe\0")
        for given in (tmp_path, tmp_path / "none", tmp_path / "bytes", "a\0b", [], ["# no"], [3]):
            with pytest.raises(ConfigurationError) as caught:
                wanted_of(given)  # type: ignore[arg-type]
            assert caught.value.hint

    def test_no_environment(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="it has no"):
            find_site(tmp_path)
        with pytest.raises(ConfigurationError, match="wildcard"):
            find_site(tmp_path / "a*b")
        (tmp_path / "pyvenv.cfg").write_text("")
        with pytest.raises(ConfigurationError, match="of Python unknown"):
            find_site(tmp_path)
