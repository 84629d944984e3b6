"""What the agent repeats of the host's modules, since it cannot import them, is the same."""

from __future__ import annotations

from omnibase.core.sandbox.egress import layout, wire
from tests.helpers import agent

egress = agent.load("egress")


def test_the_frames_are_the_same() -> None:
    names = ["VERSION", "MAX_PAYLOAD", "WINDOW", "READY", "OPEN", "OPENED", "REFUSED", "DATA",
             "END", "RESET", "CREDIT", "LOOKUP", "ASSIGNED"]  # fmt: skip
    assert {name: getattr(egress, name) for name in names} == {
        name: getattr(wire, name) for name in names
    }
    assert egress.HEADER.format == wire.HEADER.format


def test_the_addresses_are_the_same() -> None:
    assert egress.NAMESERVER == layout.NAMESERVER
    assert f"{egress.POOL}/{egress.POOL_BITS}" == str(layout.POOL)
    assert egress.FIRST_DYNAMIC == layout.FIRST_DYNAMIC
