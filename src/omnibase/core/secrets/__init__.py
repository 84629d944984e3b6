"""Secrets: where they are kept, and how they are kept out of what a run says."""

from omnibase.core.secrets.providers import (
    DirectorySecrets,
    EnvironmentSecrets,
    KeyringSecrets,
    MappingSecrets,
    secret_store,
)
from omnibase.core.secrets.scrub import Scrubber
from omnibase.core.secrets.store import Secret, SecretStore, fetch

__all__ = [
    "DirectorySecrets",
    "EnvironmentSecrets",
    "KeyringSecrets",
    "MappingSecrets",
    "Scrubber",
    "Secret",
    "SecretStore",
    "fetch",
    "secret_store",
]
