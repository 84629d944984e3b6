"""Packages: requirements, locks, pip's configuration and its complaints, all pure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from omnibase.core.packages import requirements
from omnibase.core.packages.index import Index, configured, pip_default, pip_settings
from omnibase.core.packages.lock import Layer, Lock, Locked, from_rows, of_files, pinned_digest
from omnibase.core.packages.trouble import explain
from omnibase.errors import ConfigurationError

A, B = "a" * 64, "b" * 64


class TestRequirements:
    def test_reads_what_pip_reads(self) -> None:
        text = (
            "\ufeff# a comment\n\nNumPy >= 2 , < 3  # why\n"
            "pydantic[email]==2.0 ; python_version > '3'\n"
            "lxml>=5,\\\n  <7\n"
        )
        found = requirements.parse(text)
        assert [one.text for one in found] == [
            "lxml<7,>=5", "numpy<3,>=2", 'pydantic[email]==2.0; python_version > "3"',
        ]  # fmt: skip
        assert [one.version for one in found] == [None, None, "2.0"]

    def test_hashes(self) -> None:
        text = f"a==1 \\\n  --hash=sha256:{B} --hash=sha256:{A}\nb==2 --hash=sha256:{A}\n"
        found = requirements.parse(text)
        assert found[0].hashes == (A, B)
        assert requirements.parse(requirements.to_text(found)) == found

    def test_the_same_twice_is_once(self) -> None:
        assert len(requirements.parse("a>1\nA>1\n")) == 1

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("-e .", "--venv"),
            ("--editable=git+https://x/y", "--venv"),
            ("-r other.txt", "name one file"),
            ("-c limits.txt", "global.constraint"),
            ("--index-url https://evil.example/simple", "global.index-url"),
            ("-i https://evil.example/simple", "global.index-url"),
            ("--trusted-host evil.example", "global.index-url"),
            ("a==1 --global-option=x", "no other option"),
            ("a==1 --hash=md5:00", "no other option"),
            ("git+https://example.com/a", "find-links"),
            ("./a", "find-links"),
            ("a-1.0-py3-none-any.whl", "find-links"),
            ("a @ https://example.com/a.whl", "find-links"),
            ("a @ file:///etc/passwd", "find-links"),
            ("not a requirement", "e.g. `numpy"),
            ("a>=1\\", "take the last"),
            (f"a --hash=sha256:{A}", "pin it"),
            (f"a==1.* --hash=sha256:{A}", "pin it"),
            (f"a==1 --hash=sha256:{A}\nb==1", "packages lock"),
            (f"a==1 --hash=sha256:{A}\na==1 --hash=sha256:{B}", "keep one"),
            ("a==1 " + " ".join(f"--hash=sha256:{n:064x}" for n in range(300)), "split it"),
            ("\n".join(f"a{n}" for n in range(2001)), "split it"),
            ("#" * (requirements.MAX_BYTES + 1), "split it"),
        ],
    )
    def test_refuses_what_would_steer_it(self, text: str, words: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            requirements.parse(text, "r.txt")
        assert words in str(caught.value.hint), caught.value.hint


def lock(*packages: Locked) -> Lock:
    return Lock(platform="cp311", packages=packages)


ONE = Locked(name="a-b", version="1.0", file="a_b-1.0-py3-none-any.whl", sha256=A)
ROW = ["a-b", "1.0", "a_b-1.0-py3-none-any.whl", A]


class TestLock:
    def test_round_trip_and_its_own_text(self) -> None:
        assert from_rows(lock(ONE).to_rows(), "cp311") == lock(ONE)
        assert pinned_digest("cp311", requirements.parse(lock(ONE).to_text())) == lock(ONE).digest
        layer = Layer(lock=lock(ONE), path="/x", files=3, size=4)
        assert layer.to_dict()["packages"] == ["a-b==1.0"] and layer.digest == lock(ONE).digest
        assert lock(ONE).pins() == (f"a-b==1.0 sha256:{A}",)

    def test_digest_is_of_content_and_platform(self) -> None:
        other = Locked(name="a-b", version="1.0", file=ONE.file, sha256=B)
        digests = {lock(ONE).digest, lock(other).digest, lock().digest,
                   Lock(platform="cp312", packages=(ONE,)).digest}  # fmt: skip
        assert len(digests) == 4

    @pytest.mark.parametrize(
        "text",
        ["a", "a==1", f"a==1 --hash=sha256:{A} --hash=sha256:{B}",
         f"a==1; python_version>'3' --hash=sha256:{A}"],
    )  # fmt: skip
    def test_what_names_no_file_has_no_digest(self, text: str) -> None:
        assert pinned_digest("cp311", requirements.parse(text)) is None

    def test_of_files(self) -> None:
        assert of_files([(ONE.file, A)], "cp311") == lock(ONE)
        with pytest.raises(ValueError, match="not the name of a wheel"):
            of_files([("a-1.tar.gz", A)], "cp311")

    @pytest.mark.parametrize("version", ["1.0.0", "1"])
    def test_versions_are_compared_as_versions(self, version: str) -> None:
        assert from_rows([["a-b", version, ROW[2], A]], "cp311").packages[0].version == version

    @pytest.mark.parametrize(
        "rows",
        [
            None, {}, [ROW] * 3000, ["x"], [["a"]], [["a-b", "1.0", ROW[2], 3]],
            [["a-b", "1.0", "a_b-1.0.tar.gz", A]],
            [["a-b", "1.0", "../a_b-1.0-py3-none-any.whl", A]],
            [["a-b", "1.0", "a_b-1.0-py3-none-a\x1bny.whl", A]],
            [["a-b", "1.0", "a_b-1.0-py3-none-" + "x" * 300 + ".whl", A]],
            [["other", "1.0", ROW[2], A]], [["A-B", "1.0", ROW[2], A]], [ROW, ROW],
            [["a-b", "2.0", ROW[2], A]], [["a-b", "not one", ROW[2], A]],
            [["a-b", "1.0", ROW[2], "x"]], [["a-b", "1.0", ROW[2], A.upper()]],
        ],
    )  # fmt: skip
    def test_refuses_everything_else(self, rows: object) -> None:
        with pytest.raises(ValueError):
            from_rows(rows, "cp311")


SOURCE = (
    'X = 1\nPyPI = PackageIndex(\n    "https://index.test/", file_storage_domain="files.test"\n)\n'
)
DEFAULT = ("https://index.test/simple", "files.test")


class TestIndex:
    def test_pips_own_source(self) -> None:
        assert pip_default(SOURCE) == DEFAULT
        assert pip_default("nothing") == ("", "")

    def test_settings_are_merged_as_pip_does(self) -> None:
        files = [
            "[global]\nindex_url = https://a\ncert = c\n",
            "[install]\nindex-url = https://b\n",
        ]
        merged = pip_settings(files, {"PIP_CERT": "d", "PIP_EMPTY": "", "PATH": "x"})
        assert merged == {"index-url": "https://b", "cert": "d"}
        with pytest.raises(ConfigurationError, match="cannot be read"):
            pip_settings(["no section"], {})

    def test_the_default(self) -> None:
        found = configured({}, DEFAULT)
        assert found == Index(
            arguments=("--index-url", DEFAULT[0]), endpoints=("index.test:443", "files.test:443"),
            trusted=("index.test:443",), trees=(), files=(), constraints=(),
        )  # fmt: skip

    def test_everything_at_once(self, tmp_path: Path) -> None:
        settings = {
            "index-url": "http://localhost:3141/root/simple/",
            "extra-index-url": f"file://{tmp_path}/mirror/simple https://[2001:db8::1]/s",
            "find-links": f"{tmp_path}/wheels file://{tmp_path}/page.html http://links.test/l.html",
            "trusted-host": "links.test",
            "cert": f"{tmp_path}/ca.pem",
            "constraint": f"{tmp_path}/limits.txt",
        }
        found = configured(settings, DEFAULT, f"more.test, [2001:db8::2]:8443 {tmp_path}/own")
        assert found.endpoints == (
            "127.0.0.1:3141", "[2001:db8::1]:443", "links.test:80", "more.test:443",
            "[2001:db8::2]:8443",
        )  # fmt: skip
        assert found.trees == tuple(
            f"{tmp_path}/{name}"
            for name in ("mirror/simple", "mirror/files", "mirror/packages", "wheels", "own")
        )
        assert found.files == tuple(
            f"{tmp_path}/{name}" for name in ("page.html", "ca.pem", "limits.txt")
        )
        assert found.constraints == (f"{tmp_path}/limits.txt",)
        assert found.arguments[:2] == ("--index-url", "http://127.0.0.1:3141/root/simple/")

    def test_no_index(self, tmp_path: Path) -> None:
        found = configured({"no-index": "1", "find-links": str(tmp_path)}, certificates="/c.pem")
        assert found.arguments == ("--no-index", "--find-links", str(tmp_path), "--cert", "/c.pem")
        assert found.endpoints == ()
        assert configured({"index-url": os.path.basename(tmp_path)}).trees

    @pytest.mark.parametrize(
        ("settings", "sources", "words"),
        [
            ({}, "", "no package index"),
            ({"proxy": "http://p:1"}, "", "`proxy`"),
            ({"client-cert": "x"}, "", "`client-cert`"),
            ({"index-url": "https://u:p@h/s"}, "", "password"),
            ({"index-url": "https://u@h/s"}, "", "password"),
            ({"index-url": "ftp://h/s"}, "", "no index"),
            ({"index-url": "https://h:x/s"}, "", "no index"),
            ({"index-url": "https://h_%00/s"}, "", "no index"),
            ({"index-url": "https:///s"}, "", "no index"),
            ({"index-url": "file:///"}, "", "`/` is no directory"),
            ({"no-index": "yes"}, "h:0", "no host"),
            ({"no-index": "yes"}, "h:x", "no host"),
            ({"no-index": "yes"}, "*.h:1", "no host"),
        ],
    )
    def test_refuses(self, settings: dict[str, str], sources: str, words: str) -> None:
        with pytest.raises(ConfigurationError, match=words) as caught:
            configured(settings, sources=sources)
        assert caught.value.hint


class TestTrouble:
    @pytest.mark.parametrize(
        ("log", "reason", "words"),
        [
            ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "hash", "locks anew"),
            ("ERROR: Hashes are required in --require-hashes mode", "hash", "lock all of it"),
            ("ERROR: No matching distribution found for alpha", "not_found", "its name"),
            ("satisfies the requirement a>9 (from versions: 1, 2)", "not_found", "are 1, 2"),
            ("Skipping link: No sources permitted for a: x\nNo matching distribution found for a",
             "no_wheel", "find-links"),
            ("satisfies the requirement a (from versions: none)\nRequires-Python >=9", "no_wheel",
             "pip wheel"),
            ("Could not fetch URL\nNo matching distribution found for a", "unreachable", "network"),
            ("Max retries exceeded", "unreachable", "network"),
            ("ERROR: Cannot install a and b because of it", "conflict", "loosen"),
            ("ResolutionImpossible", "conflict", "loosen"),
            ("ERROR: one\nERROR: two", "failed", "more"),
            ("", "failed", "more"),
        ],
    )  # fmt: skip
    def test_says_what_to_do(self, log: str, reason: str, words: str) -> None:
        error = explain(log)
        assert error.reason == reason and words in str(error.hint)

    def test_names_what_was_denied(self) -> None:
        denied = ["EXTERNAL_COMMAND:x", "NETWORK_CONNECT:a:*", "FILE_READ:/etc/passwd"]
        assert explain("", denied).reason == "failed"
        error = explain("", [*denied, "NETWORK_CONNECT:files.test:443"])
        assert error.details["source"] == "files.test:443"
        error = explain("", [*denied, "FILE_READ:/srv/w/a.whl"])
        assert error.details["source"] == "/srv/w"

    def test_names_a_pool_that_is_not_configured(self) -> None:
        log = "HTTPConnectionPool(host='127.0.0.1', port=81): Max retries exceeded with url: /x"
        assert explain(log).details["source"] == "127.0.0.1:81"
        assert explain(log, endpoints=["127.0.0.1:81"]).reason == "unreachable"
