"""PID 1 of the guest: prepares it as guest root, then runs the script as nobody.

It runs inside the sandbox and uses the standard library only. Nothing outside
depends on it for confinement, but for three things done before the script
exists: binding the granted files to their paths, the chroot, and dropping to
``nobody``. After the fork it only waits, reaps, and watches the lifeline.

What it adds to tracebacks (``FILE_READ:/x is not granted``) is courtesy: the
denial is the kernel's, the record is the trace's.
"""

import os
import sys

_COLLECT = 5  # the pipe for what the script leaves, of runs that may leave something
_EGRESS = 4  # the channel to the broker, of runs that have one
_CONTROL = 3  # the host writes the job here and keeps it open: end of file means it is gone
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 4, 8, 32
_MS_BIND, _MS_REC, _MNT_DETACH = 4096, 16384, 2
_NOBODY = 65534


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
    }
    job["argv"], job["granted"], job["pinned"] = several(), several(), several()
    job["filter"] = bytes.fromhex(several()[0])
    job["egress"] = several()
    job["outlets"] = several()
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
    own = os.stat("/").st_dev
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


def _bind_grants(job: dict) -> None:  # type: ignore[type-arg]
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    for source, target, is_directory, writable in job["mounts"]:
        _make_mount_point(target, is_directory)
        _bind(source, target, flags if writable else flags | _MS_RDONLY)
    for target in job["pinned"]:  # a mount point cannot be renamed away from its mask
        tops = [(len(top), w) for _, top, _, w in job["mounts"] if target.startswith(f"{top}/")]
        _bind(target, target, flags if max(tops)[1] else flags | _MS_RDONLY)
    for target, is_directory in job["masks"]:
        if is_directory:
            encoded = os.fsencode(target) + b"\0"
            _syscall("mount", b"none\0", encoded, b"tmpfs\0", flags | _MS_RDONLY, b"mode=555\0")
        else:
            _bind("/run/masked", target, flags | _MS_RDONLY)
    if job["mounts"]:
        _syscall("umount2", b"/grants\0", _MNT_DETACH)


def _make_outlets(rows: list[str]):  # type: ignore[no-untyped-def]
    """Makes room for what the script may leave; returns who sends it, if it may."""
    if not rows:
        return None
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    return _sibling("collect").Outlets(rows, lambda a, b: _bind(a, b, flags), _NOBODY)


def _place_secrets(secrets: list[tuple[str, int]]):  # type: ignore[no-untyped-def]
    """Makes a file of each, for the script's user alone; returns who watches them, if any."""
    os.mkdir("/run/secrets", 0o755)
    if not secrets:
        return None
    vault = _sibling("vault")
    place, flags = b"/run/secrets\0", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _syscall("mount", b"none\0", place, b"tmpfs\0", flags, b"mode=755\0")
    for name, size in secrets:
        vault.place(name, size, _CONTROL, _NOBODY)
    _syscall("mount", None, place, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | flags, None)
    return vault.Watch([name for name, _ in secrets], _call)


def _show_cpus(count: int) -> None:
    base = "/sys/devices/system/cpu"
    os.makedirs(base, 0o755)
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


