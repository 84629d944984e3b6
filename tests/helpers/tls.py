"""A certificate authority of a test's own, by the ``openssl`` program."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def certificate(folder: Path, *names: str) -> tuple[ssl.SSLContext, str]:
    """Returns a server's context for the names, and the authority's certificate as PEM."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test",
            "-days", "2")  # fmt: skip
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={names[0]}")
    (folder / "names").write_text("subjectAltName=" + ",".join(f"DNS:{name}" for name in names))
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "server.pem", "-days", "2", "-extfile", "names")  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context, (folder / "ca.pem").read_text()
