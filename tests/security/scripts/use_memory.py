"""Holds as many MB as the argument says, touched page by page."""

import sys

size = int(sys.argv[1]) * 10**6
held = bytearray(size)
held[::4096] = b"x" * len(held[::4096])
print(len(held))
