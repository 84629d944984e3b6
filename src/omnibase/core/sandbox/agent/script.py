"""The script's process: the fork that becomes nobody and runs the source.

What it adds to tracebacks (``FILE_READ:/x is not granted``) is courtesy: the
denial is the kernel's, the record is the trace's.
"""

import os
import sys

_NOBODY = 65534
_NO_MODULE = "the sandbox has the standard library; `--packages FILE` gives a script others"
_RAISED = "/run/raised"  # a FIFO to PID 1 for the exception that the script ends with


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


def _enter_jail() -> None:
    # A chroot denies new user namespaces (clone(2), EPERM), seen by the trace.
    os.chroot("/guest")
    os.chdir("/tmp")
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _lower_open_files() -> None:
    """Gives the script the limit that it has without a network: the rest is for PID 1."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))


class _Courtesy:
    """Names the missing capability in tracebacks, and the host of a name look-up."""

    def __init__(self, granted: list[str]) -> None:
        self.granted = granted
        self.opened: tuple[object, int] | None = None
        self.peer: str | None = None
        self.database: str | None = None
        self.made: object = None
        self.busy = False

    def hook(self, event: str, args: tuple) -> None:  # type: ignore[type-arg]
        if event == "open":
            if not self.busy:
                self.opened = (args[0], args[2])
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            host, port = args[0], args[1] if len(args) > 1 else None
            if isinstance(host, bytes):
                host = host.decode("ascii", "replace")
            if not isinstance(host, str) or host == "localhost" or not host.strip("0123456789.:"):
                return
            if len(host) > 255:
                return  # no name; and if it were cut, a secret in it would go unseen
            self.peer = f"{host}:{port if isinstance(port, int) else _port(port)}"
            self.busy = True
            try:
                os.close(os.open("/.lookup/" + self.peer, os.O_RDONLY))
            except (OSError, ValueError):
                pass  # it always fails: the attempt itself is the message to the trace
            finally:
                self.busy = False
        elif event == "os.mkdir":
            self.made = args[0]
        elif event == "sqlite3.connect":
            self._find_database(args[0])
        elif event == "socket.connect":
            address = args[1]
            if isinstance(address, tuple) and len(address) >= 2:
                self.peer = f"{address[0]}:{address[1]}"

    def _find_database(self, name: object) -> None:
        """Opens a database that SQLite is kept from: it asks for the path, and that is not seen."""
        if not isinstance(name, (str, bytes)):
            return
        path = os.fsdecode(name)
        if path.startswith("file:"):
            path = path[5:].partition("?")[0]
            path = "/" + path[2:].partition("/")[2] if path.startswith("//") else path
        self.busy = True
        try:
            os.stat(path)
        except PermissionError:
            self.database = os.path.join(os.getcwd(), path)
            try:
                os.close(os.open(path, os.O_RDONLY))
            except OSError:
                pass  # the attempt itself is the message to the trace
        except FileNotFoundError:  # SQLite opens it itself
            path = os.path.join(os.getcwd(), path)
            if not os.path.isdir(os.path.dirname(path)):
                self.database = path
        except (OSError, ValueError):
            pass
        finally:
            self.busy = False

    def note_database(self, error: BaseException) -> None:
        """The same for an error of SQLite's."""
        if self.database is not None and type(error).__name__ == "OperationalError":
            error.add_note(f"DATABASE_READ:sqlite:{self.database} is not granted")

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
                    elif path.startswith("/registry/out/"):
                        text = f"REGISTRY_WRITE:{path[14:].split('/')[0]} is not granted"
                    elif path.startswith("/registry/") and kind == "FILE_READ":
                        text = f"REGISTRY_READ:{path[10:].split('/')[0]} is not granted"
                    elif path.startswith("/artifacts/out/"):
                        text = f"ARTIFACT_WRITE:{path[15:]} is not granted"
                    elif path.startswith("/artifacts/") and kind == "FILE_READ":
                        text = f"ARTIFACT_READ:{path[11:]} is not granted"
            elif self.made == name:
                path = os.path.join(os.getcwd(), name)
                if path in ("/artifacts", "/artifacts/out"):
                    text = "no ARTIFACT_WRITE is granted"
                elif path in ("/registry", "/registry/out"):
                    text = "no REGISTRY_WRITE is granted"
                elif not self._own(path):
                    text = f"FILE_WRITE:{path} is not granted"
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


