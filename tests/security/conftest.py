"""Hostile scripts on a real sandbox: how they are run, and what a run may not leave behind."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from omnibase import call
from omnibase.backend import Backend
from omnibase.core.packages.layer import prune
from omnibase.core.sandbox.egress import resolver
from tests.helpers.egress import Names
from tests.helpers.processes import Brood
from tests.helpers.warm import AlwaysWarm, always_warm
from tests.security import leaks
from tests.security.harness import SandboxFixture


@pytest.fixture(scope="session", autouse=True)
def state_dir(state_directory: Path) -> Iterator[Path]:
    """The session's state directory; the runs made in it are noted."""
    with leaks.recorded_runs():
        yield state_directory


@pytest.fixture(scope="module", autouse=True)
def nothing_left_by_module(state_dir: Path) -> Iterator[None]:
    """No module leaves anything of a run behind."""
    gc.collect()  # what earlier tests dropped is theirs
    before = leaks.Snapshot.take(state_dir)
    yield
    leaks.Snapshot.settle(state_dir, before)


@pytest.fixture(autouse=True)
def nothing_left(state_dir: Path, nothing_left_by_module: None) -> Iterator[None]:
    """No test leaves anything of a run behind."""
    before = leaks.Snapshot.take(state_dir)
    yield
    leaks.Snapshot.settle(state_dir, before)


@pytest.fixture(autouse=True)
def warm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``OMNIBASE_TEST_POOL=1``, each run of this process is in a warm sandbox.

    Not that of a test marked ``cold``, which is about how a sandbox starts.
    """
    if always_warm() and request.node.get_closest_marker("cold") is None:
        found = call.backend

        def warm_backend() -> Backend:
            cold = found()
            return cold._replace(runner=AlwaysWarm(cold.gvisor))

        monkeypatch.setattr(call, "backend", warm_backend)


@pytest.fixture
def brood() -> Brood:
    """Knows what a test has started: others' servers are children of this process, too.

    To be asked for before what starts anything.
    """
    return Brood()


@pytest.fixture
def sandbox() -> SandboxFixture:
    """Runs a script of `scripts/` by name, with a bus of its own."""
    return SandboxFixture()


@pytest.fixture
def area() -> Iterator[Path]:
    """A host directory outside the guest's own world, for files to grant or to guard."""
    path = Path(tempfile.mkdtemp(prefix="omnibase-test-", dir="/var/lib"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """`/data` with `allowed.txt` and `other.txt`; elsewhere if this host has a `/data`."""
    path = Path("/data")
    try:
        path.mkdir(mode=0o755)
    except FileExistsError:
        path = Path(tempfile.mkdtemp(prefix="omnibase-data-", dir="/srv"))
        path.chmod(0o755)
    try:
        (path / "allowed.txt").write_text("allowed bytes")
        (path / "other.txt").write_text("other bytes")
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def host_address() -> str:
    """An IPv4 address of this host that is not the loopback's."""
    import fcntl
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = name.encode().ljust(40, b"\0")
            try:
                answer = fcntl.ioctl(probe, 0x8915, request)  # SIOCGIFADDR, netdevice(7)
            except OSError:
                continue
            address = socket.inet_ntoa(answer[20:24])
            if not address.startswith("127."):
                return address
    pytest.fail("this host has no address but the loopback's")


@pytest.fixture(scope="session", autouse=True)
def canary() -> Iterator[str]:
    """A variable of the host's environment that no guest may see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMNIBASE_TEST_CANARY", "host-secret-7f3a")
        yield os.environ["OMNIBASE_TEST_CANARY"]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Sets what the host's resolver answers."""
    table: dict[str, Sequence[str]] = {}

    def look_up(name: str) -> Sequence[str]:
        try:
            return table[name]
        except KeyError:
            raise socket.gaierror("no such name") from None

    monkeypatch.setattr(resolver, "look_up", look_up)
    return table.update


@pytest.fixture
def index(area: Path, monkeypatch: pytest.MonkeyPatch, state_dir: Path) -> Iterator[Path]:
    """Pip is configured to use an index on the disk, and nothing else."""
    for name in os.environ:
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"file://{area}/simple")
    (area / "simple").mkdir()
    yield area
    prune(state_dir)
