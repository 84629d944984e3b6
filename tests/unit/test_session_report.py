"""What a call says of itself: bounded, and never more than text."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnibase.core.sandbox.session.report import MAX_BYTES, Report, parse


def scrub(text: str, *, cut: bool) -> str:
    return text.replace("secret", "***") + ("…" if cut else "")


def report(code: int, value: bytes | None, error: bytes = b"") -> bytes:
    size = 0xFFFFFFFF if value is None else len(value)
    return struct.pack("<4sII", b"OBS1", code, size) + (value or b"") + error


def failure(*texts: bytes) -> bytes:
    return b"OBE1" + struct.pack("<III", *map(len, texts)) + b"".join(texts)


def test_a_value() -> None:
    assert parse(report(0, b"'x secret'"), scrub) == Report(0, "'x ***'")
    assert parse(report(0, b""), scrub) == Report(0, "")
    assert parse(report(3, None), scrub) == Report(3)
    assert parse(report(0, b"\xff"), scrub).value == "\\xff"
    assert (parse(report(0, b"x" * 16_384), scrub).value or "").endswith("x…")


def test_an_error() -> None:
    found = parse(report(1, None, failure(b"ValueError", b"secret", b"t")), scrub)
    assert found.error is not None
    assert (found.error.type, found.error.message) == ("ValueError", "***")
    assert parse(report(1, None, b"OBE1"), scrub) == Report(1)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"OBS1", b"x" * 12, report(256, None), report(0, b"x" * 16_385),
        report(0, b"abc")[:-1], report(0, None, b"x" * MAX_BYTES),
        struct.pack("<4sII", b"OBS2", 0, 0xFFFFFFFF),
    ],
)  # fmt: skip
def test_what_is_none(data: bytes) -> None:
    assert parse(data, scrub) == Report(1)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(b"OBS1".__add__))
def test_anything_is_read(data: bytes) -> None:
    assert 0 <= parse(data, scrub).exit_code <= 255
