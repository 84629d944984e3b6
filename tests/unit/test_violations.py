"""What is a violation, as a table: a message, and the attempt that it shows or none."""

from __future__ import annotations

import errno as errors
import json
import os
from typing import Final

import pytest

from omnibase.core.sandbox.egress.layout import Layout, agent_rows
from omnibase.core.sandbox.monitor.attempts import Attempt, Granted, Violation
from omnibase.core.sandbox.monitor.violations import Judge
from omnibase.core.sandbox.monitor.wire import Message, MessageType
from omnibase.core.sandbox.spec import Mask
from tests.helpers.messages import (
    bound,
    changed_to,
    connected,
    ended,
    executed,
    inet,
    opened,
    other,
    raw,
    run,
    unix,
)
from tests.helpers.specs import compiled

RULES = compiled().watch
GRANTED = (
    Granted(path="/data/in.csv", tree=False, writable=False),
    Granted(path="/data/log.txt", tree=False, writable=True),
    Granted(path="/srv/tree", tree=True, writable=False),
    Granted(path="/srv/work", tree=True, writable=True),
    Granted(path="/tmp/seed/words.txt", tree=False, writable=False),
)
MASKS = (Mask(path="/srv/tree/secret", reason="policy says so"),)
READ, WRITE, CREATE = os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT
ABSENT, DENIED = errors.ENOENT, errors.EACCES


def judge() -> Judge:
    return Judge(RULES, GRANTED, MASKS)


def short(attempt: Attempt | None) -> tuple[str | None, str, str] | None:
    return attempt and (attempt.capability, attempt.operation, attempt.resource)


def read(path: str) -> tuple[str, str, str]:
    return f"FILE_READ:{path}", "open", path


def written(path: str) -> tuple[str, str, str]:
    return f"FILE_WRITE:{path}", "open", path


def network(endpoint: str) -> tuple[str, str, str]:
    return f"NETWORK_CONNECT:{endpoint}", "connect", endpoint


