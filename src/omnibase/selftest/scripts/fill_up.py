"""Fills its scratch, or whoever reads its output.

Threat: T-EXEC-13
Expected: it is refused, or ended, at its quota.
Granted: within its quota the same is done.
"""

import json
import os
import sys

kind, mebibytes = sys.argv[1], int(sys.argv[2])
block = b"x" * (1 << 20)
if kind == "disk":
    with open("/tmp/full", "wb") as file:
        for _ in range(mebibytes):
            file.write(block)
else:
    with os.fdopen(2, "wb", closefd=False) as stream:
        for _ in range(mebibytes):
            stream.write(block)
print(json.dumps({"got": [kind], "refused": {}}))
