"""Resolves requirements and downloads their wheels, with pip, inside the sandbox.

Standard input is a JSON object: ``pip`` (what to put on ``sys.path``), ``arguments``
(options that say where packages come from), ``requirements`` (a file's text),
``constraints`` (paths), ``out`` (a directory to write). There it leaves ``lock.json``,
rows of name, version, file and hash, and the wheels. Exit code 1: standard output
says why.
"""

import json
import os
import re
import sys
from urllib.parse import unquote, urlsplit


def _run(arguments: list) -> int:  # type: ignore[type-arg]
    from pip._internal.cli.main import main

    return main(arguments) or 0


def _rows(report: dict) -> list:  # type: ignore[type-arg]
    rows = []
    for item in report["install"]:
        info, about = item["download_info"], item["metadata"]
        hashes = info["archive_info"].get("hashes") or {}
        if not hashes and "hash" in info["archive_info"]:
            hashes = dict([info["archive_info"]["hash"].split("=", 1)])
        name = re.sub(r"[-_.]+", "-", about["name"]).lower()
        file = unquote(os.path.basename(urlsplit(info["url"]).path))
        rows.append([name, about["version"], file, hashes.get("sha256", "")])
    return rows


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
    resolve = ["install", *common, "--dry-run", "--ignore-installed", "--target=/tmp/target",
               "--report=/tmp/report.json", "-r", "/tmp/requirements.txt"]  # fmt: skip
    for path in job["constraints"]:
        resolve += ["-c", path]
    code = _run(resolve)
    if code == 0:
        with open("/tmp/report.json") as report:
            rows = _rows(json.load(report))
        print(f"@resolved {len(rows)}", flush=True)
        with open("/tmp/locked.txt", "w") as file:
            for name, version, _, sha256 in rows:
                file.write(f"{name}=={version} --hash=sha256:{sha256}\n")
        wheels = os.path.join(job["out"], "wheels")
        os.mkdir(wheels)
        if rows:
            code = _run(["download", *common, "--require-hashes", "--no-deps",
                         f"--dest={wheels}", "-r", "/tmp/locked.txt"])  # fmt: skip
        with open(os.path.join(job["out"], "lock.json"), "w") as file:
            json.dump(rows, file)
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
