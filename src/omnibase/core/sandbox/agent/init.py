"""PID 1 of the guest: prepares it as guest root, then runs the script as nobody.

It runs inside the sandbox and uses the standard library only. Nothing outside
depends on it for confinement, but for three things done before the script
exists: binding the granted files to their paths, the chroot, and dropping to
``nobody``. After the fork it only waits, reaps, and watches the lifeline.
"""

import os
import sys

_RAISED = 6  # the pipe for the exception that the script ends with
_COLLECT = 5  # the pipe for what the script leaves, of runs that may leave something
_EGRESS = 4  # the channel to the broker, of runs that have one
_CONTROL = 3  # the host writes the job here and keeps it open: end of file means it is gone
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 4, 8, 32
_MS_BIND, _MS_REC, _MNT_DETACH = 4096, 16384, 2
_NOBODY = 65534
_MOST_RAISED = 40_001  # one more than the host takes


def _read_exactly(size: int) -> bytes:
    parts = []
    while size:
        part = os.read(_CONTROL, min(size, 1 << 20))
        if not part:
            os._exit(125)  # the host went away before there was anything to run
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _parse_job(data: bytes) -> dict:  # type: ignore[type-arg]
    """Reads what `bundle.job_message` wrote: NUL-ended fields, lists led by their length."""
    fields = iter(os.fsdecode(data).split("\0"))

    def several() -> list[str]:
        return [next(fields) for _ in range(int(next(fields)))]

    job: dict[str, object] = {
        "path": next(fields),
        "size": int(next(fields)),
        "cpus": int(next(fields)),
        "processes": int(next(fields)),
    }
    job["argv"], job["granted"], job["pinned"] = several(), several(), several()
    job["filter"] = bytes.fromhex("".join(several()))
    job["egress"] = several()
    job["commands"] = several()
    job["outlets"] = several()
    job["imports"] = several()
    job["environment"] = several()
    job["session"] = bool(several())
    job["masks"] = [(next(fields), next(fields) == "d") for _ in range(int(next(fields)))]
    job["mounts"] = [
        (next(fields), next(fields), next(fields) == "d", next(fields) == "w")
        for _ in range(int(next(fields)))
    ]
    job["secrets"] = [(next(fields), int(next(fields))) for _ in range(int(next(fields)))]
    return job


def _call(name: str, *args: bytes | int | None) -> int:
    import _ctypes  # the extension alone: ctypes itself costs 10 ms more here

    handle = _ctypes.dlopen(None, 2)  # type: ignore[arg-type]
    returned = _ctypes.call_function(_ctypes.dlsym(handle, name), args)
    if returned < 0:
        raise OSError(f"{name} failed: {args}")
    return returned  # type: ignore[no-any-return]


def _syscall(name: str, *args: bytes | int | None) -> None:
    if _call(name, *args) != 0:
        raise OSError(f"{name} failed: {args}")


def _bind(source: str, target: str, flags: int) -> None:
    place = os.fsencode(target) + b"\0"
    _syscall("mount", os.fsencode(source) + b"\0", place, None, _MS_BIND | _MS_REC, None)
    _syscall("mount", None, place, None, _MS_BIND | _MS_REMOUNT | flags, None)


