"""Tries what the acceptance lines name: /etc/passwd, and a TCP connection to each argument."""

import json
import socket
import sys

report = {}
try:
    with open("/etc/passwd") as file:
        report["passwd"] = file.read()
except OSError as error:
    report["passwd"] = type(error).__name__

for address in sys.argv[1:]:
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
        report[address] = "connected"
    except OSError as error:
        report[address] = type(error).__name__

print(json.dumps(report))
