"""What comes out of the guest as a script's exception is text in bounds, or nothing."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnibase.core.sandbox.script_error import MAX_REPORT_BYTES, ScriptError, parse_report
from omnibase.core.secrets import Scrubber, Secret


def report(*texts: bytes, magic: bytes = b"OBE1") -> bytes:
    return magic + struct.pack("<III", *map(len, texts)) + b"".join(texts)


def test_a_report_is_read() -> None:
    error = parse_report(report(b"ValueError", "naïve".encode(), b"Traceback"))
    assert error == ScriptError(type="ValueError", message="naïve", traceback="Traceback")
    assert error.to_dict() == {"type": "ValueError", "message": "naïve", "traceback": "Traceback"}


def test_text_is_scrubbed_and_cut_characters_are_kept() -> None:
    error = parse_report(
        report(b"E", b"s3cret \xc3", b"s3cret"), lambda t, /, *, cut: t.replace("s3cret", "*")
    )
    assert error == ScriptError(type="E", message="* \\xc3", traceback="*")


@pytest.mark.parametrize(("shown", "less"), [("", 0), ("", 3), ("SECRET-to", 4)])
def test_a_secret_that_the_bounds_have_cut_is_taken_out(shown: str, less: int) -> None:
    scrubber = Scrubber([Secret(name="T", value=b"SECRET-token-value")])
    message = (b"x" * (4096 - 9 - less)) + b"SECRET-to"
    error = parse_report(report(b"E", message, b""), scrubber.text)
    assert error is not None
    assert error.message.lstrip("x") == (shown or "***T***")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"OBE1",
        report(b"E", b"m", b"t", magic=b"OBE2"),
        report(b"E", b"m", b"t")[:-1],
        report(b"E", b"m", b"t") + b"x",
        report(b"E" * 257, b"", b""),
        report(b"", b"m" * 4097, b""),
        report(b"", b"", b"t" * 32769),
        report(b"", b"", b"").ljust(MAX_REPORT_BYTES + 1),
        b"OBE1" + struct.pack("<III", 0xFFFFFFFF, 2, 0) + b"x",
    ],
)
def test_what_is_no_report_is_nothing(data: bytes) -> None:
    assert parse_report(data) is None


@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda data: b"OBE1" + data))
def test_any_bytes_are_harmless(data: bytes) -> None:
    error = parse_report(data)
    assert error is None or len(error.type.encode()) <= 1024
