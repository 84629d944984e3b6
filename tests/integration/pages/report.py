"""Counts the files of the data; without arguments it looks at what is not for it, too."""

import os
import sys

print(len(os.listdir("@/data")), "entries")
if len(sys.argv) == 1:
    try:
        open("@/data/secret/x")
    except OSError as error:
        print(error.strerror)
