"""What the guest's root holds: files copied from the host, and an ``/etc`` of our own.

A build needs nothing but a directory to fill; `image` decides when there is one.
It is rare, so what it needs is imported by it.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from omnibase.core.sandbox import _runsc
from omnibase.errors import SandboxUnavailable

__all__ = ["GUEST_PREFIX", "agent_files", "base_executable", "populate", "probes"]

GUEST_PREFIX = "/opt/omnibase"
_SKIPPED = frozenset(
    {"__pycache__", "ensurepip", "idlelib", "lib2to3", "site-packages", "dist-packages"}
    | {"test", "tests", "tkinter", "turtledemo"}
)
# What a wheel may expect of every Linux: PEP 600's policy, but for the libraries of a desktop.
_WHEEL_LIBRARIES = (
    "libanl.so.1", "libatomic.so.1", "libdl.so.2", "libexpat.so.1", "libgcc_s.so.1", "libm.so.6",
    "libmvec.so.1", "libnsl.so.1", "libpthread.so.0", "libresolv.so.2", "librt.so.1",
    "libstdc++.so.6", "libutil.so.1", "libz.so.1",
)  # fmt: skip
# Directories of the usual file hierarchy that belong to the host. They exist in
# the guest, empty and closed, so that an attempt below them is refused with
# EACCES, through a symbolic link too.
_CLOSED = (
    "bin",
    "boot",
    "data",
    "home",
    "lib",
    "media",
    "mnt",
    "root",
    "sbin",
    "srv",
    "usr",
    "var",
)
_MOUNT_POINTS = ("commands", "dev", "grants", "guest", "proc", "run", "sys", "tmp")
# Names below /etc that attackers know: refused (EACCES) rather than absent, so that
# an attempt through a symbolic link shows as well.
_ETC_CLOSED = (
    "crontab", "environment", "exports", "fstab", "gshadow", "hostname", "machine-id", "shadow",
    "sudoers",
)  # fmt: skip
_ETC_CLOSED_DIRECTORIES = (
    "cron.d", "docker", "kubernetes", "letsencrypt", "pki", "security", "ssh", "ssl/private",
    "sudoers.d", "systemd",
)  # fmt: skip
_ETC = {
    "group": "nogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost\n127.0.1.1 sandbox\n::1 localhost\n",
    "host.conf": "multi on\n",
    "gai.conf": "",
    # `dns` answers no passwd question, so that user look-ups open no file; see ADR 2.
    "nsswitch.conf": "passwd: dns\ngroup: files\nhosts: files dns\nnetworks: files\n"
    "services: files\nprotocols: files\n",
    # RFC 5737 TEST-NET-1: no route in the guest, so a look-up fails at once and is seen.
    "resolv.conf": "nameserver 192.0.2.53\noptions attempts:1 timeout:1\n",
    "networks": "",
    "protocols": "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\n",
    "services": "ftp 21/tcp\nssh 22/tcp\nsmtp 25/tcp\ndomain 53/tcp\ndomain 53/udp\nhttp 80/tcp\n"
    "ntp 123/udp\nimap2 143/tcp\nhttps 443/tcp\nsubmission 587/tcp\nldaps 636/tcp\nimaps 993/tcp\n"
    "postgresql 5432/tcp\nredis 6379/tcp\n",
    "mime.types": "",
    "os-release": 'ID=omnibase\nNAME="OmniBase sandbox"\nPRETTY_NAME="OmniBase sandbox"\n',
    "passwd": "nobody:x:65534:65534:nobody:/tmp:/nonexistent\n",
    "ld.so.conf": f"{GUEST_PREFIX}/lib\n",
}


def base_executable() -> str:
    return getattr(sys, "_base_executable", None) or sys.executable


def agent_files() -> list[Path]:
    return sorted((Path(__file__).parent / "agent").glob("*.py"))


def populate(root: Path) -> tuple[str, list[str]]:
    """Fills the image; returns the guest path of its interpreter and the libraries copied."""
    import py_compile
    import sysconfig

    from omnibase.core.sandbox import elf

    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = root / GUEST_PREFIX.lstrip("/")
    for name in (*_CLOSED, *_MOUNT_POINTS, "etc"):
        (root / name).mkdir(mode=0o755, parents=True)
    for name in ("bin", "lib", "agent"):
        (prefix / name).mkdir(parents=True)
    os.chmod(root, 0o755)

    stdlib = prefix / "lib" / version
    _copy_stdlib(Path(sysconfig.get_path("stdlib")), stdlib)
    dynload = Path(sysconfig.get_config_var("DESTSHARED") or "")
    if dynload.is_dir() and not (stdlib / "lib-dynload").exists():
        _copy_stdlib(dynload, stdlib / "lib-dynload")

    executable = Path(os.path.realpath(base_executable()))
    binary = executable.read_bytes()
    loader = elf.interpreter(binary) if elf.is_elf(binary) else None
    if loader is None or "musl" in loader:
        raise SandboxUnavailable(
            f"the interpreter `{executable}` cannot be put into an image",
            hint="use a CPython that is dynamically linked against glibc",
        )
    modules = sorted((stdlib / "lib-dynload").glob("*.so"))
    libraries = dict(_runsc.shared_libraries([executable, *(_origin(m, dynload) for m in modules)]))
    _add_wheel_libraries(libraries)
    _install(prefix / "bin" / version, binary, 0o750)
    for module in modules:
        _install(module, module.read_bytes(), 0o644)
    for soname, path in libraries.items():
        _install(prefix / "lib" / soname, Path(path).read_bytes(), 0o644)
    for name in ("libnss_files.so.2", "libnss_dns.so.2"):
        source = Path(libraries["libc.so.6"]).with_name(name)
        if source.exists():  # part of libc itself since glibc 2.34
            _install(prefix / "lib" / name, source.read_bytes(), 0o644)
    # The kernel runs the loader with the caller's rights: closed to the script,
    # it cannot be used to run a file from a noexec mount.
    _install(root / loader.lstrip("/"), Path(loader).read_bytes(), 0o750)
    (prefix / "bin" / "python3").symlink_to(version)
    _write_etc(root)
    _runsc.build_loader_cache(root)

    for source in agent_files():
        target = prefix / "agent" / f"{source.stem}.pyc"
        py_compile.compile(
            str(source), str(target), dfile=f"{GUEST_PREFIX}/agent/{source.name}", doraise=True
        )
    _compile_all(stdlib, f"{GUEST_PREFIX}/lib/{version}")
    for name in _CLOSED:
        # lib and usr may hold the loader: passable, but not listable.
        os.chmod(root / name, 0o711 if any((root / name).iterdir()) else 0o700)
    os.chmod(root / "tmp", 0o1777)
    return f"{GUEST_PREFIX}/bin/{version}", sorted({loader, *libraries.values()})


def _add_wheel_libraries(libraries: dict[str, str]) -> None:
    """Adds those that the host has beside its C library, with what they need."""
    beside = Path(libraries["libc.so.6"]).parent
    extra = {name: beside / name for name in _WHEEL_LIBRARIES}
    present = {name: str(path) for name, path in extra.items() if path.exists()}
    for name, path in (
        present | dict(_runsc.shared_libraries([*map(Path, present.values())]))
    ).items():
        libraries.setdefault(name, path)


def _origin(module: Path, dynload: Path) -> Path:
    original = dynload / module.name
    return original if original.exists() else module


def _install(path: Path, content: bytes, mode: int) -> None:
    from omnibase.core.sandbox import elf

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(elf.without_search_paths(content) if elf.is_elf(content) else content)
    os.chmod(path, mode)


def _copy_stdlib(source: Path, target: Path) -> None:
    import shutil

    def ignored(_directory: str, names: list[str]) -> list[str]:
        return [n for n in names if n in _SKIPPED or n.startswith(("config-", "_tkinter", "_test"))]

    shutil.copytree(source, target, ignore=ignored, symlinks=False, dirs_exist_ok=True)
    # Build-time paths of the host are of no use inside.
    for path in target.glob("_sysconfigdata*.py"):
        text = path.read_text().replace(sys.base_prefix, GUEST_PREFIX)
        path.write_text(re.sub(r"(?<='TZPATH': ')[^']*", f"{GUEST_PREFIX}/share/zoneinfo", text))
    for directory, _subdirs, files in os.walk(target):
        os.chmod(directory, 0o755)
        for name in files:
            os.chmod(os.path.join(directory, name), 0o644)


def _write_etc(root: Path) -> None:
    import shutil

    etc = root / "etc"
    for name, text in _ETC.items():
        (etc / name).write_text(text)
        os.chmod(etc / name, 0o644)
    # Readable by guest root only: a plain open by the script is refused and reported.
    os.chmod(etc / "passwd", 0o600)
    for name in _ETC_CLOSED:
        (etc / name).touch(mode=0o600)
    for name in _ETC_CLOSED_DIRECTORIES:
        (etc / name).mkdir(mode=0o700, parents=True)
    prefix = root / GUEST_PREFIX.lstrip("/")
    zoneinfo = next((Path(p) for p in _zoneinfo_path() if Path(p).is_dir()), None)
    if zoneinfo is not None:
        shutil.copytree(zoneinfo, prefix / "share" / "zoneinfo", symlinks=False)
        utc = zoneinfo / "Etc" / "UTC"
        if utc.exists():
            shutil.copyfile(utc, etc / "localtime")
            os.chmod(etc / "localtime", 0o644)
    for name in ("C.utf8", "C.UTF-8"):
        source = Path("/usr/lib/locale") / name
        if source.is_dir():
            shutil.copytree(source, prefix / "lib" / "locale" / name, symlinks=False)
            return


def _zoneinfo_path() -> tuple[str, ...]:
    import sysconfig

    return tuple((sysconfig.get_config_var("TZPATH") or "/usr/share/zoneinfo").split(":"))


def _compile_all(stdlib: Path, guest_path: str) -> None:
    import compileall
    import py_compile

    # Unchecked: the image never changes, so no source is stat'ed at import.
    compileall.compile_dir(
        str(stdlib),
        quiet=2,
        ddir=guest_path,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def probes() -> tuple[str, ...]:
    """Paths that the loader, libc and OpenSSL look for, present or not."""
    paths = {"/etc/ld.so.preload", "/etc/ld.so.cache", "/etc/localtime", "/etc/resolv.conf"}
    try:
        import ssl

        found = ssl.get_default_verify_paths()
        cafile, capath = found.openssl_cafile, found.openssl_capath
        paths |= {cafile, capath, os.path.join(os.path.dirname(cafile), "openssl.cnf")}
        paths |= {os.path.join(os.path.dirname(cafile), "ct_log_list.cnf")}
    except ImportError:
        pass
    import mimetypes

    return tuple(sorted(paths | {str(path) for path in mimetypes.knownfiles}))
