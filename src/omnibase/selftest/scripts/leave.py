"""Leaves files to be collected: one that is plain, and others in the hope that they come out.

Threat: T-ART-02
Expected: only a regular file of a granted name comes out; the rest is named and left.
Granted: with `ARTIFACT_WRITE:plain.txt`, that file is stored, to the byte.
"""

import json
import os

os.chdir("/artifacts/out")
with open("plain.txt", "w") as file:
    file.write("plain")
os.symlink("/etc/passwd", "link.txt")
os.symlink("/", "root")
os.mkfifo("pipe.txt")
for name in ("two\nlines", "not granted.txt"):
    with open(name, "w") as file:
        file.write(name)
with open("sparse.txt", "wb") as sparse:
    sparse.truncate(1 << 42)
print(json.dumps({"got": [], "refused": {}}))
