"""Reads a database, and tries everything that is not reading."""

import json
import os
import sqlite3
import sys

PATH, OTHER = sys.argv[1:3]


def tried(work):
    try:
        return repr(work())
    except (OSError, sqlite3.Error) as error:
        return type(error).__name__


def sql(uri, text):
    with sqlite3.connect(uri, uri=True) as connection:
        return connection.execute(text).fetchall()


def opened(mode, end=""):
    with open(PATH + end, mode) as file:
        return file.name


def unlogged():
    with sqlite3.connect(PATH) as connection:
        connection.execute("pragma journal_mode=off")
        return connection.execute("delete from t").fetchall()


report = {
    "default": sql(PATH, "select sum(a) from t"),
    "ro": sql(f"file:{PATH}?mode=ro", "select sum(a) from t"),
    "rw": sql(f"file:{PATH}?mode=rw", "select sum(a) from t"),
    "check": sql(PATH, "pragma integrity_check"),
    "insert": tried(lambda: sql(PATH, "insert into t values (1)")),
    "wal": tried(lambda: sql(PATH, "pragma journal_mode=wal")),
    "unlogged": tried(unlogged),
}
if OTHER:
    report |= {
        "write": tried(lambda: opened("r+b")),
        "truncate": tried(lambda: opened("wb")),
        "journal": tried(lambda: opened("wb", "-journal")),
        "log": tried(lambda: os.open(PATH + "-wal", os.O_RDWR | os.O_CREAT)),
        "unlink": tried(lambda: os.unlink(PATH)),
        "rename": tried(lambda: os.rename(PATH, PATH + "2")),
        "chmod": tried(lambda: os.chmod(PATH, 0o666)),
        "beside": sorted(os.listdir(os.path.dirname(PATH))),
        "other": tried(lambda: sql(f"file:{OTHER}?mode=ro", "select * from t")),
        "attached": tried(lambda: sql(PATH, f"attach '{OTHER}' as o")),
    }
print(json.dumps(report))
