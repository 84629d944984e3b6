"""Spools and outboxes: what is kept, who has it, and what a crash or a stranger left there."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omnibase.core.audit import reserved
from omnibase.core.events import Event, MonitorGap
from omnibase.core.events.outbox import Loss, Outbox
from omnibase.core.events.spool import HEAD_BYTES, Spool, State, parse

ROOM = 1 << 20


def line(number: int = 1, run: str = "r1", size: int = 10) -> bytes:
    data = MonitorGap(dropped=number, reason="x" * size)
    event = Event(data=data, source="urn:test", runid=run, sequence=number)
    return event.to_json().encode() + b"\n"


def numbers(spool: Spool | None, most: int = 64) -> list[int]:
    assert spool is not None
    return [int(json.loads(record.data)["sequence"]) for record in spool.read(most)]


def drain(outbox: Outbox) -> list[int]:
    """Delivers everything, and says what it was."""
    found: list[int] = []
    while (spool := outbox.next()) is not None:
        records = spool.read(64)
        found += [int(json.loads(record.data)["sequence"]) if record.id else 0
                  for record in records]  # fmt: skip
        spool.advance(records[-1].end, len(records), doubt=False)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "a" / "outbox"


def opened(place: Path, **options: Any) -> Outbox:
    return Outbox(place, **{"max_bytes": ROOM, "fsync": "never", **options})


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def spools(place: Path) -> list[Path]:
    return sorted(place.glob("*.spool"))


class TestSpool:
    def test_gives_one_event_of_each_run_at_a_time(self, directory: int) -> None:
        spool = Spool.create(directory)
        for number, run in enumerate(("a", "b", "c", "a", "d"), 1):
            spool.append(line(number, run))
        assert numbers(spool) == [1, 2, 3]
        assert numbers(spool, 2) == [1, 2]
        spool.advance(spool.read(1)[0].end, 1, doubt=False)
        assert numbers(spool) == [2, 3, 4, 5]
        assert spool.pending == 4
        spool.close()

    def test_of_any_length(self, directory: int) -> None:
        spool = Spool.create(directory)
        for number in range(1, 40):
            spool.append(line(number, f"r{number}", size=4096))
        assert numbers(spool)[:3] == [1, 2, 3]
        found = []
        while spool.pending:
            records = spool.read(64)
            found += [int(json.loads(record.data)["sequence"]) for record in records]
            spool.advance(records[-1].end, len(records), doubt=False)
        assert found == list(range(1, 40))
        spool.close()

    def test_remembers_how_far_it_is_and_what_is_in_doubt(
        self, directory: int, tmp_path: Path
    ) -> None:
        spool = Spool.create(directory)
        for number in (1, 2, 3):
            spool.append(line(number))
        spool.mark(123.5, 77)
        end = spool.read(1)[0].end
        spool.advance(end, 1, doubt=True)
        spool.close()
        again = Spool.take(directory, spool.name)
        assert again is not None
        assert again.state == State(end, 123.5, 77)
        assert (again.pending, numbers(again)) == (2, [2])
        again.advance(again.read(1)[0].end, 1, doubt=False)
        assert again.state.sent == 0
        again.close()

    def test_is_had_by_one(self, directory: int) -> None:
        spool = Spool.create(directory)
        spool.append(line())
        assert Spool.take(directory, spool.name) is None
        assert Spool.take(directory, "0" * 20 + "-" + "0" * 32 + ".spool") is None
        spool.close()
        again = Spool.take(directory, spool.name)
        assert again is not None
        again.close()

    def test_gives_back_what_is_delivered(self, directory: int, tmp_path: Path) -> None:
        spool = Spool.create(directory)
        for number in range(1, 1001):
            spool.append(line(number, size=4000))
        for _ in range(800):
            spool.advance(spool.read(1)[0].end, 1, doubt=False)
        status = (tmp_path / spool.name).stat()
        assert status.st_blocks * 512 < status.st_size / 2
        assert numbers(spool) == [801]
        for _ in range(200):
            spool.advance(spool.read(1)[0].end, 1, doubt=False)
        assert (tmp_path / spool.name).stat().st_size == HEAD_BYTES
        spool.close()
        assert not (tmp_path / spool.name).exists()

    def test_a_torn_line_is_passed_over_and_the_next_is_whole(
        self, directory: int, tmp_path: Path
    ) -> None:
        spool = Spool.create(directory)
        spool.append(line(1))
        spool.close()
        with (tmp_path / spool.name).open("ab") as file:
            file.write(line(2)[:50])
        again = Spool.take(directory, spool.name)
        assert again is not None
        assert again.pending == 2
        again.append(line(3))
        found = []
        while again.pending:
            records = again.read(64)
            found += [record.id != "" for record in records]
            again.advance(records[-1].end, len(records), doubt=False)
        assert found == [True, False, True]
        again.close()

    def test_a_line_that_lacks_its_end_alone_is_whole(self, directory: int, tmp_path: Path) -> None:
        spool = Spool.create(directory)
        spool.append(line(1))
        spool.close()
        path = tmp_path / spool.name
        os.truncate(path, path.stat().st_size - 1)
        again = Spool.take(directory, spool.name)
        assert again is not None
        records = again.read(64)
        assert [record.id != "" for record in records] == [True]
        again.append(line(2))
        again.advance(records[-1].end, 1, doubt=False)
        assert (numbers(again), again.pending) == ([2], 1)
        again.close()

    def test_nothing_but_empty_lines_is_nothing(self, directory: int, tmp_path: Path) -> None:
        spool = Spool.create(directory)
        spool.append(line(1))
        spool.close()
        with (tmp_path / spool.name).open("ab") as file:
            file.write(b"\n\n")
        again = Spool.take(directory, spool.name)
        assert again is not None
        again.advance(again.read(64)[0].end, 1, doubt=False)
        (rest,) = again.read(64)
        assert (rest.data, rest.id, again.pending) == (b"", "", 0)
        again.advance(rest.end, 0, doubt=False)
        assert (again.read(64), again.waiting) == ([], 0)
        again.close()

    @pytest.mark.parametrize(
        "head",
        [b"\0" * HEAD_BYTES, b"{}", b'{"offset":1e9,"sent":0,"sequence":0}',
         b'{"offset":-5,"sent":0,"sequence":0}', b'{"offset":"x","sent":0,"sequence":0}', b"[1]"],
    )  # fmt: skip
    def test_a_damaged_head_means_that_everything_is_in_doubt(
        self, directory: int, tmp_path: Path, head: bytes
    ) -> None:
        spool = Spool.create(directory)
        spool.append(line(1))
        spool.close()
        with (tmp_path / spool.name).open("r+b") as file:
            file.write(head.ljust(HEAD_BYTES))
        again = Spool.take(directory, spool.name)
        assert again is not None
        assert again.state == State(sent=1.0)
        assert numbers(again) == [1]
        again.close()

    def test_one_that_was_just_being_made_is_empty(self, directory: int, tmp_path: Path) -> None:
        name = "0" * 20 + "-" + "0" * 32 + ".spool"
        (tmp_path / name).touch()
        spool = Spool.take(directory, name)
        assert spool is not None
        assert (spool.pending, spool.read(64), spool.state) == (0, [], State())
        spool.close()
        assert not (tmp_path / name).exists()

    @pytest.mark.parametrize(
        "text",
        [b"", b"{", b"[]", b"1", b"{}", b"\xff", b"[" * 100_000,
         b'{"id":1,"runid":"r","eventname":"E","time":""}',
         b'{"id":"i","runid":"r r","eventname":"E","time":""}',
         b'{"id":"i","runid":"r","eventname":"E.>","time":""}',
         b'{"id":"i\\n","runid":"r","eventname":"E","time":""}'],
    )  # fmt: skip
    def test_what_is_no_event_is_known_for_it(self, text: bytes) -> None:
        assert parse(text, 7) == (7, text, "", "", "", "")

    def test_an_event_of_a_version_to_come_is_one(self) -> None:
        text = b'{"id":"i","runid":"r","eventname":"New","time":7,"more":[1]}'
        assert parse(text, 7) == (7, text, "i", "r", "New", "")


class TestOutbox:
    def test_is_private(self, place: Path) -> None:
        outbox = opened(place)
        outbox.append(line())
        for directory in (place, place.parent):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o600}
        outbox.close()

    def test_is_out_of_reach_of_grants(self, place: Path) -> None:
        opened(place).close()
        assert os.path.realpath(place) in reserved()

    def test_is_out_of_reach_as_soon_as_it_is_named(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OMNIBASE_NATS_OUTBOX", str(place))
        assert os.path.realpath(place) in reserved()

    def test_delivers_in_order_and_leaves_nothing(self, place: Path) -> None:
        outbox = opened(place)
        for number in range(1, 101):
            outbox.append(line(number))
        assert outbox.pending == 100
        goal = outbox.goal()
        assert not Outbox.reached(goal)
        outbox.append(line(101))
        assert drain(outbox) == list(range(1, 102))
        assert Outbox.reached(goal)
        outbox.close()
        outbox.close()
        assert spools(place) == []

    def test_refuses_events_once_closed(self, place: Path) -> None:
        outbox = opened(place)
        outbox.close()
        assert outbox.closed
        with pytest.raises(RuntimeError, match="closed"):
            outbox.append(line())
        outbox.take_over()
        assert (outbox.pending, outbox.next(), outbox.peek()) == (0, None, None)

    def test_goes_on_with_the_file_that_another_left(self, place: Path) -> None:
        for number in range(1, 6):
            outbox = opened(place)
            outbox.append(line(number))
            assert outbox.inherited == number - 1
            outbox.close()
        (path,) = spools(place)
        assert path.stat().st_size < HEAD_BYTES + 6 * len(line())
        outbox = opened(place)
        outbox.take_over()
        assert outbox.inherited == 5
        assert drain(outbox) == [1, 2, 3, 4, 5]
        outbox.close()

    def test_leaves_to_another_what_that_has(self, place: Path) -> None:
        one, other = opened(place), opened(place)
        one.append(line(1))
        other.take_over()
        other.append(line(2))
        assert (one.pending, other.pending, len(spools(place))) == (1, 1, 2)
        one.close()
        other.take_over()
        assert sorted(drain(other)) == [1, 2]
        other.close()
        assert spools(place) == []

    def test_serves_what_it_took_over_in_turn(self, place: Path) -> None:
        one, other = opened(place), opened(place)
        for number in (1, 2, 3):
            one.append(line(number, "a"))
            other.append(line(10 * number, "b"))
        one.close()
        other.take_over()
        found = []
        while (spool := other.next()) is not None:
            (record,) = spool.read(1)
            found.append(record.run)
            spool.advance(record.end, 1, doubt=False)
        assert sorted(found[:2]) == sorted(found[2:4]) == ["a", "b"]
        other.close()

    def test_is_bounded_with_all_processes_together(self, place: Path) -> None:
        size = len(line())
        one = opened(place, max_bytes=4 * size)
        other = opened(place, max_bytes=4 * size)
        for number in (1, 2, 3):
            one.append(line(number))
        other.append(line(4))
        with pytest.raises(OSError, match="the outbox has its") as raised:
            other.append(line(5))
        assert raised.value.errno == 28
        assert drain(other) == [4]
        other.append(line(6))
        for outbox in (one, other):
            outbox.close()

    def test_counts_losses_across_processes_until_one_is_told(self, place: Path) -> None:
        for _ in range(3):
            outbox = opened(place)
            outbox.lose(2, "full", "r7")
            outbox.close()
        outbox = opened(place)
        assert outbox.survey().lost == 6
        told: list[Loss] = []

        def line_of(loss: Loss) -> bytes:
            told.append(loss)
            return line(9)

        assert outbox.tell_losses(line_of)
        assert not outbox.tell_losses(line_of)
        assert told == [Loss(6, "full", "r7")]
        assert (outbox.survey().lost, drain(outbox)) == (0, [9])
        outbox.close()

    def test_keeps_the_count_while_it_has_no_room_to_tell(self, place: Path) -> None:
        outbox = opened(place, max_bytes=10)
        outbox.lose(1, "full", "r1")
        assert not outbox.tell_losses(lambda _: line())
        assert outbox.survey().lost == 1
        outbox.close()

    def test_keeps_the_count_in_memory_while_it_cannot_write_it(self, place: Path) -> None:
        outbox = opened(place)
        (place / "lost").unlink()
        (place / "lost").mkdir()
        outbox.lose(3, "full", "r1")
        assert outbox.survey().lost == 3
        (place / "lost").rmdir()
        outbox.close()
        assert json.loads((place / "lost").read_text())["events"] == 3

    @pytest.mark.parametrize("text", ["", "{}", "[]", "\0\0", '{"events":"x"}'])
    def test_a_damaged_count_begins_anew(self, place: Path, text: str) -> None:
        opened(place).close()
        (place / "lost").write_text(text)
        outbox = opened(place)
        outbox.lose(1, "x" * 10_000, "r" * 256)
        assert outbox.survey().lost == 1
        outbox.close()
        assert len((place / "lost").read_bytes()) == 1024

    def test_leaves_alone_what_is_no_spool_of_ours(self, place: Path, tmp_path: Path) -> None:
        opened(place).close()
        secret = tmp_path / "secret"
        content = line(1)
        secret.write_bytes(content)
        names = [f"{number:020d}-{'0' * 32}.spool" for number in range(5)]
        (place / names[0]).symlink_to(secret)
        os.link(secret, place / names[1])
        os.mkfifo(place / names[2])
        (place / names[3]).mkdir()
        (place / names[4]).write_bytes(b"")
        os.chown(place / names[4], 65534, 65534)
        (place / "notes.txt").write_bytes(line(2))
        outbox = opened(place)
        outbox.append(line(3))
        outbox.take_over()
        assert drain(outbox) == [3]
        outbox.close()
        assert secret.read_bytes() == content
        assert sorted(path.name for path in spools(place)) == names

    def test_counts_no_losses_through_a_link(self, place: Path, tmp_path: Path) -> None:
        opened(place).close()
        target = tmp_path / "target"
        target.write_text("mine")
        (place / "lost").unlink()
        (place / "lost").symlink_to(target)
        outbox = opened(place)
        outbox.lose(1, "full", "r1")
        outbox.close()
        (place / "lost").unlink()
        os.link(target, place / "lost")
        outbox = opened(place)
        outbox.lose(1, "full", "r1")
        outbox.close()
        assert target.read_text() == "mine"

    def test_is_looked_at_without_being_taken(self, place: Path) -> None:
        one, other = opened(place), opened(place)
        assert one.survey() == (0, 0, 0, 0, None, 0)
        oldest = line(1)
        one.append(oldest)
        one.append(line(2))
        found = other.survey()
        assert (found.events, found.bytes, found.spools, found.held) == (2, 2 * len(line()), 1, 1)
        assert found.oldest == json.loads(oldest)["time"]
        mine = one.survey()
        assert (mine.events, mine.held) == (2, 0)
        one.close()
        assert other.survey().held == 0
        assert other.survey().events == 2
        assert one.peek() is None
        other.close()

    @pytest.mark.parametrize("policy", ["never", "close", "always"])
    def test_asks_the_disk_as_it_is_told(
        self, policy: str, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []
        monkeypatch.setattr(os, "fdatasync", asked.append)
        outbox = opened(place, fsync=policy)
        outbox.append(line())
        first = len(asked)
        outbox.sync()
        assert (first, len(asked)) == {"never": (0, 0), "close": (0, 1), "always": (1, 1)}[policy]
        outbox.close()
