"""A package index on the disk, with wheels that the tests make: sound and hostile ones."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path


def make_wheel(
    directory: Path,
    name: str,
    version: str = "1.0",
    files: Mapping[str, bytes] | None = None,
    *,
    requires: tuple[str, ...] = (),
    members: tuple[tuple[zipfile.ZipInfo | str, bytes], ...] = (),
    tag: str = "py3-none-any",
) -> Path:
    """Writes a wheel.

    Args:
        directory: Where to.
        name: Its distribution.
        version: Likewise.
        files: Its content by path; by default one module that says its version.
        requires: What it depends on.
        members: More members, written as they are.
        tag: For which Python, ABI and platform.
    """
    directory.mkdir(parents=True, exist_ok=True)
    escaped = name.replace("-", "_")
    path = directory / f"{escaped}-{version}-{tag}.whl"
    info = f"{escaped}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {one}\n" for one in requires)
    content = dict(files if files is not None else {f"{escaped}.py": f"V = {version!r}\n".encode()})
    content[f"{info}/METADATA"] = metadata.encode()
    content[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
    )
    content[f"{info}/RECORD"] = b""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in (*content.items(), *members):
            archive.writestr(member, data)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_index(top: Path, *wheels: Path, beside: str = "files") -> str:
    """Writes a simple index of wheels that lie in a directory beside it; returns its URL."""
    simple = top / "simple"
    pages: dict[str, list[str]] = {}
    for wheel in wheels:
        name = wheel.name.split("-")[0].replace("_", "-").lower()
        link = f'<a href="../../{beside}/{wheel.name}#sha256={digest(wheel)}">{wheel.name}</a><br>'
        pages.setdefault(name, []).append(link)
    for name, links in pages.items():
        (simple / name).mkdir(parents=True, exist_ok=True)
        page = "<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>"
        (simple / name / "index.html").write_text(page)
    return f"file://{simple}"