OPENS = {
    # The host's files: denied where a closed directory stands, absent elsewhere.
    "stub": (opened("/etc/passwd"), read("/etc/passwd")),
    "closed directory": (opened("/home/me/.ssh/id_rsa"), read("/home/me/.ssh/id_rsa")),
    "absent": (opened("/secret", ABSENT), read("/secret")),
    "a file where a directory is due": (
        opened("/etc/hosts/x", errors.ENOTDIR),
        read("/etc/hosts/x"),
    ),
    "read-only file system": (opened("/x", errors.EROFS, flags=CREATE), written("/x")),
    "not permitted": (opened("/x", errors.EPERM), read("/x")),
    # Not a denial.
    "success": (opened("/etc/hosts", 0), None),
    "is a directory": (opened("/etc", errors.EISDIR), None),
    "loop": (opened("/tmp/loop", errors.ELOOP), None),
    "name too long": (opened("/" + "x" * 300, errors.ENAMETOOLONG), None),
    "too many files": (opened("/etc/passwd", errors.EMFILE), None),
    "empty path": (opened("", ABSENT), None),
    # Intent to write.
    "write": (opened("/data/x", flags=WRITE), written("/data/x")),
    "read and write": (opened("/data/x", flags=os.O_RDWR), written("/data/x")),
    "create": (opened("/data/x", flags=os.O_CREAT), written("/data/x")),
    "truncate": (opened("/data/x", flags=os.O_TRUNC), written("/data/x")),
    "creat(2)": (opened("/data/x", sysno=85), written("/data/x")),
    "append alone reads": (opened("/data/x", flags=os.O_APPEND), read("/data/x")),
    # How a path was given.
    "relative to the working directory": (opened("x", cwd="/etc"), read("/etc/x")),
    "relative to a descriptor": (opened("x", fd_path="/etc"), read("/etc/x")),
    "a descriptor below the jail": (opened("x", ABSENT, fd_path="/guest/srv"), read("/srv/x")),
    "a descriptor of the jail itself": (opened("x", ABSENT, fd_path="/guest"), read("/x")),
    "what only starts like the jail": (opened("x", ABSENT, fd_path="/guests"), read("/guests/x")),
    "a working directory below the jail": (opened("x", ABSENT, cwd="/guest/etc"), read("/etc/x")),
    "absolute whatever the descriptor": (opened("/x", ABSENT, fd_path="/tmp"), read("/x")),
    "dots": (opened("/tmp/../etc/./passwd"), read("/etc/passwd")),
    "dots above the root": (opened("../../../../x", ABSENT), read("/x")),
    "slashes": (opened("//etc///shadow"), read("/etc/shadow")),
    "no working directory known": (opened("x", ABSENT, cwd=""), read("/x")),
    "the root by /proc": (opened("/proc/self/root/etc/passwd"), read("/etc/passwd")),
    "the root by a task": (opened("/proc/7/task/8/root/data/x", ABSENT), read("/data/x")),
    "the root twice": (opened("/proc/8/root/proc/self/root/x", ABSENT), read("/x")),
    "the working directory by /proc": (
        opened("/proc/self/cwd/x", ABSENT, cwd="/etc"),
        read("/etc/x"),
    ),
    "the root itself": (opened("/proc/8/root"), read("/")),
    "the root of PID 1, which is not ours": (
        opened("/proc/1/root/x"),
        read("/proc/1/root/x"),
    ),
    "the root and back": (opened("/proc/self/root/../../x", ABSENT), read("/x")),
    "the working directory is the root": (opened("/proc/self/cwd/x", ABSENT, cwd="/"), read("/x")),
    "a working directory that names itself": (
        opened("/proc/self/cwd/x", cwd="/proc/self/cwd"),
        read("/proc/self/cwd/x"),
    ),
    "undecodable": (opened("/x\udcff", ABSENT), read("/x\udcff")),
    # The guest's own world: what is missing there is no attempt, what is closed is.
    "absent module": (opened("/opt/omnibase/lib/python3.11/foo.py", ABSENT), None),
    "absent scratch": (opened("/tmp/x", ABSENT), None),
    "absent scratch itself": (opened("/tmp", ABSENT), None),
    "absent in /proc": (opened("/proc/cpuinfo2", ABSENT), None),
    "absent in /dev": (opened("/dev/kvm", ABSENT), None),
    "absent in /sys": (opened("/sys/fs/cgroup/cpu.max", ABSENT), None),
    "absent beside the script": (opened("/run/script/helper.py", ABSENT), None),
    "a name that only starts like scratch": (opened("/tmpx/y", ABSENT), read("/tmpx/y")),
    "closed in /proc": (opened("/proc/1/mem"), read("/proc/1/mem")),
    "closed interpreter": (
        opened("/opt/omnibase/bin/python3.11"),
        read("/opt/omnibase/bin/python3.11"),
    ),
    "another's descriptor": (opened("/proc/1/fd/3"), read("/proc/1/fd/3")),
    "below a descriptor": (
        opened("/proc/self/fd/3/etc/passwd", ABSENT),
        read("/proc/self/fd/3/etc/passwd"),
    ),
    "below a descriptor, by the other name": (
        opened("/dev/fd/3/etc/passwd", ABSENT),
        read("/proc/self/fd/3/etc/passwd"),
    ),
    "below standard input": (opened("/dev/stdin/x", ABSENT), read("/proc/self/fd/0/x")),
    "beside what a descriptor is": (
        opened("/proc/self/fd/3/../../../home/x", ABSENT),
        read("/proc/self/fd/3/home/x"),
    ),
    "beside the link to descriptors": (opened("/dev/fd/../root/home/x", ABSENT), read("/home/x")),
    "no descriptor, by the other name": (opened("/dev/fd/99", ABSENT), None),
    "a descriptor that is not open": (opened("/proc/self/fd/99", ABSENT), None),
    # The script's own files may be closed to it as well: no one else has any there.
    "own file closed": (opened("/tmp/own", DENIED), None),
    "own file read-only": (opened("/tmp/own", DENIED, flags=WRITE), None),
    "own shared memory": (opened("/dev/shm/own", DENIED), None),
    # Grants.
    "granted file": (opened("/data/in.csv"), None),
    "granted file for writing": (
        opened("/data/in.csv", errors.EROFS, flags=WRITE),
        written("/data/in.csv"),
    ),
    "writable file": (opened("/data/log.txt", flags=WRITE), None),
    "sibling of a granted file": (opened("/data/in.csv2", ABSENT), read("/data/in.csv2")),
    "below a granted file": (opened("/data/in.csv/x", errors.ENOTDIR), read("/data/in.csv/x")),
    "granted tree": (opened("/srv/tree/a/b", ABSENT), None),
    "granted tree itself": (opened("/srv/tree"), None),
    "granted tree for writing": (
        opened("/srv/tree/a", errors.EROFS, flags=CREATE),
        written("/srv/tree/a"),
    ),
    "sibling of a granted tree": (opened("/srv/tree2/a", ABSENT), read("/srv/tree2/a")),
    "out of a granted tree": (opened("/srv/tree/../x", ABSENT), read("/srv/x")),
    "writable tree": (opened("/srv/work/new", ABSENT, flags=CREATE), None),
    "granted file in scratch for writing": (
        opened("/tmp/seed/words.txt", errors.EROFS, flags=WRITE),
        written("/tmp/seed/words.txt"),
    ),
    "beside a granted file in scratch": (opened("/tmp/seed/x", ABSENT), read("/tmp/seed/x")),
    "closed beside a granted file in scratch": (
        opened("/tmp/seed/x", DENIED, flags=CREATE),
        written("/tmp/seed/x"),
    ),
    "scratch above it": (opened("/tmp/x", DENIED), None),
    # Probes of the runtime itself.
    "named probe": (opened("/etc/ld.so.preload", ABSENT), None),
    "name service cache": (opened("/run/nscd/socket", ABSENT), None),
    "time zone": (opened("/usr/share/zoneinfo/Mars/Base", ABSENT), None),
    "terminal": (opened("/usr/share/terminfo/x/xterm", ABSENT), None),
    "locale": (opened("/usr/lib/locale/locale-archive", ABSENT), None),
    "library": (opened("/lib/x86_64-linux-gnu/libfoo.so.1"), None),
    "library in another place": (
        opened("/usr/lib64/glibc-hwcaps/x86-64-v3/libz.so.1", ABSENT),
        None,
    ),
    "loader": (opened("/lib/ld-musl-x86_64.so.1", ABSENT), None),
    "a wheel's OpenSSL": (opened("/usr/lib/psycopg-openssl/openssl.cnf", ABSENT), None),
    "a configuration": (opened("/etc/app/openssl.cnf", ABSENT), read("/etc/app/openssl.cnf")),
    "converter": (opened("/usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache", ABSENT), None),
    "no library": (opened("/usr/lib/secret.txt", ABSENT), read("/usr/lib/secret.txt")),
    "no library by its name": (
        opened("/usr/lib/python3/x.py", ABSENT),
        read("/usr/lib/python3/x.py"),
    ),
    "library elsewhere": (opened("/srv/lib/libfoo.so", ABSENT), read("/srv/lib/libfoo.so")),
    "writing a probe": (
        opened("/etc/ld.so.preload", DENIED, flags=CREATE),
        written("/etc/ld.so.preload"),
    ),
    "libuuid's clock": (opened("/var/lib/libuuid/clock.txt", ABSENT, flags=CREATE), None),
    "writing a library": (opened("/lib/libc.so.6", DENIED, flags=WRITE), written("/lib/libc.so.6")),
}


@pytest.mark.parametrize("case", OPENS)
def test_opens(case: str) -> None:
    message, expected = OPENS[case]
    assert short(judge().judge(message)) == expected


def test_an_attempt_names_who_made_it() -> None:
    attempt = judge().judge(opened("/x", ABSENT, group_id=7, process_name="x" * 100))
    assert attempt == Attempt(
        capability="FILE_READ:/x", operation="open", resource="/x", errno=errors.ENOENT, pid=7,
        process_name="x" * 64,
    )  # fmt: skip
    assert attempt.key == ("FILE_READ:/x", "open", "/x", errors.ENOENT)


@pytest.mark.parametrize("errno", [ABSENT, DENIED, errors.EROFS])
@pytest.mark.parametrize(
    "path", ["/srv/tree/secret", "/srv/tree/secret/key", "/srv/tree/x/../secret"]
)
def test_masks_give_their_reason(path: str, errno: int) -> None:
    attempt = judge().judge(opened(path, errno))
    assert attempt is not None
    assert attempt.reason == "policy says so"