def _make_mount_point(path: str, is_directory: bool) -> None:
    own = os.stat("/").st_dev  # of `/guest` as well, which is a bind of it
    built = ""
    for part in os.path.dirname(path).split("/")[1:]:
        built += "/" + part
        try:
            os.mkdir(built, 0o755)
        except FileExistsError:
            # Closed directories of the image open up once something is granted below.
            # Those of a granted tree are the host's, and none of our business.
            status = os.stat(built)
            if status.st_dev == own and not status.st_mode & 0o001:
                os.chmod(built, 0o755)
    if is_directory:
        os.makedirs(path, 0o755, exist_ok=True)
    elif not os.path.lexists(path):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _bind_grants(job: dict, root: str = "") -> None:  # type: ignore[type-arg]
    """Binds what is granted to where the script finds it, below its root as PID 1 sees it."""
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    for source, target, is_directory, writable in job["mounts"]:
        _make_mount_point(root + target, is_directory)
        _bind(source, root + target, flags if writable else flags | _MS_RDONLY)
    for target in job["pinned"]:  # a mount point cannot be renamed away from its mask
        tops = [(len(top), w) for _, top, _, w in job["mounts"] if target.startswith(f"{top}/")]
        _bind(root + target, root + target, flags if max(tops)[1] else flags | _MS_RDONLY)
    for target, is_directory in job["masks"]:
        if is_directory:
            encoded = os.fsencode(root + target) + b"\0"
            _syscall("mount", b"none\0", encoded, b"tmpfs\0", flags | _MS_RDONLY, b"mode=555\0")
        else:
            _bind("/run/masked", root + target, flags | _MS_RDONLY)


def _make_outlets(rows: list[str], root: str = ""):  # type: ignore[no-untyped-def]
    """Makes room for what the script may leave; returns who sends it, if it may."""
    if not rows:
        return None
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    return _sibling("collect").Outlets(rows, lambda a, b: _bind(a, b, flags), _NOBODY, root)


def _place_secrets(secrets: list[tuple[str, int]], root: str = ""):  # type: ignore[no-untyped-def]
    """Makes a file of each, for the script's user alone; returns who watches them, if any."""
    if not secrets:
        return None
    vault = _sibling("vault")
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    place = os.fsencode(f"{root}/run/secrets") + b"\0"
    _syscall("mount", b"none\0", place, b"tmpfs\0", flags, b"mode=755\0")
    for name, size in secrets:
        vault.place(name, size, _CONTROL, _NOBODY, root)
    _syscall("mount", None, place, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | flags, None)
    return vault.Watch([name for name, _ in secrets], _call, root)


def _show_cpus(count: int) -> None:
    base = "/sys/devices/system/cpu"
    os.makedirs(base, 0o755, exist_ok=True)
    for name in ("online", "possible", "present"):
        with open(f"{base}/{name}", "w") as file:
            file.write("0\n" if count == 1 else f"0-{count - 1}\n")


def _prune_devices() -> None:
    """Leaves only devices that scripts use: each other one is the Sentry's code for nothing."""
    for path in ("/dev/fuse", "/dev/net/tun"):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass  # this gVisor has none


def _watch_lifeline() -> None:
    while os.read(_CONTROL, 4096):
        pass
    os._exit(125)


def _tell_if_full() -> None:
    status = os.statvfs("/tmp")
    if status.f_bavail * status.f_frsize < 4096:  # within a page, by which a tmpfs grows
        _tell("/.disk-full")


def _tell(sign: str) -> None:
    """Opens a name that is not there: the trace carries it, and only PID 1 can send it."""
    try:
        os.close(os.open(sign, os.O_RDONLY))
    except OSError:
        pass


def _sibling(name: str):  # type: ignore[no-untyped-def]
    """Imports a module of the agent's own, unseen by what the script imports later."""
    here = os.path.dirname(__file__)
    sys.path.insert(0, here)
    try:
        __import__(name)
        return sys.modules.pop(name)
    finally:
        sys.path.remove(here)


def _start_egress(rows: list[str]):  # type: ignore[no-untyped-def]
    """Serves the network grants."""
    egress = _sibling("egress")
    try:
        return egress.start(_EGRESS, rows)
    except OSError as error:
        os.write(2, f"the guest's network could not be set up: {error}\n".encode())
        os._exit(125)


def _end_the_rest() -> None:
    """Ends every other process, so that what each had sent or opened is complete."""
    try:
        while True:
            os.kill(-1, 9)  # each time: one that was just being forked is missed
            os.wait()
    except (ProcessLookupError, ChildProcessError):
        pass


