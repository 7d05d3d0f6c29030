"""TLS and mTLS from files that are read again when they change.

gRPC asks at each handshake; three `stat` calls answer it. Files that don't fit together, as in the middle of a renewal, or
that can't be read leave what was there before in use, and say so in the log once. Open connections stay as they are.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TypeAlias

import grpc
import structlog

from lightmem_server.errors import ConfigError

log = structlog.get_logger()

_Stamp: TypeAlias = tuple[tuple[int, int, int], ...]
"""Of each file: when it was changed, its size and its inode."""


class TlsFiles:
    """A certificate chain, its key, and the authorities of clients where those must show a certificate."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None = None) -> None:
        self._cert = cert
        self._key = key
        self._client_ca = client_ca
        self._stamp: _Stamp = ()
        """Of the files as they were read last, whether they could be used or not."""

    def credentials(self) -> grpc.ServerCredentials:
        """What a port is secured with. Raises ConfigError when the files can't be used."""
        try:
            self._stamp = self._read_stamp()
            first = self._read()
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot use the TLS files: {error}") from error
        return grpc.dynamic_ssl_server_credentials(
            first,
            self._fetch,  # type: ignore[arg-type]  # None is "nothing changed", as gRPC documents it
            require_client_authentication=self._client_ca is not None,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """What has changed since the last handshake; None: nothing, or nothing of use. Called by gRPC's own threads."""
        try:
            stamp = self._read_stamp()
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            changed = self._read()
        except (OSError, ValueError) as error:
            log.warning("tls_files_unusable", error=str(error), advice="the certificate before stays in use")
            return None
        log.info("tls_files_reloaded", cert=str(self._cert))
        return changed

    def _read(self) -> grpc.ServerCertificateConfiguration:
        """Check that the files fit together, and read them. Raises OSError (ssl.SSLError is one), ValueError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # A password is never asked for at the terminal: a key that needs one is refused.
        context.load_cert_chain(self._cert, self._key, password=_refuse_password)
        authorities = None
        if self._client_ca is not None:
            authorities = self._client_ca.read_bytes()
            context.load_verify_locations(cadata=authorities.decode("ascii"))
        pair = (self._key.read_bytes(), self._cert.read_bytes())
        if self._read_stamp() != self._stamp:
            raise OSError("the files are being written")
        return grpc.ssl_server_certificate_configuration([pair], authorities)

    def _read_stamp(self) -> _Stamp:
        paths = [path for path in (self._cert, self._key, self._client_ca) if path is not None]
        stats = [path.stat() for path in paths]
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)


def _refuse_password() -> str:
    raise ValueError("the key is encrypted")