def test_a_mask_ends_at_its_name() -> None:
    assert judge().judge(opened("/srv/tree/secretary", ABSENT)) is None


def test_a_link_that_leads_below_a_mask_is_an_attempt() -> None:
    leads = {"/srv/tree/link/key": "/srv/tree/secret/key"}
    subject = Judge(RULES, GRANTED, MASKS, resolve=lambda path: leads.get(path, path))
    attempt = subject.judge(opened("/srv/tree/link/key", ABSENT))
    assert attempt is not None and attempt.reason == "policy says so"
    assert subject.judge(opened("/srv/tree/absent", ABSENT)) is None


class TestDatabases:
    """Of a database that may be read: SQLite opens for writing first, and does without."""

    PATH: Final = "/srv/data/app.db"
    OWN: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW

    def judge(self, path: str, flags: int) -> Attempt | None:
        granted = Granted(path=self.PATH, tree=False, writable=False)
        subject = Judge(RULES, (granted,), databases=(self.PATH,))
        return subject.judge(opened(path, errors.EACCES, flags=flags))

    def test_its_own_way_is_no_attempt(self) -> None:
        assert self.judge(self.PATH, self.OWN) is None
        assert self.judge(self.PATH, os.O_RDWR | os.O_NOFOLLOW) is None
        assert self.judge(self.PATH, os.O_RDONLY) is None

    @pytest.mark.parametrize(
        ("end", "flags"),
        [
            ("", os.O_RDWR),
            ("", OWN | os.O_TRUNC),
            ("", OWN | os.O_APPEND),
            ("", OWN | os.O_EXCL),
            ("-journal", OWN),
            ("-wal", OWN),
            ("-shm", OWN),
        ],
    )
    def test_another_is_one(self, end: str, flags: int) -> None:
        attempt = self.judge(self.PATH + end, flags)
        assert attempt is not None
        assert attempt.capability == f"DATABASE_WRITE:sqlite:{self.PATH}"
        assert attempt.resource == self.PATH + end

    def test_what_is_beside_it_is_another_file(self) -> None:
        attempt = self.judge("/srv/data/app.db2", self.OWN)
        assert attempt is not None and attempt.capability == "FILE_WRITE:/srv/data/app.db2"


class TestCovers:
    """What is covered in a tree that may be written can be opened if the cover is gone."""

    MASKS = (Mask(path="/srv/work/d", reason="of d"), Mask(path="/srv/work/f", reason="of f"))
    LEADS: Final = {"/srv/work/link": "/srv/work/f"}

    def judge(self) -> Judge:
        return Judge(
            RULES,
            GRANTED,
            self.MASKS,
            covered={"/srv/work/d": True, "/srv/work/f": False},
            resolve=lambda path: self.LEADS.get(path, path),
        )

    @pytest.mark.parametrize(
        ("path", "reason"),
        [("/srv/work/d/key", "of d"), ("/srv/work/f", "of f"), ("/srv/work/link", "of f")],
    )
    def test_a_success_below_a_cover_is_an_attempt(self, path: str, reason: str) -> None:
        for message in (opened(path, 0), changed_to(path, 0)):
            attempt = self.judge().judge(message)
            assert attempt is not None and attempt.capability == f"FILE_READ:{path}"
            assert attempt.reason == f"{reason}; the host replaced its cover"

    @pytest.mark.parametrize("flags", [WRITE, CREATE])
    def test_writing_there_is_told_as_such(self, flags: int) -> None:
        attempt = self.judge().judge(opened("/srv/work/d/key", 0, flags=flags))
        assert attempt is not None and attempt.capability == "FILE_WRITE:/srv/work/d/key"

    @pytest.mark.parametrize("path", ["/srv/work/d", "/srv/work/x", "/srv/work/df", "/tmp/d/key"])
    def test_the_cover_itself_and_all_else_is_none(self, path: str) -> None:
        for message in (opened(path, 0), changed_to(path, 0)):
            assert self.judge().judge(message) is None

    def test_what_is_left_out_by_construction_is_not_asked_for(self) -> None:
        assert judge().judge(opened("/srv/tree/secret/key", 0)) is None
        assert judge().judge(changed_to("/srv/tree/secret", 0)) is None


class TestLinks:
    """Once the script has made a link, what is refused in scratch may lie anywhere."""

    @pytest.mark.parametrize("number", [88, 266])
    def test_what_is_refused_behind_a_link_is_an_attempt(self, number: int) -> None:
        subject = judge()
        assert subject.judge(opened("/tmp/link/passwd", DENIED)) is None
        assert subject.judge(raw(number, 0)) is None
        assert short(subject.judge(opened("/tmp/link/passwd", DENIED))) == read("/tmp/link/passwd")
        assert short(subject.judge(opened("/srv/work/link", DENIED))) == read("/srv/work/link")

    def test_what_is_merely_missing_is_none(self) -> None:
        subject = judge()
        subject.judge(raw(88, 0))
        assert subject.judge(opened("/tmp/link/x", ABSENT)) is None
        assert subject.judge(opened("/srv/work/link/x", ABSENT)) is None

    def test_what_cannot_hold_a_link_stays_as_it_was(self) -> None:
        subject = judge()
        subject.judge(raw(88, 0))
        assert subject.judge(opened("/srv/tree/x", DENIED)) is None
        assert subject.judge(opened("/opt/omnibase/lib/x.py", ABSENT)) is None

    def test_a_link_that_failed_is_none(self) -> None:
        subject = judge()
        assert subject.judge(raw(88, errors.EEXIST)) is None
        assert subject.judge(opened("/tmp/link", DENIED)) is None


CHANGES = {
    "closed": (changed_to("/root"), ("FILE_READ:/root", "chdir", "/root")),
    "absent": (changed_to("/nowhere", ABSENT), ("FILE_READ:/nowhere", "chdir", "/nowhere")),
    "own": (changed_to("/tmp/x", ABSENT), None),
    "granted": (changed_to("/srv/tree/x", ABSENT), None),
    "success": (changed_to("/tmp", 0), None),
    "empty": (changed_to("", ABSENT), None),
}


@pytest.mark.parametrize("case", CHANGES)
def test_changes_of_directory(case: str) -> None:
    message, expected = CHANGES[case]
    assert short(judge().judge(message)) == expected


