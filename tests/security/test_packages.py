"""Packages: hostile wheels, hostile indexes, and scripts that attack their layer."""

from __future__ import annotations

import asyncio
import functools
import http.server
import os
import stat
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import omnibase
from omnibase import EventBus, ExecutionContext, PackageError
from omnibase.core.events import (
    CollectingSink,
    EgressOpened,
    LayerAttached,
    LayerBuilt,
    PackagesResolved,
    RunRefused,
    SandboxViolation,
)
from omnibase.core.packages.layer import prune
from omnibase.packages import cache
from tests.helpers.wheels import digest, make_index, make_wheel

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-EXEC-22")]


class Watched:
    """A bus, and what was on it."""

    def __init__(self) -> None:
        self.bus, self.sink = EventBus(), CollectingSink()
        self.bus.subscribe(self.sink)

    def of(self, kind: type) -> list:  # type: ignore[type-arg]
        return [event.data for event in self.sink.events if isinstance(event.data, kind)]


def serve(index: Path, *wheels: Path) -> None:
    make_index(index, *wheels)


def test_a_package_and_what_it_needs_can_be_imported(index: Path) -> None:
    serve(
        index,
        make_wheel(index / "files", "alpha", requires=("beta>=2",)),
        make_wheel(index / "files", "beta", "1.5"),
        make_wheel(index / "files", "beta", "2.1"),
    )
    watched = Watched()
    script = (
        "import alpha, beta, importlib.metadata as m, site, sys\n"
        "print(alpha.V, beta.V, m.version('beta'), sys.path[0], sys.path[-1])\n"
        "print(alpha.__cached__.endswith('.pyc'), site.getsitepackages())"
    )
    result = omnibase.run(script, packages=["alpha"], bus=watched.bus)
    site = "/opt/omnibase/lib/python3."
    first, second = result.stdout.decode().splitlines()
    assert first.startswith(f"1.0 2.1 2.1 /run/script {site}")
    assert second.startswith(f"True ['{site}")
    assert result.ok and result.layer is not None
    assert [each.packages for each in watched.of(PackagesResolved)] == [
        tuple(p for p in watched.of(LayerAttached)[0].packages)
    ]
    assert watched.of(LayerBuilt)[0].lock_digest == result.layer
    assert watched.of(SandboxViolation) == []
    # It is there now: nothing is fetched again, even if the index is gone.
    (index / "simple" / "alpha" / "index.html").unlink()
    again = Watched()
    assert omnibase.run(script, packages=["alpha"], bus=again.bus).layer == result.layer
    assert again.of(PackagesResolved) == []


def test_a_script_cannot_change_its_layer(index: Path) -> None:
    serve(index, make_wheel(index / "files", "alpha"))
    layer = omnibase.install_packages(["alpha"])
    before = {p.name: p.read_bytes() for p in Path(layer.path).glob("*.py")}
    watched = Watched()
    script = (
        "import os, alpha\n"
        "where = alpha.__file__\n"
        "for act in (lambda: open(where, 'w'), lambda: open(where[:-8] + 'new.py', 'w'),\n"
        "            lambda: os.unlink(where), lambda: os.chmod(where, 0o777),\n"
        "            lambda: os.rename(where, where + 'x'), lambda: os.utime(where),\n"
        "            lambda: os.symlink('/etc', os.path.dirname(where) + '/link')):\n"
        "    try:\n        act()\n        print('did')\n"
        "    except OSError as error:\n        print(error.errno)\n"
    )
    context = ExecutionContext(on_violation="record")
    result = omnibase.run(script, packages=layer, context=context, bus=watched.bus)
    assert b"did" not in result.stdout and result.stdout.count(b"\n") == 7
    assert any(v.capability == f"FILE_WRITE:{'/'.join(v.resource.split('/'))}"
               and v.resource.endswith("alpha.py") for v in result.violations)  # fmt: skip
    assert watched.of(SandboxViolation)
    assert {p.name: p.read_bytes() for p in Path(layer.path).glob("*.py")} == before
    assert omnibase.run("import alpha", packages=layer).ok


def test_start_up_files_of_packages_do_not_run(index: Path) -> None:
    loud = b"import sys; sys.stdout.write('RAN')\n"
    content = {"alpha.py": b"V = 1\n", "evil.pth": loud, "sitecustomize.py": loud,
               "usercustomize.py": loud, "encodings.py": loud, "os.py": loud}  # fmt: skip
    serve(index, make_wheel(index / "files", "alpha", files=content))
    watched = Watched()
    result = omnibase.run("import alpha, os; print(alpha.V)", packages=["alpha"], bus=watched.bus)
    assert result.stdout == b"1\n" and result.ok
    # Neither did anything of it run while it was unpacked.
    assert watched.of(SandboxViolation) == []


def link(name: str, target: bytes) -> tuple[zipfile.ZipInfo, bytes]:
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return member, target


