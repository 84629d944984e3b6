#!/usr/bin/env python3
"""What a release consists of, and what is checked of what it depends on.

    release.py dist [DIR]     sdist, wheel, SBOM and SHA256SUMS (default: dist); each built
                              twice, and refused unless both are the same bytes
    release.py sbom           the SBOM alone, to standard output
    release.py licences       a table of what ships with which licence; 1 if one is unsuitable
    release.py advisories     known vulnerabilities of what is locked; 0 and a loud line
                              if nobody can be asked

What ships is what `pip install 'omnibase[every extra for users]'` brings in. The SBOM is
CycloneDX, from `requirements.lock`: names, versions and hashes; licences and the graph of
dependencies are added from the installed packages' own metadata.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
# For those who work on OmniBase or measure it, not for those who use it.
NOT_SHIPPED = frozenset({"bench", "dev", "docs", "fuzz"})
# Permissive, or (MPL, LGPL) copyleft that ends at the library's own files. A licence is
# named in several ways: these are what is left once words such as "License" are gone.
SUITABLE = frozenset(
    {
        "0bsd", "3-clause bsd", "apache", "apache-2.0", "bsd", "bsd-2-clause", "bsd-3-clause",
        "isc", "isc (iscl)", "lgpl-3.0-only", "mit", "mit-0", "mozilla public 2.0 (mpl 2.0)",
        "mpl-2.0", "psf-2.0", "python foundation", "unlicense", "zlib",
    }
)  # fmt: skip
# Whose metadata names none; looked up by hand in the licence file that they install.
BY_HAND = {"cedarpy": "Apache-2.0"}
# What pip-audit's traceback says if its service cannot be reached.
_UNREACHABLE = re.compile(
    r"NameResolutionError|ConnectionError|ConnectTimeout|ReadTimeout|Connection ?refused"
    r"|Max retries exceeded|ServiceError.*(?:connect|timed out)", re.IGNORECASE
)  # fmt: skip


class ReleaseError(Exception):
    """What keeps a release from being made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package that ships.

    Attributes:
        name: Canonical.
        licence: As its metadata has it, or as it was looked up.
        spdx: Whether that is an SPDX expression.
        needs: Canonical names of what it depends on here.
    """

    name: str
    version: str
    licence: str
    spdx: bool
    needs: frozenset[str]


def shipped() -> dict[str, Package]:
    """Returns what users get, by name: the closure over the extras that are for them."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = frozenset(tomllib.load(file)["project"]["optional-dependencies"]) - NOT_SHIPPED
    return closure(extras)


def needed() -> frozenset[str]:
    """Returns the names of what OmniBase needs without any extra."""
    return frozenset(closure(frozenset())) - {"omnibase"}


def closure(extras: frozenset[str]) -> dict[str, Package]:
    """Returns OmniBase with some extras, and all that these need, as installed here."""
    found: dict[str, Package] = {}
    seen: set[tuple[str, str]] = set()
    left = [("omnibase", extra) for extra in ("", *sorted(extras))]
    while left:
        name, extra = left.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        needs = set(found[name].needs) if name in found else set()
        for text in metadata.requires(name) or ():
            need = Requirement(text)
            if need.marker and not need.marker.evaluate({"extra": extra}):
                continue
            needed = str(canonicalize_name(need.name))
            needs.add(needed)
            left += [(needed, one) for one in ("", *need.extras)]
        licence, spdx = _licence(name)
        found[name] = Package(
            name=name, version=metadata.version(name), licence=licence, spdx=spdx,
            needs=frozenset(needs),
        )  # fmt: skip
    return found


def locked(names: frozenset[str]) -> str:
    """Returns the part of the lock that is about these packages.

    Raises:
        ReleaseError: One of them is not in the lock.
    """
    parts = re.split(r"^(?=[A-Za-z0-9])", LOCK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    by_name: dict[str, str] = {
        canonicalize_name(re.split(r"[\[=]", part)[0]): part for part in parts[1:]
    }
    if missing := names - by_name.keys():
        raise ReleaseError(f"not in {LOCK.name}: {', '.join(sorted(missing))}; run `make lock`")
    return "".join(by_name[name] for name in sorted(names))


def sbom() -> bytes:
    """Returns the SBOM of what ships, the same bytes each time."""
    packages = shipped()
    own = packages.pop("omnibase")
    done = subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", "requirements", "--pyproject",
         ROOT / "pyproject.toml", "--mc-type", "library", "--output-reproducible", "--short-PURLs",
         "--spec-version", "1.6", "--no-validate", "--output-format", "JSON", "-"],
        input=locked(frozenset(packages)).encode(), capture_output=True, cwd=ROOT, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ReleaseError(f"no SBOM:\n{done.stderr.decode()}")
    document: dict[str, Any] = json.loads(done.stdout)
    main = document["metadata"]["component"]
    main["version"] = own.version
    references = {own.name: main["bom-ref"]}
    for component in document["components"]:
        package = packages[canonicalize_name(component["name"])]
        named = {"expression": package.licence}
        component["licenses"] = [named if package.spdx else {"license": {"name": package.licence}}]
        component["bom-ref"] = references[package.name] = component["purl"]
        del component["description"]  # the lines of the lock, whose hashes are in it already
    document["dependencies"] = sorted(
        (
            {"ref": references[p.name], "dependsOn": sorted(references[n] for n in p.needs)}
            for p in (own, *packages.values())
        ),
        key=lambda entry: str(entry["ref"]),
    )
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    if wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise ReleaseError(f"the SBOM is not valid: {wrong}")
    return text.encode()