def command(name: str, path: str) -> tuple[str, str, str]:
    return f"EXTERNAL_COMMAND:{name}", "execve", path


EXECUTIONS = {
    "shell": (executed("/bin/sh", "sh", "-c", "id"), command("sh", "/bin/sh")),
    "absent": (
        executed("/opt/omnibase/bin/git", "git", errno=ABSENT),
        command("git", "/opt/omnibase/bin/git"),
    ),
    "own file": (executed("./x", cwd="/tmp"), command("x", "/tmp/x")),
    "interpreter": (
        executed("/opt/omnibase/bin/python3"),
        command("python3", "/opt/omnibase/bin/python3"),
    ),
    "one that succeeds: the kernel tells what it was": (executed("/bin/sh", errno=0), None),
    "of which the kernel tells": (run("/bin/busybox"), command("busybox", "/bin/busybox")),
    "in the jail": (run("/guest/tmp/x"), command("x", "/tmp/x")),
    "descriptor with a path": (executed("", fd_path="/guest/tmp/x"), command("x", "/tmp/x")),
    "relative to a descriptor": (executed("x", fd_path="/guest/tmp"), command("x", "/tmp/x")),
    "descriptor without a path": (executed(""), command("(a descriptor)", "(a descriptor)")),
    "platform's probe": (executed("/opt/omnibase/bin/uname", "uname", "-p", errno=ABSENT), None),
    "another use of the same": (
        executed("/opt/omnibase/bin/uname", "uname", "-a", errno=ABSENT),
        command("uname", "/opt/omnibase/bin/uname"),
    ),
    "no arguments": (executed("/bin/uname"), command("uname", "/bin/uname")),
    "the root": (executed("/"), command("/", "/")),
}


@pytest.mark.parametrize("case", EXECUTIONS)
def test_executions(case: str) -> None:
    message, expected = EXECUTIONS[case]
    assert short(judge().judge(message)) == expected


@pytest.mark.parametrize("probe", ["/sbin/ldconfig", "/usr/sbin/ldconfig"])
def test_a_stock_search_for_libraries_is_a_probe(probe: str) -> None:
    assert judge().judge(executed(probe, probe, "-p")) is None


UNREACHABLE = errors.ENETUNREACH
CONNECTS = {
    "IPv4": (connected(inet("203.0.113.5", 443)), network("203.0.113.5:443")),
    "IPv6": (connected(inet("2001:db8::1", 80)), network("[2001:db8::1]:80")),
    "mapped": (connected(inet("::ffff:203.0.113.5", 1)), network("203.0.113.5:1")),
    "metadata": (
        connected(inet("169.254.169.254", 80), errors.EHOSTUNREACH),
        network("169.254.169.254:80"),
    ),
    "in progress": (
        connected(inet("203.0.113.5", 1), errors.EINPROGRESS),
        network("203.0.113.5:1"),
    ),
    "timed out": (connected(inet("203.0.113.5", 1), errors.ETIMEDOUT), network("203.0.113.5:1")),
    "done": (connected(inet("203.0.113.5", 1), 0), None),
    "again": (connected(inet("203.0.113.5", 1), errors.EALREADY), None),
    "already": (connected(inet("203.0.113.5", 1), errors.EISCONN), None),
    "interrupted": (connected(inet("203.0.113.5", 1), errors.EINTR), None),
    "loopback": (connected(inet("127.0.0.1", 80), errors.ECONNREFUSED), None),
    "all of loopback": (connected(inet("127.9.9.9", 80), UNREACHABLE), None),
    "IPv6 loopback": (connected(inet("::1", 80), errors.ECONNREFUSED), None),
    "mapped loopback": (connected(inet("::ffff:127.0.0.1", 80), errors.ECONNREFUSED), None),
    "any": (connected(inet("0.0.0.0", 80), errors.ECONNREFUSED), None),
    "IPv6 any": (connected(inet("::", 80), errors.ECONNREFUSED), None),
    "no address": (connected(b"", errors.EINVAL), None),
    "one byte": (connected(b"\x02", errors.EINVAL), None),
    "short IPv4": (connected(inet("203.0.113.5", 1)[:7], errors.EINVAL), None),
    "short IPv6": (connected(inet("2001:db8::1", 1)[:23], errors.EINVAL), None),
    "unspecified family": (connected(bytes(16), errors.EINVAL), None),
    "netlink": (connected(b"\x10\0" + bytes(10), errors.EPERM), None),
    "a Unix socket": (
        connected(unix("/run/docker.sock"), ABSENT),
        ("FILE_WRITE:/run/docker.sock", "connect", "/run/docker.sock"),
    ),
    "a closed Unix socket": (
        connected(unix("/var/run/docker.sock"), DENIED),
        ("FILE_WRITE:/var/run/docker.sock", "connect", "/var/run/docker.sock"),
    ),
    "a relative Unix socket": (
        connected(unix("var/run/x"), DENIED, cwd="/"),
        ("FILE_WRITE:/var/run/x", "connect", "/var/run/x"),
    ),
    "a Unix socket with slashes": (
        connected(unix("//var/run/x"), DENIED),
        ("FILE_WRITE:/var/run/x", "connect", "/var/run/x"),
    ),
    "out of scratch": (
        connected(unix("/tmp/../run/x"), ABSENT),
        ("FILE_WRITE:/run/x", "connect", "/run/x"),
    ),
    "own Unix socket": (connected(unix("/tmp/x"), ABSENT), None),
    "own relative Unix socket": (connected(unix("x"), ABSENT), None),
    "refused Unix socket": (connected(unix("/run/x"), errors.ECONNREFUSED), None),
    "name service cache": (connected(unix("/var/run/nscd/socket"), DENIED), None),
    "abstract": (connected(b"\x01\0\0name", errors.ECONNREFUSED), None),
    "absent abstract": (connected(b"\x01\0\0name", ABSENT), None),
    "unnamed": (connected(b"\x01\0", ABSENT), None),
    "bind elsewhere": (
        bound(inet("203.0.113.1", 80), errors.EADDRNOTAVAIL),
        (None, "bind", "203.0.113.1:80"),
    ),
    "bind low": (bound(inet("127.0.0.1", 80), DENIED), (None, "bind", "127.0.0.1:80")),
    "bind in use": (bound(inet("127.0.0.1", 8080), errors.EADDRINUSE), None),
    "bind": (bound(inet("127.0.0.1", 8080)), None),
    "bind a Unix socket": (bound(unix("/tmp/x")), None),
    "bind a Unix socket elsewhere": (
        bound(unix("/run/x"), DENIED),
        ("FILE_WRITE:/run/x", "bind", "/run/x"),
    ),
    "bind netlink": (bound(b"\x10\0" + bytes(10), errors.EPERM), None),
    "raw socket": (
        other(MessageType.SOCKET, flags=17, kind=0x80003, errno=errors.EPERM),
        (None, "socket", "family 17, type 3"),
    ),
    "unknown family": (other(MessageType.SOCKET, flags=99, errno=errors.EAFNOSUPPORT), None),
}


