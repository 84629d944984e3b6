#!/usr/bin/env python3
"""Checks that every relative link in the Markdown files resolves.

    check_links.py [ROOT]

Looks at ``*.md`` in the root, in ``docs`` and in ``examples``. A link's file has
to exist inside the project, and its ``#fragment`` has to be a heading there.
Prints one `file:line: message` for each that does not, and exits 1.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_CODE_SPAN = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
# [text](target "title"), ![image](target), and [name]: target
_INLINE = re.compile(r"\]\(\s*<?([^)<>\s]+)>?(?:\s+[\"'][^)]*)?\)")
_REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s+<?(\S+?)>?(?:\s|$)")
_HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$")
_ANCHOR = re.compile(r"<a\s+(?:id|name)=[\"']([^\"']+)[\"']")
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """Yields ``(line number, line)`` of what is outside fenced code."""
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        found = _FENCE.match(line)
        if fence:
            if found and found[1].startswith(fence):
                fence = ""
        elif found:
            fence = found[1]
        else:
            yield number, line


def slug(heading: str) -> str:
    """Returns the anchor that the common forges give a heading."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(text: str) -> frozenset[str]:
    """Returns every fragment that a link into this text may name."""
    seen: dict[str, int] = {}
    found: set[str] = set()
    for _, line in _prose(text):
        found.update(_ANCHOR.findall(line))
        if heading := _HEADING.match(line):
            name = slug(heading[1])
            count = seen[name] = seen.get(name, -1) + 1
            found.add(f"{name}-{count}" if count else name)
    return frozenset(found)


def links(text: str) -> Iterator[tuple[int, str]]:
    """Yields ``(line number, target)`` of every link, outside code."""
    for number, line in _prose(text):
        plain = _CODE_SPAN.sub("", line)
        for target in _INLINE.findall(plain):
            yield number, target
        if reference := _REFERENCE.match(plain):
            yield number, reference[1]


def problem(target: str, page: Path, root: Path) -> str | None:
    """Returns what is wrong with a link of ``page``, or ``None``."""
    if _SCHEME.match(target) or target.startswith("//"):
        return None
    name, _, fragment = target.partition("#")
    file = (page.parent / unquote(name)).resolve() if name else page.resolve()
    if not file.is_relative_to(root.resolve()):
        return f"`{target}` leaves the project"
    if not file.exists():
        return f"`{target}` does not exist"
    if not fragment or file.suffix != ".md":
        return None
    known = anchors(file.read_text(encoding="utf-8"))
    return None if unquote(fragment) in known else f"`{target}`: no such heading"


def pages(root: Path) -> list[Path]:
    """Returns the Markdown files to check."""
    found = [*root.glob("*.md")]
    for folder in ("docs", "examples"):
        found += (root / folder).rglob("*.md")
    return sorted(found)


def main(arguments: list[str]) -> int:
    """Prints the broken links; returns 1 if there is one."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    broken = count = 0
    for page in pages(root):
        for line, target in links(page.read_text(encoding="utf-8")):
            count += 1
            if wrong := problem(target, page, root):
                broken += 1
                print(f"{page.relative_to(root)}:{line}: {wrong}")
    print(f"check_links: {count} links, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
