"""Starts children, or with `threads` threads, until it is refused; prints how many there were."""

import os
import sys
import threading
import time

count = 0
try:
    while count < 200:
        if "threads" in sys.argv:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        elif os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        count += 1
except (OSError, RuntimeError):
    pass
print(count, flush=True)
os._exit(0 if "quietly" in sys.argv else 7)