@pytest.mark.parametrize("case", CONNECTS)
def test_sockets(case: str) -> None:
    message, expected = CONNECTS[case]
    assert short(judge().judge(message)) == expected


class TestLoopback:
    """A refusal on the guest's own loopback is judged at the end."""

    REFUSED = connected(inet("127.0.0.1", 5432), errors.ECONNREFUSED)

    def test_nothing_ever_listened(self) -> None:
        subject = judge()
        for _ in range(3):
            subject.judge(self.REFUSED)
        assert [short(a) for a in subject.pending()] == [network("127.0.0.1:5432")]

    def test_each_address_is_an_attempt_of_its_own(self) -> None:
        """`localhost` is tried as one address and then as the other."""
        subject = judge()
        for host in ("::1", "127.0.0.1"):
            subject.judge(connected(inet(host, 5432), errors.ECONNREFUSED))
        expected = [network("[::1]:5432"), network("127.0.0.1:5432")]
        assert [short(a) for a in subject.pending()] == expected
        subject.judge(bound(inet("127.0.0.1", 5432)))
        assert subject.pending() == []

    @pytest.mark.parametrize("first", [True, False])
    def test_a_server_of_its_own(self, first: bool) -> None:
        subject = judge()
        steps = [self.REFUSED, bound(inet("127.0.0.1", 5432))]
        for message in steps if first else reversed(steps):
            assert subject.judge(message) is None
        assert subject.pending() == []

    def test_a_server_on_another_port(self) -> None:
        subject = judge()
        subject.judge(self.REFUSED)
        subject.judge(bound(inet("127.0.0.1", 5433)))
        subject.judge(bound(inet("127.0.0.1", 5432), errors.EADDRINUSE))
        assert len(subject.pending()) == 1

    def test_a_server_on_any_port(self) -> None:
        subject = judge()
        subject.judge(self.REFUSED)
        subject.judge(bound(inet("0.0.0.0", 0)))
        assert subject.pending() == []

    def test_one_in_progress_counts_as_well(self) -> None:
        subject = judge()
        subject.judge(connected(inet("127.0.0.1", 5432), errors.EINPROGRESS))
        assert len(subject.pending()) == 1

    def test_other_failures_do_not(self) -> None:
        subject = judge()
        subject.judge(connected(inet("127.0.0.1", 5432), errors.ETIMEDOUT))
        assert subject.pending() == []

    def test_it_is_bounded(self) -> None:
        subject = judge()
        for port in range(1, 3000):
            subject.judge(connected(inet("127.0.0.1", port), errors.ECONNREFUSED))
        assert len(subject.pending()) == 1024
        subject = judge()
        for port in range(1, 3000):
            subject.judge(bound(inet("127.0.0.1", port)))
        subject.judge(connected(inet("127.0.0.1", 1024), errors.ECONNREFUSED))
        subject.judge(connected(inet("127.0.0.1", 2999), errors.ECONNREFUSED))
        assert [short(a) for a in subject.pending()] == [network("127.0.0.1:2999")]


class TestLookups:
    """A name look-up reaches for the name server; the runtime's hint names what for."""

    SERVER = connected(inet("192.0.2.53", 53))

    def test_with_a_hint(self) -> None:
        subject = judge()
        assert subject.judge(opened("/.lookup/example.com:443", ABSENT)) is None
        assert short(subject.judge(self.SERVER)) == (
            "NETWORK_CONNECT:example.com:443", "lookup", "example.com:443",
        )  # fmt: skip

    def test_without_one(self) -> None:
        assert short(judge().judge(self.SERVER)) == (None, "lookup", "(a name look-up)")

    def test_a_hint_serves_once_and_its_own_process(self) -> None:
        subject = judge()
        subject.judge(opened("/.lookup/a:1", ABSENT, group_id=7))
        subject.judge(opened("/.lookup/b:2", ABSENT, group_id=2))
        assert short(subject.judge(self.SERVER))[0] == "NETWORK_CONNECT:b:2"  # type: ignore[index]
        assert short(subject.judge(self.SERVER))[0] is None  # type: ignore[index]

    def test_hints_are_bounded(self) -> None:
        subject = judge()
        for group in range(10, 2000):
            subject.judge(opened("/.lookup/a:1", ABSENT, group_id=group))
        assert len(subject.network._lookups) == 1024

    def test_a_datagram_socket_that_connects_is_no_attempt(self) -> None:
        assert judge().judge(connected(inet("192.0.2.53", 53), 0)) is None


