"""Opens each path given, and says what it read or how it was refused."""

import errno
import json
import os
import sys

report = {}
for path in sys.argv[1:]:
    try:
        with open(path, "rb") as file:
            report[path] = file.read(1 << 16).decode("utf-8", "replace")
    except OSError as error:
        report[path] = errno.errorcode[error.errno]
    # A listing of the parent shows what exists there at all.
    try:
        report["listing of " + os.path.dirname(path)] = sorted(os.listdir(os.path.dirname(path)))
    except OSError as error:
        report["listing of " + os.path.dirname(path)] = errno.errorcode[error.errno]
print(json.dumps(report))
