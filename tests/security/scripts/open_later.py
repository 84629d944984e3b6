"""Waits until a path appears, then reads it; says what became of it."""

import errno
import json
import sys
import time

path = sys.argv[1]
print("ready", flush=True)
for _ in range(400):
    try:
        with open(path) as file:
            print(json.dumps({"read": file.read()}))
            break
    except OSError as error:
        last = errno.errorcode[error.errno]
        time.sleep(0.02)
else:
    print(json.dumps({"read": last}))