PATHLESS = "a path outside the grants"
CALLS = {
    "mount": (raw(165), (None, "mount", "mount")),
    "bpf": (raw(321, errors.ENOSYS), (None, "bpf", "bpf")),
    "unshare": (raw(272), (None, "unshare", "unshare")),
    "one that succeeds": (raw(165, 0), None),
    "unlink": (raw(87, DENIED), (None, "unlink", PATHLESS)),
    "rename on a read-only file system": (raw(82, errors.EROFS), (None, "rename", PATHLESS)),
    "unlink of nothing": (raw(87, ABSENT), None),
    "sendto": (raw(44, UNREACHABLE), (None, "sendto", "an address outside the sandbox")),
    "sendto on a closed pipe": (raw(44, errors.EPIPE), None),
    "kill": (raw(62), (None, "kill", "another user's rights or processes")),
    "kill of nothing": (raw(62, errors.ESRCH), None),
    "another call": (raw(39), None),
    "chroot": (other(MessageType.CHROOT, path="/tmp", errno=1), (None, "chroot", "/tmp")),
    "chroot that works": (other(MessageType.CHROOT, path="/tmp"), None),
    "setuid": (other(MessageType.SETID, errno=1), (None, "setuid", "another user or group")),
    "setresuid": (other(MessageType.SETRESID, errno=1), (None, "setuid", "another user or group")),
    "setuid to itself": (other(MessageType.SETID), None),
    "setuid in vain": (other(MessageType.SETID, errno=errors.EINVAL), None),
    "user namespace": (
        other(MessageType.CLONE, flags=0x10000000, errno=1),
        (None, "clone", "flags 0x10000000"),
    ),
    "fork": (other(MessageType.CLONE, flags=17), None),
    "killed by seccomp": (ended(31, 7), (None, "seccomp", "a system call that no script needs")),
    "killed with a core": (
        ended(31 | 0x80, 7),
        (None, "seccomp", "a system call that no script needs"),
    ),
    "killed otherwise": (ended(9, 7), None),
    "exit status 31": (ended(31 << 8, 7), None),
    "unknown": (Message(type=99, group_id=2), None),
    "start": (Message(type=MessageType.CONTAINER_START), None),
}


@pytest.mark.parametrize("case", CALLS)
def test_system_calls(case: str) -> None:
    message, expected = CALLS[case]
    assert short(judge().judge(message)) == expected


def test_a_process_is_killed_once() -> None:
    subject = judge()
    assert subject.judge(ended(31, 7)) is not None
    assert subject.judge(ended(31, 7)) is None
    assert subject.judge(ended(31, 8)) is not None


def test_killed_processes_are_bounded() -> None:
    subject = judge()
    for group in range(10, 2000):
        assert subject.judge(ended(31, group)) is not None
    assert len(subject._killed) == 1024


@pytest.mark.parametrize(
    "message", [raw(57, errors.EAGAIN), raw(58, errors.EAGAIN), other(MessageType.CLONE, errno=11)]
)
def test_a_fork_that_is_refused_is_no_attempt_but_noted(message: Message) -> None:
    subject = judge()
    assert not subject.pids_refused
    assert subject.judge(message) is None
    assert subject.pids_refused
    assert subject.judge(raw(57, errors.ENOMEM)) is None
    assert subject.pids_refused


@pytest.mark.parametrize(
    "message",
    [
        opened("/etc/passwd", group_id=1),
        executed("/bin/sh", group_id=1),
        connected(inet("203.0.113.5", 443), group_id=1),
        ended(31, group_id=1),
        other(MessageType.CHROOT, path="/guest", errno=1, group_id=1),
    ],
)
def test_the_agent_is_not_judged(message: Message) -> None:
    assert judge().judge(message) is None


STATELESS = {
    "open": (opened("/etc/passwd"), True),
    "open that works": (opened("/tmp/x", 0), True),
    "chdir": (changed_to("/root"), True),
    "execve": (executed("/tmp/x"), True),
    "execution": (run("/tmp/x"), False),
    "raw": (raw(165), True),
    "symlink": (raw(88, 0), False),
    "symlinkat": (raw(266, 0), False),
    "open in scratch": (opened("x", ABSENT), False),
    "lookup": (opened("/.lookup/a:1", ABSENT), False),
    "connect": (connected(inet("127.0.0.1", 1), errors.ECONNREFUSED), False),
    "bind": (bound(inet("127.0.0.1", 1)), False),
    "exit": (ended(31), False),
}


@pytest.mark.parametrize("case", STATELESS)
def test_which_answers_can_be_remembered(case: str) -> None:
    message, expected = STATELESS[case]
    assert Judge.stateless(message) is expected


class TestWithheldNames:
    """A call that is denied raw and has no named twin hides its name from the trace."""

    def withheld(self, *messages: Message) -> list[tuple[str, int]]:
        subject = judge()
        for message in messages:
            subject.judge(message)
        return [(a.operation, a.errno) for a in subject.pending()]

    def test_books_that_balance(self) -> None:
        assert self.withheld(
            opened("/x", ABSENT), raw(257, ABSENT), raw(42, UNREACHABLE),
            connected(inet("203.0.113.5", 1)), executed("/x", errno=0), raw(59, 0), run("/x"),
        ) == []  # fmt: skip

    def test_a_missing_twin(self) -> None:
        assert self.withheld(raw(257, ABSENT), raw(257, ABSENT)) == [("open", ABSENT)]
        assert self.withheld(raw(59, DENIED)) == [("execve", DENIED)]
        assert self.withheld(raw(59, 0), raw(322, 0), run("/x")) == [("execve", 0)]
        assert self.withheld(executed("/x", errno=0)) == []
        assert self.withheld(raw(42, UNREACHABLE)) == [("connect", UNREACHABLE)]
        assert self.withheld(raw(117)) == [("setuid", errors.EPERM)]

    def test_a_twin_of_another_errno_or_call_is_none(self) -> None:
        assert self.withheld(raw(257, DENIED), opened("/x", ABSENT)) == [("open", DENIED)]
        assert self.withheld(raw(2, DENIED), opened("/x", DENIED)) == [("open", DENIED)]

    def test_what_is_no_denial_needs_no_twin(self) -> None:
        assert self.withheld(raw(257, 0), raw(257, errors.EISDIR), raw(41, errors.EINVAL)) == []

    def test_remembered_messages_are_counted(self) -> None:
        subject = judge()
        for _ in range(3):
            subject.judge(raw(257, ABSENT))
        subject.judge(opened("/x", ABSENT))
        subject.recount(opened("/x", ABSENT))
        subject.recount(opened("/x", ABSENT))
        assert subject.pending() == []


