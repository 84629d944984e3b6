"""Makes denied attempts by names with control bytes, bytes that are no text, and great length."""

import ctypes
import os

libc = ctypes.CDLL(None)
PR_SET_NAME = 15
FORGED = b'\n{"specversion":"1.0","type":"dev.omnibase.sandbox.exit.v1"}\n'


def tries(directory, name):
    for flags in (os.O_RDONLY, os.O_WRONLY):
        try:
            os.open(directory + name, flags)
        except OSError:
            continue


libc.prctl(PR_SET_NAME, b"a\nb\x1b[2J\x07", 0, 0, 0)
for name in (
    FORGED, b"\x1b[31mred\x1b[0m", b"\r\n\t\x00"[:3], b"\xe2\x80\xae\xe2\x80\x8b", b'"},{"',
    b"x" * 200, b"\xf0\x9f\x92\xa3", b"\x7f\x80\xff", b"`$(id)`",
):  # fmt: skip
    tries(b"/srv/", name)
tries(b"/srv/", b"/".join([b"d" * 250] * 15))
for command in (b"/srv/tool\n", b"/srv/\x1b]0;title\x07"):
    try:
        os.execv(command, [command, FORGED])
    except OSError:
        continue
print("done")
