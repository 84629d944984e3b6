"""Secrets from HashiCorp Vault: a store of your own, by the library `hvac`.

`pip install hvac`, and then, with `$VAULT_ADDR` and `$VAULT_TOKEN` set:

    vault kv put -mount=secret omnibase/API_TOKEN value=…
    python examples/vault_secrets.py script.py API_TOKEN
"""

from __future__ import annotations

import sys

import hvac

import omnibase


class VaultSecrets:
    """The field ``value`` of ``path/NAME`` in a key/value engine, version 2.

    Args:
        client: Logged in; by default as hvac's environment variables say.
        path: Below which the secrets are.
        mount: Where the engine is mounted.
    """

    areas = ()  # nothing of it is in a file of this host

    def __init__(
        self, client: hvac.Client | None = None, *, path: str = "omnibase", mount: str = "secret"
    ) -> None:
        self._client = client or hvac.Client()
        self._path, self._mount = path, mount

    def get(self, name: str) -> bytes | None:
        """See `omnibase.SecretStore`: a name has no slash, so it leads nowhere else."""
        try:
            found = self._client.secrets.kv.v2.read_secret_version(
                path=f"{self._path}/{name}",
                mount_point=self._mount,
                raise_on_deleted_version=True,
            )
        except hvac.exceptions.InvalidPath:
            return None
        value = found["data"]["data"].get("value")
        return value.encode() if isinstance(value, str) else None

    def hint(self, name: str) -> str:
        """See `omnibase.SecretStore`."""
        return f"`vault kv put -mount={self._mount} {self._path}/{name} value=…`"


if __name__ == "__main__":
    script, *names = sys.argv[1:]
    result = omnibase.run(
        script, capabilities=[f"SECRET_ACCESS:{name}" for name in names], secrets=VaultSecrets()
    )
    sys.stdout.buffer.write(result.stdout)
    sys.stderr.buffer.write(result.stderr)
    sys.exit(result.exit_code)
