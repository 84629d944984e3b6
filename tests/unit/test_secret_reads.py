"""When a secret counts as read, as a table, and what an ungranted one would have needed."""

from __future__ import annotations

import errno as errors
import os
import re

import pytest

from omnibase.core.sandbox.monitor import reads
from omnibase.core.sandbox.monitor.attempts import Granted
from omnibase.core.sandbox.monitor.reads import SecretReading, SecretReads, capability_of
from omnibase.core.sandbox.monitor.tally import Tally
from omnibase.core.sandbox.monitor.violations import Judge
from omnibase.core.sandbox.monitor.wire import Message
from omnibase.core.security.name_patterns import SecretPattern
from omnibase.errors import CapabilityError
from tests.helpers.messages import changed_to, opened, raw
from tests.helpers.specs import compiled

RULES = compiled().watch
GRANTED = tuple(
    Granted(path=f"/run/secrets/{name}", tree=False, writable=False) for name in ("KEY", "TOKEN")
)
SYMLINK, OPENAT = 88, 257


def judge() -> Judge:
    return Judge(RULES, GRANTED, secrets=("KEY", "TOKEN"))


def seen(*messages: Message) -> list[tuple[str, str]]:
    one = judge()
    for message in messages:
        one.judge(message)
    return [(reading.secret, reading.operation) for reading in one.reads.take()]


BOTH = ["KEY", "TOKEN"]


@pytest.mark.parametrize(
    "message",
    [
        opened("/run/secrets/TOKEN", 0),
        opened("TOKEN", 0, cwd="/run/secrets"),
        opened("TOKEN", 0, cwd="/guest/run/secrets"),
        opened("TOKEN", 0, fd_path="/guest/run/secrets"),
        opened("../../run/./secrets//TOKEN", 0, cwd="/tmp/x"),
        opened("/proc/self/root/run/secrets/TOKEN", 0),
        opened("/proc/7/cwd/TOKEN", 0, cwd="/run/secrets"),
        opened("/run/secrets/TOKEN", 0, flags=os.O_PATH),
        opened("/run/secrets/TOKEN", 0, sysno=2),
    ],
)
def test_an_open_that_was_seen(message: Message) -> None:
    assert seen(message) == [("TOKEN", "open")]


@pytest.mark.parametrize(
    "message",
    [
        opened("/run/secrets/TOKEN", errors.EROFS),
        opened("/run/secrets/TOKEN", 0, group_id=1),
        opened("/run/secrets", 0),
        opened("/run/secrets/OTHER", 0),
        opened("/run/secrets/TOKEN/x", 0),
        opened("/data/run/secrets/TOKEN", 0),
        opened("/proc/self/fd", 0),
        opened("/proc/self/status", 0),
        opened("/dev/null", 0),
        opened("/data/root/cwd/fd/3/x", 0),
        changed_to("/run/secrets", 0),
        raw(SYMLINK, errors.EACCES),
        raw(OPENAT, 0),
    ],
)
def test_what_is_no_reading(message: Message) -> None:
    assert seen(message) == []


@pytest.mark.parametrize(
    ("message", "operation"),
    [
        (raw(SYMLINK, 0), "symlink"),
        (raw(266, 0), "symlink"),
        (opened("/proc/self/fd/5/TOKEN", 0), "descriptor"),
        (opened("/proc/./self/fd/5/TOKEN", 0), "descriptor"),
        (opened("self/fd/5/TOKEN", 0, cwd="/proc"), "descriptor"),
        (opened("fd/5/TOKEN", 0, fd_path="/proc/self"), "descriptor"),
        (opened("/proc/self/task/9/fd/5/TOKEN", 0), "descriptor"),
        (opened("/dev/fd/5/TOKEN", 0), "descriptor"),
        (opened("/proc/7/cwd/TOKEN", 0), "descriptor"),
        (opened("/proc/self/map_files/1-2/x", 0), "descriptor"),
    ],
)
def test_what_may_be_a_reading_counts_as_one_of_all(message: Message, operation: str) -> None:
    assert seen(message) == [("KEY", operation), ("TOKEN", operation)]


def test_each_is_told_once() -> None:
    one = judge()
    message = opened("/run/secrets/TOKEN", 0, group_id=7, process_name="p" * 100)
    one.judge(message)
    assert one.reads.take() == [
        SecretReading(secret="TOKEN", operation="open", pid=7, process_name="p" * 64)
    ]
    for again in (message, raw(SYMLINK, 0), raw(SYMLINK, 0), message):
        one.judge(again)
    assert [(r.secret, r.operation, r.pid) for r in one.reads.take()] == [("KEY", "symlink", 0)]
    one.reads.finish(True)
    assert one.reads.take() == []


def test_without_secrets_nothing_is_told() -> None:
    one = Judge(RULES)
    for message in (opened("/run/secrets/TOKEN", 0), raw(SYMLINK, 0)):
        one.judge(message)
    one.reads.finish(True)
    assert one.reads.take() == []


@pytest.mark.parametrize("withheld", [False, True])
def test_at_the_end_a_name_that_was_withheld_counts(withheld: bool) -> None:
    found = SecretReads(["TOKEN"])
    found.finish(withheld)
    assert [r.operation for r in found.take()] == ["withheld"] * withheld


def test_an_open_without_its_named_twin_is_hidden() -> None:
    tally = Tally()
    for message in (raw(OPENAT, 0), opened("/a", 0), opened("/b", 0, sysno=2), raw(2, 0)):
        tally.count(message)
    assert not tally.hidden_opens
    tally.count(raw(OPENAT, errors.ENOENT))
    tally.count(raw(SYMLINK, 0))
    assert not tally.hidden_opens
    tally.count(raw(OPENAT, 0))
    assert tally.hidden_opens
    one = judge()
    one.judge(raw(OPENAT, 0))
    assert one.hidden_opens
    one.recount(opened("/a", 0))
    assert not one.hidden_opens


@pytest.mark.parametrize(
    ("path", "capability"),
    [
        ("/run/secrets/OTHER", "SECRET_ACCESS:OTHER"),
        ("/run/secrets/api-token.v2", "SECRET_ACCESS:api-token.v2"),
        ("/run/secrets/2", None),
        ("/run/secrets/A/B", None),
        ("/run/secrets/A@b", None),
        ("/run/secrets/" + "a" * 256, None),
        ("/run/secretsX", "FILE_READ:/run/secretsX"),
        ("/run/secrets", "FILE_READ:/run/secrets"),
    ],
)
def test_what_a_denied_open_would_have_needed(path: str, capability: str | None) -> None:
    attempt = judge().judge(opened(path, errors.ENOENT))
    assert attempt is not None
    assert (attempt.capability, attempt.resource) == (capability, path)


def test_no_capability_writes_there() -> None:
    for name in ("TOKEN", "OTHER"):
        attempt = judge().judge(opened(f"/run/secrets/{name}", errors.EROFS, flags=os.O_WRONLY))
        assert attempt is not None
        assert attempt.capability is None


def test_a_granted_one_is_never_an_attempt_to_read() -> None:
    assert judge().judge(opened("/run/secrets/TOKEN", errors.ENOTDIR)) is None


@pytest.mark.parametrize("name", ["A", "_", "a.b-c", "9a", "", "a b", "é", "a" * 255, "a" * 256])
def test_names_are_those_of_the_capability(name: str) -> None:
    try:
        SecretPattern.parse(name)
        valid = True
    except CapabilityError:
        valid = False
    assert (re.fullmatch(reads._NAME, name) is not None) is valid
    assert (capability_of("FILE_READ", f"/run/secrets/{name}") is not None) is valid
