"""TLS and mTLS through a whole server, with certificates that change while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from lightmem_client import Client, RetryPolicy, Tls
from lightmem_client.errors import LightMemError, UnavailableError

from lightmem_server.cli import cli
from lightmem_server.config import load
from lightmem_server.errors import ConfigError
from tests.live_server import LiveServer

ONCE = RetryPolicy(max_attempts=1)


class Files:
    """A server's certificate, key and client authorities, in files that are written anew as a renewal does."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key, self.client_ca = folder / "cert.pem", folder / "key.pem", folder / "clients.pem"
        self.folder = folder

    def write(self, authority: trustme.CA) -> None:
        """A new pair."""
        issued = authority.issue_cert("127.0.0.1", "localhost")
        self.replace(self.key, issued.private_key_pem.bytes())
        self.replace(self.cert, b"".join(part.bytes() for part in issued.cert_chain_pems))

    def replace(self, path: Path, data: bytes) -> None:
        """Put a file in another's place, so that nobody reads half of it."""
        new = path.with_suffix(".new")
        new.write_bytes(data)
        new.replace(path)

    def flags(self, **more: object) -> dict[str, object]:
        return {"tls_cert": self.cert, "tls_key": self.key, **more}


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    folder = tmp_path / "tls"
    folder.mkdir()
    files = Files(folder)
    files.write(authority)
    return files


def trust(authority: trustme.CA, identity: trustme.LeafCert | None = None) -> Tls:
    roots = authority.cert_pem.bytes()
    if identity is None:
        return Tls(root_certificates=roots)
    chain = b"".join(part.bytes() for part in identity.cert_chain_pems)
    return Tls(roots, identity.private_key_pem.bytes(), chain)


def reaches(live: LiveServer, tls: Tls | bool) -> bool:
    """Whether a new connection gets an answer."""
    with Client(live.address, api_key=live.key, user_id="ana", tls=tls, retry=ONCE, timeout_seconds=5) as client:
        try:
            client.stats()
        except UnavailableError:
            return False
        return True


@pytest.fixture
def live(tmp_path: Path, files: Files) -> Iterator[LiveServer]:
    with LiveServer(tmp_path / "data", **files.flags()) as live:
        yield live


def test_only_who_trusts_the_certificate_speaks_to_the_server(live: LiveServer, authority: trustme.CA) -> None:
    assert reaches(live, trust(authority))
    assert not reaches(live, trust(trustme.CA()))
    assert not reaches(live, False)


def test_a_renewed_certificate_is_used_for_new_connections_and_open_ones_go_on(
    live: LiveServer, files: Files, authority: trustme.CA
) -> None:
    successor = trustme.CA()
    with Client(live.address, api_key=live.key, tls=trust(authority), retry=ONCE) as open_client:
        open_client.stats()
        files.write(successor)
        assert reaches(live, trust(successor))
        assert not reaches(live, trust(authority))
        open_client.stats()


def test_files_that_do_not_fit_together_leave_the_old_certificate_in_use(
    live: LiveServer, files: Files, authority: trustme.CA
) -> None:
    files.replace(files.key, trustme.CA().issue_cert("127.0.0.1").private_key_pem.bytes())
    assert reaches(live, trust(authority))
    files.replace(files.cert, b"nonsense")
    assert reaches(live, trust(authority))
    files.cert.unlink()
    assert reaches(live, trust(authority))
    files.write(authority)
    assert reaches(live, trust(authority))


def test_with_mtls_a_client_without_a_certificate_is_nobody(
    tmp_path: Path, files: Files, authority: trustme.CA
) -> None:
    clients, strangers = trustme.CA(), trustme.CA()
    files.replace(files.client_ca, clients.cert_pem.bytes())
    with LiveServer(tmp_path / "data", **files.flags(tls_client_ca=files.client_ca)) as live:
        assert reaches(live, trust(authority, clients.issue_cert("agent@example.org")))
        assert not reaches(live, trust(authority))
        assert not reaches(live, trust(authority, strangers.issue_cert("agent@example.org")))
        files.replace(files.client_ca, strangers.cert_pem.bytes())
        assert reaches(live, trust(authority, strangers.issue_cert("agent@example.org")))
        assert not reaches(live, trust(authority, clients.issue_cert("agent@example.org")))


def test_a_certificate_does_not_replace_the_key(tmp_path: Path, files: Files, authority: trustme.CA) -> None:
    files.replace(files.client_ca, authority.cert_pem.bytes())
    with LiveServer(tmp_path / "data", **files.flags(tls_client_ca=files.client_ca)) as live:
        tls = trust(authority, authority.issue_cert("agent@example.org"))
        with (
            Client(live.address, api_key="lm_a_b", user_id="ana", tls=tls, retry=ONCE) as client,
            pytest.raises(LightMemError, match="unknown, expired or revoked"),
        ):
            client.stats()


def test_the_command_line_shows_its_certificate(tmp_path: Path, files: Files, authority: trustme.CA) -> None:
    files.replace(files.client_ca, authority.cert_pem.bytes())
    identity = authority.issue_cert("agent@example.org")
    cert, key = tmp_path / "me.pem", tmp_path / "me.key"
    cert.write_bytes(b"".join(part.bytes() for part in identity.cert_chain_pems))
    key.write_bytes(identity.private_key_pem.bytes())
    with LiveServer(tmp_path / "data", **files.flags(tls_client_ca=files.client_ca)) as live:
        environment = {"LIGHTMEM_TARGET": live.address, "LIGHTMEM_API_KEY": live.key}
        flags = ["--tls-ca", str(files.client_ca), "--tls-cert", str(cert), "--tls-key", str(key)]
        assert CliRunner().invoke(cli, ["stats", *flags], env=environment).exit_code == 0
        assert CliRunner().invoke(cli, ["stats", *flags[:4]], env=environment).exit_code == 2


def encrypted(pem: bytes) -> bytes:
    key = load_pem_private_key(pem, None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


@pytest.mark.parametrize("fault", ["missing", "other key", "encrypted key", "no certificate", "no authorities"])
def test_files_that_cannot_be_used_at_the_start_are_refused(tmp_path: Path, files: Files, fault: str) -> None:
    flags = files.flags()
    if fault == "missing":
        files.cert.unlink()
    elif fault == "other key":
        files.key.write_bytes(trustme.CA().issue_cert("127.0.0.1").private_key_pem.bytes())
    elif fault == "encrypted key":
        files.key.write_bytes(encrypted(files.key.read_bytes()))
    elif fault == "no certificate":
        files.cert.write_bytes(b"nonsense")
    else:
        files.client_ca.write_bytes(b"nonsense")
        flags["tls_client_ca"] = files.client_ca
    live = LiveServer(tmp_path / "data", **flags)
    with pytest.raises(ConfigError, match="TLS files"), live:
        pass
    live.__exit__()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"listen": "0.0.0.0:7420"}, "beyond loopback"),
        ({"listen": "[::]:7420"}, "beyond loopback"),
        ({"listen": "example.org:7420"}, "beyond loopback"),
        ({"tls_client_ca": "ca.pem"}, "needs tls_cert"),
        ({"tls_key": "key.pem"}, "together"),
    ],
)
def test_a_server_is_not_opened_to_the_network_without_tls(flags: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(flags, environment={})
    assert load({"listen": "0.0.0.0:7420", "allow_insecure": True}, environment={}).allow_insecure
