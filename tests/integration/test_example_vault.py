"""The example of a store in Vault: the real client, against a server that speaks its protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import hvac
import pytest

import omnibase
from examples.vault_secrets import VaultSecrets
from omnibase import SecretAccessError, SecretStore

VALUE = "s3cr3t-Value/42"
CAPABILITY = ["SECRET_ACCESS:TOKEN"]


class Vault(BaseHTTPRequestHandler):
    """A key/value engine, version 2, at ``secret``."""

    def do_GET(self) -> None:
        if self.headers["X-Vault-Token"] != "root":
            return self.answer(403, {"errors": [f"permission denied: {VALUE}"]})
        if self.path != "/v1/secret/data/omnibase/TOKEN":
            return self.answer(404, {"errors": []})
        data = {"data": {"value": VALUE}, "metadata": {"version": 1}}
        return self.answer(200, {"data": data})

    def answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Vault) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def store(address: str, who: str = "root") -> SecretStore:
    return VaultSecrets(hvac.Client(url=address, token=who))


def test_a_script_gets_what_is_in_vault(address: str) -> None:
    script = b"v = open('/run/secrets/TOKEN').read()\nprint(len(v), v)\n"
    result = omnibase.run(script, capabilities=CAPABILITY, secrets=store(address))
    assert result.stdout == b"%d ***TOKEN***\n" % len(VALUE)


def test_what_is_not_there_says_how_to_put_it_there(address: str) -> None:
    with pytest.raises(SecretAccessError, match="`OTHER` is not there") as caught:
        omnibase.run(b"", capabilities=["SECRET_ACCESS:OTHER"], secrets=store(address))
    assert caught.value.hint == "`vault kv put -mount=secret omnibase/OTHER value=…`"


def test_a_token_that_may_not_is_told_without_vaults_words(address: str) -> None:
    with pytest.raises(SecretAccessError, match=r"from its store \(Forbidden\)") as caught:
        omnibase.run(b"", capabilities=CAPABILITY, secrets=store(address, "other"))
    assert VALUE not in repr(caught.value.to_dict())
