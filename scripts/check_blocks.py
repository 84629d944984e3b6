#!/usr/bin/env python3
"""Checks that every code block of the documentation says what it is.

    check_blocks.py [ROOT]

A block's info string is a language, and perhaps a `title`. What becomes of the block:

==================================  ==================================================
``console``                         its commands are run, and output that it shows is
                                    compared; see `tests/integration/test_documentation.py`
``python``                          run, in one namespace for each page
any language, ``title="NAME.EXT"``  written to that file, for the blocks after it
``json``, ``cedar``                 read by the project's own parsers
``mermaid``, ``text``               drawn; or shown, for what is no code
``title="not run by the tests: …"``  with a reason: there may be `NOT_RUN` of them
==================================  ==================================================

Prints one `file:line: message` for each block that is none of these, and exits 1.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

# What needs more than a machine that can run sandboxes: raise this with a reason.
NOT_RUN = 14
RUN = frozenset({"console", "python"})
READ = frozenset({"json", "cedar"})
SHOWN = frozenset({"mermaid", "text"})
WRITTEN = frozenset({"bash", "cedar", "csv", "ini", "json", "python", "text", "yaml"})
_INFO = re.compile(r'(?P<language>[a-z]+)(?: title="(?P<title>[^"]+)")?')
_FILE = re.compile(r"/?[\w.-]+(?:/[\w.-]+)*\.[a-z]+")
_REASON = re.compile(r"not run by the tests: \S.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced code block.

    Attributes:
        line: Of its fence, from 1.
        info: What follows the fence.
        text: Its lines, each with its end.
    """

    line: int
    info: str
    text: str

    @property
    def language(self) -> str:
        """The first word of the info string."""
        return self.info.partition(" ")[0]

    @property
    def title(self) -> str:
        """The title, or nothing."""
        found = _INFO.fullmatch(self.info)
        return (found["title"] or "") if found else ""

    @property
    def file(self) -> str:
        """The file that it is written to, or nothing."""
        return self.title if _FILE.fullmatch(self.title) else ""

    @property
    def not_run(self) -> bool:
        """Whether it is marked as one that cannot be run."""
        return bool(_REASON.fullmatch(self.title))

    def problem(self) -> str | None:
        """Returns what is wrong with its info string, or ``None``."""
        if not self.info:
            return "a block without a language: `text` if it is no code"
        if not _INFO.fullmatch(self.info):
            return f'`{self.info}`: only a language and `title="…"` are understood here'
        if self.title and not (self.file or self.not_run):
            return f"title `{self.title}`: neither a file's name nor `not run by the tests: REASON`"
        if self.file and self.language not in WRITTEN:
            return f"`{self.language}` is not written to a file; one of {_listed(WRITTEN)} is"
        if not self.title and self.language not in RUN | READ | SHOWN:
            return f"`{self.language}` is not run: one of {_listed(RUN | READ | SHOWN)}, or a file"
        return None


def _listed(names: frozenset[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def blocks(text: str) -> Iterator[Block]:
    """Yields the fenced code blocks of a page, in order, those in lists included."""
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "fence" and token.map:
            yield Block(line=token.map[0] + 1, info=token.info.strip(), text=token.content)


def pages(root: Path) -> list[Path]:
    """Returns the pages whose blocks count: of the root and of `docs`, without the decisions."""
    docs = (root / "docs").rglob("*.md")
    return sorted([*root.glob("*.md"), *(page for page in docs if page.parent.name != "adr")])


def main(arguments: list[str]) -> int:
    """Prints what is wrong; returns 1 if something is."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    count = wrong = 0
    not_run: list[str] = []
    for page in pages(root):
        text = page.read_text(encoding="utf-8")
        lines = text.splitlines()
        for block in blocks(text):
            count += 1
            place = f"{page.relative_to(root)}:{block.line}"
            before = lines[max(0, block.line - 4) : block.line - 1]
            found = block.problem()
            if block.file and not any(f"`{block.file}`" in line for line in before):
                # A forge shows no titles.
                found = f"the text right before it does not name `{block.file}`"
            if found:
                wrong += 1
                print(f"{place}: {found}")
            elif block.not_run:
                not_run.append(place)
    if len(not_run) > NOT_RUN:
        wrong += 1
        print(f"{not_run[-1]}: {len(not_run)} blocks are not run, {NOT_RUN} may be")
    print(f"check_blocks: {count} blocks, {len(not_run)} not run, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
