"""The host's end of the pipe: files with digests, under numbers, and nothing half."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omnibase.core.sandbox.collect import wire
from omnibase.core.sandbox.collect.inputs import staged_artifacts
from omnibase.core.sandbox.collect.receiver import Receiver
from omnibase.core.sandbox.collect.reports import Left, own_files, uncollected
from omnibase.core.sandbox.monitor.attempts import Granted
from omnibase.core.sandbox.spec import Outlet
from omnibase.core.secrets import Scrubber, Secret
from tests.helpers import agent
from tests.helpers.specs import compiled

OUTLET = Outlet(path="/artifacts/out", capability="ARTIFACT_WRITE", max_files=4, max_bytes=1 << 20)
Make = Callable[..., Receiver]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Receiver] = []

    def receiver(*secrets: Secret, covers: Callable[[str, str], bool] | None = None) -> Receiver:
        one = Receiver(
            (OUTLET,), tmp_path / f"to{len(made)}", covers or (lambda kind, name: True),
            Scrubber(secrets),
        )  # fmt: skip
        made.append(one)
        return one

    yield receiver
    for one in made:
        one.close()
        one.close()  # a second time does nothing


def file(name: bytes, data: bytes) -> bytes:
    return wire.HEADER.pack(1, 0, len(name), len(data)) + name + data


def send(receiver: Receiver, data: bytes, step: int = 60_000) -> None:
    """Writes to the guest's end, and lets the receiver take it; then the guest is gone."""
    for start in range(0, len(data), step):
        os.write(receiver.guest_fd, data[start : start + step])
        while receiver.error is None and receiver.on_readable():
            if not os.get_blocking(receiver.fileno()) and not _waiting(receiver):
                break
    receiver.release_guest()
    receiver.drain()


def _waiting(receiver: Receiver) -> bool:
    import select

    return bool(select.select([receiver], [], [], 0)[0])


def test_files_come_with_their_digest(make: Make, tmp_path: Path) -> None:
    receiver = make()
    big = os.urandom(700_000)
    send(receiver, wire.MAGIC + file(b"a/b", big) + file(b"empty", b"") + b"\0")

    assert receiver.error is None
    assert [(c.name, c.size, c.capability) for c in receiver.collected] == [
        ("a/b", len(big), "ARTIFACT_WRITE"), ("empty", 0, "ARTIFACT_WRITE"),
    ]  # fmt: skip
    assert [c.sha256 for c in receiver.collected] == [
        hashlib.sha256(data).hexdigest() for data in (big, b"")
    ]
    assert [c.path.read_bytes() for c in receiver.collected] == [big, b""]
    # The names are the script's, and no file of ours has one of them.
    assert sorted(os.listdir(tmp_path / "to0")) == ["0", "1"]
    assert receiver.left == []


def test_what_no_grant_covers_is_not_kept(make: Make, tmp_path: Path) -> None:
    asked = []

    def covers(kind: str, name: str) -> bool:
        asked.append((kind, name))
        return name == "yes"

    receiver = make(covers=covers)
    send(receiver, wire.MAGIC + file(b"no", b"x") + file(b"yes", b"y") + b"\0")
    assert asked == [("ARTIFACT_WRITE", "no"), ("ARTIFACT_WRITE", "yes")]
    assert [c.name for c in receiver.collected] == ["yes"]
    (left,) = receiver.left
    assert (left.name, left.denied, left.reason) == ("no", True, "is not granted")
    assert os.listdir(tmp_path / "to0") == ["0"]


def test_what_holds_a_secret_is_not_kept(make: Make, tmp_path: Path) -> None:
    receiver = make(Secret(name="T", value=b"s3cret-value"))
    send(
        receiver,
        wire.MAGIC + file(b"a", b"x" * 70_000 + b"s3cret-value" + b"y" * 70_000)
        + file(b"b", b"s3cret-valu") + file(b"c-s3cret-value", b"") + b"\0",
    )  # fmt: skip
    assert [(c.name, c.path.read_bytes()) for c in receiver.collected] == [("b", b"s3cret-valu")]
    assert [(left.name, left.denied) for left in receiver.left] == [
        ("a", False), ("c-***T***", False),
    ]  # fmt: skip
    assert os.listdir(tmp_path / "to0") == ["0"]


