"""`lightmem serve`: run the server. Its flags are the settings, one each, made from their declarations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lightmem_server.cli.logs import configure_logging
from lightmem_server.config import Settings, load
from lightmem_server.errors import LightMemError


def _with_setting_flags(command: Callable[..., None]) -> Callable[..., None]:
    for name, field in reversed(Settings.model_fields.items()):
        is_bool = field.annotation is bool
        option = f"--{name.replace('_', '-')}"
        command = click.option(
            f"{option}/--no-{name.replace('_', '-')}" if is_bool else option,
            name,
            default=None,
            metavar=None if is_bool else name.rpartition("_")[2].upper(),
            help=f"{field.description} [default: {_default(name)}]",
        )(command)
    return command


def _default(name: str) -> object:
    default = Settings.model_fields[name].get_default(call_default_factory=True)
    return "none" if default is None or default == {} else default


@click.command()
@click.option("--config", "config_file", type=click.Path(dir_okay=False, path_type=Path), help="TOML file of settings.")
@_with_setting_flags
def serve(config_file: Path | None, **flags: Any) -> None:
    """Run the LightMem server until SIGTERM or Ctrl-C.

    Settings come from LIGHTMEM_* variables, then the TOML file, then these flags; later ones win.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = load(given, config_file=config_file)
        configure_logging(settings)
        # Imported here: `lightmem --help` should not wait for the models' runtime.
        from lightmem_server.server import serve as run_server
        from lightmem_server.slm.runtime import load_models

        asyncio.run(run_server(settings, load_models))
    except LightMemError as error:
        raise click.ClickException(error.message) from error
