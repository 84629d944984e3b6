"""What bytes are told to be: by their content alone, and without decoding them."""

from __future__ import annotations

import struct

import pytest

from omnibase.core.artifacts.kinds import Recogniser

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR"
OTHER = ("binary", "application/octet-stream")
TEXT = ("text", "text/plain")
JSON = ("json", "application/json")
CSV = ("table", "text/csv")


def kind(data: bytes, name: str = "file", step: int = 1 << 20) -> tuple[str, str]:
    recogniser = Recogniser()
    for start in range(0, len(data), step):
        recogniser.feed(data[start : start + step])
    return recogniser.finish(name)


@pytest.mark.parametrize(
    ("data", "name", "told"),
    [
        (PNG, "x", ("image", "image/png")),
        (PNG[:8], "x.png", OTHER),
        (b"\x89PNG\r\n\x1a\n\0\0\0\0JUNK", "x.png", OTHER),
        (b"\xff\xd8\xff\xe0", "x", ("image", "image/jpeg")),
        (b"GIF87a", "x", ("image", "image/gif")),
        (b"GIF89a", "x", ("image", "image/gif")),
        (b"GIF88a", "x", TEXT),
        (b"RIFF\0\0\0\0WEBPVP8 ", "x", ("image", "image/webp")),
        (b"RIFF\0\0\0\0WAVE", "x", OTHER),
        (b"II*\0\x08", "x", ("image", "image/tiff")),
        (b"MM\0*", "x", ("image", "image/tiff")),
        (b"PAR1" + bytes(8) + b"PAR1", "x", ("table", "application/vnd.apache.parquet")),
        (b"PAR1" + bytes(8), "x.parquet", OTHER),
        (b"PAR1PAR1", "x.parquet", TEXT),
        (b"ARROW1\0\0", "x", ("table", "application/vnd.apache.arrow.file")),
        (b"%PDF-1.7\n", "x", ("binary", "application/pdf")),
        (b"PK\x03\x04", "x.xlsx", ("binary", "application/zip")),
        (b"\x1f\x8b\x08\0", "x", ("binary", "application/gzip")),
        (b"SQLite format 3\0", "x", ("binary", "application/vnd.sqlite3")),
        (b"", "x.csv", TEXT),
        (b"plain", "x.png", TEXT),
        ("größe\n".encode(), "x", TEXT),
        ("größe\n".encode("latin-1"), "x.txt", OTHER),
        (b"caf\xc3", "x.txt", OTHER),
        (b"a\0b", "x.txt", OTHER),
        (b"\x1b[31mred", "x.txt", OTHER),
        ("c1 \x9b31m".encode(), "x.txt", OTHER),
        (b"a\tb\r\n\x0c", "x", TEXT),
        (b'{"a": [1, 2]}', "x", JSON),
        (b"\n [1]\n", "x.txt", JSON),
        (b'{"a": ', "x.json", TEXT),
        (b'"text"', "x.json", TEXT),
        (b"[" * 100_000, "x.json", JSON),  # past the head: by its name
        (b"[" * 100_000, "x", TEXT),
        (b"[" * 60_000, "x.json", TEXT),  # too deep to be read
        (b"[1" + b",1" * 40_000 + b"]", "x.json", JSON),
        (b"<svg xmlns='x'>", "x", ("text", "image/svg+xml")),
        (b"<?xml version='1.0'?>\n<!-- c -->\n<!DOCTYPE svg>\n<svg>", "x",
         ("text", "image/svg+xml")),
        (b"<svgx>", "x", TEXT),
        (b"a,b\n1,2\n", "x.csv", CSV),
        (b"a,b\n1,2\n", "X.CSV", CSV),
        (b"a;b\n1,5;2\n", "x.csv", CSV),
        (b"a\tb\n1\t2\n", "x.tsv", ("table", "text/tab-separated-values")),
        (b"a,b\n1,2\n", "x.tsv", TEXT),
        (b"a,b\n1,2\n", "x.txt", TEXT),
        (b"a,b\n1,2,3\n", "x.csv", TEXT),
        (b"one\ntwo\n", "x.csv", TEXT),
        (b'a,"b\nb"\n1,2\n', "x.csv", CSV),
        (b'a,"b"x\n', "x.csv", TEXT),
        (b"a,b\n" * 100_000 + b"1,2,3\n", "x.csv", CSV),  # its beginning is looked at
        (b"a" * 70_000 + b",b\n", "x.csv", TEXT),
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [1 << 20, 4093])
def test_bytes_are_what_they_are(data: bytes, name: str, told: tuple[str, str], step: int) -> None:
    assert kind(data, name, step) == told


def test_one_byte_at_a_time_tells_the_same() -> None:
    for data in (PNG, "größe €".encode(), b"PAR1" + bytes(8) + b"PAR1", b"caf\xc3"):
        assert kind(data, step=1) == kind(data)


def test_text_is_text_to_its_end() -> None:
    assert kind(b"a" * 200_000 + b"\xff") == OTHER
    assert kind(b"a" * 200_000 + "é".encode()) == TEXT


@pytest.mark.parametrize("part", [b"<!---->", b"<!-- -->\n", b"<!DOCTYPE x>", b" ", b"<!--"])
def test_a_long_beginning_of_a_drawing_is_told_at_once(part: bytes) -> None:
    head = part * (60_000 // len(part))
    assert kind(b"<?xml version='1.0'?>" + head + b"x") == TEXT
    if part != b"<!--":
        assert kind(head + b"<svg>") == ("text", "image/svg+xml")