def _open_raised() -> int:
    """Makes the FIFO of `script._RAISED`: what the script holds in it is bounded."""
    os.mkfifo("/run/raised", 0o200)
    os.chown("/run/raised", _NOBODY, _NOBODY)
    return os.open("/run/raised", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _forward(raised: int) -> None:
    """Hands on what the script has told; the host's pipe has room for it."""
    told = b""
    try:
        while len(told) <= _MOST_RAISED and (part := os.read(raised, _MOST_RAISED)):
            told += part
    except BlockingIOError:
        pass  # somebody has it open still
    if told:
        os.write(_RAISED, told[:_MOST_RAISED])


class _Bound:
    """What serves the script while it runs.

    Attributes:
        egress: Serves its network, if it has one.
        secrets: Watches its secrets, if it has some.
        outlets: Sends what it has left, if it may leave something.
        alone: The end of PID 1 is to be the last that is heard of the guest.
    """

    def __init__(self, egress, secrets, outlets) -> None:  # type: ignore[no-untyped-def]
        self.egress = egress
        self.secrets = secrets
        self.outlets = outlets
        self.alone = not (egress is secrets is outlets is None)


def _supervise(child: int, raised: int, bound) -> None:  # type: ignore[no-untyped-def]
    """Waits for the script's end, and makes it everybody's."""
    while True:
        pid, status = os.wait()  # orphans are reaped on the way
        if pid == child:
            _tell_if_full()
            _forward(raised)
            if bound.alone:
                _end_the_rest()
            if bound.outlets is not None:
                bound.outlets.send(_COLLECT)
            if bound.egress is not None:
                bound.egress.finish()
            if bound.secrets is not None:
                bound.secrets.finish()
            # Exit of PID 1 ends everything in the guest, daemons included.
            os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def _read_head() -> bytes:
    return _read_exactly(int.from_bytes(_read_exactly(4), "little"))


def _furnish() -> None:
    """Makes what each run has, whatever it is granted."""
    os.mkdir("/run/script", 0o755)
    os.mkdir("/run/secrets", 0o755)
    os.close(os.open("/run/masked", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0))


def main() -> None:
    if sys.argv[1:] == ["warm"]:
        _sibling("warm").main(sys.modules["__main__"])
        return
    job = _parse_job(_read_head())
    source = _read_exactly(job["size"])
    _furnish()
    with open(job["path"], "wb") as file:
        file.write(source)
    secrets = _place_secrets(job["secrets"])
    _show_cpus(job["cpus"])
    _prune_devices()
    outlets = _make_outlets(job["outlets"])
    _bind_grants(job)
    if job["mounts"]:
        _syscall("umount2", b"/grants\0", _MNT_DETACH)
    if job["commands"]:
        _sibling("commands").link(job["commands"])
    if outlets is not None:
        outlets.open()
    _syscall("mount", b"/\0", b"/guest\0", None, _MS_BIND | _MS_REC, None)
    script = _sibling("script")
    session = _sibling("session") if job["session"] else None
    raised = _open_raised()
    ready, go = os.pipe() if job["egress"] else (-1, -1)
    child = os.fork()
    if child:
        import _thread

        del source
        egress = None
        if job["egress"]:
            os.close(ready)
            egress = _start_egress(job["egress"])
            os.write(go, b"x")
            os.close(go)
        if secrets is not None:
            secrets.start()
        _thread.start_new_thread(_watch_lifeline, ())
        _supervise(child, raised, _Bound(egress, secrets, outlets))
    if outlets is not None:
        os.close(_COLLECT)  # only PID 1 sends what the script has left
    if secrets is not None:
        os.close(secrets.fd)  # only PID 1 tells who opened what
    if job["egress"]:
        os.close(_EGRESS)  # only PID 1 talks to the broker
        os.close(go)
        if os.read(ready, 1) != b"x":
            os._exit(125)
        os.close(ready)
    for fd in (raised, _CONTROL) if session else (raised, _RAISED, _CONTROL):
        os.close(fd)
    script.confine(job["filter"], bool(job["egress"]))
    if session is None:
        script.run(job, source)
    else:
        session.serve(job, script)


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        if os.getpid() == 1:  # not the script's own end
            _tell("/.agent-failed")
        raise
