"""Hides names from the trace, which carries only UTF-8: `withheld.py name|cwd|path|argv`."""

import ctypes
import os
import socket
import sys

way = sys.argv[1]
passwd = b"/etc/passwd"
if way == "name":
    ctypes.CDLL(None).prctl(15, b"\xff\xfe", 0, 0, 0)
elif way == "cwd":
    os.mkdir(b"/tmp/\xff")
    os.chdir(b"/tmp/\xff")
elif way == "path":
    os.mkdir(b"/tmp/\xff")
    passwd = b"/tmp/\xff/../../etc/passwd"

try:
    os.open(passwd, os.O_RDONLY)
except PermissionError:
    print("denied", flush=True)
if way == "name":
    with socket.socket() as client:
        try:
            client.connect(("203.0.113.7", 80))
        except OSError:
            print("unreachable", flush=True)
if way == "argv":
    for arguments in (["x"] * 600, ["x" * 100_000], ["x" * 3000] * 100, [b"\xff"]):
        try:
            os.execv("/srv/tool", arguments)
        except OSError:
            print("not executed", flush=True)
