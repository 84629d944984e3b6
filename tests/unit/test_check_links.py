"""The link checker finds what does not resolve, and reads no link into code."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import check_links

PAGE = """\
# A page
[good](docs/other.md) and [bad](docs/gone.md)
[heading](docs/other.md#second-part), [none](docs/other.md#third)
![image](gone.png "a title")
`[code](gone.md)` and [outside](https://example.com/gone)
```
[fenced](gone.md)
```
[self](#a-page) [escape](../../etc/passwd)

[ref]: docs/gone.md
"""


def test_each_broken_link_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text("# Other\n\n## Second *part*\n", encoding="utf-8")
    (tmp_path / "README.md").write_text(PAGE, encoding="utf-8")

    assert check_links.main([str(tmp_path)]) == 1

    assert capsys.readouterr().out.splitlines() == [
        "README.md:2: `docs/gone.md` does not exist",
        "README.md:3: `docs/other.md#third`: no such heading",
        "README.md:4: `gone.png` does not exist",
        "README.md:9: `../../etc/passwd` leaves the project",
        "README.md:11: `docs/gone.md` does not exist",
        "check_links: 9 links, 5 broken",
    ]


def test_repeated_headings_are_numbered() -> None:
    assert check_links.anchors("# A\n# A\n# B-c `d`\n") == {"a", "a-1", "b-c-d"}


def test_an_empty_project_has_no_broken_link(tmp_path: Path) -> None:
    assert check_links.main([str(tmp_path)]) == 0
