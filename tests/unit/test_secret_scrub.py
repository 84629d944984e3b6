"""What the scrubber looks for, what it leaves, and what it holds back."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import quote, quote_plus

import pytest

from omnibase.core.secrets import Scrubber, Secret
from omnibase.core.secrets.scrub import forms

TOKEN = b"tok/en+ 'Val\xc3\xbce?1\n"
CORE = TOKEN.strip()
TEXT = CORE.decode()
MARK = b"***TOKEN***"


def scrubber(value: bytes = TOKEN, name: str = "TOKEN") -> Scrubber:
    return Scrubber([Secret(name=name, value=value)])


ENCODED = {
    "exact": TOKEN,
    "stripped": CORE,
    "as a host is told": CORE.lower(),
    "hex": CORE.hex().encode(),
    "HEX": CORE.hex().upper().encode(),
    "hex of all": TOKEN.hex().encode(),
    "repr of text": repr(TEXT)[1:-1].encode(),
    "repr of bytes": repr(CORE)[2:-1].encode(),
    "repr of a text with quotes": repr(f'"{TEXT}"')[2:-2].encode(),
    "repr of bytes with quotes": repr(b'"' + CORE + b'"')[3:-2].encode(),
    "json": json.dumps(TEXT).encode(),
    "json, not ascii": json.dumps(TEXT, ensure_ascii=False).encode(),
    "percent": quote(TEXT).encode(),
    "percent, no slash": quote(TEXT, safe="").encode(),
    "percent, small letters": quote(TEXT, safe="").lower().replace("val", "Val").encode(),
    "percent, all": b"".join(b"%%%02X" % byte for byte in CORE),
    "percent, all, small letters": b"".join(b"%%%02x" % byte for byte in CORE),
    "form": quote_plus(TEXT).encode(),
    "javascript": quote(TEXT, safe="-_.!~*'()").encode(),
    "base64": base64.b64encode(TOKEN),
    "base64 of the stripped": base64.b64encode(CORE),
    "base64, no padding": base64.b64encode(CORE).rstrip(b"="),
    "url-safe base64": base64.urlsafe_b64encode(TOKEN),
}


@pytest.mark.parametrize("text", ENCODED.values(), ids=ENCODED.keys())
def test_an_encoded_value_is_replaced_whole(text: bytes) -> None:
    shown = scrubber().data(b"before <" + text + b"> after")
    rest = shown.removeprefix(b"before <").removesuffix(b"> after")
    assert shown != rest
    assert rest.strip(b'"\n0aA') == MARK
    assert not set(rest) - set(MARK) - set(b'"\n0aA')


@pytest.mark.parametrize("before", range(7))
@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("value", [b"\xfb\xff\xfe\xbf", b"hunter22", b"s3cr3t-v4lue"])
def test_base64_of_a_text_around_it_leaves_no_whole_byte(
    before: int, after: int, encode: object, value: bytes
) -> None:
    text = encode(b"u" * before + value + b"x" * after)  # type: ignore[operator]
    shown = scrubber(value).data(text)
    assert shown.count(MARK) == 1
    kept_before, _, kept_after = shown.partition(MARK)
    # At each end at most one character that the value decides only in part.
    assert len(kept_before) <= -(-8 * before // 6)
    assert len(kept_after) <= len(text) - 8 * (before + len(value)) // 6


def test_what_is_not_a_secret_passes() -> None:
    text = bytes(range(256)) * 40 + b"tok/en+ 'Va"
    assert scrubber().data(text) == text
    assert Scrubber().data(TOKEN) == TOKEN
    assert Scrubber().text(TEXT) == TEXT


def test_text_may_hold_bytes_that_are_not_utf8() -> None:
    assert scrubber().text(f"/data/\udcff{TEXT}/x") == "/data/\udcff***TOKEN***/x"
    assert scrubber(b"\xff\xfe\xfd\xfc").text("a\udcff\udcfe\udcfd\udcfcb") == "a***TOKEN***b"


def test_a_field_of_a_password_file() -> None:
    assert scrubber(rb"pass:wo\rd").data(rb"host:5432:db:me:pass\:wo\\rd") == (
        b"host:5432:db:me:" + MARK
    )


@pytest.mark.parametrize(
    ("value", "path"),
    [(b"ab//cd+e", "/data/ab/cd+e"), (b"abcdef/", "/data/abcdef"), (b"a/./bcd", "/data/a/bcd"),
     (b"//abcd//", "/data/abcd")],
)  # fmt: skip
def test_a_path_is_told_without_its_empty_parts(value: bytes, path: str) -> None:
    assert scrubber(value).text(path) == f"/data/{MARK.decode()}"


def test_base64_in_lines() -> None:
    value = bytes(range(200))
    for text in (base64.encodebytes(value), base64.encodebytes(value + b"\n")):
        shown = scrubber(value + b"\n").data(b"<" + text.strip() + b">")
        assert shown == b"<" + MARK + b">"


def test_a_name_of_a_process_may_be_cut_in_a_value() -> None:
    one = scrubber(b"hunter22-hunter22")
    assert one.text("hunter22-hunter") == MARK.decode()
    assert one.text("worker-1 hunter") == f"worker-1 {MARK.decode()}"
    assert one.text("worker-12 hunte") == f"worker-12 {MARK.decode()}"
    assert one.text("worker-1234 hun") == "worker-1234 hun"  # less than a value may have
    assert one.text("/data/x hunter2") == f"/data/x {MARK.decode()}"
    assert one.text("/data/hunter2") == "/data/hunter2"


def test_a_long_value_that_starts_as_the_output_goes_on_costs_no_copies() -> None:
    value = b"-----BEGIN A KEY-----\n" + b"x" * 60_000
    stream = scrubber(value).stream()
    began = time.monotonic()
    shown = b"".join(stream.feed(b"-" * 65536) for _ in range(100)) + stream.finish()
    assert shown == b"-" * 6_553_600
    assert time.monotonic() - began < 30  # 45 s and more if each place took a copy


def test_a_value_that_is_not_text_has_the_forms_of_bytes() -> None:
    found = forms(b"\xff\xfe\xfd\xfc")
    assert {b"fffefdfc", b"FFFEFDFC", b"%FF%FE%FD%FC", b"%ff%fe%fd%fc", b"//79/A==", b"__79_A==",
            rb"\xff\xfe\xfd\xfc"} <= set(found)  # fmt: skip
    assert min(map(len, found)) >= 4
    assert min(map(len, forms(b"ab\n"))) >= 4


def test_the_longest_at_a_place_gives_the_name_and_what_overlaps_is_one() -> None:
    both = Scrubber([Secret(name="A", value=b"abcd"), Secret(name="B", value=b"abcdefgh")])
    assert both.data(b"-abcdefgh-abcdef-") == b"-***B***-***A***ef-"
    chained = Scrubber([Secret(name="A", value=b"abcdef"), Secret(name="B", value=b"efghij")])
    assert chained.data(b"-abcdefghij-") == b"-***A***-"
    assert chained.data(b"abcdefefghij") == b"***A******B***"
    assert scrubber(b"abab").data(b"xababababx") == b"x***TOKEN***x"


def test_two_secrets_of_one_value_are_named_by_the_first() -> None:
    both = Scrubber([Secret(name="A", value=b"same"), Secret(name="B", value=b"same")])
    assert both.data(b"same") == b"***A***"


def test_only_what_may_go_on_is_held_back() -> None:
    stream = scrubber(b"hunter22").stream()
    assert stream.feed(b"the password is ") == b"the password is "
    assert stream.feed(b"hun") == b""
    assert stream.feed(b"dred\n") == b"hundred\n"
    assert stream.feed(b"hunter2") == b""
    assert stream.feed(b"2") == MARK
    assert stream.feed(b"!") == b"!"
    assert stream.finish() == b""


def test_a_mark_is_given_once_though_the_secret_may_go_on() -> None:
    both = Scrubber([Secret(name="A", value=b"abcdef"), Secret(name="B", value=b"efghij")])
    stream = both.stream()
    assert stream.feed(b"-abcdef") == b"-***A***"
    assert stream.feed(b"gh") == b""
    assert stream.feed(b"ij-") == b"-"
    assert stream.feed(b"abcdefgh") == b"***A***"
    assert stream.finish() == b"gh"


def test_the_end_gives_what_was_held() -> None:
    stream = scrubber(b"hunter22").stream()
    assert stream.feed(b"my hunter") == b"my "
    assert stream.finish() == b"hunter"
    assert stream.feed(b"22") == b"22"


@pytest.mark.parametrize(
    ("fed", "end"),
    [(b"my hunter", MARK), (b"my hunt", MARK), (b"my hun", b"hun"), (b"my ", b"")],
)
def test_a_secret_cut_short_is_replaced_from_four_bytes_on(fed: bytes, end: bytes) -> None:
    stream = scrubber(b"hunter22").stream()
    assert stream.feed(fed) == b"my "
    assert stream.finish(cut=True) == end


def test_a_cut_goes_on_from_a_mark() -> None:
    both = Scrubber([Secret(name="A", value=b"abcdef"), Secret(name="B", value=b"cdefghij")])
    stream = both.stream()
    assert stream.feed(b"-abcdefg") == b"-***A***"
    assert stream.finish(cut=True) == b""
    assert Scrubber().stream().finish(cut=True) == b""


def test_no_more_than_the_longest_form_is_held_back() -> None:
    secret = bytes(range(33, 127)) * 100
    stream = scrubber(secret).stream()
    given = stream.feed(secret[:-1] * 3)
    held = len(secret[:-1] * 3) - len(given)
    assert held <= max(map(len, forms(secret))) - 1


def test_no_value_is_in_a_repr() -> None:
    secret = Secret(name="TOKEN", value=b"hunter22")
    assert "hunter22" not in repr(secret) + str(secret) + repr(scrubber(b"hunter22"))