class TestThreads:
    """The end of each thread is accounted for, or seccomp ended it."""

    EXIT, EXIT_GROUP = raw(60, 0), raw(231, 0)

    def killed(self, *messages: Message) -> list[int]:
        subject = judge()
        for message in messages:
            subject.judge(message)
        return [a.pid for a in subject.pending() if a.operation == "seccomp"]

    def test_a_thread_that_ends_by_itself(self) -> None:
        assert self.killed(self.EXIT, ended(0, 2, 3), self.EXIT_GROUP, ended(0, 2)) == []

    def test_a_thread_that_is_ended(self) -> None:
        assert self.killed(ended(0, 2, 3), self.EXIT_GROUP, ended(0, 2)) == [2]

    def test_the_end_of_the_process_ends_its_threads(self) -> None:
        assert self.killed(self.EXIT_GROUP, ended(0, 2, 3), ended(0, 2, 4), ended(0, 2)) == []
        assert self.killed(self.EXIT_GROUP, ended(0, 2), ended(0, 2, 3)) == []

    def test_a_signal_ends_the_threads_of_its_process(self) -> None:
        assert self.killed(ended(9, 2), ended(0, 2, 3)) == []
        assert self.killed(ended(0, 2, 3), ended(9, 2)) == []

    def test_the_first_thread_may_leave_before_the_others(self) -> None:
        assert self.killed(self.EXIT, ended(0, 2), ended(0, 2, 3)) == [2]
        assert self.killed(self.EXIT, ended(0, 2), self.EXIT, ended(0, 2, 3)) == []

    def test_an_end_without_a_call(self) -> None:
        assert self.killed(ended(0, 2), ended(0, 2, 3)) == []

    def test_a_program_that_takes_the_place_of_threads(self) -> None:
        ends = (ended(0, 2, 3), ended(0, 2, 4))
        assert self.killed(run("/bin/x"), *ends, self.EXIT_GROUP, ended(0, 2)) == []
        # A thread beside the first asks: the first one ends, and its number goes on.
        beside = run("/bin/x", thread_id=4)
        assert self.killed(beside, ended(0, 2), ended(0, 2, 3), self.EXIT_GROUP, ended(0, 2)) == []

    def test_its_own_threads_count_again(self) -> None:
        goes_on = opened("/lib/x", 0, process_name="x")
        assert self.killed(run("/bin/x"), goes_on, ended(0, 2, 3)) == [2]
        # Of the same name, it may still be the old one.
        assert self.killed(run("/bin/x"), opened("/lib/x", 0), ended(0, 2, 3)) == []
        assert self.killed(run("/bin/x"), self.EXIT_GROUP, ended(0, 2), ended(0, 5, 6)) == [5]

    def test_programs_are_bounded(self) -> None:
        subject = judge()
        for group in range(10, 10_000):
            subject.judge(run("/bin/x", group_id=group))
        assert len(subject._tally._executing) == 4096

    def test_the_agent_is_not_counted(self) -> None:
        assert self.killed(ended(0, 1, 3), ended(0, 1)) == []

    def test_they_are_bounded(self) -> None:
        subject = judge()
        for group in range(10, 10_000):
            subject.judge(ended(0, group, group + 1))
        assert len([a for a in subject.pending() if a.operation == "seccomp"]) == 4096
        subject = judge()
        for group in range(10, 10_000):
            subject.judge(ended(9, group))
        assert subject.pending() == []


class TestViolation:
    def test_json(self) -> None:
        violation = Violation(
            capability="FILE_READ:/x\udcff", operation="open", resource="/x\udcff", errno=13,
            pid=2, process_name="p\udcc3", first_seen=1.0, last_seen=2.0, count=3, reason="why",
        )  # fmt: skip
        assert json.loads(json.dumps(violation.to_dict())) == {
            "capability": "FILE_READ:/x\\xff",
            "operation": "open",
            "resource": "/x\\xff",
            "errno": 13,
            "errno_name": "EACCES",
            "pid": 2,
            "process_name": "p\\xc3",
            "first_seen": 1.0,
            "last_seen": 2.0,
            "count": 3,
            "evidence": "kernel",
            "reason": "why",
        }
        json.dumps(violation.to_dict()).encode("ascii")

    def test_no_capability_is_none(self) -> None:
        violation = Violation(capability=None, operation="mount", resource="mount", errno=1)
        assert violation.to_dict()["capability"] is None

    @pytest.mark.parametrize(("errno", "name"), [(13, "EACCES"), (0, ""), (4095, "4095")])
    def test_names_of_errors(self, errno: int, name: str) -> None:
        assert (
            Violation(capability=None, operation="x", resource="x", errno=errno).errno_name == name
        )


def test_a_tree_at_the_root_holds_everything() -> None:
    assert Granted(path="/", tree=True, writable=False).holds("/x")
    assert Granted(path="/x", tree=True, writable=False).holds("/x/y")
    assert not Granted(path="/x", tree=True, writable=False).holds("/xy")
    assert not Granted(path="/x", tree=False, writable=False).holds("/x/y")


class TestSharedPlaces:
    """``/tmp`` and ``/dev`` exist on both sides: what the host has there is told from what not."""

    @pytest.mark.parametrize("path", ["/tmp/of-the-host", "/dev/kvm"])
    def test_what_the_host_has_is_an_attempt(self, path: str) -> None:
        asked: list[str] = []

        def on_host(path: str) -> bool:
            asked.append(path)
            return True

        watching = Judge(RULES, GRANTED, MASKS, on_host)
        assert short(watching.judge(opened(path, ABSENT))) == read(path)
        assert asked == [path]

    @pytest.mark.parametrize("path", ["/tmp/of-nobody", "/dev/nothing"])
    def test_what_nobody_has_is_not(self, path: str) -> None:
        assert Judge(RULES, GRANTED, MASKS, lambda _: False).judge(opened(path, ABSENT)) is None

    def test_nowhere_else_is_the_host_asked(self) -> None:
        def on_host(path: str) -> bool:
            raise AssertionError(path)

        watching = Judge(RULES, GRANTED, MASKS, on_host)
        for path in ("/proc/none", "/sys/none", "/opt/omnibase/none", "/home/x", "/srv/tree/none"):
            watching.judge(opened(path, ABSENT))


