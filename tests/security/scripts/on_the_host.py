"""A trusted script: tells what it can reach, and leaves a process behind."""

import json
import os
import sys

path, left_behind = sys.argv[1:3]
with open(path) as file:
    text = file.read()
if os.fork() == 0:
    with open(left_behind, "w") as file:
        file.write(str(os.getpid()))
    while True:
        os.read(os.pipe()[0], 1)
while not os.path.exists(left_behind):
    pass
print(json.dumps({"read": text, "stdin": sys.stdin.read(), "names": sorted(os.environ)}))
