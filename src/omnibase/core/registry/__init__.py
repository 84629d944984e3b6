"""The registry: components, their scripts, policies and history.

`open_store` opens one; `FileStore` is the embedded default, `SqlStore` keeps the
same in SQLite or PostgreSQL.
"""

from __future__ import annotations

import os
from typing import Any

from omnibase.core.locations import check_location
from omnibase.core.registry.file_store import FileStore
from omnibase.core.registry.model import (
    TRANSITIONS,
    Action,
    Component,
    Lifecycle,
    PolicyState,
    PolicyVersion,
    Revision,
    Trust,
)
from omnibase.core.registry.schema import component_schema
from omnibase.core.registry.semver import Constraint, Version
from omnibase.core.registry.store import (
    Finding,
    FindingCode,
    Head,
    PolicyDocument,
    RegistryStore,
    Validator,
)

__all__ = [
    "TRANSITIONS",
    "Action",
    "Component",
    "Constraint",
    "FileStore",
    "Finding",
    "FindingCode",
    "Head",
    "Lifecycle",
    "PolicyDocument",
    "PolicyState",
    "PolicyVersion",
    "RegistryStore",
    "Revision",
    "Trust",
    "Validator",
    "Version",
    "component_schema",
    "open_store",
]


def open_store(
    location: str | os.PathLike[str], *, validate: Validator | None = None, **options: Any
) -> RegistryStore:
    """Opens a registry: a directory, or a database URL such as ``sqlite:////var/lib/r.db``.

    Raises:
        ConfigurationError: The location is malformed, the URL is not of a database
            that is supported, or the `sql` extra is not installed.
    """
    text = check_location(location)
    if "://" in text:
        from omnibase.core.registry.sql_store import SqlStore

        opened: RegistryStore = SqlStore(text, validate=validate, **options)
    else:
        opened = FileStore(text, validate=validate, **options)
    return opened
