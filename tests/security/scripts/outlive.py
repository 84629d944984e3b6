"""Tries to outlive its own end in the way that the argument names; always prints `started`."""

import os
import signal
import sys
import time

way = sys.argv[1]
print("started", flush=True)
if way == "ignore signals":
    for number in range(1, 65):
        if number != signal.SIGSYS:
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                continue
    while True:
        time.sleep(1)
elif way == "double fork":
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            os.closerange(0, 64)
            time.sleep(600)
        os._exit(0)
    os.wait()
elif way == "double fork, keeping output":
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                print("daemon", flush=True)
                time.sleep(0.01)
        os._exit(0)
    os.wait()
    time.sleep(0.2)
elif way == "close all descriptors":
    os.closerange(0, 1024)
    try:
        os.open("/etc/passwd", os.O_RDONLY)
    except OSError:
        os._exit(5)
elif way == "stop":
    os.kill(0, signal.SIGSTOP)
elif way == "spin":
    while True:
        pass
