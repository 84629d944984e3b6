"""Writes bytes to the streams named: `output_bomb.py BYTES CHUNK stdout stderr`."""

import os
import sys

total, size = int(sys.argv[1]), int(sys.argv[2])
streams = [{"stdout": 1, "stderr": 2}[name] for name in sys.argv[3:]]
chunk = b"x" * size
for turn in range(total // size):
    os.write(streams[turn % len(streams)], chunk)
