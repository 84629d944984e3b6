"""The unpacker of phase one, run here: what it takes of a wheel, and what it refuses."""

from __future__ import annotations

import io
import json
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from omnibase.core.packages.guest import unpack
from tests.helpers.wheels import make_wheel


def link(name: str, kind: int = stat.S_IFLNK) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = 3, (kind | 0o777) << 16
    return member


class Unpacked:
    def __init__(self, top: Path, *wheels: Path, files: int = 1000, size: int = 1 << 20) -> None:
        self.out = top / "site"
        self.out.mkdir()
        job = {"wheels": [str(w) for w in wheels], "out": str(self.out), "shown": "/site",
               "files": files, "bytes": size, "workers": 1}  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", io.StringIO(json.dumps(job)))
            said = io.StringIO()
            patch.setattr(sys, "stdout", said)
            self.code = unpack.main()
        self.said = said.getvalue()

    @property
    def names(self) -> set[str]:
        found = (p.relative_to(self.out) for p in self.out.rglob("*") if p.is_file())
        return {str(p) for p in found if ".dist-info" not in str(p)}


def test_modules_and_their_bytecode(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path, "alpha",
        files={
            "alpha/__init__.py": b"", "alpha/bad.py": b"1 +", "alpha/nul.py": b"\0",
            "alpha-1.0.data/purelib/pure.py": b"", "alpha-1.0.data/platlib/plat.so": b"x",
            "alpha-1.0.data/scripts/tool": b"#!", "alpha-1.0.data/data/share/x": b"",
            "alpha-1.0.data/purelib/": b"", "empty/": b"", "alpha.pth": b"import os",
        },
    )  # fmt: skip
    tag = sys.implementation.cache_tag
    done = Unpacked(tmp_path, wheel)
    assert done.code == 0, done.said
    assert done.names == {
        "alpha/__init__.py", f"alpha/__pycache__/__init__.{tag}.pyc", "alpha/bad.py",
        "alpha/nul.py", "pure.py", f"__pycache__/pure.{tag}.pyc", "plat.so", "alpha.pth",
    }  # fmt: skip


def test_of_two_packages_with_the_same_file_the_first_has_it(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", files={"shared.py": b"ONE", "a": b"file"})
    two = make_wheel(tmp_path, "two", files={"shared.py": b"TWO", "a/b.py": b""})
    done = Unpacked(tmp_path, one, two)
    assert done.code == 0
    assert (done.out / "shared.py").read_bytes() == b"ONE"
    assert (done.out / "a").read_bytes() == b"file"


@pytest.mark.parametrize(
    "member",
    [
        "../up.py", "a/../../up.py", "/etc/x", "a/./b.py", "a//b.py", "a\\..\\b.py", "C:\\x",
        "a\x1b[2J.py", "a\nb.py", "a\u202eb.py", "x" * 300, "/".join(["d"] * 60),
        "x-1.data/purelib/../../up.py", link("l"), link("d", stat.S_IFCHR),
        link("f", stat.S_IFIFO),
    ],
)  # fmt: skip
def test_hostile_members(tmp_path: Path, member: str | zipfile.ZipInfo) -> None:
    wheel = make_wheel(tmp_path, "evil", files={}, members=((member, b"x"),))
    done = Unpacked(tmp_path, wheel)
    assert done.code == 1
    assert f"@refused {wheel.name}\n" in done.said
    assert done.said.translate({10: ""}).isprintable() is not True or "\x1b" not in done.said
    assert {p.name for p in tmp_path.iterdir()} == {"site", wheel.name}


def test_the_same_member_twice(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "evil", files={"a.py": b"1"})
    with zipfile.ZipFile(wheel, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.py", "2")
    assert "there twice" in Unpacked(tmp_path, wheel).said


def test_bounds(tmp_path: Path) -> None:
    many = make_wheel(tmp_path, "many", files={f"{n}.txt": b"" for n in range(20)})
    assert "too many files" in Unpacked(tmp_path, many, files=10).said
    (tmp_path / "more").mkdir()
    big = make_wheel(tmp_path / "more", "big", files={"big.txt": bytes(1 << 21)})
    assert "too large" in Unpacked(tmp_path / "more", big).said


@pytest.mark.parametrize("content", [b"", b"PK", b"not an archive"])
def test_no_archive(tmp_path: Path, content: bytes) -> None:
    wheel = tmp_path / "a-1.0-py3-none-any.whl"
    wheel.write_bytes(content)
    done = Unpacked(tmp_path, wheel)
    assert done.code == 1 and "no sound archive" in done.said


def test_a_broken_archive(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "a", files={"a.py": b"abc" * 1000})
    data = bytearray(wheel.read_bytes())
    data[40:60] = bytes(20)
    wheel.write_bytes(data)
    done = Unpacked(tmp_path, wheel)
    assert done.code == 1 and "@refused" in done.said
