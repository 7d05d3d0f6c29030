from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from clients.python.tests.conftest import FAST
from clients.python.tests.peer import KEY, Peer

from lightmem_client import AsyncClient, Client, Tls, UnavailableError


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A key and a certificate for this machine, made for the test."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed; it makes the certificate of this test")
    folder: Path = tmp_path_factory.mktemp("tls")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes()


@pytest.fixture
def tls_peer(certificate: tuple[bytes, bytes]) -> Iterator[Peer]:
    with Peer(credentials=grpc.ssl_server_credentials([certificate])) as peer:
        yield peer


def test_server_is_spoken_to_over_tls(tls_peer: Peer, certificate: tuple[bytes, bytes]) -> None:
    tls = Tls(root_certificates=certificate[1])
    with Client(tls_peer.target, api_key=KEY, user_id="ann", tls=tls) as client:
        client.wait_ready(timeout_seconds=10)
        with client.open_writer() as writer:
            writer.send("hello")
        assert client.retrieve("hello").memories


async def test_async_client_speaks_tls_too(tls_peer: Peer, certificate: tuple[bytes, bytes]) -> None:
    tls = Tls(root_certificates=certificate[1])
    async with AsyncClient(tls_peer.target, api_key=KEY, user_id="ann", tls=tls) as client:
        await client.write("hello")
        assert tls_peer.texts("ann") == ["hello"]


@pytest.mark.parametrize("tls", [True, False], ids=["unknown certificate", "plain text"])
def test_server_that_cannot_be_trusted_is_not_spoken_to(tls_peer: Peer, tls: bool) -> None:
    with (
        Client(tls_peer.target, api_key=KEY, user_id="ann", tls=tls, retry=FAST) as client,
        pytest.raises(UnavailableError),
    ):
        client.write("secret", timeout_seconds=5)
    assert tls_peer.calls["Write"] == 0
