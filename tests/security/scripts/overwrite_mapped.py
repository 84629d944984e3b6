"""Overwrites the file given through a shared mapping, which strips no mode bits."""

import mmap
import sys

with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
    mapped[:4] = b"EVIL"
    mapped.flush()
