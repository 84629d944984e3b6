"""Has C code open the file given, where Python raises no audit event; prints how each went."""

import ctypes
import errno
import json
import sqlite3
import ssl
import sys

path = sys.argv[1]
report = {}


def attempt(label, action):
    try:
        action()
        report[label] = "opened"
    except (OSError, sqlite3.Error) as error:
        name = errno.errorcode.get(getattr(error, "errno", None) or 0)
        # OpenSSL and SQLite have errors of their own for what they read.
        report[label] = name if name in ("EACCES", "ENOENT") else str(error)


attempt("ssl certificate", lambda: ssl.create_default_context().load_cert_chain(path))
attempt("ssl authority", lambda: ssl.create_default_context(cafile=path))
attempt("ssl parameters", lambda: ssl.create_default_context().load_dh_params(path))
attempt(
    "sqlite", lambda: sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute("select 1 from x")
)
attempt("dlopen", lambda: ctypes.CDLL(path))
print(json.dumps(report))
