"""Takes more of the machine than its share: processes, CPU time, or time.

Threat: T-EXEC-12
Expected: it is ended, or refused, at its quota.
Granted: within its quota the same is done.
"""

import json
import os
import signal
import sys
import time

kind, amount = sys.argv[1], float(sys.argv[2])
if kind == "processes":
    children: list[int] = []
    for _ in range(int(amount)):
        child = os.fork()
        if child == 0:
            signal.pause()
        children.append(child)
    for child in children:
        os.kill(child, signal.SIGKILL)
elif kind == "CPU":
    end = time.process_time() + amount
    while time.process_time() < end:
        pass
else:
    time.sleep(amount)
print(json.dumps({"got": [kind], "refused": {}}))
