"""Tries to read a path again and again, for a number of times; says what became of it."""

import errno
import json
import sys
import time

path, times = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
got = None
for _ in range(times):
    try:
        with open(path) as file:
            got = file.read()
            break
    except OSError as error:
        got = errno.errorcode[error.errno]
        time.sleep(0.02)
time.sleep(0.5)
print(json.dumps({"read": got}))
