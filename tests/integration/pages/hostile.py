"""Tries one file three times, and a mount once."""

import ctypes

for _ in range(3):
    try:
        open("@/data/allowed.txt")
    except OSError:
        pass
ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None)
