"""PID 1 of a sandbox that is started before there is a job: it gets ready, and waits.

It runs inside the sandbox and uses the standard library only. The script's process is
forked, confined (chroot, nobody, filter) and has imported what was asked for before a
job is known; it waits on a pipe of the guest's. So no code but ours runs with guest
root's rights, imports included, and what comes with the job (secrets, grants) was never
in that process's memory.

Each system call, page fault and thread that is yet to be made when the job comes costs
some 50 µs here: what can be done before is.
"""

import os
import sys

_READY, _ALIVE = "/.ready", "/.alive"  # signs to the host, in the trace
_ROOT = "/guest"  # the script's root, as PID 1 sees it
_COMMANDS = "/commands"
_CHANNELS = (3, 4, 5, 6)  # between PID 1 and the host


def main(agent) -> None:  # type: ignore[no-untyped-def]
    """Serves one job; returns in the script's process, at its end.

    Args:
        agent: The module `init`.
    """
    import _thread

    fields = iter(os.fsdecode(agent._read_head()).split("\0"))
    program, cpus = next(fields), next(fields)
    places, imports = ([next(fields) for _ in range(int(next(fields)))] for _ in range(2))
    early = [(*pair, True, False) for pair in zip(places[::2], places[1::2], strict=True)]
    agent._furnish()
    agent._show_cpus(int(cpus))
    agent._prune_devices()
    agent._syscall("mount", b"/\0", b"/guest\0", None, agent._MS_BIND | agent._MS_REC, None)
    # The host's files come to `/grants`, which is PID 1's alone.
    agent._syscall("umount2", b"/guest/grants\0", agent._MNT_DETACH)
    agent._bind_grants({"mounts": early, "pinned": [], "masks": []}, _ROOT)
    script = agent._sibling("script")
    raised = agent._open_raised()
    jobs, hand_over = os.pipe()
    waiting, ready = os.pipe()
    child = os.fork()
    if not child:
        for fd in (raised, hand_over, waiting, *_CHANNELS):
            os.close(fd)
        script.confine(bytes.fromhex(program), True)
        _preload(list(fields), imports, int(cpus))
        _wait_for_job(agent, script, jobs, ready)
        return
    os.close(jobs)
    os.close(ready)
    if os.read(waiting, 1) != b"x":
        os._exit(125)  # its reason is on stderr
    os.close(waiting)
    bound = _Bound()
    bound.early = bool(early)
    # This thread waits for the script's end, which may come at any time; the other one
    # binds the job, and is the lifeline then.
    _thread.start_new_thread(_serve, (agent, int(cpus), hand_over, bound))
    agent._supervise(child, raised, bound)


class _Bound:
    """What the job of a sandbox has, once there is one."""

    egress: object = None
    secrets: object = None
    outlets: object = None
    alone = True
    early = False  # something was brought in before there was a job