def test_what_stays_in_the_guest_is_told(make: Make) -> None:
    receiver = make()
    send(receiver, wire.MAGIC + wire.HEADER.pack(2, 0, 4, 1) + b"link" + b"\0")
    assert receiver.left == [
        Left(capability="ARTIFACT_WRITE", name="link", reason="is not a regular file")
    ]


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"", "it ends before its end"),
        (wire.MAGIC, "it ends before its end"),
        (wire.MAGIC + file(b"a", b"12345")[:-1], "it ends before its end"),
        (wire.MAGIC + file(b"a", b"12345"), "it ends before its end"),
        (b"junk", "it is of another version"),
        (wire.MAGIC + file(b"../a", b""), "a name that no file below an outlet has"),
    ],
)
def test_what_is_no_whole_stream_is_an_error(make: Make, stream: bytes, error: str) -> None:
    receiver = make()
    send(receiver, stream)
    assert receiver.error == error


def test_after_an_error_nothing_more_is_taken(make: Make) -> None:
    receiver = make()
    os.write(receiver.guest_fd, b"junk")
    assert receiver.on_readable()
    os.write(receiver.guest_fd, wire.MAGIC + b"\0")
    assert not receiver.on_readable() or receiver.error is not None
    assert (receiver.error, receiver.collected) == ("it is of another version", [])


def test_nothing_yet_is_no_end(make: Make) -> None:
    assert make().on_readable()


