"""Whatever is changed in a log is found, and where."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnibase.core.audit.log import AuditLog
from omnibase.core.audit.verification import segments
from omnibase.errors import ConfigurationError
from tests.helpers.audit import check, event, make


class Original:
    """A log, and the head that was kept of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = make(directory)
        report = check(directory)
        assert not report.findings
        self.head = report.head
        self.lines = [
            line for each in segments(directory) for line in each.path.read_bytes().splitlines(True)
        ]
        self.counts = [len(each.path.read_bytes().splitlines()) for each in segments(directory)]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Original]:
    yield Original(tmp_path_factory.mktemp("audit") / "log")


def copy_of(original: Original) -> Path:
    copy = original.directory.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(original.directory, copy)
    return copy


def rewrite(copy: Path, lines: list[bytes], counts: list[int]) -> None:
    """Puts lines into the segments; the last takes what is left."""
    paths = [each.path for each in segments(copy)]
    for path, count in zip(paths[:-1], counts[:-1], strict=True):
        path.write_bytes(b"".join(lines[:count]))
        lines = lines[count:]
    paths[-1].write_bytes(b"".join(lines))


def found(copy: Path, original: Original) -> bool:
    """Whether reading it whole, or from the head that was kept, shows that something is wrong."""
    try:
        return bool(check(copy).findings or check(copy, original.head).findings)
    except ConfigurationError:  # nothing is left of it
        return True


class TestAnyMutation:
    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_of_a_byte_is_found_without_a_head(
        self, original: Original, data: st.DataObject
    ) -> None:
        copy = copy_of(original)
        path = data.draw(st.sampled_from([each.path for each in segments(copy)]))
        content = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        assert check(copy).findings
        # Another record does not make it good.
        log = AuditLog(copy, fsync="never")
        log.emit(event(99))
        log.close()
        assert check(copy).findings

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_of_the_order_is_found(self, original: Original, data: st.DataObject) -> None:
        copy, lines = copy_of(original), list(original.lines)
        first, second = data.draw(
            st.lists(st.integers(0, len(lines) - 1), min_size=2, max_size=2, unique=True)
        )
        lines[first], lines[second] = lines[second], lines[first]
        rewrite(copy, lines, original.counts)
        assert check(copy).findings

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_by_repeating_or_inserting_is_found(
        self, original: Original, data: st.DataObject
    ) -> None:
        copy, lines = copy_of(original), list(original.lines)
        what = data.draw(st.sampled_from([*lines, b"\n", b"{}\n", b"x" * 300 + b"\n"]))
        lines.insert(data.draw(st.integers(0, len(lines) - 1)), what)
        rewrite(copy, lines, original.counts)
        assert check(copy).findings

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_by_dropping_is_found(self, original: Original, data: st.DataObject) -> None:
        copy, lines = copy_of(original), list(original.lines)
        place = data.draw(st.integers(0, len(lines) - 1))
        count = data.draw(st.integers(1, 5))
        del lines[place : place + count]
        rewrite(copy, lines, original.counts)
        assert found(copy, original)

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_by_cutting_is_found_against_the_head(
        self, original: Original, data: st.DataObject
    ) -> None:
        copy = copy_of(original)
        path = data.draw(st.sampled_from([each.path for each in segments(copy)]))
        content = path.read_bytes()
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 2))])
        assert found(copy, original)
        if path != segments(copy)[-1].path:
            assert check(copy).findings

    def test_by_removing_a_segment_is_found(self, original: Original) -> None:
        for index in range(len(segments(original.directory))):
            copy = copy_of(original)
            segments(copy)[index].path.unlink()
            assert found(copy, original)

    def test_and_the_log_itself_is_sound(self, original: Original) -> None:
        assert len(segments(original.directory)) > 2
        assert not check(copy_of(original), original.head).findings