class TestNetworkGrants:
    """Connects within the guest: to what the agent serves for a grant, and past it."""

    @staticmethod
    def judge(*grants: str) -> Judge:
        spec = compiled(*(f"NETWORK_CONNECT:{grant}" for grant in grants))
        return Judge(RULES, network=Layout(spec.egress))

    @pytest.mark.parametrize("number", [0, errors.EINPROGRESS, errors.ECONNREFUSED, errors.EISCONN])
    @pytest.mark.parametrize(
        ("host", "port"),
        [("127.0.0.1", 8000), ("10.1.2.3", 5432), ("2001:db8::1", 443), ("198.18.0.1", 443)],
    )
    def test_what_is_served(self, host: str, port: int, number: int) -> None:
        judge = self.judge(
            "127.0.0.1:8000", "10.1.2.3:5432", "[2001:db8::1]:443", "api.example:443"
        )
        assert judge.judge(connected(inet(host, port), number)) is None
        assert judge.pending() == []

    def test_another_port_of_a_granted_address(self) -> None:
        judge = self.judge("10.1.2.3:5432")
        message = connected(inet("10.1.2.3", 80), errors.ECONNREFUSED)
        assert short(judge.judge(message)) == network("10.1.2.3:80")

    def test_another_port_of_the_loopback_is_told_at_the_end(self) -> None:
        judge = self.judge("127.0.0.1:8000")
        for port in (8000, 8001):
            for host in ("127.0.0.1", "::1"):  # `localhost` is both
                refused = connected(inet(host, port), errors.ECONNREFUSED)
                assert judge.judge(refused) is None
        told = [network("127.0.0.1:8001"), network("[::1]:8001")]
        assert [short(attempt) for attempt in judge.pending()] == told

    def test_a_datagram_socket_of_a_granted_address(self) -> None:
        judge = self.judge("10.1.2.3:5432", "*:443")
        assert judge.judge(connected(inet("192.0.2.53", 53), 0)) is None  # asking the agent
        assert judge.judge(connected(inet("10.1.2.3", 0), 0)) is None  # libc comparing addresses
        assert judge.judge(connected(inet("127.0.0.1", 99), 0)) is None  # the script's own
        assert short(judge.judge(connected(inet("10.1.2.3", 53), 0))) == network("10.1.2.3:53")
        assert short(judge.judge(connected(inet("8.8.8.8", 53), 0))) == network("8.8.8.8:53")

    def test_a_grant_for_any_host_serves_no_ipv6_address_and_none_of_no_host(self) -> None:
        judge = self.judge("*:443", "[2600::1]:443")
        for host in ("8.8.8.8", "223.255.255.255", "2600::1"):
            assert judge.judge(connected(inet(host, 443), errors.EINPROGRESS)) is None
        for host, shown in (("2600::2", "[2600::2]"), ("224.0.0.1", "224.0.0.1")):
            unreachable = connected(inet(host, 443), errors.ENETUNREACH)
            assert short(judge.judge(unreachable)) == network(f"{shown}:443")
            done = connected(inet(host, 443), 0)
            assert judge.judge(done) is None  # nobody has it: no such thing happens

    def test_names_of_the_pool_are_told_at_the_end(self) -> None:
        judge = self.judge("api.example:443", "*.wild.example:443", "*.other.example:80")
        for host, port in (("198.18.0.1", 80), ("198.18.1.0", 80), ("198.18.1.0", 443),
                           ("198.18.1.1", 80), ("198.18.9.9", 443)):  # fmt: skip
            for number in (errors.EINPROGRESS, errors.EALREADY):
                assert judge.judge(connected(inet(host, port), number)) is None
        judge.network.assign(256, "x.wild.example")
        judge.network.assign(257, "y.other.example")
        judge.network.assign(257, "z.wild.example")  # an address keeps its first name
        judge.network.assign(1, "z.wild.example")
        judge.network.assign(70_000, "z.wild.example")
        assert [short(attempt) for attempt in judge.pending()] == [
            network("api.example:80"), network("x.wild.example:80"), network("198.18.9.9:443"),
        ]  # fmt: skip

    def test_without_names_the_pool_is_like_any_address(self) -> None:
        judge = self.judge("10.1.2.3:5432")
        message = connected(inet("198.18.0.1", 1))
        assert short(judge.judge(message)) == network("198.18.0.1:1")

    def test_addresses_of_the_pool_are_bounded(self) -> None:
        judge = self.judge("*.example:443")
        for port in range(1, 2000):
            judge.judge(connected(inet("198.18.1.1", port), errors.ECONNREFUSED))
        assert len(judge.pending()) == 1024
        judge.network.assign(257, "x.example")
        assert len(judge.pending()) == 1023  # one is served after all

    def test_what_the_broker_refuses(self) -> None:
        judge = self.judge("*.example:443")
        judge.judge(opened("/.lookup/evil.test:8443", ABSENT, group_id=7))
        attempt = judge.network.denied("lookup", "evil.test", 0, 0, None)
        assert short(attempt) == ("NETWORK_CONNECT:evil.test:8443", "lookup", "evil.test:8443")
        assert judge.network.denied("lookup", "other.test", 0, 0, None).capability == (
            "NETWORK_CONNECT:other.test:*"
        )
        # By the time that the broker tells of the first, the process may be at the next.
        judge.judge(opened("/.lookup/Next.test:25", ABSENT, group_id=7))
        for host, port in (("evil.test", 8443), ("next.test", 25)):
            told = judge.network.denied("lookup", host, 0, 0, None).capability or ""
            assert told.lower() == f"network_connect:{host}:{port}"
        for number in range(2000):
            judge.network.named(7, f"{number}.test:1")
        assert judge.network.denied("lookup", "1999.test", 0, 0, None).resource == "1999.test:*"
        attempt = judge.network.denied("connect", "[::1]", 80, errors.EACCES, "why")
        assert short(attempt) == network("[::1]:80")
        assert (attempt.errno, attempt.reason) == (errors.EACCES, "why")


def test_the_agent_is_told_where_each_grant_is() -> None:
    spec = compiled(*(f"NETWORK_CONNECT:{grant}" for grant in (
        "a.example:1-2", "a.example:80", "b.example:80", "*.c.example:443", "*:22", "10.1.2.3:5",
        "[::1]:6",
    )))  # fmt: skip
    rows = agent_rows(spec.egress)
    found = {tuple(rows[n : n + 4]) for n in range(0, len(rows), 4)}
    assert found == {
        ("198.18.0.1", "a.example", "1", "2"), ("198.18.0.1", "a.example", "80", "80"),
        ("198.18.0.2", "b.example", "80", "80"), ("", "*.c.example", "443", "443"),
        ("", "*", "22", "22"), ("10.1.2.3", "10.1.2.3", "5", "5"), ("::1", "[::1]", "6", "6"),
    }  # fmt: skip
