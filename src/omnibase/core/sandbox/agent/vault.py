"""Secrets, the guest's side: a file of each, and word of the first time that one is opened.

It runs inside the sandbox, in PID 1, and uses the standard library only. That a
secret was opened is asked of the guest's own kernel (inotify(7)): however the
script got to the file, it shows. The trace carries it on: PID 1 opens a name that
is not there, and nobody else can do that in its name.
"""

from __future__ import annotations

import _struct as struct
import _thread
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DIRECTORY = "/run/secrets"
_SIGN = "/.secret-read/"  # and a name; none is the last word
_EVENT = struct.Struct("=iIII")  # struct inotify_event, whose name is empty for a file
_IN_OPEN, _IN_ONESHOT = 0x20, 0x80000000
# The open's own message, which knows the process, is to be the first.
_LAG_SECONDS = 0.02


def place(name: str, size: int, control: int, owner: int, root: str = "") -> None:
    """Makes the file of a secret from what comes next on the control pipe.

    Nothing of the value stays in this memory, of which the script gets a copy: it
    has to open the file.
    """
    value = bytearray(size)
    view = memoryview(value)
    while view:
        got = os.readv(control, [view])
        if not got:
            os._exit(125)
        view = view[got:]
    made = os.open(f"{root}{DIRECTORY}/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400)
    view = memoryview(value)
    while view:
        view = view[os.write(made, view) :]
    os.fchown(made, owner, owner)
    os.close(made)
    value[:] = bytes(size)


class Watch:
    """Tells of each secret once, when it is first opened.

    Args:
        names: The secrets.
        call: Calls a function of libc by its name, and raises if that fails.
        root: Where the script's root is.
    """

    def __init__(self, names: list[str], call: Callable[..., int], root: str = "") -> None:
        self.fd = call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)
        self._names = {}
        for name in names:
            path = os.fsencode(f"{root}{DIRECTORY}/{name}") + b"\0"
            self._names[call("inotify_add_watch", self.fd, path, _IN_OPEN | _IN_ONESHOT)] = name
        self._lock = _thread.allocate_lock()

    def start(self) -> None:
        """Tells from now on, in a thread."""
        _thread.start_new_thread(self._serve, ())

    def finish(self) -> None:
        """Tells what is left, and that it is all."""
        self._tell()
        _sign("")

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        while True:
            poll.poll()
            time.sleep(_LAG_SECONDS)
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            try:
                events = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                return
            for watched, _, _, _ in _EVENT.iter_unpack(events):
                name = self._names.pop(watched, None)  # the watch's own end comes second
                if name is not None:
                    _sign(name)


def _sign(name: str) -> None:
    try:
        os.close(os.open(_SIGN + name, os.O_RDONLY))
    except OSError:
        pass  # always: the attempt itself is the message
