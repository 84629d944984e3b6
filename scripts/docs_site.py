"""What the documentation's site has besides the pages of `docs`: a hook of MkDocs.

* `README.md` is the home page; the other pages of the root are below *Project*.
* A link that leads out of `docs` on a forge leads to the same file in the site.
* The reference is made from `--help` and from docstrings, with every public name.
* A page that the navigation does not name is added to the section of its directory.
* Anchors are those of the forges, so that `check_links.py` and the site agree.
* Mermaid is a file of the site (`setup-mermaid.sh`), and nothing comes from another host.
"""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from unittest import mock

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from check_links import slug  # noqa: E402 - a sibling, once its directory is known

PROJECT = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
# Directory of `docs` → title of the section for what is not named in the navigation.
SECTIONS = {"": "Guides", "howto": "How to", "security": "Security", "adr": "Decisions"}
SHOWN = frozenset({".py", ".json", ".cedar", ".txt", ".csv", ".service", ".sh"})
_LINK = re.compile(r"(\]\(\s*<?)([^)<>\s#]+)(#[^)<>\s]*)?(>?(?:\s+[\"'][^)]*)?\))")
_REMOTE = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
_MERMAID = re.compile(r"<script src=\"[^\"]*mermaid\.min\.js\"></script>")
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Sets the anchors, and completes the navigation.

    Raises:
        PluginError: The navigation names a page twice.
    """
    config.mdx_configs.setdefault("toc", {})["slugify"] = lambda text, _separator: slug(text)
    docs = Path(config.docs_dir)
    nav: Any = config.nav
    listed = list(_named(nav))
    named = set(listed)
    if twice := sorted(page for page in named - {"..."} if listed.count(page) > 1):
        raise PluginError(f"twice in the navigation: {', '.join(twice)}")
    for directory, title in SECTIONS.items():
        section = next(entry[title] for entry in nav if title in entry)
        pages = sorted((docs / directory).glob("*.md"))
        left = [page.relative_to(docs).as_posix() for page in pages]
        left = [page for page in left if page not in named and "0000-" not in page]
        place = section.index("...") if "..." in section else len(section)
        section[place : place + 1] = [{_title(docs / page): page} for page in left]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what is made here, and what lies outside of `docs`."""
    home = (ROOT / "README.md").read_text(encoding="utf-8")
    made: dict[str, str | bytes] = {"index.md": home}
    for name in PROJECT:
        made[f"project/{name}"] = (ROOT / name).read_text(encoding="utf-8")
    made["project/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    made["reference/cli.md"] = cli_reference()
    made["reference/python.md"] = python_reference()
    made["reference/examples.md"] = examples_reference()
    for path in _examples():
        made[f"examples/{path.relative_to(ROOT / 'examples').as_posix()}"] = path.read_bytes()
    mermaid = subprocess.run(
        [ROOT / "scripts" / "setup-mermaid.sh"], stdout=subprocess.PIPE, text=True, check=True
    )
    made["assets/mermaid.min.js"] = Path(mermaid.stdout.strip()).read_bytes()
    for uri, content in made.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads each link that a forge follows to the same thing in the site."""
    uri = page.file.src_uri
    source = "README.md" if uri == "index.md" else f"docs/{uri}"
    if uri.startswith("project/"):
        source = uri.removeprefix("project/")
    here = posixpath.dirname(uri)

    def led(found: re.Match[str]) -> str:
        before, target, fragment, after = found.groups(default="")
        if _SCHEME.match(target) or uri.startswith("reference/"):
            return found[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        return f"{before}{posixpath.relpath(_in_site(file), here or '.')}{fragment}{after}"

    return "".join(line if fenced else _LINK.sub(led, line) for line, fenced in _lines(markdown))


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """Refuses a page that would fetch something from another host; drops an idle Mermaid.

    Raises:
        PluginError: It names a script, a style sheet or a picture elsewhere.
    """
    if found := _REMOTE.search(output):
        raise PluginError(f"{page.file.src_uri} is not for offline use: {found[0]}")
    # Three megabytes, for the pages with a diagram.
    return output if 'class="mermaid"' in output else _MERMAID.sub("", output)


def cli_reference() -> str:
    """Returns the page of all commands, as their `--help` has it."""
    from omnibase.cli.commands import _COMMANDS

    os.environ["COLUMNS"] = "88"
    groups = list(dict.fromkeys(name.split()[0] for name in _COMMANDS if " " in name))
    text = "# Commands\n\nWhat `--help` says of each. The guide is [the command line](../cli.md).\n"
    for name in ("", *sorted([*groups, *_COMMANDS])):
        text += f"\n## `{f'omnibase {name}'.rstrip()}`\n\n```text\n{_help(name)}\n```\n"
    return text


def python_reference() -> str:
    """Returns the page of every public name, for mkdocstrings to fill in."""
    import omnibase

    text = (
        "# Python\n\nEvery name of `omnibase.__all__`, from its docstring. "
        "The guide is [the Python API](../python-api.md).\n"
    )
    titles = {"omnibase.errors": "Errors"}
    for module, names in omnibase._HOMES.items():
        text += f"\n## {titles.get(module, f'`{module}`')}\n"
        text += "".join(f"\n::: {module}.{name}\n" for name in names)
    return text


def examples_reference() -> str:
    """Returns the page of the examples, each with the first line of what it says of itself."""
    text = "# Examples\n\nThe files of `examples/`; the tests run every one of them.\n\n"
    for path in _examples():
        name = path.relative_to(ROOT / "examples").as_posix()
        first = ""
        if path.suffix == ".py":
            found = re.match(r'(?:#!.*\n)?"""(.+?)(?:\n\n|""")', path.read_text(), re.DOTALL)
            first = f": {' '.join(found[1].split())}" if found else ""
        text += f"- [`{name}`](../examples/{name}){first}\n"
    return text


def _examples() -> list[Path]:
    found = (ROOT / "examples").rglob("*")
    return sorted(
        p for p in found if p.is_file() and p.suffix in SHOWN and "__pycache__" not in p.parts
    )


def _help(name: str) -> str:
    from omnibase.cli.commands import dispatch

    said: list[str] = []
    with mock.patch("omnibase.cli.console.out", said.append):
        dispatch([*name.split(), "--help"])
    return "".join(said).rstrip()


def _in_site(file: str) -> str:
    if file in PROJECT or file == "LICENSE":
        return f"project/{file}"
    if file == "README.md":
        return "index.md"
    if file == "examples" or file.startswith("examples/"):
        return file if PurePosixPath(file).suffix in SHOWN else "reference/examples.md"
    return file.removeprefix("docs/")


def _lines(markdown: str) -> Iterator[tuple[str, bool]]:
    fence = ""
    for line in markdown.splitlines(keepends=True):
        found = re.match(r" {0,3}(`{3,}|~{3,})", line)
        yield line, bool(fence or found)
        if found and not fence:
            fence = found[1]
        elif found and found[1].startswith(fence):
            fence = ""


def _named(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from _named(entry)


def _title(page: Path) -> str:
    found = re.search(r"^# (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else page.stem
