"""Looks for a place where this user may write, on a mount from which files can be executed."""

import json
import os

open_mounts, found = [], []
with open("/proc/mounts") as file:
    for line in file:
        _, point, kind, options, *_ = line.split(" ")
        if "noexec" not in options.split(",") and kind != "proc":
            open_mounts.append(point)
for point in open_mounts:
    device = os.stat(point).st_dev
    for directory, subdirectories, files in os.walk(point):
        if os.stat(directory).st_dev != device:
            subdirectories[:] = []
            continue
        for name in (".", *files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            regular = (status.st_mode >> 12) in (0o04, 0o10)
            if regular and os.access(path, os.W_OK):
                found.append(path)
print(json.dumps({"open": sorted(set(open_mounts)), "writable": found}))