def test_a_writer_that_does_not_go_does_not_hold_it_up(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnibase.core.sandbox.collect.receiver._PATIENCE_SECONDS", 0.01)
    receiver = make()
    receiver.drain()  # the guest's end is still open here
    assert receiver.error == "it ends before its end"


def test_an_unfinished_file_is_closed(make: Make) -> None:
    receiver = make()
    os.write(receiver.guest_fd, wire.MAGIC + file(b"a", b"12345")[:-1])
    receiver.on_readable()
    receiver.close()
    assert receiver.collected == []


def test_a_full_host_disk_is_the_hosts_error(make: Make, tmp_path: Path) -> None:
    receiver = make()
    (tmp_path / "to0").rmdir()
    os.write(receiver.guest_fd, wire.MAGIC + file(b"a", b"x") + b"\0")
    with pytest.raises(FileNotFoundError):
        receiver.on_readable()


def test_an_attempt_names_what_was_missing() -> None:
    left = Left(capability="ARTIFACT_WRITE", name="x/y", reason="is not granted", denied=True)
    attempt = uncollected(left, (OUTLET,))
    assert (attempt.capability, attempt.operation) == ("ARTIFACT_WRITE:x/y", "collect")
    assert attempt.resource == "/artifacts/out/x/y"


def test_the_scripts_own_files_are_no_attempts() -> None:
    spec = compiled("ARTIFACT_READ:a*", "ARTIFACT_WRITE:b")
    assert own_files(spec, ["a1", "a/2"]) == (
        Granted(path="/artifacts/a1", tree=False, writable=False),
        Granted(path="/artifacts/a/2", tree=False, writable=False),
        Granted(path="/artifacts/out", tree=True, writable=True),
    )
    assert own_files(compiled(), []) == ()


def test_the_agents_figures_are_the_hosts() -> None:
    collect = agent.load("collect")
    assert collect._HEADER.format == wire.HEADER.format
    assert collect._MAX_DEPTH == wire.MAX_DEPTH
    assert collect._MAX_NAME == wire.MAX_NAME
    assert collect._MAX_LEFT_OUT == wire.MAX_LEFT_OUT
    reasons = (collect._IRREGULAR, collect._LARGE, collect._MANY, collect._DEEP,
               collect._UNREADABLE, collect._CROWDED)  # fmt: skip
    assert set(reasons) == set(wire.REASONS)


class TestTheAgent:
    """What the agent sends of a directory; as in the guest, but on this host."""

    @pytest.fixture
    def sent(self, make: Make, tmp_path: Path) -> Callable[[], Receiver]:
        collect = agent.load("collect")
        (tmp_path / "out").mkdir()

        def send_it() -> Receiver:
            receiver = make()
            sender = collect._Sender(receiver.guest_fd)
            sender.write(b"OBC1")
            fd = os.open(tmp_path / "out", os.O_RDONLY | os.O_DIRECTORY)
            sender.outlet(0, fd, OUTLET.max_files, OUTLET.max_bytes)
            os.close(fd)
            sender.write(b"\0")
            receiver.release_guest()
            receiver.drain()
            assert receiver.error is None
            return receiver

        return send_it

    def test_it_sends_files_and_tells_of_the_rest(
        self, sent: Callable[[], Receiver], tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        (out / "d" / "e").mkdir(parents=True)
        (out / "d" / "e" / "f").write_bytes(b"deep")
        (out / "a").write_bytes(b"a")
        (out / "link").symlink_to("/etc/passwd")
        os.mkfifo(out / "pipe")
        os.truncate(os.open(out / "sparse", os.O_CREAT | os.O_WRONLY), 1 << 40)
        receiver = sent()
        assert {c.name: c.path.read_bytes() for c in receiver.collected} == {
            "a": b"a", "d/e/f": b"deep",
        }  # fmt: skip
        assert {left.name: left.reason for left in receiver.left} == {
            "link": wire.REASONS[1], "pipe": wire.REASONS[1], "sparse": wire.REASONS[2],
        }  # fmt: skip

    def test_it_tells_of_so_many_and_once_that_there_are_more(
        self, sent: Callable[[], Receiver], tmp_path: Path
    ) -> None:
        for number in range(wire.MAX_LEFT_OUT + 50):
            (tmp_path / "out" / f"{number:04}").symlink_to("x")
        receiver = sent()
        assert len(receiver.left) == wire.MAX_LEFT_OUT + 1
        assert (receiver.left[-1].name, receiver.left[-1].reason) == ("", wire.REASONS[6])

    def test_it_looks_at_so_many_entries(
        self, sent: Callable[[], Receiver], tmp_path: Path
    ) -> None:
        (tmp_path / "out" / "d").mkdir()
        for number in range(4200):
            (tmp_path / "out" / "d" / f"{number:04}").touch()
        receiver = sent()
        assert ("d/", wire.REASONS[6]) in {(left.name, left.reason) for left in receiver.left}
        assert len(receiver.collected) == OUTLET.max_files


class TestInputs:
    def test_without_a_grant_nothing_is_made(self, tmp_path: Path) -> None:
        with staged_artifacts(compiled(), tmp_path / "in", lambda path: None) as mounts:
            assert mounts == ()
        assert not (tmp_path / "in").exists()

    @pytest.mark.parametrize(
        "caps", [("ARTIFACT_READ:a",), ("ARTIFACT_READ:a", "ARTIFACT_WRITE:b")]
    )
    def test_a_tree_is_mounted_with_room_for_the_outlet(
        self, tmp_path: Path, caps: tuple[str, ...]
    ) -> None:
        def fill(directory: Path) -> None:
            (directory / "deep").mkdir(mode=0o700)
            (directory / "deep" / "a").write_text("x")

        with staged_artifacts(compiled(*caps), tmp_path / "in", fill) as (mount,):
            assert (mount.path, mount.is_directory, mount.writable) == ("/artifacts", True, False)
            shown = sorted(os.listdir(tmp_path / "in"))
            assert shown == (["deep", "out"] if len(caps) == 2 else ["deep"])
            assert (tmp_path / "in" / "deep").stat().st_mode & 0o777 == 0o755
            os.fstat(mount.fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(mount.fd)
