"""Runs each command line given as JSON; reports the exit code and output, or the error."""

import errno
import json
import subprocess
import sys

report = []
for line in json.loads(sys.argv[1]):
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=20, check=False)
        report.append([done.returncode, done.stdout.strip(), done.stderr.strip()[:300]])
    except OSError as error:
        report.append(errno.errorcode[error.errno])
print(json.dumps({"runs": report}))
