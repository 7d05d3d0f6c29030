"""`lightmem models`: pull, list, verify."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from rich import progress as bars
from rich.console import Console
from rich.table import Table

from lightmem_server.errors import ModelError
from lightmem_server.slm.manifest import Manifest, ModelRole, load_manifest
from lightmem_server.slm.models import (
    InstalledModel,
    ModelState,
    ModelStatus,
    default_models_dir,
    list_models,
    verify,
)


def _with_common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    models_dir = click.option(
        "--models-dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=default_models_dir,
        help="Folder of the models. Default: LIGHTMEM_MODELS_DIR, or the user's cache folder.",
    )
    return models_dir(click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command))


@click.group()
def models() -> None:
    """The models that LightMem runs: fetch, list, check."""


@models.command("pull")
@click.argument("names", nargs=-1)
@click.option("--profile", help="A named set of models. Default, when no NAMES are given: lite.")
@click.option("--role", type=click.Choice([role.value for role in ModelRole]), help="Only models of this role.")
@_with_common_options
def pull_command(
    names: tuple[str, ...], profile: str | None, role: str | None, models_dir: Path, as_json: bool
) -> None:
    """Fetch, check and convert models; without NAMES, those that the server uses by default."""
    try:
        manifest = load_manifest()
        chosen = _choose(manifest, names, profile, role)
        with _progress() as progress:
            # Imported here: `lightmem --help` should not wait for the converters.
            from lightmem_server.slm.pull import pull

            installed = pull(chosen, models_dir, progress=progress, manifest=manifest)
    except ModelError as error:
        raise click.ClickException(error.message) from error
    if as_json:
        click.echo(json.dumps([_describe(model, models_dir) for model in installed], indent=2))
    else:
        for model in installed:
            click.echo(f"{model.name}  {model.size_bytes / 1e6:.0f} MB  {models_dir / model.name}")


def _choose(manifest: Manifest, names: Sequence[str], profile: str | None, role: str | None) -> list[str]:
    """The models that the arguments mean, each once.

    Raises:
        click.UsageError: No such profile, or nothing is left.
    """
    chosen = list(names)
    if profile is not None or not names:
        profile = profile or "lite"
        if profile not in manifest.profiles:
            raise click.UsageError(f"no profile is called '{profile}'; known: {', '.join(manifest.profiles)}")
        chosen += manifest.profiles[profile]
    unique = [name for name in dict.fromkeys(chosen) if role is None or manifest.get(name).role == role]
    if not unique:
        raise click.UsageError(f"none of these models has the role {role}")
    return unique


def _describe(model: InstalledModel, models_dir: Path) -> dict[str, Any]:
    return {
        "name": model.name,
        "role": model.spec.role,
        "path": str(models_dir / model.name),
        "size_bytes": model.size_bytes,
        "licence": model.spec.licence,
        "source": model.source,
    }


@models.command("list")
@_with_common_options
def list_command(models_dir: Path, as_json: bool) -> None:
    """Every known model, and whether it is installed."""
    try:
        _print(list_models(models_dir), as_json)
    except ModelError as error:
        raise click.ClickException(error.message) from error


@models.command("verify")
@click.argument("names", nargs=-1)
@_with_common_options
def verify_command(names: tuple[str, ...], models_dir: Path, as_json: bool) -> None:
    """Hash every file again; without NAMES, of all installed models. Fails unless all are as they should be."""
    try:
        chosen = names or [status.name for status in list_models(models_dir) if status.state is not ModelState.MISSING]
        if not chosen:
            raise click.ClickException(f"no model is installed in {models_dir}; run `lightmem models pull`")
        statuses = verify(chosen, models_dir)
    except ModelError as error:
        raise click.ClickException(error.message) from error
    _print(statuses, as_json)
    bad = [status for status in statuses if status.state is not ModelState.INSTALLED]
    if bad:
        raise click.ClickException("; ".join(f"{status.name} is {status.state}" for status in bad))


def _print(statuses: Iterable[ModelStatus], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(status) for status in statuses], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for title in ("NAME", "ROLE", "STATE", "SIZE", "LICENCE", "DETAIL"):
        table.add_column(title, justify="right" if title == "SIZE" else "left", no_wrap=title != "DETAIL")
    for status in statuses:
        size = f"{status.size_bytes / 1e6:.0f} MB" if status.size_bytes else "-"
        table.add_row(status.name, status.role, status.state, size, status.licence, status.detail)
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200)
    console.print(table)


def _progress() -> _LineProgress | _BarProgress:
    return _BarProgress() if sys.stderr.isatty() else _LineProgress()


class _LineProgress:
    """One line per step on stderr, and one per tenth of a download or a conversion."""

    def __init__(self) -> None:
        self._tenths: dict[str, int] = {}

    def __enter__(self) -> _LineProgress:
        return self

    def __exit__(self, *unused: object) -> None:
        """Nothing to close."""

    def say(self, message: str) -> None:
        click.echo(message, err=True)

    def advance(self, title: str, done_bytes: int, total_bytes: int) -> None:
        tenth = done_bytes * 10 // total_bytes
        if tenth > self._tenths.get(title, -1):
            self._tenths[title] = tenth
            click.echo(f"{title}: {done_bytes / 1e6:.1f} of {total_bytes / 1e6:.1f} MB", err=True)


class _BarProgress:
    """A bar per download or conversion on a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.DownloadColumn(),
            bars.TransferSpeedColumn(),
            bars.TimeRemainingColumn(),
            console=self._console,
        )
        self._tasks: dict[str, bars.TaskID] = {}

    def __enter__(self) -> _BarProgress:
        self._bars.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._bars.stop()

    def say(self, message: str) -> None:
        self._console.print(message, highlight=False, markup=False)

    def advance(self, title: str, done_bytes: int, total_bytes: int) -> None:
        if title not in self._tasks:
            self._tasks[title] = self._bars.add_task(title, total=total_bytes)
        self._bars.update(self._tasks[title], completed=done_bytes)
