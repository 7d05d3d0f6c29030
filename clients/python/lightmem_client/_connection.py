"""Where the server is, and how a call proves who makes it."""

from __future__ import annotations

import functools
import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import platformdirs
from grpc.experimental import ChannelOptions

from lightmem_client._codec import to_scope
from lightmem_client._retry import Deadline, RetryPolicy
from lightmem_client.errors import InvalidArgumentError, UnauthenticatedError
from lightmem_client.pb.memory_pb2 import Scope

DEFAULT_TARGET = "localhost:7420"
KEY_FILE_NAME = "admin.key"

CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", -1),  # a page of 1,000 long turns passes gRPC's 4 MiB; the server bounds it
    ("grpc.max_send_message_length", -1),  # the server's limit decides, and says so
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

STREAMS_IN_CALLER: tuple[str, int] = (ChannelOptions.SingleThreadedUnaryStream, 1)
"""Of a channel that isn't asyncio's: a stream of answers is read in the thread that wants it. Handing each part over from a
thread of gRPC's own takes 0.25 ms of a `retrieve`."""


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS as the client sees it. PEM bytes; None: the system's roots, no client certificate."""

    root_certificates: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    certificate_chain: bytes | None = None

    @classmethod
    def from_files(
        cls,
        root_certificates: str | os.PathLike[str] | None = None,
        private_key: str | os.PathLike[str] | None = None,
        certificate_chain: str | os.PathLike[str] | None = None,
    ) -> Tls:
        """Of PEM files. Raises OSError when one can't be read.

        Args:
            root_certificates: Authorities that the server's certificate must come from.
            private_key, certificate_chain: The client's own, for a server that asks for one.
        """
        paths = (root_certificates, private_key, certificate_chain)
        return cls(*(None if path is None else Path(path).read_bytes() for path in paths))


def find_target(target: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """The argument, else LIGHTMEM_TARGET, else the local server's default.

    Raises:
        InvalidArgumentError: It is a URL, which gRPC would take for a host's name.
    """
    found = target or environment.get("LIGHTMEM_TARGET") or DEFAULT_TARGET
    if found.startswith(("http://", "https://")):
        raise InvalidArgumentError(f"target: takes HOST:PORT, not {found}", reason="MALFORMED", field="target")
    return found


def is_local(target: str) -> bool:
    """Whether the target is this machine by its name: loopback, or a Unix socket."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    address = target.rpartition("///")[2] if target.startswith("dns:") else target
    address = address.removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:")
    host = address.rpartition(":")[0].strip("[]") or address
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_key(api_key: str | None, target: str, environment: Mapping[str, str] = os.environ) -> str:
    """The argument, else LIGHTMEM_API_KEY, else, for a server on this machine, the key that its first start left.

    The local admin key is never sent to another machine.

    Raises:
        UnauthenticatedError: There is none; says where it was looked for.
        InvalidArgumentError: It is no text that a header can carry.
    """
    key = api_key or environment.get("LIGHTMEM_API_KEY")
    if not key:
        if not is_local(target):
            raise UnauthenticatedError(
                f"no key for {target}: give api_key, or set LIGHTMEM_API_KEY", reason="KEY_MISSING"
            )
        key = _read_key_file(key_file(environment))
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise InvalidArgumentError("the key has characters that no key has", reason="KEY_INVALID", field="api_key")
    return key


def key_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the first start of a server on this machine leaves its admin key."""
    folder = environment.get("LIGHTMEM_DATA_DIR") or platformdirs.user_data_dir("lightmem", appauthor=False)
    return Path(folder).expanduser() / KEY_FILE_NAME


def _read_key_file(path: Path) -> str:
    try:
        key = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UnauthenticatedError(
            f"no key: give api_key, set LIGHTMEM_API_KEY, or start a server on this machine, which makes {path}",
            reason="KEY_MISSING",
        ) from error
    if not key:
        raise UnauthenticatedError(f"no key: {path} is empty", reason="KEY_MISSING")
    return key


def credentials(target: str, tls: Tls | bool | None) -> grpc.ChannelCredentials | None:
    """What secures the channel; None for plain text.

    Undecided (`tls` None), only this machine is spoken to in plain text: a key never crosses a network in the clear
    unless that was asked for with `tls=False`.
    """
    if tls is None:
        tls = not is_local(target)
    if tls is False:
        return None
    options = Tls() if tls is True else tls
    return grpc.ssl_channel_credentials(options.root_certificates, options.private_key, options.certificate_chain)


@dataclass(frozen=True)
class Connection:
    """What a client was made with. Nothing is read or opened until a call needs it."""

    target: str
    api_key: str | None = field(repr=False)
    user_id: str
    agent_id: str
    timeout_seconds: float
    tls: Tls | bool | None = field(repr=False)
    retry: RetryPolicy

    @functools.cached_property
    def _key(self) -> str:
        return find_key(self.api_key, self.target)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers of a call. Raises UnauthenticatedError when there is no key."""
        return (("authorization", f"Bearer {self._key}"),)

    def scope(self, user_id: str | None, agent_id: str | None = None, session_id: str | None = None) -> Scope:
        """Whose memory a call is about: its own arguments, else the client's. Raises InvalidArgumentError for no user."""
        return to_scope(
            self.user_id if user_id is None else user_id,
            agent_id=self.agent_id if agent_id is None else agent_id,
            session_id=session_id or "",
        )

    def deadline(self, timeout_seconds: float | None) -> Deadline:
        """When a call that starts now must end."""
        return Deadline(self.timeout_seconds if timeout_seconds is None else timeout_seconds)
