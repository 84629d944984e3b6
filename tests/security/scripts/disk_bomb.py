"""Fills /tmp, says where that ended, and exits with 7; with `sparse`, makes a huge empty file."""

import os
import sys
import time

if "sparse" in sys.argv:
    fd = os.open("/tmp/sparse", os.O_CREAT | os.O_RDWR)
    os.ftruncate(fd, 1 << 50)
    os.pwrite(fd, b"x", 1 << 49)
    print("sparse", flush=True)
    raise SystemExit(0)
written = 0
try:
    with open("/tmp/file", "wb", buffering=0) as file:
        while True:
            written += file.write(b"x" * 65536)
except OSError as error:
    print(written, error.errno, flush=True)
time.sleep(0.5)  # what it has used is measured while it is there
raise SystemExit(7)
