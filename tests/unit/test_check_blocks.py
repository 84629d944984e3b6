"""A code block of the documentation says what it is, or is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import check_blocks

PAGE = """\
`a.py`:

```python title="a.py"
pass
```

```
nothing
```

```rust
fn main() {}
```

```console title="not run by the tests: it needs a server"
$ true
```

```python title="b.py"
pass
```

- in a list

  ```json linenums="1"
  {}
  ```

````text
```console
$ shown
```
````
"""


def test_each_unclear_block_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "README.md").write_text(PAGE)
    (tmp_path / "docs" / "adr").mkdir(parents=True)
    (tmp_path / "docs" / "adr" / "0001.md").write_text("```\nnot looked at\n```\n")
    assert check_blocks.main([str(tmp_path)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in out] == [
        "README.md:7", "README.md:11", "README.md:19", "README.md:25", "check_blocks",
    ]  # fmt: skip
    assert "does not name `b.py`" in out[2]
    assert out[-1] == "check_blocks: 7 blocks, 1 not run, 4 wrong"


def test_a_block_is_run_unless_it_says_why_not() -> None:
    (block,) = check_blocks.blocks(
        '```console title="not run by the tests: too slow"\n$ true\n```\n'
    )
    assert block.not_run and not block.file and block.problem() is None
    for title in ("not run", "not run by the tests: ", "Something"):
        (block,) = check_blocks.blocks(f'```console title="{title}"\n$ true\n```\n')
        assert block.problem() is not None


def test_the_number_that_is_not_run_is_bounded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block = '```console title="not run by the tests: no reason"\n$ true\n```\n\n'
    (tmp_path / "README.md").write_text(block * check_blocks.NOT_RUN)
    assert check_blocks.main([str(tmp_path)]) == 0
    (tmp_path / "README.md").write_text(block * (check_blocks.NOT_RUN + 1))
    assert check_blocks.main([str(tmp_path)]) == 1
    assert f"{check_blocks.NOT_RUN} may be" in capsys.readouterr().out
