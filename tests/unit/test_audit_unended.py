"""Which runs have a start on record and no end."""

from __future__ import annotations

from typing import Any

import pytest

from omnibase.core.audit.chain import GENESIS, seal
from omnibase.core.audit.unended import Unended, is_unended
from omnibase.core.events import (
    Event,
    MonitorGap,
    Payload,
    RunRecovered,
    SandboxExit,
    SandboxStart,
    UnsandboxedStart,
)

_HEX = "0" * 64
START = SandboxStart(script="a.py", script_sha256=_HEX, platform="p", runtime_version="r")
OUTSIDE = UnsandboxedStart(script="a.py", script_sha256=_HEX, python="p", policies=())
END = SandboxExit(outcome="ok", wall_seconds=1.0)
RECOVERED = RunRecovered(reason="r", pid=1)
# What a script is called is its author's choice.
HOSTILE = MonitorGap(dropped=1, reason='"eventname":"SandboxExit"')


def line(run: str, payload: Payload) -> bytes:
    event = Event(data=payload, source="urn:x", runid=run, sequence=1)
    return seal(GENESIS, "event", event.to_json())[0]


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ([], ()),
        ([("a", START)], ("a",)),
        ([("a", OUTSIDE)], ("a",)),
        ([("a", START), ("b", START), ("a", END)], ("b",)),
        ([("a", START), ("a", START), ("a", END)], ()),  # tried twice, ended once
        ([("a", START), ("a", RECOVERED)], ("a",)),
        ([("a", START), ("a", RECOVERED), ("a", END)], ()),
        ([("a", END)], ()),  # its start was before what is read
        ([("a", START), ("a", HOSTILE)], ("a",)),
        ([("b", START), ("a", START)], ("b", "a")),
    ],
)
def test_runs_that_are_open(told: list[tuple[str, Payload]], left: tuple[str, ...]) -> None:
    unended = Unended()
    for run, payload in told:
        unended.feed(line(run, payload))
    assert unended.runs == left


@pytest.mark.parametrize("whole", [line("a", END)])
def test_what_is_no_whole_record_ends_nothing(whole: bytes) -> None:
    unended = Unended()
    unended.feed(line("a", START))
    unended.feed(whole[:-20])
    unended.feed(b'{"eventname":"SandboxExit"}\n')
    body = b'{"segment":{"eventname":"SandboxExit"}'
    unended.feed(seal(GENESIS, "lost", '{"eventname":"SandboxExit","runid":"a"}')[0])
    assert not unended.feed(body)
    assert unended.runs == ("a",)
    unended.feed(whole.removesuffix(b"\n"))  # the end of its line is all that is missing
    assert unended.runs == ()


@pytest.mark.parametrize(
    ("names", "open_"),
    [
        ([], False),
        (["RunRefused"], False),
        (["PolicyDecided", "SandboxStart"], True),
        (["UnsandboxedStart"], True),
        (["SandboxStart", "RunRecovered", "SandboxExit"], False),
    ],
)
def test_one_run(names: list[str], open_: bool) -> None:
    events: list[dict[str, Any]] = [{"eventname": name} for name in names]
    assert is_unended(events) is open_
