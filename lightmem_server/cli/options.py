"""What the commands that speak to a server share: their options, the client, and exit codes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import click
import lightmem_client
from lightmem_client import Client, Tls

P = ParamSpec("P")
R = TypeVar("R")


class ExitCode(IntEnum):
    """What a command ends with; `lightmem --help` says so too."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNAVAILABLE = 4


EXIT_CODES: dict[type[lightmem_client.LightMemError], ExitCode] = {
    lightmem_client.InvalidArgumentError: ExitCode.USAGE,
    lightmem_client.NotFoundError: ExitCode.NOT_FOUND,
    lightmem_client.UnavailableError: ExitCode.UNAVAILABLE,
    lightmem_client.UnauthenticatedError: ExitCode.UNAVAILABLE,
    lightmem_client.PermissionDeniedError: ExitCode.UNAVAILABLE,
}
"""Any other error is FAILED."""


class CommandError(click.ClickException):
    """Ends a command with one sentence on stderr."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads the instance's


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Which server a command speaks to."""

    target: str | None
    key: str | None
    tls_ca: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    is_insecure: bool

    @contextlib.contextmanager
    def connect(self) -> Iterator[Client]:
        """A client; its errors in here end the command.

        Raises:
            CommandError: What the server, or the way to it, refused.
        """
        target = self.target or ""
        try:
            with Client(self.target, api_key=self.key, tls=self.tls()) as client:
                target = client.target
                yield client
        except lightmem_client.LightMemError as error:
            refuse(error, target)

    def tls(self) -> Tls | bool | None:
        """How a client is to be made, see lightmem_client.Client."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise click.UsageError("--tls-cert and --tls-key are given together or not at all")
        if self.tls_ca is not None or self.tls_cert is not None:
            return Tls.from_files(self.tls_ca, self.tls_key, self.tls_cert)
        return False if self.is_insecure else None


def refuse(error: lightmem_client.LightMemError, target: str) -> NoReturn:
    """End the command with the sentence and the exit code of a client's error."""
    message = error.message
    if isinstance(error, lightmem_client.UnavailableError) and error.reason == "UNREACHABLE":
        message = f"no server answers at {target}; start one with `lightmem serve`, or name another with --target"
    raise CommandError(message, EXIT_CODES.get(type(error), ExitCode.FAILED)) from error


def server_options(command: Callable[..., R]) -> Callable[..., R]:
    """Adds --target, --key, --tls-ca, --tls-cert, --tls-key and --insecure; the command gets them as `server`."""
    pem = click.Path(exists=True, dir_okay=False, path_type=Path)

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        target: str | None,
        key: str | None,
        tls_ca: Path | None,
        tls_cert: Path | None,
        tls_key: Path | None,
        insecure: bool,
        **rest: Any,
    ) -> R:
        return command(*args, server=ServerOptions(target, key, tls_ca, tls_cert, tls_key, insecure), **rest)

    for option in (
        click.option("--insecure", is_flag=True, help="Plain text to another machine: the key travels in the clear."),
        click.option("--tls-key", type=pem, help="The key of --tls-cert, PEM."),
        click.option("--tls-cert", type=pem, help="Certificate to show to a server that asks for one, PEM."),
        click.option(
            "--tls-ca", "--ca", "tls_ca", type=pem, help="Certificates to trust, PEM, instead of the system's."
        ),
        click.option("--key", help="API key. Better: LIGHTMEM_API_KEY, which other users of the machine can't see."),
        click.option(
            "--target", metavar="HOST:PORT", help="The server. Default: LIGHTMEM_TARGET, else localhost:7420."
        ),
    ):
        wrapped = option(wrapped)
    return wrapped


def json_option(command: Callable[P, R]) -> Callable[P, R]:
    """Adds --json; the command gets it as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def user_option(command: Callable[P, R]) -> Callable[P, R]:
    """Adds the required --user; the command gets it as `user_id`."""
    return click.option("--user", "-u", "user_id", required=True, help="Whose memory.")(command)


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A time in ISO 8601; without a zone it is the local one, as people mean it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The aware datetime. Fails with a usage error."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"'{value}' is not a time such as 2024-05-08 or 2024-05-08T13:56+02:00", param, ctx)
        return moment if moment.utcoffset() is not None else moment.astimezone()


MOMENT = Moment()
