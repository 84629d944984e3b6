"""Tries one denied open, then goes on: what follows shows whether the run was ended there."""

import os
import sys
import time

try:
    os.close(os.open("/etc/passwd", os.O_RDONLY))
except PermissionError:
    print("denied", flush=True)
for _ in range(int(sys.argv[1])):
    time.sleep(0.05)
    print("still running", flush=True)