HOSTILE = {
    "climbs": (("../../../../etc/cron.d/omnibase-test", b"x"),),
    "link": (link("passwd", b"/etc/passwd"), ("passwd/x", b"x")),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_wheel_makes_no_layer(index: Path, kind: str) -> None:
    serve(index, make_wheel(index / "files", "evil", members=HOSTILE[kind]))
    watched = Watched()
    with pytest.raises(PackageError) as caught:
        omnibase.run("print(1)", packages=["evil"], bus=watched.bus)
    assert caught.value.reason == "hostile" and caught.value.hint
    assert "\x1b" not in caught.value.message
    assert [each.code for each in watched.of(RunRefused)] == ["package_error"]
    assert cache().layers() == []
    assert not Path("/etc/cron.d/omnibase-test").exists()


def test_a_bomb_is_bounded(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnibase.phase_one.MAX_LAYER_BYTES", 8 << 20)
    serve(
        index,
        make_wheel(index / "files", "big", files={"big.py": bytes(32 << 20)}),
        make_wheel(index / "files", "fine"),
    )
    with pytest.raises(PackageError, match="too large") as caught:
        omnibase.install_packages(["big"])
    assert caught.value.reason == "hostile"
    assert omnibase.install_packages(["fine"]).files > 0


def test_set_id_and_executable_bits_are_gone(index: Path) -> None:
    member = zipfile.ZipInfo("alpha/tool")
    member.create_system, member.external_attr = 3, (stat.S_IFREG | 0o6777) << 16
    serve(index, make_wheel(index / "files", "alpha", members=((member, b"#!/bin/sh\n"),)))
    layer = omnibase.install_packages(["alpha"])
    status = os.stat(os.path.join(layer.path, "alpha/tool"))
    assert stat.S_IMODE(status.st_mode) == 0o644 and status.st_uid == os.geteuid()


def test_one_sandbox_runs_many_scripts_with_its_packages(index: Path) -> None:
    serve(index, make_wheel(index / "files", "alpha"))

    async def twice() -> list[bytes]:
        async with omnibase.Sandbox(packages=iter(["alpha"])) as sandbox:
            both = [await sandbox.run("import alpha; print(alpha.V)") for _ in range(2)]
            return [result.stdout for result in both]

    assert asyncio.run(twice()) == [b"1.0\n", b"1.0\n"]
    plan = omnibase.plan("import alpha", packages=["alpha"])
    assert plan.request.spec.layer is not None
    assert [each.writable for each in plan.request.spec.attached] == [False]


def test_a_cancelled_installation_leaves_nothing(index: Path, state_dir: Path) -> None:
    serve(index, make_wheel(index / "files", "alpha"))

    async def cancelled() -> None:
        task = asyncio.ensure_future(omnibase.arun("import alpha", packages=["alpha"]))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert cache().layers() == []
    assert [p for p in (state_dir / "packages" / "builds").iterdir() if p.is_dir()] == []
    assert omnibase.run("import alpha", packages=["alpha"]).ok


def test_hashes_are_held_to(index: Path) -> None:
    wheel = make_wheel(index / "files", "alpha")
    serve(index, wheel)
    right, wrong = digest(wheel), "0" * 64
    with pytest.raises(PackageError) as caught:
        omnibase.run("1", packages=[f"alpha==1.0 --hash=sha256:{wrong}"])
    assert caught.value.reason == "hash"
    layer = omnibase.install_packages([f"alpha==1.0 --hash=sha256:{right}"])
    # The lock itself is a requirements file that needs no index any more.
    (index / "simple" / "alpha" / "index.html").unlink()
    assert omnibase.install_packages(layer.lock.to_text().splitlines()).digest == layer.digest
    with pytest.raises(omnibase.ConfigurationError, match="has no hash"):
        omnibase.install_packages(["alpha"], require_hashes=True)


def test_a_changed_layer_is_not_used(index: Path) -> None:
    serve(index, make_wheel(index / "files", "alpha"))
    layer = omnibase.install_packages(["alpha"])
    (Path(layer.path) / "alpha.py").write_text("V = 'changed'\n")
    with pytest.raises(PackageError) as caught:
        omnibase.run("import alpha", packages=["alpha"])
    assert caught.value.reason == "tampered" and "doctor --clean" in str(caught.value.hint)
    prune(Path(os.environ["OMNIBASE_STATE_DIR"]))
    assert omnibase.run("import alpha", packages=["alpha"]).ok


@pytest.fixture
def web(index: Path, host_address: str) -> Iterator[tuple[str, str]]:
    """The index, served on the host's loopback, and its files, by another address of it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(index))
    servers = [
        http.server.ThreadingHTTPServer((address, 0), handler)
        for address in ("127.0.0.1", host_address)
    ]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{servers[0].server_port}", f"{host_address}:{servers[1].server_port}"
    for server in servers:
        server.shutdown()
        server.server_close()


def test_phase_one_reaches_the_index_and_no_other_host(
    index: Path, web: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages, other = web
    wheel = make_wheel(index / "files", "alpha")
    (index / "simple" / "alpha").mkdir()
    (index / "simple" / "alpha" / "index.html").write_text(
        f'<a href="http://{other}/files/{wheel.name}#sha256={digest(wheel)}">{wheel.name}</a>'
    )
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{pages}/simple")
    monkeypatch.setenv("PIP_TRUSTED_HOST", f"{pages} {other}")
    watched = Watched()
    with pytest.raises(PackageError) as caught:
        omnibase.run("import alpha", packages=["alpha"], bus=watched.bus)
    assert caught.value.reason == "source", caught.value.message
    assert caught.value.details["source"] == other
    hint = f"OMNIBASE_PACKAGE_SOURCES={other}"
    assert hint in str(caught.value.hint)
    denied = [each.capability for each in watched.of(SandboxViolation)]
    assert f"NETWORK_CONNECT:{other}" in denied
    assert {each.target for each in watched.of(EgressOpened)} == {pages}
    # The twin, as the hint says: the run itself still reaches nothing.
    monkeypatch.setenv(*hint.split("="))
    granted = Watched()
    script = (
        "import alpha, socket\n"
        f"for place in ({other!r}, {pages!r}):\n"
        "    host, port = place.split(':')\n"
        "    try:\n        socket.create_connection((host, int(port)), 5)\n"
        "    except OSError as error:\n        print(alpha.V, error.errno)\n"
    )
    context = ExecutionContext(on_violation="record")
    result = omnibase.run(script, packages=["alpha"], bus=granted.bus, context=context)
    assert result.stdout == b"1.0 113\n1.0 111\n"
    assert {v.capability for v in result.violations} == {
        f"NETWORK_CONNECT:{other}", f"NETWORK_CONNECT:{pages}"
    }  # fmt: skip


def test_phase_one_has_nothing_of_the_host(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:hunter2@index.test/simple")
    with pytest.raises(omnibase.ConfigurationError, match="needs a password") as caught:
        omnibase.run("1", packages=["alpha"])
    assert "hunter2" not in caught.value.message + str(caught.value.hint)


def test_nothing_is_built_from_source(index: Path) -> None:
    (index / "files").mkdir()
    (index / "files" / "alpha-1.0.tar.gz").write_bytes(b"not even an archive")
    (index / "simple" / "alpha").mkdir()
    (index / "simple" / "alpha" / "index.html").write_text(
        '<a href="../../files/alpha-1.0.tar.gz">alpha-1.0.tar.gz</a>'
    )
    with pytest.raises(PackageError) as caught:
        omnibase.run("1", packages=["alpha"])
    assert caught.value.reason == "no_wheel"


def test_what_pip_cannot_find_is_told(index: Path) -> None:
    serve(
        index,
        make_wheel(index / "files", "alpha", requires=("beta<2",)),
        make_wheel(index / "files", "beta", "1.5"),
        make_wheel(index / "files", "beta", "2.1"),
    )
    for wanted, reason in (
        (["nosuchthing"], "not_found"), (["beta>=9"], "not_found"), (["alpha", "beta>=2"],
        "conflict"),
    ):  # fmt: skip
        with pytest.raises(PackageError) as caught:
            omnibase.install_packages(wanted)
        assert caught.value.reason == reason and caught.value.hint, caught.value.message


def test_a_virtual_environment_is_granted_read_only(area: Path) -> None:
    import sys

    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    site = area / "venv" / "lib" / f"python{ours}" / "site-packages"
    site.mkdir(parents=True)
    (area / "venv" / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {ours}.7\n")
    (site / "alpha.py").write_text("V = 3\n")
    (site / "far.pth").write_text(f"{area}/elsewhere\nimport sys; sys.stdout.write('RAN')\n")
    (area / "elsewhere").mkdir()
    (area / "elsewhere" / "hidden.py").write_text("")
    script = (
        "import alpha; print(alpha.V)\n"
        "try:\n    import hidden\nexcept ImportError:\n    print('absent')\n"
        "try:\n    open(alpha.__file__, 'a')\nexcept OSError as error:\n    print(error.errno)\n"
    )
    context = ExecutionContext(on_violation="record")
    result = omnibase.run(script, venv=area / "venv", context=context)
    assert result.stdout == b"3\nabsent\n30\n"
    assert [v.capability for v in result.violations] == [f"FILE_WRITE:{site}/alpha.py"]
    with pytest.raises(omnibase.ConfigurationError, match="not a virtual environment"):
        omnibase.run(script, venv=area)
    (area / "venv" / "pyvenv.cfg").write_text("version = 2.7.18\n")
    with pytest.raises(omnibase.ConfigurationError, match="of Python 2"):
        omnibase.run(script, venv=area / "venv")
