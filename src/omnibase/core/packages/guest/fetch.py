"""Resolves requirements and downloads their wheels, with pip, inside the sandbox.

Standard input is a JSON object: ``pip`` (what to put on ``sys.path``), ``arguments``
(options that say where packages come from), ``requirements`` (a file's text),
``constraints`` (paths), ``out`` (a directory for the wheels). What is there at the end
is the lock: the host takes names and hashes from the files, not from pip. Exit code
1: standard output says why.
"""

import json
import os
import re
import sys


def _run(arguments: list) -> int:  # type: ignore[type-arg]
    from pip._internal.cli.main import main

    return main(arguments) or 0


def main() -> int:
    job = json.load(sys.stdin)
    sys.path.insert(0, job["pip"])
    # pip describes the machine to the index, and would look for `lsb_release`.
    about = type(sys)("pip._vendor.distro")
    about.name = about.version = about.codename = lambda *_, **__: ""  # type: ignore[attr-defined]
    sys.modules[about.__name__] = about
    sys.executable = ""  # and for the libc that it was built with
    os.environ["PIP_CONFIG_FILE"] = "/dev/null"
    os.environ["PIP_NO_INPUT"] = "1"
    with open("/tmp/requirements.txt", "w") as file:
        file.write(job["requirements"])
    common = [
        "--isolated", "--disable-pip-version-check", "--no-color", "--timeout=20", "--retries=1",
        "--log=/tmp/pip.log", "--cache-dir=/tmp/cache", "--progress-bar=off",
        "--only-binary=:all:", *job["arguments"],
    ]  # fmt: skip
    fetch = ["download", *common, f"--dest={job['out']}", "-r", "/tmp/requirements.txt"]
    for path in job["constraints"]:
        fetch += ["-c", path]
    code = _run(fetch)
    if code != 0:
        _explain()
    return 1 if code else 0


def _explain() -> None:
    """Prints the lines of pip's log that say why a file was not taken."""
    telling = re.compile(r"Skipping link: |Could not fetch URL|403|404|Connection|ERROR")
    lines: list[str] = []
    try:
        with open("/tmp/pip.log", errors="replace") as log:
            for line in log:
                if telling.search(line) and len(lines) < 2000:
                    lines.append(line[:600].rstrip())
    except OSError:
        return
    print("@log")
    print("\n".join(lines[-400:]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