def _serve(agent, cpus: int, hand_over: int, bound: _Bound) -> None:  # type: ignore[no-untyped-def]
    try:
        agent._tell(_READY)
        head = agent._read_head()
        while not head:
            agent._tell(_ALIVE)
            head = agent._read_head()
        job = agent._parse_job(head)
        source = agent._read_exactly(job["size"])
        _bind(agent, job, cpus, bound)
        # The host takes this for the beginning of the script.
        file = os.open(job["path"], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        _write(file, source)
        _write(hand_over, len(head).to_bytes(4, "little") + head + source)
        os.close(hand_over)
        os.close(file)
    except BaseException:
        agent._tell("/.agent-failed")
        sys.excepthook(*sys.exc_info())
        os._exit(125)
    agent._watch_lifeline()


def _bind(agent, job: dict, cpus: int, bound: _Bound) -> None:  # type: ignore[no-untyped-def, type-arg]
    bound.secrets = secrets = agent._place_secrets(job["secrets"], _ROOT)
    if job["cpus"] != cpus:
        agent._show_cpus(job["cpus"])
    bound.outlets = outlets = agent._make_outlets(job["outlets"], _ROOT)
    agent._bind_grants(job, _ROOT)
    if job["commands"]:
        flags = agent._MS_NOSUID | agent._MS_NODEV | agent._MS_RDONLY  # and to be executed
        agent._bind(f"/grants{_COMMANDS}", _ROOT + _COMMANDS, flags)
        agent._sibling("commands").link(job["commands"], _ROOT)
    if job["mounts"] or job["commands"] or bound.early:
        agent._syscall("umount2", b"/grants\0", agent._MNT_DETACH)
    if outlets is not None:
        outlets.open()
    if job["egress"]:
        bound.egress = agent._start_egress(job["egress"])
    if secrets is not None:
        secrets.start()


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _preload(names: list[str], imports: list[str], cpus: int) -> None:
    """Imports modules; afterwards the path is as it was: the directory of a script comes first."""
    try:
        os.sched_setaffinity(0, range(cpus))  # a module may start a thread for each
    except OSError:
        pass
    sys.path += imports
    for name in names:
        try:
            __import__(name)
        except BaseException as error:
            told = " ".join(f"{type(error).__name__}: {error}".split())
            os.write(2, f"\n`{name}` cannot be imported: {told[:300]}\n".encode("utf-8", "replace"))
            os._exit(125)
    for directory in imports:
        if directory in sys.path:
            sys.path.remove(directory)


def _wait_for_job(agent, script, jobs: int, ready: int) -> None:  # type: ignore[no-untyped-def]
    """Becomes the script, once there is one."""
    import gc
    import resource

    script.rehearse()
    _touch()
    gc.collect()
    gc.freeze()  # what is there to stay need not be looked at again
    os.write(ready, b"x")
    os.close(ready)
    data = os.read(jobs, 65536)
    if not data:
        os._exit(125)  # PID 1 is gone
    while len(data) < 4:
        data += _read(jobs, 4 - len(data))
    size = int.from_bytes(data[:4], "little")
    if len(data) < 4 + size:
        data += _read(jobs, 4 + size - len(data))
    job = agent._parse_job(data[4 : 4 + size])
    source = data[4 + size :]
    source += _read(jobs, job["size"] - len(source))
    os.close(jobs)
    del data
    _set_environment(job["environment"])
    resource.setrlimit(resource.RLIMIT_NPROC, (job["processes"], job["processes"]))
    if job["outlets"]:
        os.chdir("/tmp")  # another directory is mounted there now
    del sys.argv[1:], sys.orig_argv[-1:]
    status = 0
    try:
        script.run(job, source)
    except SystemExit as end:
        if end.code is not None:
            if type(end.code) is not int or not -256 < end.code < 256:
                raise
            status = end.code
    _leave(agent, status)
    raise SystemExit(status)


def _leave(agent, status: int) -> None:  # type: ignore[no-untyped-def]
    """Ends the process, unless the interpreter's own end would do more than take longer.

    What the interpreter takes apart at its end is memory that is shared with PID 1 until
    then, page by page. All that a script can tell of is done here: its threads are waited
    for, its ``atexit`` functions called, its module dropped, what is unreachable then
    finalized, its output flushed. If something is left that has a finalizer, or output
    that cannot be flushed, this returns, and the interpreter ends as it does.
    """
    import _thread
    import atexit
    import gc

    threads = sys.modules.get("threading")
    if threads is not None:
        threads._shutdown()
    atexit._run_exitfuncs()
    sys.modules.pop("__main__", None)
    gc.collect()
    # Without those of before: they are frozen.
    kinds = {type(one) for one in gc.get_objects()}
    if _thread._count() or any(hasattr(kind, "__del__") for kind in kinds):
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (AttributeError, ValueError, OSError):
        return
    agent._call("exit", status & 0xFF)  # and not `_exit`: C libraries have buffers, too


def _touch() -> None:
    """Uses each file that is mapped here once: what the end of the process needs, too.

    A page costs a trip to the guest's kernel when it is first used after a fork.
    """
    import _ctypes

    class Pointer(_ctypes._SimpleCData):  # type: ignore[type-arg]
        _type_ = "P"

    handle = _ctypes.dlopen(None, 2)  # type: ignore[arg-type]
    memmove, memcmp = _ctypes.dlsym(handle, "memmove"), _ctypes.dlsym(handle, "memcmp")
    with open("/proc/self/maps") as maps:
        lines = maps.read().splitlines()
    for line in lines:
        area, access, _, _, _, *path = line.split(maxsplit=5)
        if not path or not path[0].startswith("/opt/"):
            continue
        start, end = (int(text, 16) for text in area.split("-"))
        use = memmove if access.startswith("rw") else memcmp
        for address in range(start, end, 4096 if use is memmove else 65536):
            if access.startswith("r"):
                _ctypes.call_function(use, (Pointer(address), Pointer(address), 1))


def _set_environment(variables: list[str]) -> None:
    wanted = dict(variable.split("=", 1) for variable in variables)
    if wanted == dict(os.environ):
        return
    zone = os.environ.get("TZ")
    os.environ.clear()
    os.environ.update(wanted)
    if wanted.get("TZ") != zone:
        import time

        time.tzset()


def _read(fd: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(fd, size)
        if not part:
            os._exit(125)  # PID 1 is gone
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
