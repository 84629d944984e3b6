"""Makes one denied attempt while 15 processes flood the trace with harmless ones."""

import os
import time

end = time.monotonic() + 4
children = []
for process in range(15):
    child = os.fork()
    if child == 0:
        number = 0
        while time.monotonic() < end:
            number += 1
            try:
                os.open(f"/tmp/{process}-{number}-{'x' * 200}", os.O_RDONLY)
            except OSError:
                continue
        os._exit(0)
    children.append(child)
time.sleep(1)
attempts = 0
while time.monotonic() < end:
    try:
        os.open("/etc/passwd", os.O_RDONLY)
    except OSError:
        attempts += 1
for child in children:
    os.waitpid(child, 0)
print(attempts)