def _install_filter(program: bytes) -> None:
    import _ctypes

    # struct sock_fprog: the length in instructions and a pointer to them. CPython
    # keeps the bytes of a bytes object at the end of its header.
    header = (len(program) // 8).to_bytes(8, "little")
    pointer = (id(program) + bytes.__basicsize__ - 1).to_bytes(8, "little")
    handle = _ctypes.dlopen(None, 2)  # type: ignore[arg-type]
    pr_set_seccomp, filter_mode = 22, 2
    address = _ctypes.dlsym(handle, "prctl")
    if _ctypes.call_function(address, (pr_set_seccomp, filter_mode, header + pointer, 0, 0)) != 0:
        raise OSError("the seccomp filter was refused")


def _enter_jail(cpus: int) -> None:
    # A chroot denies new user namespaces (clone(2), EPERM), seen by the trace.
    os.chroot("/guest")
    os.chdir("/tmp")
    try:
        os.sched_setaffinity(0, range(cpus))
    except OSError:
        pass
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _lower_open_files() -> None:
    """Gives the script the limit that it has without a network: the rest is for PID 1."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))


def _watch_lifeline() -> None:
    while os.read(_CONTROL, 4096):
        pass
    os._exit(125)


def _tell_if_full() -> None:
    """Opens a name that is not there: the trace carries it, and only PID 1 can send it."""
    status = os.statvfs("/tmp")
    if status.f_bavail * status.f_frsize < 4096:  # within a page, by which a tmpfs grows
        try:
            os.close(os.open("/.disk-full", os.O_RDONLY))
        except OSError:
            pass


def _sibling(name: str):  # type: ignore[no-untyped-def]
    """Imports a module of the agent's own; only the runs that need it pay for it."""
    here = os.path.dirname(__file__)
    sys.path.insert(0, here)
    try:
        return __import__(name)
    finally:
        sys.path.remove(here)


def _start_egress(rows: list[str], ready: int):  # type: ignore[no-untyped-def]
    """Serves the network grants, and then lets the script start."""
    egress = _sibling("egress")
    try:
        serving = egress.start(_EGRESS, rows)
    except OSError as error:
        os.write(2, f"the guest's network could not be set up: {error}\n".encode())
        os._exit(125)
    os.write(ready, b"x")
    os.close(ready)
    return serving


def _end_the_rest() -> None:
    """Ends every other process, so that what each had sent or opened is complete."""
    try:
        os.kill(-1, 9)
        while True:
            os.wait()
    except (ProcessLookupError, ChildProcessError):
        pass


def _supervise(child: int, egress, secrets, outlets) -> None:  # type: ignore[no-untyped-def]
    import _thread

    if secrets is not None:
        secrets.start()

    _thread.start_new_thread(_watch_lifeline, ())
    while True:
        pid, status = os.wait()  # orphans are reaped on the way
        if pid == child:
            _tell_if_full()
            if not (egress is secrets is outlets is None):
                _end_the_rest()
            if outlets is not None:
                outlets.send(_COLLECT)
            if egress is not None:
                egress.finish()
            if secrets is not None:
                secrets.finish()
            # Exit of PID 1 ends everything in the guest, daemons included.
            os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


class _Courtesy:
    """Names the missing capability in tracebacks, and the host of a name look-up."""

    def __init__(self, granted: list[str]) -> None:
        self.granted = granted
        self.opened: tuple[object, int] | None = None
        self.peer: str | None = None
        self.busy = False

    def hook(self, event: str, args: tuple) -> None:  # type: ignore[type-arg]
        if event == "open":
            if not self.busy:
                self.opened = (args[0], args[2])
        elif event == "socket.getaddrinfo":
            host, port = args[0], args[1]
            if isinstance(host, bytes):
                host = host.decode("ascii", "replace")
            if not isinstance(host, str) or host == "localhost" or not host.strip("0123456789.:"):
                return
            self.peer = f"{host}:{port if isinstance(port, int) else _port(port)}"
            self.busy = True
            try:
                os.close(os.open("/.lookup/" + self.peer[:300], os.O_RDONLY))
            except (OSError, ValueError):
                pass  # it always fails: the attempt itself is the message to the trace
            finally:
                self.busy = False
        elif event == "socket.connect":
            address = args[1]
            if isinstance(address, tuple) and len(address) >= 2:
                self.peer = f"{address[0]}:{address[1]}"

    def note(self, error: OSError) -> None:
        """Adds the name of the missing capability to a denial, if it is one."""
        number = getattr(error, "errno", None)
        name = getattr(error, "filename", None)
        text = None
        if isinstance(name, str) and number in (1, 2, 13, 30):
            if self.opened is not None and self.opened[0] == name:
                path = os.path.join(os.getcwd(), name)
                if not self._own(path):
                    kind = "FILE_WRITE" if (self.opened[1] or 0) & 0o1103 else "FILE_READ"
                    text = f"{kind}:{path} is not granted"
                    if path.startswith("/run/secrets/"):
                        text = f"SECRET_ACCESS:{os.path.basename(path)} is not granted"
                    elif path.startswith("/artifacts/out/"):
                        text = f"ARTIFACT_WRITE:{path[15:]} is not granted"
                    elif path.startswith("/artifacts/") and kind == "FILE_READ":
                        text = f"ARTIFACT_READ:{path[11:]} is not granted"
            elif number == 13 and not self._own(os.path.join(os.getcwd(), name)):
                text = f"FILE_READ:{os.path.join(os.getcwd(), name)} is not granted"
            elif "/" not in name or os.path.basename(os.path.dirname(name)) in ("bin", "sbin"):
                text = f"EXTERNAL_COMMAND:{os.path.basename(name)} is not granted"
        elif self.peer and (
            number in (101, 113) or type(error).__name__ in ("gaierror", "URLError")
        ):
            text = f"NETWORK_CONNECT:{self.peer} is not granted"
        if text is not None:
            error.add_note(text)

    def _own(self, path: str) -> bool:
        own = ("/tmp/", "/opt/omnibase/", "/dev/", "/run/script/", *self.granted)
        return any(path == p.rstrip("/") or path.startswith(p) for p in own)


def _port(service: object) -> int | str:
    try:
        return int(service)  # type: ignore[call-overload,no-any-return]
    except (TypeError, ValueError):
        return "*"


def _run_script(job: dict, source: bytes) -> None:  # type: ignore[type-arg]
    """Runs the source as ``__main__``, as ``python script.py`` would."""
    os.close(_CONTROL)
    if job["egress"]:
        _lower_open_files()
    os.setsid()  # signals to its own group must not reach PID 1
    _enter_jail(job["cpus"])
    _install_filter(job["filter"])
    path = job["path"]
    sys.argv[:] = [path, *job["argv"]]
    sys.path.insert(0, os.path.dirname(path))
    main = type(sys)("__main__")
    main.__dict__.update(
        __file__=path, __builtins__=__builtins__, __cached__=None, __annotations__={}
    )
    sys.modules["__main__"] = main
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # followed live
    _provide_user()
    courtesy = _Courtesy(job["granted"])
    sys.addaudithook(courtesy.hook)
    try:
        code = compile(source, path, "exec", dont_inherit=True)
        exec(code, main.__dict__)  # noqa: S102
    except SystemExit:
        raise
    except BaseException as error:
        trace = error.__traceback__
        # Drop this function's own frame: the user sees their script only.
        error.__traceback__ = trace.tb_next if trace is not None else None
        if isinstance(error, OSError):
            courtesy.note(error)
        elif isinstance(error, ModuleNotFoundError):
            error.add_note("the sandbox has the standard library and what is granted, no more")
        sys.excepthook(type(error), error, error.__traceback__)
        raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 1) from None


