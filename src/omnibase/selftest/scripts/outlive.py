"""Leaves a daemon in a session of its own, which goes on writing.

Threat: T-EXEC-21
Expected: the daemon ends with the script: what it writes stands still.
Granted: as long as the script runs, its daemon writes.
"""

import json
import os
import sys
import time

mark = sys.argv[1]
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    while True:
        with open(mark, "a") as file:
            file.write("x")
        time.sleep(0.01)
while not (os.path.exists(mark) and os.path.getsize(mark)):
    time.sleep(0.01)
print(json.dumps({"got": ["a daemon"], "refused": {}}), flush=True)
