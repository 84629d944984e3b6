"""What the site has besides the pages of `docs`, and where its links lead."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mkdocs.exceptions import PluginError

import omnibase
from omnibase.cli.commands import _COMMANDS
from scripts import docs_site


def _page(uri: str) -> Any:
    return SimpleNamespace(file=SimpleNamespace(src_uri=uri))


def _led(uri: str, markdown: str) -> str:
    return docs_site.on_page_markdown(
        markdown, page=_page(uri), config=None, files=None  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("uri", "link", "led"),
    [
        ("index.md", "docs/cli.md#exit-codes", "cli.md#exit-codes"),
        ("index.md", "CHANGELOG.md", "project/CHANGELOG.md"),
        ("index.md", "LICENSE", "project/LICENSE"),
        ("python-api.md", "../examples/vault_secrets.py", "examples/vault_secrets.py"),
        ("security/policies.md", "../../examples/policies", "../reference/examples.md"),
        ("security/policies.md", "../adr/README.md", "../adr/README.md"),
        ("concepts.md", "../README.md#capabilities", "index.md#capabilities"),
        ("project/CONTRIBUTING.md", "docs/adr/README.md", "../adr/README.md"),
        ("cli.md", "https://example.com/x.md", "https://example.com/x.md"),
    ],
)
def test_a_link_leads_to_the_same_thing(uri: str, link: str, led: str) -> None:
    assert _led(uri, f"see [it]({link})") == f"see [it]({led})"


def test_code_is_left_alone() -> None:
    text = "```text\n[it](docs/cli.md)\n```\n"
    assert _led("index.md", text) == text


def test_the_reference_has_every_command_and_every_name() -> None:
    commands = docs_site.cli_reference()
    for name in _COMMANDS:
        assert f"\n## `omnibase {name}`\n\n```text\nusage: omnibase {name}" in commands
    names = docs_site.python_reference()
    for name in set(omnibase.__all__) - {"__version__"}:
        assert f".{name}\n" in names, name


@pytest.mark.parametrize(
    "html",
    ['<script src="https://example.com/x.js">', '<img alt="" src=//example.com/x.png>',
     '<link rel="stylesheet" href="https://example.com/x.css">'],
)  # fmt: skip
def test_a_page_that_asks_another_host_is_refused(html: str) -> None:
    with pytest.raises(PluginError, match=r"cli\.md"):
        docs_site.on_post_page(html, page=_page("cli.md"), config=None)  # type: ignore[arg-type]


def test_a_link_to_another_host_is_none() -> None:
    html = '<a href="https://example.com/">there</a><script src="assets/x.js"></script>'
    assert docs_site.on_post_page(html, page=_page("x.md"), config=None) == html  # type: ignore[arg-type]


def test_the_navigation_has_each_page_once(tmp_path: Path) -> None:
    for directory in ("howto", "security", "adr"):
        (tmp_path / directory).mkdir()
    (tmp_path / "new.md").write_text("# A new page\n")
    (tmp_path / "adr" / "0000-template.md").write_text("# Not shown\n")

    def config(*guides: Any) -> Any:
        nav = [{"Guides": list(guides)}, {"How to": []}, {"Security": []}, {"Decisions": ["..."]}]
        return SimpleNamespace(nav=nav, docs_dir=str(tmp_path), mdx_configs={})

    done = docs_site.on_config(config())
    assert done.nav == [
        {"Guides": [{"A new page": "new.md"}]}, {"How to": []}, {"Security": []}, {"Decisions": []}
    ]  # fmt: skip
    with pytest.raises(PluginError, match=r"twice in the navigation: new\.md"):
        docs_site.on_config(config("new.md", {"Again": "new.md"}))
