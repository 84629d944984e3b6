"""Any text comes back as it was, or cut as stated, and stays on one line of ASCII."""

from __future__ import annotations

import json
import re

import jsonschema
from hypothesis import given
from hypothesis import strategies as st

from omnibase.core.events import (
    Event,
    MonitorGap,
    Payload,
    ResourceLimitExceeded,
    SandboxExit,
    SandboxStart,
    SandboxViolation,
    SecretRead,
)
from omnibase.core.events._fields import MAX_ITEM, MAX_ITEMS, MAX_TEXT, bounded
from omnibase.core.events.schema import events_schema

# Surrogates included, and long strings made cheaply by repetition.
TEXT = st.one_of(
    st.text(st.characters()),
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Zl", "Zp"])),
    st.builds(
        lambda part, times: part * times, st.text(st.characters(), min_size=1), st.integers(1, 5000)
    ),
)
COUNT = st.integers(0, 2**63 - 1)
NUMBER = st.one_of(COUNT, st.floats(0, allow_infinity=False))
PAYLOAD: st.SearchStrategy[Payload] = st.one_of(
    st.builds(
        SandboxStart,
        script=TEXT,
        script_sha256=st.from_regex(r"\A[0-9a-f]{64}\Z"),
        grants=st.lists(TEXT, max_size=200).map(tuple),
        quotas=st.dictionaries(TEXT, st.one_of(st.none(), TEXT, NUMBER), max_size=5),
        platform=TEXT,
        runtime_version=TEXT,
        image_digest=st.none() | TEXT,
    ),
    st.builds(SandboxExit, outcome=TEXT, wall_seconds=NUMBER, output_bytes=COUNT),
    st.builds(
        SandboxViolation,
        operation=TEXT,
        resource=TEXT,
        process_name=st.none() | TEXT,
        evidence=st.sampled_from(["kernel", "broker", "agent"]),
    ),
    st.builds(ResourceLimitExceeded, kind=TEXT, limit=NUMBER, unit=TEXT),
    st.builds(SecretRead, secret=TEXT, operation=TEXT, process_name=st.none() | TEXT),
)
VALIDATOR = jsonschema.Draft202012Validator(events_schema())


def expected(text: str, limit: int) -> str:
    escaped = re.sub("[\ud800-\udfff]", lambda lone: f"\\u{ord(lone[0]):04x}", text)
    if len(text) <= limit and len(escaped) <= limit:
        return escaped
    marker = f"...[truncated, {len(text)} characters]"
    return escaped[: limit - len(marker)] + marker


def event(data: Payload, subject: str | None = None) -> Event:
    return Event(data=data, source="urn:test", runid="r1", sequence=1, subject=subject)


@given(TEXT)
def test_text_is_kept_or_cut_as_stated(text: str) -> None:
    back = Event.from_json(event(MonitorGap(dropped=0, reason=text)).to_json()).data
    assert isinstance(back, MonitorGap)
    assert back.reason == expected(text, MAX_TEXT)


@given(TEXT, st.integers(64, 300))
def test_bounding_twice_changes_nothing(text: str, limit: int) -> None:
    once = bounded(text, limit)
    assert once == expected(text, limit) == bounded(once, limit)


@given(st.lists(TEXT, max_size=3 * MAX_ITEMS))
def test_lists_are_kept_or_cut_as_stated(grants: list[str]) -> None:
    start = SandboxStart(
        script="x",
        script_sha256="0" * 64,
        grants=tuple(grants),
        platform="",
        runtime_version="",
    )
    kept = grants if len(grants) <= MAX_ITEMS else grants[: MAX_ITEMS - 1]
    wanted = [expected(each, MAX_ITEM) for each in kept]
    if len(grants) > MAX_ITEMS:
        wanted.append(f"...[truncated, {len(grants)} items]")
    assert list(start.grants) == wanted


@given(PAYLOAD, st.none() | TEXT.filter(bool))
def test_every_event_is_one_line_of_ascii_that_reads_back(
    data: Payload, subject: str | None
) -> None:
    sent = event(data, subject)
    line = sent.to_json()
    assert re.fullmatch("[ -~]+", line)
    assert Event.from_json(line) == sent
    VALIDATOR.validate(json.loads(line))
    # What another parser must be able to encode again: no lone surrogates.
    json.dumps(json.loads(line), ensure_ascii=False).encode()


@given(st.one_of(TEXT, st.binary()))
def test_reading_anything_gives_an_event_or_a_value_error(line: str | bytes) -> None:
    try:
        Event.from_json(line)
    except ValueError:
        pass
    else:
        raise AssertionError("random text was an event")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(event(MonitorGap(dropped=0, reason="x")).to_dict())), JSON)
def test_a_changed_attribute_is_refused_or_kept_exactly(name: str, value: object) -> None:
    raw = event(MonitorGap(dropped=0, reason="x")).to_dict() | {name: value}
    try:
        read = Event.from_dict(raw)
    except ValueError:
        return
    assert read.to_dict() == raw
