"""Objects in a bucket, through the library `obstore`: S3 and what is compatible, GCS, Azure."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from omnibase.core.artifacts.objects import Readable
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig

__all__ = ["RemoteObjects"]

_CHUNK: Final = 1 << 20
_WHOLE: Final = 8 << 20
_RETRIES: Final[RetryConfig] = {"max_retries": 3}


class RemoteObjects:
    """See `Objects`.

    Its conditional writes keep two writers from one version; nothing keeps one who
    removes from one who puts the same bytes at the same time.

    Args:
        location: The URL, e.g. ``s3://bucket/prefix``; what else the place asks for is
            in the environment (``AWS_ACCESS_KEY_ID`` and so on).
        store: It, if it is there already.

    Raises:
        ConfigurationError: The library is not there, or does not know the URL.
    """

    areas = ()

    def __init__(self, location: str, store: ObjectStore | None = None) -> None:
        try:
            import obstore
            from obstore.store import from_url
        except ImportError:
            raise ConfigurationError(
                "artifacts in a bucket need the library `obstore`",
                hint="`pip install 'omnibase[artifacts]'`",
            ) from None
        self._library: Any = obstore
        self.location = location
        try:
            self._store = from_url(location, retry_config=_RETRIES) if store is None else store
        except Exception as error:
            raise ConfigurationError(
                f"`{location}` is no store of artifacts: {_first_line(error)}",
                hint="name a directory, or a URL such as `s3://bucket/prefix`",
            ) from None

    def put(self, key: str, source: Readable) -> None:
        """See `Objects`."""
        first = source.read(_WHOLE)
        rest = iter(lambda: source.read(_CHUNK), b"")
        with self._reported():
            # What comes in parts is several requests.
            body = first if len(first) < _WHOLE else itertools.chain((first,), rest)
            self._library.put(self._store, key, body)

    def create(self, key: str, data: bytes) -> bool:
        """See `Objects`."""
        with self._reported():
            try:
                self._library.put(self._store, key, data, mode="create")
            except self._library.exceptions.AlreadyExistsError:
                return False
            return True

    def get(self, key: str) -> Iterator[bytes]:
        """See `Objects`."""
        with self._reported():
            for chunk in self._library.get(self._store, key).stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)

    def keys(self, prefix: str) -> Iterator[str]:
        """See `Objects`."""
        with self._reported():
            for rows in self._library.list(self._store, prefix=prefix):
                yield from (row["path"] for row in rows)

    def delete(self, key: str) -> None:
        """See `Objects`."""
        with self._reported(), contextlib.suppress(FileNotFoundError):
            self._library.delete(self._store, key)

    def held(self, *, alone: bool) -> contextlib.AbstractContextManager[None]:
        """See `Objects`."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except self._library.exceptions.BaseError as error:
            raise OSError(_first_line(error)) from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
