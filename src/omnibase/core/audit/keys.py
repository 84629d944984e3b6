"""Ed25519 keys that sign checkpoints: made, kept and rotated in the log's directory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omnibase.core.events.files import make_private, sync_directory
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["SigningKey", "available", "known_keys", "public_pem", "read_public", "signed_by"]

_DIRECTORY: Final = "keys"
_PRIVATE: Final = "signing.pem"
_WAITING: Final = "next.pem"
_PREFIX: Final = "ed25519:"
_MAX_PEM_BYTES: Final = 64 << 10


def available() -> bool:
    """Says whether the ``cryptography`` library is there."""
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401
    except ImportError:
        return False
    return True


def require() -> None:
    """Refuses to go on without the library.

    Raises:
        ConfigurationError: It is not installed.
    """
    if not available():
        raise ConfigurationError(
            "signatures need the `cryptography` library",
            hint="install it: `pip install 'omnibase[audit]'`",
        )


class SigningKey:
    """The private key of a log.

    Attributes:
        id: The public key, ``ed25519:`` and 64 hexadecimal digits.
    """

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.id = _PREFIX + private.public_key().public_bytes_raw().hex()

    @classmethod
    def load(cls, directory: Path, *, waiting: bool = False) -> SigningKey | None:
        """Returns the key of a log's directory; ``None`` if there is none.

        Args:
            directory: The log's.
            waiting: The one that is to follow, instead.

        Raises:
            OSError: The file cannot be read.
            ValueError: It holds no Ed25519 key, or others may read it.
        """
        path = directory / _DIRECTORY / (_WAITING if waiting else _PRIVATE)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if status.st_mode & 0o077 or status.st_uid != os.geteuid():
                raise ValueError(f"`{path}` is not a file that only you can read")
            pem = file.read(_MAX_PEM_BYTES)
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        key = load_pem_private_key(pem, None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"`{path}` holds no Ed25519 key")
        return cls(key)

    @classmethod
    def new(cls) -> SigningKey:
        """Returns a new key, which is nowhere yet."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate())

    def save(self, directory: Path, *, waiting: bool = False) -> None:
        """Makes it the key of a log's directory, or the one that is to follow.

        Raises:
            OSError: It cannot be written.
        """
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        place = directory / _DIRECTORY
        make_private(str(place))
        pem = self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write(place / f"{self.id.removeprefix(_PREFIX)[:16]}.pub", public_pem(self.id))
        _write(place / (_WAITING if waiting else _PRIVATE), pem)
        sync_directory(str(place))

    @staticmethod
    def promote(directory: Path) -> None:
        """Puts the key that waits in place of the one that signs; public keys stay."""
        place = directory / _DIRECTORY
        (place / _WAITING).replace(place / _PRIVATE)
        sync_directory(str(place))

    @staticmethod
    def discard(directory: Path) -> None:
        """Removes the key that waits."""
        (directory / _DIRECTORY / _WAITING).unlink()

    def sign(self, message: bytes) -> str:
        """Returns the signature, 128 hexadecimal digits."""
        return self._private.sign(message).hex()


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    draft.replace(path)


def public_pem(key: str) -> bytes:
    """Returns a public key as a PEM file has it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.removeprefix(_PREFIX)))
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_public(path: Path) -> str:
    """Returns the public key in a PEM file.

    Raises:
        OSError: It cannot be read.
        ValueError: It holds no public Ed25519 key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    with path.open("rb") as file:
        pem = file.read(_MAX_PEM_BYTES)
    try:
        key = load_pem_public_key(pem)
    except UnsupportedAlgorithm:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("it holds no public Ed25519 key in PEM")
    return _PREFIX + key.public_bytes_raw().hex()


def known_keys(directory: Path) -> frozenset[str]:
    """Returns the public keys that a log's directory holds, its earlier ones included."""
    found = set()
    for path in (directory / _DIRECTORY).glob("[0-9a-f]*.pub"):
        with contextlib.suppress(OSError, ValueError):
            found.add(read_public(path))
    return frozenset(found)


def signed_by(key: str, message: bytes, signature: str) -> bool:
    """Says whether a signature is right."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.removeprefix(_PREFIX)))
        public.verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return key.startswith(_PREFIX)
