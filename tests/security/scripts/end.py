"""Ends in the way that the argument names."""

import os
import signal
import sys
import threading

ways = {
    "256": lambda: sys.exit(256),
    "-1": lambda: sys.exit(-1),
    "text": lambda: sys.exit("a message"),
    "none": lambda: sys.exit(None),
    "125": lambda: os._exit(125),
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSEGV": lambda: __import__("ctypes").string_at(0),
    "SIGABRT": os.abort,
    "from a thread": lambda: (threading.Thread(target=os._exit, args=(5,)).start(), signal.pause()),
    "exception": lambda: 1 // 0,
    "hook that fails": lambda: (
        setattr(sys, "excepthook", None), setattr(sys, "stdout", None), 1 // 0
    ),
    "no newline": lambda: sys.stdout.write("no newline"),
    "hook that forges": lambda: (setattr(sys, "excepthook", lambda *_: os._exit(0)), 1 // 0),
}  # fmt: skip
ways[sys.argv[1]]()
