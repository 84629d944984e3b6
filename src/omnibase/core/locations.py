"""Where a registry is: a directory, or a database named by a URL."""

from __future__ import annotations

import os

from omnibase.errors import ConfigurationError

__all__ = ["check_location", "directory_of", "holds_registry", "sqlite_file"]


def check_location(location: object) -> str:
    """Returns a location, a text or an ``os.PathLike``, as text.

    Raises:
        ConfigurationError: It is no path and no URL.
    """
    text = os.fspath(location) if isinstance(location, str | os.PathLike) else location
    problem = None
    if not isinstance(text, str) or "\0" in text:
        problem = "is no text"
    elif not text:
        problem = "is empty"
    else:
        try:
            os.fsencode(text)
            return text
        except UnicodeEncodeError:
            problem = "is no text"
    raise ConfigurationError(
        f"the registry's location {problem}", hint="name a directory or a database URL"
    )


def sqlite_file(location: str) -> str | None:
    """Returns the file of an SQLite URL, e.g. ``sqlite:////var/lib/registry.db``."""
    scheme, separator, rest = location.partition("://")
    if not separator or scheme.partition("+")[0] != "sqlite" or not rest.startswith("/"):
        return None
    # What else such a URL may say (`file:`, options) is refused when it is opened.
    return rest[1:] or None


def directory_of(location: str) -> str | None:
    """Returns the directory that holds a registry's files; ``None`` if a server does.

    Raises:
        FileNotFoundError: It is relative to a working directory that is gone.
    """
    if "://" not in location:
        return os.path.realpath(location)
    file = sqlite_file(location)
    return None if file is None else os.path.dirname(os.path.realpath(file))


def holds_registry(path: str) -> bool:
    """Says whether a directory holds a registry, or a path is something else that may be one.

    In doubt there is one, and opening it says what is wrong with it.
    """
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return not {"log", "components", "policies", ".journal"}.isdisjoint(names)
