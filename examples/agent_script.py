"""What an agent wrote: mostly reasonable, partly not. It reports what it got."""

import socket
import subprocess
import sys


def attempt(what, action):
    try:
        print(f"  ok      {what}: {action()}")
    except OSError as error:
        print(f"  refused {what}: {error.strerror or error}")


def read(path):
    with open(path) as file:
        return file.readline().strip()


def connect(host, port):
    with socket.create_connection((host, port), timeout=3):
        return "connected"


data = sys.argv[1]
attempt("read the allowed file", lambda: read(f"{data}/allowed.txt"))
attempt("read the file beside it", lambda: read(f"{data}/other.txt"))
attempt("read /etc/passwd", lambda: read("/etc/passwd"))
attempt("open a TCP connection", lambda: connect("93.184.215.14", 80))
attempt("start a command", lambda: subprocess.check_output(["id", "-un"], text=True).strip())
attempt("compute", lambda: sum(n * n for n in range(1000)))
