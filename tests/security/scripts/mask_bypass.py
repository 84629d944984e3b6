"""Tries to reach behind masks below a granted writable directory; prints what it read.

Arguments: the directory, which holds `deep/secret/key` and `hidden.txt`, both masked.
"""

import errno
import json
import os
import sys

top = sys.argv[1]
report = {}


def attempt(label, action):
    try:
        report[label] = str(action())
    except OSError as error:
        report[label] = errno.errorcode[error.errno]


def read(path):
    with open(path) as file:
        return file.read()


attempt("read open file", lambda: read(f"{top}/open.txt"))
attempt("read masked directory", lambda: read(f"{top}/deep/secret/key"))
attempt("read masked file", lambda: read(f"{top}/hidden.txt"))
attempt("create in masked", lambda: os.open(f"{top}/deep/secret/new", os.O_CREAT | os.O_WRONLY))
attempt("rename the mask", lambda: os.rename(f"{top}/deep/secret", f"{top}/moved"))
attempt("rename its parent", lambda: os.rename(f"{top}/deep", f"{top}/moved"))
attempt("rename the masked file", lambda: os.rename(f"{top}/hidden.txt", f"{top}/shown.txt"))
attempt("hard link of the masked file", lambda: os.link(f"{top}/hidden.txt", f"{top}/twin.txt"))
attempt("remove the masked file", lambda: os.unlink(f"{top}/hidden.txt"))
attempt("link to the parent", lambda: os.symlink(f"{top}/deep", f"{top}/link"))
attempt("read through the link", lambda: read(f"{top}/link/secret/key"))
attempt(
    "unmount", lambda: __import__("ctypes").CDLL(None).umount2(f"{top}/deep/secret".encode(), 2)
)
attempt("read again", lambda: read(f"{top}/deep/secret/key"))
for path in ("moved/key", "moved/secret/key", "shown.txt", "twin.txt"):
    attempt(f"read {path}", lambda path=path: read(f"{top}/{path}"))
print(json.dumps(report))
