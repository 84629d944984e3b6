"""One of two that run at once: leaves a mark wherever it may, and looks for the other's.

Threat: T-EXEC-16
Expected: neither finds anything of the other.
Granted: in a directory that both may write, they meet.
"""

import json
import os
import socket
import sys
import time

seconds, me, other, *shared = sys.argv[1:]
kept: list[socket.socket] = []
places = ["/tmp", "/dev/shm", *shared]
for place in places:
    with open(f"{place}/{me}", "w") as file:
        file.write(me)
abstract = socket.socket(socket.AF_UNIX)
abstract.bind("\0" + me)
abstract.listen()
kept.append(abstract)
kept.append(socket.create_server(("127.0.0.1", 4000 + int(me))))

got: set[str] = set()
end = time.monotonic() + float(seconds)
while time.monotonic() < end and not (shared and got):
    for place in places:
        if os.path.exists(f"{place}/{other}"):
            got.add(place)
    with socket.socket(socket.AF_UNIX) as client:
        if client.connect_ex("\0" + other) == 0:
            got.add("a socket by name")
    with socket.socket() as client:
        if client.connect_ex(("127.0.0.1", 4000 + int(other))) == 0:
            got.add("a port")
    time.sleep(0.1)
found = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
if found != [1, os.getpid()]:
    got.add("a process")
print(json.dumps({"got": sorted(got), "refused": {}}))