def confine(program: bytes, lower_open_files: bool) -> None:
    """Leaves guest root behind, for good.

    Args:
        program: The seccomp filter.
        lower_open_files: PID 1 has a limit of its own.
    """
    if lower_open_files:
        _lower_open_files()
    os.setsid()  # signals to its own group must not reach PID 1
    _enter_jail()
    _install_filter(program)


def prepare(job: dict):  # type: ignore[no-untyped-def, type-arg]
    """Makes the world of a script; returns its module and what explains its errors."""
    try:
        os.sched_setaffinity(0, range(job["cpus"]))
    except OSError:
        pass
    path = job["path"]
    sys.argv[:] = [path, *job["argv"]]
    sys.path.insert(0, os.path.dirname(path))
    sys.path += job["imports"]  # no `.pth` file in them is read
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # followed live
    _provide_user()
    courtesy = _Courtesy(job["granted"])
    sys.addaudithook(courtesy.hook)
    main = _main_module(path)
    sys.modules["__main__"] = main
    return main, courtesy


def run(job: dict, source: bytes) -> None:  # type: ignore[type-arg]
    """Runs the source as ``__main__``, as ``python script.py`` would."""
    main, courtesy = prepare(job)
    own = os.getpid()
    try:
        code = compile(source, job["path"], "exec", dont_inherit=True)
        exec(code, main.__dict__)  # noqa: S102
    except SystemExit:
        raise
    except BaseException as error:
        trace = error.__traceback__
        # Drop this function's own frame: the user sees their script only.
        error.__traceback__ = trace.tb_next if trace is not None else None
        explain(error, courtesy)
        if os.getpid() == own:  # a child that it forked comes out here as well
            _report(error)
        sys.excepthook(type(error), error, error.__traceback__)
        raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 1) from None


def explain(error: BaseException, courtesy) -> None:  # type: ignore[no-untyped-def]
    """Adds to an error what is missing, if it is one that says so."""
    if isinstance(error, OSError):
        courtesy.note(error)
    elif isinstance(error, ModuleNotFoundError):
        error.add_note(_NO_MODULE)
    else:
        courtesy.note_database(error)


def _main_module(path: str):  # type: ignore[no-untyped-def]
    main = type(sys)("__main__")
    main.__dict__.update(
        __file__=path, __builtins__=__builtins__, __cached__=None, __annotations__={}
    )
    return main


def rehearse() -> None:
    """Does what a script does, to no effect: its memory is this process's own afterwards.

    A fork shares each page until it is written to, and each such write costs a trip to
    the guest's kernel.
    """
    import io

    main = _main_module("<rehearsal>")
    stdout, sys.stdout = sys.stdout, io.StringIO()
    try:
        exec(compile(_REHEARSAL, "<rehearsal>", "exec", dont_inherit=True), main.__dict__)  # noqa: S102
    except ZeroDivisionError:
        pass
    finally:
        sys.stdout = stdout
    _provide_user()


_REHEARSAL = b"""
def function(a, *b, c=1, **d):
    return [x * 2 for x in b] + sorted(d)
class Class:
    def __init__(self):
        self.a = {1: "x", "y": (2.5, None)}
for i in range(100):
    print(f"{i:>4} {function(1, 2, 3, d=4)} {Class().a!r}")
data = bytearray(100_000)
1 / 0
"""


def _report(error: BaseException) -> None:
    """Tells the host what the script ended with, as text: see `script_error`."""
    import io

    stderr, printed = sys.stderr, io.StringIO()
    sys.stderr = printed
    try:
        sys.__excepthook__(type(error), error, error.__traceback__)
        report = told(error, printed.getvalue())
    except BaseException:
        return  # an exception that cannot be shown: what is printed has to do
    finally:
        sys.stderr = stderr
    try:
        fd = os.open(_RAISED, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.write(fd, report)
        os.close(fd)
    except (OSError, TypeError, AttributeError):
        pass  # the script has filled it, or has changed what it takes


def told(error: BaseException, printed: str) -> bytes:
    """Returns an exception as `script_error` reads it."""
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    try:
        message = str(error)
    except BaseException:
        message = "<exception str() failed>"  # as the traceback says
    parts = [
        text.encode("utf-8", "backslashreplace")[:most].decode("utf-8", "ignore").encode()
        for text, most in ((name, 256), (message, 4096), (printed, 32768))
    ]
    sizes = b"".join(len(part).to_bytes(4, "little") for part in parts)
    return b"OBE1" + sizes + b"".join(parts)


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
