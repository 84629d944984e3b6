"""With `ls` granted: every way to execute something else, and what came of each."""

import errno
import json
import os
import shutil
import sys

granted_tree, writable_tree = sys.argv[1:3]
report = {}


def attempt(name, start):
    child = os.fork()
    if child == 0:
        try:
            start()
        except OSError as error:
            os._exit(200 + (error.errno == errno.EACCES) + 2 * (error.errno == errno.ENOENT))
        os._exit(199)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    report[name] = {201: "EACCES", 202: "ENOENT"}.get(code, code)


def execute(path, *arguments):
    return lambda: os.execv(path, [os.path.basename(path), *arguments])


def by_descriptor(path):
    return lambda: os.execve(os.open(path, os.O_RDONLY), ["x", "-d", "/"], {})


here = "/tmp/around"
os.mkdir(here)
for directory in (here, writable_tree):
    shutil.copyfile("/commands/bin/ls", f"{directory}/copied")
    os.chmod(f"{directory}/copied", 0o755)
    with open(f"{directory}/script", "w") as file:
        file.write("#!/commands/bin/ls\n")
    os.chmod(f"{directory}/script", 0o755)
os.symlink("/commands/bin/ls", f"{here}/granted-link")
os.symlink(f"{here}/copied", f"{here}/copied-link")

# What is granted may be reached by any path.
attempt("by its path", execute("/commands/bin/ls", "-d", "/"))
attempt("where the host has it", execute("/usr/bin/ls", "-d", "/"))
attempt("around", execute("/usr/../usr/bin/./ls", "-d", "/"))
attempt("by a link", execute(f"{here}/granted-link", "-d", "/"))
attempt("by a descriptor", by_descriptor("/commands/bin/ls"))

# What is not may be by none.
attempt("ungranted", execute("/usr/bin/id"))
attempt("ungranted, around", execute("/bin/../usr/bin/id"))
attempt("a copy", execute(f"{here}/copied"))
attempt("a copy by a link", execute(f"{here}/copied-link"))
attempt("a copy by a descriptor", by_descriptor(f"{here}/copied"))
attempt("a copy by proc", execute(f"/proc/self/fd/{os.open(f'{here}/copied', os.O_RDONLY)}"))
attempt("a copy by a root in proc", execute(f"/proc/self/root{here}/copied"))
attempt("a copy in a granted tree", execute(f"{writable_tree}/copied"))
attempt("a binary of a granted tree", execute(f"{granted_tree}/tool"))
attempt("a script for a granted interpreter", execute(f"{here}/script"))
attempt("a script in a granted tree", execute(f"{writable_tree}/script"))
attempt("a library", execute("/commands/lib/libc.so.6"))
attempt("the interpreter", execute(sys.executable or "/opt/omnibase/bin/python3"))
attempt("the interpreter by proc", execute("/proc/self/exe"))
attempt("the image's loader", execute("/lib64/ld-linux-x86-64.so.2", f"{here}/copied"))

# The loader is executable, and runs nothing.
attempt("the loader on a copy", execute("/commands/loader", f"{here}/copied", "-d", "/"))
attempt("the loader on what is granted", execute("/commands/loader", "/commands/bin/ls"))
attempt("the loader on the interpreter", execute("/commands/loader", "/opt/omnibase/bin/python3"))
attempt("the loader by a descriptor", by_descriptor("/commands/loader"))

# Nothing can be put among the commands.
for name, change in {
    "write": lambda: os.open("/commands/bin/ls", os.O_WRONLY),
    "create": lambda: os.open("/commands/bin/new", os.O_WRONLY | os.O_CREAT),
    "replace": lambda: os.rename("/commands/loader", "/commands/bin/ls"),
    "link": lambda: os.symlink("/tmp/around/copied", "/usr/bin/id"),
}.items():
    try:
        change()
        report[name] = "done"
    except OSError as error:
        report[name] = errno.errorcode[error.errno]
print(json.dumps(report))