def unsuitable(licence: str) -> bool:
    """Whether a licence, as metadata words it, is none that may ship.

    Of `A OR B` one has to be suitable; of `A AND B`, or `A; B`, each.
    """
    if not licence:
        return True
    plain = re.sub(r"\b(?:the|licen[cs]e[ds]?|software|osi approved)\b", " ", licence.lower())
    every = re.split(r"\band\b|;|,", plain)
    options = [[" ".join(one.split()) for one in re.split(r"\bor\b", part)] for part in every]
    return not all(any(one in SUITABLE for one in part) for part in options)


def licences() -> int:
    """Prints the table of what ships; returns 1 if a licence is unsuitable or unknown."""
    wrong = 0
    for package in sorted(shipped().values(), key=lambda one: one.name):
        bad = unsuitable(package.licence)
        wrong += bad
        print(f"{'BAD' if bad else 'ok ':3}  {package.name} {package.version}  {package.licence}")
    print(f"licences: {wrong} unsuitable or unknown")
    return 1 if wrong else 0


def advisories(command: tuple[str, ...] = (sys.executable, "-m", "pip_audit")) -> int:
    """Asks for known vulnerabilities of what is locked; returns 1 if there are any.

    If the service cannot be reached, that is said loudly and fails nothing.

    Raises:
        ReleaseError: The tool failed for another reason.
    """
    with tempfile.TemporaryDirectory() as directory:
        answer = Path(directory) / "answer.json"
        done = subprocess.run(
            [*command, "--vulnerability-service", "osv", "--requirement", LOCK,
             "--require-hashes", "--disable-pip", "--timeout", "10", "--progress-spinner", "off",
             "--format", "json", "--output", answer],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        text = answer.read_text(encoding="utf-8") if answer.exists() else ""
    if not text:
        if not _UNREACHABLE.search(done.stderr):
            raise ReleaseError(f"pip-audit failed:\n{done.stderr}")
        bar = "!" * 88
        print(f"{bar}\n!! SKIPPED: no database of advisories can be reached from here, so nothing")
        print(f"!! is known of vulnerabilities in {LOCK.name}. Run this with a network.\n{bar}")
        return 0
    found = [one for one in json.loads(text)["dependencies"] if one.get("vulns")]
    for one in found:
        for known in one["vulns"]:
            fixed = ", ".join(known.get("fix_versions") or ["no version"])
            print(f"{one['name']} {one['version']}: {known['id']}, fixed in {fixed}")
    print(f"advisories: {len(found)} packages with known vulnerabilities")
    return 1 if found else 0


def dist(target: Path) -> int:
    """Builds twice, compares, and fills the directory.

    Raises:
        ReleaseError: The two builds differ, one fails, or the directory has other files.
    """
    there = sorted(path.name for path in target.iterdir()) if target.exists() else []
    if foreign := [n for n in there if n != "SHA256SUMS" and not n.startswith("omnibase-")]:
        raise ReleaseError(f"`{target}` has other files: {', '.join(foreign[:5])}")
    with tempfile.TemporaryDirectory() as directory:
        builds = [Path(directory) / name for name in ("one", "two")]
        for build in builds:
            done = subprocess.run(
                [sys.executable, "-m", "build", "--no-isolation", "--outdir", build, ROOT],
                env={**os.environ, "SOURCE_DATE_EPOCH": epoch()}, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            if done.returncode:
                raise ReleaseError(f"the build fails:\n{done.stdout}{done.stderr}")
        names = [sorted(path.name for path in build.iterdir()) for build in builds]
        differ = [
            n for n in names[0] if (builds[0] / n).read_bytes() != (builds[1] / n).read_bytes()
        ]
        if names[0] != names[1] or differ:
            raise ReleaseError(f"two builds differ: {names}, {differ}")
        (builds[0] / f"omnibase-{metadata.version('omnibase')}.cdx.json").write_bytes(sbom())
        files = sorted(builds[0].iterdir())
        sums = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n" for f in files]
        (builds[0] / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(builds[0], target)
    print("".join(sums), end="")
    return 0


def epoch() -> str:
    """Returns the time that the files of a release have, in seconds: of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return given
    log = subprocess.run(
        ["git", "-C", ROOT, "log", "-1", "--format=%ct"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return log.stdout.strip() or "1580601600"  # hatchling's own, outside of a clone


def _licence(name: str) -> tuple[str, bool]:
    if name in BY_HAND:
        return BY_HAND[name], True
    about = metadata.metadata(name).json
    if expression := about.get("license_expression"):
        return str(expression), True
    classified = [
        text.rpartition(" :: ")[2]
        for text in about.get("classifier", ())
        if text.startswith("License ::") and text != "License :: OSI Approved"
    ]
    text = str(about.get("license", ""))
    return "; ".join(classified) or (text if len(text) < 60 else ""), False


def main(arguments: list[str]) -> int:
    """Does what it is told."""
    commands = {"sbom": lambda: sys.stdout.buffer.write(sbom()) and 0, "licences": licences,
                "advisories": advisories}  # fmt: skip
    try:
        if arguments[:1] == ["dist"] and len(arguments) <= 2:
            return dist(Path(arguments[1]) if arguments[1:] else ROOT / "dist")
        if len(arguments) == 1 and arguments[0] in commands:
            return commands[arguments[0]]()
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
