"""Outlets, the guest's side: directories to leave files in, sent once nothing else is alive.

PID 1 of a run that has an outlet loads this, and no other. The host decides what of
the files counts; its limits are kept here so that nothing comes for nothing.
"""

from __future__ import annotations

import _struct as struct
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PLACE = "/run/outlets"
_HEADER = struct.Struct("<BBHQ")
_END, _FILE, _LEFT_OUT = 0, 1, 2
_IRREGULAR, _LARGE, _MANY, _DEEP, _UNREADABLE, _CROWDED = 1, 2, 3, 4, 5, 6
_MAX_DEPTH, _MAX_LEFT_OUT, _MAX_ENTRIES, _MAX_NAME = 8, 256, 4096, 4096
_CHUNK = 1 << 18
_WALK = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening what turns out to be a FIFO must not wait for its writer.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Outlets:
    """Directories of the scratch, of which the script sees no more than the outlets.

    Args:
        rows: Path, most files and most bytes of each.
        bind: Mounts a directory at another, which is there.
        owner: The script's user.
        root: Where the script's root is.
    """

    def __init__(
        self, rows: list[str], bind: Callable[[str, str], None], owner: int, root: str = ""
    ) -> None:
        self._rows = [(rows[i], int(rows[i + 1]), int(rows[i + 2])) for i in range(0, len(rows), 3)]
        self._bind = bind
        self._root = root
        os.mkdir(_PLACE, 0o700)
        for number in range(len(self._rows)):
            os.mkdir(f"/tmp/{number}", 0o700)
            os.chown(f"/tmp/{number}", owner, owner)
            os.mkdir(f"{_PLACE}/{number}")
            bind(f"/tmp/{number}", f"{_PLACE}/{number}")
        # The script's `/tmp` is one of them, over the scratch's own top.
        os.mkdir("/tmp/tmp")
        os.chmod("/tmp/tmp", 0o1777)
        bind("/tmp/tmp", f"{root}/tmp")

    def open(self) -> None:
        """Mounts the outlets, once everything else is mounted."""
        for number, (path, _, _) in enumerate(self._rows):
            os.makedirs(self._root + path, 0o755, exist_ok=True)
            self._bind(f"{_PLACE}/{number}", self._root + path)

    def send(self, channel: int) -> None:
        """Sends what was left, over a pipe to the host."""
        sender = _Sender(channel)
        sender.write(b"OBC1")
        for index, (_, files, size) in enumerate(self._rows):
            fd = os.open(f"{_PLACE}/{index}", _WALK)
            sender.outlet(index, fd, files, size)
            os.close(fd)
        sender.write(bytes([_END]))


class _Sender:
    def __init__(self, channel: int) -> None:
        self._channel = channel
        self._left_out = _MAX_LEFT_OUT

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._channel, view) :]

    def outlet(self, index: int, fd: int, files: int, size: int) -> None:
        self._index, self._files, self._bytes = index, files, size
        self._entries, self._silent = _MAX_ENTRIES, False
        self._directory(fd, b"", 0)

    def _directory(self, fd: int, base: bytes, depth: int) -> None:
        names = []
        with os.scandir(fd) as entries:
            for entry in entries:
                if not self._entries:
                    self._leave(base, _CROWDED)
                    break
                self._entries -= 1
                names.append(os.fsencode(entry.name))
        for name in sorted(names):
            path = base + name
            mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
            if len(path) > _MAX_NAME or (depth + 1 >= _MAX_DEPTH and stat.S_ISDIR(mode)):
                self._leave(path, _DEEP)
            elif stat.S_ISDIR(mode):
                inner = os.open(name, _WALK, dir_fd=fd)
                try:
                    self._directory(inner, path + b"/", depth + 1)
                finally:
                    os.close(inner)
            elif stat.S_ISREG(mode):
                self._file(fd, name, path)
            else:
                self._leave(path, _IRREGULAR)

    def _file(self, folder: int, name: bytes, path: bytes) -> None:
        try:
            fd = os.open(name, _READ, dir_fd=folder)
        except OSError:
            self._leave(path, _UNREADABLE)
            return
        try:
            size = os.fstat(fd).st_size
            if not self._files:
                self._leave(path, _MANY)
            elif size > self._bytes:
                self._leave(path, _LARGE)
            else:
                self._files -= 1
                self._bytes -= size
                self.write(_HEADER.pack(_FILE, self._index, len(path), size) + path)
                while size:
                    chunk = os.read(fd, min(size, _CHUNK))
                    if not chunk:
                        raise OSError("a file that shrank")  # nothing is alive that could
                    size -= len(chunk)
                    self.write(chunk)
        finally:
            os.close(fd)

    def _leave(self, path: bytes, reason: int) -> None:
        """Tells that something stays here; what is too much to tell is told once."""
        if self._left_out:
            self._left_out -= 1
        elif self._silent:
            return
        else:
            path, reason, self._silent = b"", _CROWDED, True
        path = path[:_MAX_NAME]
        self.write(_HEADER.pack(_LEFT_OUT, self._index, len(path), reason) + path)
