"""Unpacks wheels into a directory and compiles them, inside the sandbox.

Standard input is a JSON object: ``wheels`` (paths), ``out`` (the directory),
``shown`` (where the guest that uses it will find it), ``files`` and ``bytes`` (at
most so many). Nothing of a wheel is run: scripts, headers and data files are left
out, and so is what names a place outside. Exit code 1: the last line of standard
output says why.
"""

import json
import os
import py_compile
import stat
import sys
import zipfile

_CHUNK = 1 << 20


class Refused(Exception):
    """A wheel is not one that can be unpacked."""


def _place(name: str) -> str | None:
    """Returns where a member belongs, relative to the directory; ``None``: nowhere."""
    parts = name.split("/")
    if parts[-1] == "":
        return None  # a directory is made when something is in it
    if (
        name.startswith("/")
        or "\\" in name
        or "\0" in name
        or any(part in ("", ".", "..") for part in parts)
        or any(len(os.fsencode(part)) > 255 for part in parts)
        or len(parts) > 40
        or not name.isprintable()
    ):
        raise Refused(f"its member {name[:120]!r} does not stay in its directory")
    if parts[0].endswith(".data") and len(parts) > 1:
        if parts[1] not in ("purelib", "platlib") or len(parts) < 3:
            return None
        return "/".join(parts[2:])
    return name


class Tree:
    """The directory, and what may still go into it."""

    def __init__(self, out: str, files: int, size: int) -> None:
        self.out = out
        self.files = files
        self.size = size
        self.python: list[str] = []
        self.skipped = 0

    def take(self, wheel: str) -> None:
        with zipfile.ZipFile(wheel) as archive:
            seen = set()
            for member in archive.infolist():
                place = _place(member.filename)
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise Refused(f"its member {member.filename[:120]!r} is no regular file")
                if place is None:
                    continue
                if place in seen:
                    raise Refused(f"its member {member.filename[:120]!r} is there twice")
                seen.add(place)
                self._write(archive, member, place)

    def _write(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: str) -> None:
        self.files -= 1
        if self.files < 0:
            raise Refused("there are too many files")
        path = os.path.join(self.out, place)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
            fd = os.open(path, flags, 0o644)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            self.skipped += 1  # of two packages with the same file, the first has it
            return
        with open(fd, "wb") as file, archive.open(member) as content:
            while chunk := content.read(_CHUNK):
                self.size -= len(chunk)
                if self.size < 0:
                    raise Refused("they are too large unpacked")
                file.write(chunk)
        if place.endswith(".py"):
            self.python.append(place)

    def compile(self, shown: str, workers: int) -> None:
        """Compiles what compiles; a file that ends its compiler is left as it is."""
        children = []
        for worker in range(workers):
            child = os.fork()
            if child == 0:
                try:
                    for place in self.python[worker::workers]:
                        self._compile_one(shown, place)
                finally:
                    os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)

    def _compile_one(self, shown: str, place: str) -> None:
        try:
            py_compile.compile(
                os.path.join(self.out, place),
                dfile=f"{shown}/{place}",
                doraise=True,
                # The layer never changes, so no source is looked at.
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
        except (py_compile.PyCompileError, ValueError, OSError, RecursionError, MemoryError):
            pass


def main() -> int:
    job = json.load(sys.stdin)
    tree = Tree(job["out"], job["files"], job["bytes"])
    for number, wheel in enumerate(job["wheels"], 1):
        print(f"@unpack {number} of {len(job['wheels'])}: {os.path.basename(wheel)}", flush=True)
        try:
            tree.take(wheel)
        except Refused as refused:
            print(f"@refused {os.path.basename(wheel)}\n{refused}", flush=True)
            return 1
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError,
                ValueError, UnicodeError) as error:  # fmt: skip
            print(f"@refused {os.path.basename(wheel)}\nit is no sound archive: {error}"[:400])
            return 1
        except Exception as error:  # zlib's and its like have no common base
            print(f"@refused {os.path.basename(wheel)}\nit cannot be read: {error}"[:400])
            return 1
    print(f"@compile {len(tree.python)} modules", flush=True)
    tree.compile(job["shown"], job["workers"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
