"""Makes denied opens by the hundred thousand: `flood.py COUNT same|distinct|missing`."""

import os
import sys

count, kind = int(sys.argv[1]), sys.argv[2]
for number in range(count):
    path = {
        "same": "/etc/passwd",
        "distinct": f"/srv/{number}",
        "missing": f"/srv/{number % 3000}/{'x' * 200}/{number}",
    }[kind]
    try:
        os.open(path, os.O_RDONLY)
    except OSError:
        continue
print("done")
