"""When a secret counts as read, as a table, and what an ungranted one would have needed."""

from __future__ import annotations

import errno as errors
import os
import re

import pytest

from omnibase.core.sandbox.monitor import reads
from omnibase.core.sandbox.monitor.attempts import Granted
from omnibase.core.sandbox.monitor.reads import SecretReading, SecretReads, capability_of
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


def sign(name: str) -> Message:
    """What PID 1 says when a secret was opened."""
    return opened(f"/.secret-read/{name}", errors.ENOENT, group_id=1)


def judge() -> Judge:
    return Judge(RULES, GRANTED, secrets=("KEY", "TOKEN"))


def seen(*messages: Message) -> list[tuple[str, str]]:
    one = judge()
    for message in messages:
        one.judge(message)
    return [(reading.secret, reading.operation) for reading in one.reads.take()]


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
        opened("/proc/self/fd/5/TOKEN", 0),
        opened("/dev/stdin/TOKEN", 0),
        opened("/.secret-read/TOKEN", errors.ENOENT),
        opened("/.secret-read/OTHER", errors.ENOENT, group_id=1),
        opened("/.secret-read/", errors.ENOENT, group_id=1),
        raw(SYMLINK, 0),
        raw(OPENAT, 0),
    ],
)
def test_what_is_no_reading(message: Message) -> None:
    assert seen(message) == []


def test_what_the_guests_kernel_told_pid_1() -> None:
    assert seen(sign("TOKEN"), sign("TOKEN"), sign("KEY")) == [
        ("TOKEN", "hidden"), ("KEY", "hidden"),
    ]  # fmt: skip


def test_each_is_told_once() -> None:
    one = judge()
    message = opened("/run/secrets/TOKEN", 0, group_id=7, process_name="p" * 100)
    one.judge(message)
    assert one.reads.take() == [
        SecretReading(secret="TOKEN", operation="open", pid=7, process_name="p" * 64)
    ]
    for again in (message, sign("TOKEN"), sign("KEY"), message):
        one.judge(again)
    assert [(r.secret, r.operation, r.pid) for r in one.reads.take()] == [("KEY", "hidden", 0)]
    one.reads.finish(True)
    assert one.reads.take() == []


def test_without_secrets_nothing_is_told() -> None:
    one = Judge(RULES)
    for message in (opened("/run/secrets/TOKEN", 0), sign("TOKEN")):
        one.judge(message)
    one.reads.finish(True)
    assert one.reads.take() == []


@pytest.mark.parametrize(
    ("last_word", "lost", "withheld"),
    [(True, False, False), (True, True, True), (False, False, True), (False, True, True)],
)
def test_what_may_not_have_been_told_counts(last_word: bool, lost: bool, withheld: bool) -> None:
    found = SecretReads(["TOKEN"])
    if last_word:
        found.told("/.secret-read/")
    found.finish(lost)
    assert [r.operation for r in found.take()] == ["withheld"] * withheld


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


@pytest.mark.parametrize(
    ("kind", "path", "capability"),
    [
        ("FILE_READ", "/artifacts", "ARTIFACT_READ:*"),
        ("FILE_READ", "/artifacts/in/a.csv", "ARTIFACT_READ:in/a.csv"),
        ("FILE_READ", "/artifacts/out", "ARTIFACT_WRITE:*"),
        ("FILE_READ", "/artifacts/out/x/y", "ARTIFACT_WRITE:x/y"),
        ("FILE_WRITE", "/artifacts/out/x", "ARTIFACT_WRITE:x"),
        ("FILE_READ", "/artifacts/outer", "ARTIFACT_READ:outer"),
        ("FILE_WRITE", "/artifacts/in/a.csv", None),
        ("FILE_WRITE", "/artifacts", None),
        ("FILE_WRITE", "/artifacts2/x", "FILE_WRITE:/artifacts2/x"),
        ("FILE_READ", "/registry/report/1.0.0/script.py", "REGISTRY_READ:report"),
        ("FILE_READ", "/registry2/x", "FILE_READ:/registry2/x"),
    ],
)
def test_what_an_attempt_on_what_is_given_would_have_needed(
    kind: str, path: str, capability: str | None
) -> None:
    assert capability_of(kind, path) == capability
