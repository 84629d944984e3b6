"""A writer that dies before any one of its system calls leaves a whole registry."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from omnibase.core.registry import Component, FileStore
from omnibase.core.registry.chain import LINE_BYTES
from omnibase.core.registry.store import FindingCode
from omnibase.core.registry.view import component_file
from omnibase.errors import RegistryError

CALLS = ("open", "mkdir", "write", "rename", "unlink", "ftruncate", "fsync", "makedirs")


class Died(BaseException):
    """The process is no more: nothing that it would do afterwards is done."""


@contextmanager
def dying_at(call: int, halves: bool = False) -> Iterator[list[int]]:
    """Ends the writer before its given call, or in the middle of it if it is a write."""
    made = [0]

    def counted(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def replacement(*args: object, **kwargs: object) -> object:
            made[0] += 1
            if made[0] == call:
                if halves and name == "write":
                    descriptor, data = args
                    real(descriptor, bytes(data)[: len(bytes(data)) // 2])  # type: ignore[call-overload]
                raise Died
            return real(*args, **kwargs)

        return replacement

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, counted(name))
        yield made


def prepared(root: Path, seed: int) -> tuple[FileStore, Component]:
    store = FileStore(root / str(seed) / "registry", durable=False)
    added = store.add(Component.new(name="report", version="1.0.0", owner="ann"))
    store.put_policy(added.uuid, b'{"old": 1}', expected_version=0)
    return store, store.add_script(added.uuid, "old.py", b"print('old')\n")


def add(store: FileStore, _: Component) -> Component:
    return store.add(Component.new(name="other", version="1.0.0", owner="ann"))


def update(store: FileStore, current: Component) -> Component:
    version = replace(current.version, minor=1)
    return store.update(replace(current, description="new", version=version))


def put_policy(store: FileStore, current: Component) -> Component:
    return store.put_policy(current.uuid, b'{"new": 1}', expected_version=1)


def add_script(store: FileStore, current: Component) -> Component:
    return store.add_script(current.uuid, "new.py", b"print('new')\n")


@pytest.mark.parametrize("action", [add, update, put_policy, add_script])
@pytest.mark.parametrize("halves", [False, True])
def test_dying_anywhere_leaves_the_old_or_the_new(
    action: Callable[[FileStore, Component], Component], halves: bool, tmp_path: Path
) -> None:
    outcomes = []
    for call in range(1, 500):
        store, current = prepared(tmp_path, call)
        with dying_at(call, halves) as made, suppress(Died):
            action(store, current)
        if made[0] < call:
            break
        other = FileStore(store.root, durable=False)
        # The first reader may come before anything has been mended.
        seen = other.get(current.uuid)
        assert other.load_entrypoint(seen) in (b"print('old')\n", b"print('new')\n")
        assert other.get_policy(current.uuid).version >= seen.policy_version
        assert other.verify() == [], call
        assert other.head().entries in (3, 4)
        outcomes.append(other.head().entries == 4)
        found = other.get(current.uuid)
        assert other.update(replace(found, description="after")).description == "after"
        assert other.verify() == [], call
    else:
        pytest.fail("the writer never ends")
    # Some calls come before the change is decided and some after, in that order.
    assert outcomes == sorted(outcomes)
    assert {False, True} == set(outcomes)
    assert len(outcomes) > 20


def interrupted(root: Path) -> tuple[FileStore, Component]:
    """Returns a registry with a journal that has just been written."""
    store, current = prepared(root, 0)
    for call in range(1, 200):
        with suppress(Died), dying_at(call):
            put_policy(store, current)
        if (Path(store.root) / ".journal").exists():
            return store, current
    pytest.fail("there never was a journal")


def test_a_reader_that_may_not_write_does_not_believe_half_a_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, current = interrupted(tmp_path)
    real = os.open

    def read_only(path: str, flags: int, *args: int, **kwargs: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *args, **kwargs)

    # The log has gone on, the policy has not: what a reader sees is still the old.
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        assert store.get(current.uuid) == current
        assert [finding.code for finding in store.verify()] == [FindingCode.INTERRUPTED]
        with pytest.raises(RegistryError):
            store.put_policy(current.uuid, b"{}", expected_version=1)
    assert store.verify() == []
    assert store.get_policy(current.uuid).document == b'{"new": 1}'


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"{}",
        lambda data: data[:-20],
        lambda data: data.replace(b'"replaced": null', b'"replaced": "scripts/../log"'),
        lambda data: data.replace(b'"replaced": null', b'"replaced": 7'),
        lambda data: data.replace(b'"policy": "e', b'"policy": "f'),
        lambda data: data.replace(b'"policy": "e', b'"policy": "!'),
        lambda data: data.replace(b'"script": null', b'"script": "aaaa"'),
        lambda data: data.replace(b'"line": "0000000004', b'"line": "0000000009'),
        lambda data: data.replace(b'"line": "', b'"line": "x'),
        lambda data: data.replace(b'"record": "', b'"record": "x'),
    ],
)  # fmt: skip
def test_a_journal_that_the_registry_did_not_write_is_refused(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    store, current = interrupted(tmp_path)
    journal = Path(store.root) / ".journal"
    data = journal.read_bytes()
    assert damage(data) != data
    journal.write_bytes(damage(data))
    before = {path: path.read_bytes() for path in Path(store.root).rglob("*") if path.is_file()}
    with pytest.raises(RegistryError) as caught:
        store.put_policy(current.uuid, b"{}", expected_version=1)
    assert caught.value.details["file"] == ".journal"
    assert [finding.file for finding in store.verify()] == [".journal"]
    after = {path: path.read_bytes() for path in Path(store.root).rglob("*") if path.is_file()}
    assert before == after


def test_an_old_journal_is_not_carried_out_again(tmp_path: Path) -> None:
    store, current = interrupted(tmp_path)
    journal = Path(store.root) / ".journal"
    data = journal.read_bytes()
    assert store.verify() == []
    store.update(replace(store.get(current.uuid), description="later"))
    journal.write_bytes(data)
    assert [finding.code for finding in store.verify()] == [FindingCode.INTERRUPTED]
    assert store.get(current.uuid).description == "later"


def test_a_journal_does_not_replace_a_line_of_the_log(tmp_path: Path) -> None:
    store, current = interrupted(tmp_path)
    journal = Path(store.root) / ".journal"
    data = journal.read_bytes()
    journal.unlink()
    log = Path(store.root) / "log"
    log.write_bytes(log.read_bytes()[: LINE_BYTES * 3])
    other = store.add(Component.new(name="other", version="1.0.0", owner="ann"))
    journal.write_bytes(data)
    assert [finding.code for finding in store.verify()] == [FindingCode.INTERRUPTED]
    with pytest.raises(RegistryError):
        store.update(replace(current, description="new"))
    assert store.get(other.uuid) == other


def test_a_full_disk_is_told_and_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, current = prepared(tmp_path, 0)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(RegistryError, match="no space left") as caught:
            store.put_policy(current.uuid, b"{}", expected_version=1)
    assert caught.value.details["reason"] == "unavailable"
    assert store.verify() == []
    assert store.get(current.uuid) == current


def test_a_writer_does_not_wait_for_ever(tmp_path: Path) -> None:
    store, current = prepared(tmp_path, 0)
    impatient = FileStore(store.root, lock_seconds=0.05)
    with store._writing():
        with pytest.raises(RegistryError) as caught:
            impatient.put_policy(current.uuid, b"{}", expected_version=1)
        assert caught.value.details["reason"] == "busy"
        # Readers wait for nobody.
        assert impatient.get(current.uuid) == current


@pytest.mark.parametrize("tampered", [False, True])
def test_a_reader_who_may_not_lock_finds_what_is_there_and_no_more(tampered: bool) -> None:
    """It cannot keep a writer from writing, so it looks again before it speaks of tampering."""
    root = Path(tempfile.mkdtemp(prefix="ob-readers-", dir="/tmp"))
    root.chmod(0o755)
    try:
        store = FileStore(root / "r", durable=False)
        made = store.add(Component.new(name="one", version="1.0.0", owner="ann"))
        other = store.add(Component.new(name="two", version="1.0.0", owner="ann"))
        assert store.verify() == [] and store.find("one") == made
        assert (root / "r" / ".lock").stat().st_mode & 0o777 == 0o600
        changed = component_file(other.uuid)
        if tampered:
            file = root / "r" / changed
            file.write_bytes(file.read_bytes().replace(b'"ann"', b'"eve"'))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                for _ in range(400):
                    store.find("one")
                found = {finding.file for finding in store.verify()}
                code = 0 if found == ({changed} if tampered else set()) else 2
            finally:
                os._exit(code)
        done = None
        for number in range(100_000):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                done = os.waitstatus_to_exitcode(status)
                break
            made = store.update(replace(made, owner=f"owner {number}"))
        assert done == 0
    finally:
        shutil.rmtree(root)