def _provide_user() -> None:
    """Makes ``pwd`` know nobody, since libc must not open ``/etc/passwd`` for it."""
    import pwd

    nobody = pwd.struct_passwd(("nobody", "x", _NOBODY, _NOBODY, "nobody", "/tmp", "/nonexistent"))

    def getpwuid(uid: int, /) -> pwd.struct_passwd:
        """Returns the password database entry for the given numeric user id."""
        if uid != _NOBODY:
            raise KeyError(f"getpwuid(): uid not found: {uid}")
        return nobody

    def getpwnam(name: str, /) -> pwd.struct_passwd:
        """Returns the password database entry for the given user name."""
        if name != "nobody":
            raise KeyError(f"getpwnam(): name not found: {name!r}")
        return nobody

    def getpwall() -> list[pwd.struct_passwd]:
        """Returns the list of all available password database entries."""
        return [nobody]

    pwd.getpwuid, pwd.getpwnam, pwd.getpwall = getpwuid, getpwnam, getpwall


def main() -> None:
    job = _parse_job(_read_exactly(int.from_bytes(_read_exactly(4), "little")))
    source = _read_exactly(job["size"])
    os.mkdir(os.path.dirname(job["path"]), 0o755)
    with open(job["path"], "wb") as file:
        file.write(source)
    os.close(os.open("/run/masked", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0))
    secrets = _place_secrets(job["secrets"])
    _show_cpus(job["cpus"])
    _prune_devices()
    outlets = _make_outlets(job["outlets"])
    _bind_grants(job)
    if outlets is not None:
        outlets.open()
    _syscall("mount", b"/\0", b"/guest\0", None, _MS_BIND | _MS_REC, None)
    ready, go = os.pipe() if job["egress"] else (-1, -1)
    child = os.fork()
    if child:
        del source
        egress = None
        if job["egress"]:
            os.close(ready)
            egress = _start_egress(job["egress"], go)
        _supervise(child, egress, secrets, outlets)
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
    _run_script(job, source)


if __name__ == "__main__":
    main()
