"""What the judge and the ledger promise for any messages, in any order."""

from __future__ import annotations

import errno as errors
from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from omnibase.core.sandbox.monitor.attempts import Attempt, Granted
from omnibase.core.sandbox.monitor.ledger import MAX_DISTINCT, Ledger
from omnibase.core.sandbox.monitor.violations import Judge
from omnibase.core.sandbox.monitor.wire import Message, MessageType
from omnibase.core.sandbox.spec import Mask
from tests.helpers.messages import inet, unix
from tests.helpers.specs import compiled

RULES = compiled().watch
GRANTED = (
    Granted(path="/data/in.csv", tree=False, writable=False),
    Granted(path="/srv/work", tree=True, writable=True),
    Granted(path="/tmp/seed/words.txt", tree=False, writable=False),
)
MASKS = (Mask(path="/srv/work/secret", reason="masked"),)

KINDS = sorted(value for name, value in vars(MessageType).items() if not name.startswith("_"))
names = st.sampled_from(
    ["", ".", "..", "etc", "passwd", "tmp", "srv", "work", "secret", "data", "in.csv", "proc",
     "self", "root", "cwd", "guest", "seed", "fd", "3", ".lookup", "a:1", "lib", "libc.so.6"]
)  # fmt: skip
paths = st.builds(
    lambda start, parts: start + "/".join(parts),
    st.sampled_from(["", "/", "//"]),
    st.lists(names, max_size=6),
)
addresses = st.one_of(
    st.binary(max_size=40),
    paths.map(unix),
    st.builds(
        inet,
        st.sampled_from(["127.0.0.1", "203.0.113.5", "::1", "2001:db8::1", "192.0.2.53", "::"]),
        st.sampled_from([0, 53, 80, 65535]),
    ),
)
messages = st.builds(
    Message,
    type=st.sampled_from(KINDS),
    group_id=st.sampled_from([0, 1, 2, 3]),
    thread_id=st.sampled_from([0, 1, 2, 3]),
    process_name=st.text(max_size=80),
    cwd=paths,
    errno=st.sampled_from(
        [0, errors.EACCES, errors.EPERM, errors.ENOENT, errors.ENOTDIR, errors.EROFS,
         errors.EAGAIN, errors.ENETUNREACH, errors.ECONNREFUSED, errors.ENOSYS]
    ),
    result=st.integers(-4095, 1 << 20),
    sysno=st.sampled_from([0, 42, 44, 57, 60, 62, 87, 88, 165, 231, 257, 266]),
    path=paths,
    fd_path=paths,
    flags=st.integers(0, 1 << 22),
    address=addresses,
    argv=st.lists(st.text(max_size=3), max_size=3).map(tuple),
)  # fmt: skip


def judge() -> Judge:
    return Judge(RULES, GRANTED, MASKS)


@given(st.lists(messages, max_size=30))
def test_any_message_is_judged_and_what_is_told_is_canonical(stream: list[Message]) -> None:
    subject = judge()
    attempts = [subject.judge(message) for message in stream]
    for message, attempt in zip(stream, attempts, strict=True):
        if attempt is None:
            continue
        assert message.group_id != 1
        assert len(attempt.process_name) <= 64
        if attempt.operation in ("open", "chdir") and attempt.capability is not None:
            kind, _, path = attempt.capability.partition(":")
            assert kind in ("FILE_READ", "FILE_WRITE")
            assert path == attempt.resource
            assert path.startswith("/")
            assert not {"", ".", ".."} & set(path.split("/")[1:]) or path == "/"
    subject.pending()


@given(messages, st.lists(messages, max_size=20))
def test_stateless_messages_get_the_same_answer_whatever_came_between(
    message: Message, between: list[Message]
) -> None:
    subject = judge()
    if not Judge.stateless(message):
        return
    first = subject.judge(message)
    for other in between:
        subject.judge(other)
    assert subject.judge(message) == first


@given(st.lists(messages, max_size=30))
def test_the_agents_own_messages_change_nothing(stream: list[Message]) -> None:
    others = [message for message in stream if message.group_id not in (0, 1)]
    mixed, alone = judge(), judge()
    told = [mixed.judge(m) for m in stream if m.group_id != 0 and m.type != MessageType.SYSCALL_RAW]
    expected = [alone.judge(m) for m in others if m.type != MessageType.SYSCALL_RAW]
    assert [a for a in told if a] == [a for a in expected if a]


attempts = st.builds(
    Attempt,
    capability=st.sampled_from([None, "FILE_READ:/a", "FILE_READ:/b"]),
    operation=st.sampled_from(["open", "mount"]),
    resource=st.sampled_from(["/a", "/b"]),
    errno=st.sampled_from([1, 2, 13]),
    pid=st.integers(0, 5),
)


def add_all(made: Iterable[Attempt]) -> tuple[Ledger, int]:
    ledger = Ledger()
    told = sum(ledger.add(a, float(i)) is not None for i, a in enumerate(made))
    return ledger, told


@given(st.lists(attempts, max_size=60))
def test_counts_add_up(made: list[Attempt]) -> None:
    ledger, told = add_all(made)
    rows = ledger.violations()
    assert told == len(rows) == len(ledger)
    assert sum(row.count for row in rows) + ledger.overflow == len(made)
    expected = Counter(attempt.key for attempt in made)
    assert {(r.capability, r.operation, r.resource, r.errno): r.count for r in rows} == expected
    order = list(dict.fromkeys(attempt.key for attempt in made))
    assert [(r.capability, r.operation, r.resource, r.errno) for r in rows] == order
    assert all(row.first_seen <= row.last_seen for row in rows)


@given(st.lists(st.integers(0, 400), max_size=900))
def test_counts_add_up_beyond_the_bound(numbers: list[int]) -> None:
    made = [Attempt(capability=None, operation="x", resource=str(n), errno=1) for n in numbers]
    ledger, told = add_all(made)
    assert told == min(len(set(numbers)), MAX_DISTINCT)
    assert sum(row.count for row in ledger.violations()) + ledger.overflow == len(numbers)
