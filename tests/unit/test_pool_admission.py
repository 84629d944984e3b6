"""Memory that is set aside for warm sandboxes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from omnibase.core.sandbox.admission import Admission
from omnibase.core.sandbox.runner import Cancel
from omnibase.errors import SandboxTimeout, SandboxUnavailable


@pytest.fixture
def cancel() -> Iterator[Cancel]:
    made = Cancel()
    yield made
    made.close()


def test_half_of_it_stays_for_runs(cancel: Cancel) -> None:
    admission = Admission(runs=4, memory_bytes=100)
    assert admission.reserve(30)
    assert not admission.reserve(21)
    assert admission.reserve(20)
    with admission.place(50, 1, cancel):
        assert admission.running == 1
    with pytest.raises(SandboxTimeout), admission.place(51, 0.01, cancel):
        pass
    admission.unreserve(20)
    with admission.place(51, 1, cancel):
        assert not admission.reserve(20)


def test_what_was_set_aside_becomes_a_place(cancel: Cancel) -> None:
    admission = Admission(runs=1, memory_bytes=100)
    assert admission.reserve(40)
    assert admission.convert(40, 90)
    assert admission.running == 1
    assert admission.reserve(10)
    assert not admission.convert(10, 10)  # no run more than one
    admission.leave(90)
    assert not admission.convert(10, 101)
    assert admission.convert(10, 10)
    admission.leave(10)
    assert admission.running == 0


def test_a_run_that_waits_for_it_is_seen(cancel: Cancel) -> None:
    admission = Admission(runs=2, memory_bytes=100)
    assert not admission.pressed
    assert admission.reserve(40)
    entered = threading.Event()

    def wait() -> None:
        with admission.place(80, 30, cancel):
            entered.set()

    thread = threading.Thread(target=wait)
    thread.start()
    while not admission.waiting:
        pass
    assert admission.pressed
    assert not admission.reserve(1)
    admission.unreserve(40)
    thread.join()
    assert entered.is_set()
    assert not admission.pressed


def test_a_process_that_drains_sets_nothing_aside() -> None:
    admission = Admission(runs=2, memory_bytes=100)
    assert admission.reserve(10)
    assert admission.drain(0)
    assert not admission.reserve(10)
    with pytest.raises(SandboxUnavailable):
        admission.convert(10, 10)
