"""The audit log: what its records say, what is told of a crash, and who signs."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from omnibase.core.audit import AuditLog, places
from omnibase.core.audit import segments as files
from omnibase.core.audit.chain import GENESIS, Head, looks_whole, parse, seal
from omnibase.core.audit.checker import MAX_FINDINGS, Checker, Keys
from omnibase.core.audit.checkpoints import Checkpoint
from omnibase.core.audit.keys import SigningKey, known_keys, public_pem, read_public
from omnibase.core.audit.segments import find_tail, latest_records
from omnibase.core.audit.verification import segments, verify
from omnibase.core.events import EventBus
from omnibase.errors import ConfigurationError
from tests.helpers.audit import check, event, events, make, said


def last_segment(log: Path) -> Path:
    return segments(log)[-1].path


def emit(log: Path, number: int = 1, **options: object) -> None:
    sink = AuditLog(log, **options)  # type: ignore[arg-type]
    sink.emit(event(number))
    sink.close()


class TestRecord:
    def test_is_read_back_and_continues_only_its_own_chain(self) -> None:
        line, head = seal(GENESIS, "event", "{}")
        record = parse(line.removesuffix(b"\n"))
        assert record is not None
        assert (record.kind, record.body, record.head) == ("event", b"{}", head)
        assert record.continues(GENESIS)
        assert not record.continues(head)
        assert not record.continues(Head(0, "1" * 64))

    @pytest.mark.parametrize(
        "line",
        [b"", b"{}", b'{"other":{},"seq":1,"signed":0,"hash":"' + b"0" * 64 + b'"}',
         b'{"event":{},"seq":01,"signed":0,"hash":"' + b"0" * 64 + b'"}',
         b'{"event":{\n},"seq":1,"signed":0,"hash":"' + b"0" * 64 + b'"}'],
    )  # fmt: skip
    def test_is_nothing_else(self, line: bytes) -> None:
        assert parse(line) is None

    def test_heads_are_values(self) -> None:
        head, same, other = Head(1, "a" * 64, 1), Head(1, "a" * 64, 1), Head(1, "a" * 64)
        assert head == same and hash(head) == hash(same)
        assert head != other and head != (1, "a" * 64, 1)
        assert repr(other) == f"Head('{'a' * 64}', 1, 0)"
        assert Head.parse(str(other)) == other

    def test_a_beginning_is_not_taken_for_a_changed_one(self) -> None:
        line = seal(GENESIS, "event", event().to_json())[0]
        whole = line.removesuffix(b"\n")
        assert looks_whole(whole)
        assert looks_whole(whole[:-1] + b"?")
        assert not any(looks_whole(whole[:end]) for end in range(len(whole) - 4))

    def test_fields_of_what_is_no_object_are_none(self) -> None:
        for body in ("1", "[", "[" * 20_000):
            record = parse(seal(GENESIS, "lost", body)[0].removesuffix(b"\n"))
            assert record is not None
            assert record.fields() == {}

    def test_a_head_is_read_strictly(self) -> None:
        assert str(Head.parse(f"3:{'a' * 64}")) == f"3:{'a' * 64}"
        for text in ("", "3", f"3:{'A' * 64}", f"03:{'a' * 64}"):
            with pytest.raises(ValueError, match="not a head"):
                Head.parse(text)

    def test_a_checkpoint_is_read_only_as_it_is_written(self) -> None:
        for body in ("{}", '{"log":1,"head":2,"time":3,"key":4,"next":5,"signature":6}',
                     '{"log":"a", "head":"0:' + "0" * 64 +
                     '","time":"t","key":"k","next":null,"signature":"s"}'):  # fmt: skip
            record = parse(seal(GENESIS, "checkpoint", body)[0].removesuffix(b"\n"))
            assert record is not None
            assert Checkpoint.of(record) is None


class TestLog:
    def test_is_private_and_reserved(self, tmp_path: Path) -> None:
        log = make(tmp_path / "a" / "log")
        assert stat.S_IMODE(log.stat().st_mode) == 0o700
        for path in (*log.glob("*.jsonl"), log / "lock", log / "keys" / "signing.pem"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert os.path.realpath(log) in places.reserved()

    def test_refuses_arguments_out_of_range(self, tmp_path: Path) -> None:
        for options in ({"fsync": "often"}, {"segment_bytes": 0}, {"checkpoint_every": -1}):
            with pytest.raises(ValueError, match=r"none of|out of range"):
                AuditLog(tmp_path / "log", **options)  # type: ignore[arg-type]
        assert not (tmp_path / "log").exists()

    def test_a_link_or_a_fifo_is_no_segment(self, tmp_path: Path) -> None:
        log, target = make(tmp_path / "log", 1), tmp_path / "target"
        for make_other in (lambda p: p.symlink_to(target), os.mkfifo):
            other = log / "00000002.jsonl"
            make_other(other)
            with pytest.raises(OSError):
                emit(log)
            other.unlink()
        assert not target.exists()

    @pytest.mark.parametrize("policy", ["never", "close", "batch", "always"])
    def test_the_policy_says_when_the_disk_is_asked(
        self, policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []
        sink = AuditLog(tmp_path / "log", fsync=policy)  # type: ignore[arg-type]
        sink.emit(event())
        sink.flush(1)
        monkeypatch.setattr(os, "fdatasync", asked.append)
        counts = []
        for step in (lambda: sink.emit(event()), lambda: sink.flush(1), sink.close):
            step()
            counts.append(len(asked))
        wanted = {"never": [0, 0, 0], "always": [1, 1, 1]}
        assert counts == wanted.get(policy, [0, 1, 1])

    def test_a_batch_is_on_disk_within_its_bounds(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []
        monkeypatch.setattr(os, "fdatasync", asked.append)
        sink = AuditLog(tmp_path / "log", checkpoint_every=0)
        for number in range(256):
            sink.emit(event(number + 1))
        assert asked
        sink.flush(1)
        before = len(asked)
        sink.emit(event())
        deadline = time.monotonic() + 20
        while len(asked) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(asked) > before
        sink.close()

    def test_a_disk_that_refuses_is_told_by_the_call_and_by_the_chain(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: int) -> None:
            raise OSError(5, "Input/output error")

        sink = AuditLog(tmp_path / "log")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", refuse)
            for number in range(256):
                sink.emit(event(number + 1))
            with pytest.raises(OSError, match="Input/output"):
                sink.flush(1)
        sink.emit(event(300))
        sink.close()
        report = check(tmp_path / "log")
        assert not report.findings
        assert report.events == 257
        assert any("not known to be on the disk" in note.message for note in report.notes)

    def test_a_bus_has_it_once_and_reports_what_it_lost(self, tmp_path: Path) -> None:
        bus = EventBus()
        for _ in range(2):
            places.attach(bus, tmp_path / "log")
        bus.publish(event())
        bus.close()
        assert [e.sequence for e in events(tmp_path / "log")] == [1]
        with pytest.raises(ConfigurationError, match="cannot be written"):
            places.attach(EventBus(), Path("/dev/null/log"))

    def test_the_environment_names_one_unless_declined(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OMNIBASE_AUDIT", str(tmp_path / "log"))
        assert os.path.realpath(tmp_path / "log") in places.reserved()
        declined, taken = EventBus(), EventBus()
        places.decline(declined)
        places.attach(declined)
        declined.publish(event(1))
        places.attach(taken)
        taken.publish(event(2))
        taken.close()
        assert [e.sequence for e in events(tmp_path / "log")] == [2]
        monkeypatch.setenv("OMNIBASE_AUDIT", "off")
        assert places.configured() is None


class TestTornRecords:
    @pytest.mark.parametrize("kept", [1, 100, -60, -3])
    def test_stay_and_are_told(self, tmp_path: Path, kept: int) -> None:
        log = make(tmp_path / "log", 3, checkpoint_every=0, segment_bytes=10**6)
        path = last_segment(log)
        *lines, last = path.read_bytes().splitlines(True)
        path.write_bytes(b"".join(lines) + last.rstrip()[:kept])
        report = check(log)
        assert not report.findings, said(report)
        assert "not written whole" in report.notes[0].message
        emit(log, 4)
        report = check(log)
        assert not report.findings, said(report)
        assert (report.torn, report.events) == (1, 3)
        assert last.rstrip()[:kept] in path.read_bytes()

    def test_one_that_lacks_only_its_end_is_kept(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log", 3, checkpoint_every=0, segment_bytes=10**6)
        path = last_segment(log)
        path.write_bytes(path.read_bytes().removesuffix(b"\n"))
        emit(log, 4)
        report = check(log)
        assert not report.findings
        assert (report.torn, report.events) == (0, 4)

    def test_telling_may_be_torn_too(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log", 3, checkpoint_every=0, segment_bytes=10**6)
        path = last_segment(log)
        with path.open("ab") as file:
            file.write(b'{"event":{"a\n{"torn":{"by\n')
        emit(log, 4)
        report = check(log)
        assert not report.findings, said(report)
        assert (report.torn, report.events) == (1, 4)

    def test_a_long_one_is_found_from_its_end(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log", 3, checkpoint_every=0, segment_bytes=10**6)
        path = last_segment(log)
        with path.open("ab") as file:
            file.write(b"x" * 40_000)
        emit(log, 4)
        assert check(log).torn == 1

    def test_in_the_end_of_a_full_segment_is_told_there(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log", 3, checkpoint_every=0, segment_bytes=10**6)
        with last_segment(log).open("ab") as file:
            file.write(b'{"event')
        emit(log, 4, segment_bytes=10)
        report = check(log)
        assert not report.findings, said(report)
        assert (report.torn, report.segments) == (1, 2)

    def test_without_any_record_the_end_is_not_guessed(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"nothing of ours\n" * 10)
        fd = os.open(path, os.O_RDONLY)
        with pytest.raises(OSError, match="damaged"):
            find_tail(fd, path.stat().st_size)
        os.close(fd)

    @pytest.mark.parametrize("tail", [b"", b"\n", b'{"event', b"x\n\ny\n"])
    @pytest.mark.parametrize("window", [1, 7, 64, 4096])
    def test_backwards_are_the_same_records(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, tail: bytes
    ) -> None:
        monkeypatch.setattr(files, "_WINDOW", window)
        monkeypatch.setattr(files, "_MOST", 4 * window)
        head, lines = GENESIS, []
        for number in range(6):
            line, head = seal(head, "event", f'{{"n":"{"x" * 90 * number}"}}')
            lines.append(line)
        data = b"".join(lines[:3]) + b"junk\n" + b"".join(lines[3:]) + tail
        path = tmp_path / "file"
        path.write_bytes(data)
        fd = os.open(path, os.O_RDONLY)
        for size in (len(data), len(data) - len(tail) - 1, len(data) - len(tail), len(lines[0]), 0):
            whole = data[:size][: data[:size].rfind(b"\n") + 1]
            forwards = [found for line in whole.split(b"\n") if (found := parse(line))]
            assert list(latest_records(fd, size)) == forwards[::-1]
        os.close(fd)

    def test_a_false_telling_is_found(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log", 1, checkpoint_every=0)
        head = check(log).head
        with last_segment(log).open("ab") as file:
            file.write(seal(head, "torn", '{"bytes":3,"sha256":"x","time":"t"}')[0])
        assert "are not there" in said(check(log))


class TestKeys:
    def test_a_key_is_kept_and_exported(self, tmp_path: Path) -> None:
        sink = AuditLog(tmp_path / "log")
        key = sink.key()
        assert sink.key() == key
        assert sink.checkpoint() == key
        sink.close()
        (tmp_path / "public").write_bytes(public_pem(key))
        assert read_public(tmp_path / "public") == key
        assert known_keys(tmp_path / "log") == {key}
        report = check(tmp_path / "log", key=key)
        assert not report.findings
        assert report.signed == report.head.seq == sink.head.seq

    def test_a_new_key_is_vouched_for_by_the_old_one(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log", 3)
        sink = AuditLog(log)
        old = sink.checkpoint(rotate_key=True)
        new = sink.checkpoint()
        sink.close()
        assert None not in (old, new)
        assert old != new
        for key in (old, new):
            report = check(log, key=key)
            assert not report.findings, said(report)
            assert report.signed == report.head.seq
        assert check(log, key=new).foreign == 1
        stranger = SigningKey.new().id
        assert "no checkpoint is signed by the key" in said(check(log, key=stranger))

    @pytest.mark.parametrize("recorded", [True, False])
    def test_a_rotation_that_was_cut_short_is_settled(self, tmp_path: Path, recorded: bool) -> None:
        log = make(tmp_path / "log", 3)
        sink = AuditLog(log)
        old = sink.key()
        with pytest.MonkeyPatch.context() as patch:

            def die(*_: object) -> None:
                raise OSError(5, "cut short")

            patch.setattr(SigningKey, "promote" if recorded else "sign", die)
            with pytest.raises(OSError, match="cut short"):
                sink.checkpoint(rotate_key=True)
        assert (log / "keys" / "next.pem").exists()
        assert (sink.key() != old) is recorded
        sink.checkpoint()
        sink.close()
        assert not (log / "keys" / "next.pem").exists()
        report = check(log, key=old)
        assert not report.findings, said(report)

    def test_one_that_others_may_read_or_is_none_costs_no_event(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log", 8)
        pem = log / "keys" / "signing.pem"
        pem.chmod(0o644)
        emit(log, 9, checkpoint_every=1)
        assert check(log).events == 9
        pem.chmod(0o600)
        pem.write_bytes((log / "keys").glob("*.pub").__next__().read_bytes())
        emit(log, 10, checkpoint_every=1)
        assert check(log).events == 10
        (tmp_path / "x").write_text("no key")
        with pytest.raises(ValueError):
            read_public(tmp_path / "x")

    def test_without_the_library_the_log_still_chains(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        signed = make(tmp_path / "signed", 8)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
            log = make(tmp_path / "log", 20)
            sink = AuditLog(log)
            assert sink.checkpoint() is None
            sink.close()
            report = verify(signed, Keys(set(), None))
            assert not report.findings
            assert report.unchecked == report.checkpoints > 0
        report = check(log)
        assert not report.findings
        assert (report.events, report.checkpoints) == (20, 0)


class TestForgery:
    """Somebody who can write the log, and knows its format, but has no key."""

    def forge(self, log: Path, kind: str, body: str, *, signed: int | None = None) -> str:
        report = check(log)
        head = report.head
        if signed is not None:
            head = Head(head.seq, head.hash, signed)
        with last_segment(log).open("ab") as file:
            file.write(seal(head, kind, body)[0])
        return said(check(log))

    def test_of_a_checkpoint_is_found(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log", 8)
        assert "is no checkpoint" in self.forge(log, "checkpoint", "{}")

    def test_of_another_place_is_found(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log", 8, segment_bytes=10**6)
        lines = last_segment(log).read_bytes().splitlines()
        records = [r for r in map(parse, lines) if r is not None and r.kind == "checkpoint"]
        body = records[-1].body.decode()
        assert "is of another place or log" in self.forge(log, "checkpoint", body)

    def test_by_another_key_is_found(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log", 8)
        (log / "keys" / "signing.pem").unlink()
        names = set(os.listdir(log / "keys"))
        emit(log, 9, checkpoint_every=1)
        for name in set(os.listdir(log / "keys")) - names - {"signing.pem"}:
            (log / "keys" / name).unlink()
        assert "signed by a key that is not trusted" in said(check(log))

    def test_with_a_wrong_signature_is_found(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log", 8)
        head = check(log).head
        record = parse(last_segment(log).read_bytes().splitlines()[0])
        assert record is not None
        for signature in ("00" * 64, "no hex"):
            forged = Checkpoint(
                log=str(record.fields()["log"]), head=check(log).head, time="t",
                key=SigningKey.new().id, next=None, signature=signature,
            )  # fmt: skip
            found = self.forge(log, "checkpoint", forged.body())
            assert "the signature of checkpoint" in found
        assert head.seq

    def test_of_a_header_or_of_what_is_signed_is_found(self, tmp_path: Path) -> None:
        assert "header" in self.forge(make(tmp_path / "a", 8), "segment", "{}")
        log = make(tmp_path / "b", 8)
        assert "misstates" in self.forge(log, "event", "{}", signed=999)

    def test_a_head_of_another_history_is_found(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log", 8)
        head = check(log).head
        assert "not the one that was noted" in said(check(log, Head(head.seq, "0" * 64)))
        assert "not the one that was noted" in said(check(log, Head(0, "1" * 64)))
        assert "it was cut" in said(check(log, Head(head.seq + 5, "0" * 64)))

    def test_only_so_much_is_noted(self) -> None:
        checker = Checker(Keys(set(), None))
        checker.begin(1)
        line = seal(GENESIS, "event", "{}")[0]
        for _ in range(2 * MAX_FINDINGS):
            checker.feed(0, line)
        assert checker.full
        assert len(checker.findings) == MAX_FINDINGS
        assert checker.findings[0].to_dict()["segment"] == 1
        head = GENESIS
        checker = Checker(Keys(set(), None))
        for _ in range(MAX_FINDINGS + 5):
            line, head = seal(head, "lost", '{"events":1,"reason":"full"}')
            checker.feed(0, line)
        assert (checker.lost, len(checker.notes)) == (MAX_FINDINGS + 5, MAX_FINDINGS)

    def test_a_missing_or_foreign_segment_is_found(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log", 30)
        found = segments(log)
        assert len(found) > 4
        middle = found[2].path.read_bytes()
        found[2].path.unlink()
        assert "segment 3 is missing" in said(check(log))
        found[1].path.unlink()
        assert "segments 2 to 3 are missing" in said(check(log))
        found[1].path.write_bytes(middle)
        assert "header is not" in said(check(log)) or "missing" in said(check(log))
        found[1].path.write_bytes(b"")
        assert check(log).findings
        with pytest.raises(ConfigurationError, match="no audit log"):
            check(tmp_path / "none")
        with pytest.raises(ConfigurationError, match="no audit log"):
            check(found[0].path)
