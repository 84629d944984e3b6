"""When a sink is said to lag: once, and once that it has caught up."""

from __future__ import annotations

import pytest

from omnibase.core.events import Event, MonitorGap
from omnibase.core.events.lag import LagWatch, age_of


def test_lags_once_and_catches_up_once() -> None:
    watch = LagWatch(10)
    said = [watch.look(5, now, now) for now in range(30)]
    assert [(n, each) for n, each in enumerate(said) if each] == [(11, "lagging")]
    assert watch.look(0, 0, 31) == "caught-up"
    assert watch.look(0, 0, 32) is None


def test_does_not_lag_while_it_keeps_up() -> None:
    watch = LagWatch(10)
    for now in range(100):
        watch.progress(now)
        assert watch.look(7, 0.5, now) is None


def test_lags_if_it_moves_and_falls_behind_all_the_same() -> None:
    watch = LagWatch(10)
    said = []
    for now in range(100):
        watch.progress(now)
        said.append(watch.look(now + 1, now / 2, now))
    assert [each for each in said if each] == ["lagging"]


def test_has_caught_up_when_what_waits_is_young() -> None:
    watch = LagWatch(10)
    for now in (0, 11):
        watch.look(3, now, now)
    assert watch.lagging
    watch.progress(12)
    assert watch.look(3, 5, 12) is None
    watch.progress(13)
    assert watch.look(1, 0.5, 13) == "caught-up"


def test_what_moves_not_is_old_whatever_the_clock_says() -> None:
    watch = LagWatch(10)
    assert watch.look(1, 0, 0) is None
    assert watch.look(1, 0, 11) == "lagging"


def test_what_came_just_now_is_young_whatever_it_says() -> None:
    watch = LagWatch(10)
    assert watch.look(1, 10**9, 0) is None
    watch.progress(1)
    assert watch.look(1, 10**9, 1) is None


def test_who_gives_up_lags_until_nothing_waits() -> None:
    watch = LagWatch(10)
    assert watch.give_up(0) is None
    assert watch.give_up(2) == "lagging"
    assert watch.give_up(2) is None
    assert watch.look(2, 0, 0.1) is None
    assert watch.look(0, 0, 0.2) == "caught-up"
    assert watch.look(2, 0, 0.3) is None


@pytest.mark.parametrize(
    ("timestamp", "age"),
    [
        ("1970-01-01T00:01:00Z", 40.0),
        ("1970-01-01T00:01:00.250000Z", 39.75),
        ("1970-01-01T00:09:00Z", 0.0),
        ("", 0.0),
        ("1970-01-01", 0.0),
        ("1970-01-01T00:00:00.xZ", 0.0),
        ("1970-13-01T00:00:00Z", 0.0),
    ],
)
def test_an_age_is_told_from_a_timestamp(timestamp: str, age: float) -> None:
    assert age_of(timestamp, 100.0) == pytest.approx(age)


def test_an_event_has_an_age() -> None:
    import time

    event = Event(data=MonitorGap(dropped=0, reason=""), source="urn:x", runid="r", sequence=1)
    assert 0 <= age_of(event.time, time.time()) < 5
