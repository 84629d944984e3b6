"""Uses a granted writable directory, then abuses it; the argument is the directory."""

import errno
import json
import os
import sys

os.chdir(sys.argv[1])
report = {}


def attempt(label, action):
    try:
        report[label] = str(action())
    except OSError as error:
        report[label] = errno.errorcode[error.errno]


def write(path, text):
    with open(path, "w") as file:
        return file.write(text)


def read(path):
    with open(path) as file:
        return file.read()


def write_large():
    with open("large", "wb") as file:
        return sum(file.write(bytes(1 << 20)) for _ in range(8))


attempt("read existing", lambda: read("existing"))
attempt("overwrite existing", lambda: write("existing", "changed"))
attempt("create", lambda: write("created", "new"))
attempt("make directory", lambda: os.mkdir("directory"))
attempt("create below", lambda: write("directory/inner", "new"))
attempt("rename", lambda: os.rename("created", "renamed"))
attempt("large file", write_large)
attempt("remove", lambda: os.unlink("doomed"))
attempt("plant a link", lambda: os.symlink("/etc/shadow", "link"))
attempt("read the planted link", lambda: read("link"))
attempt("make executable", lambda: os.chmod("renamed", 0o755))
attempt("execute", lambda: os.execv("renamed", ["renamed"]))
attempt("write outside", lambda: write("../outside", "x"))
print(json.dumps(report))
