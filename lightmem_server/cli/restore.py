"""`lightmem restore`: from a backup to a data folder. Works on files, without a server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from lightmem_server.cli import output
from lightmem_server.cli.backup import progress_bar, show
from lightmem_server.cli.options import CommandError, ExitCode, json_option
from lightmem_server.config import Settings, load
from lightmem_server.errors import LightMemError
from lightmem_server.pipeline.clock import Clock
from lightmem_server.store.backup_protocol import BackupProgress


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--config", "config_file", type=click.Path(dir_okay=False, path_type=Path), help="TOML file of settings.")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Instead of the setting.")
@click.option("--new-key", is_flag=True, help="Make another admin key, where the old one is lost.")
@json_option
def restore(file: Path, config_file: Path | None, data_dir: Path | None, new_key: bool, as_json: bool) -> None:
    """Put FILE, a backup, where the server looks for its database, once it is verified.

    Refused while a server has the data folder open, and where a database is there already. An older backup is brought up to
    date by the next start; one of a newer LightMem is refused. The keys are those of the backup: put its `admin.key` beside
    it, where the folder has none, or make another with --new-key.
    """
    # Imported here: `lightmem --help` should not wait for SQLite.
    from lightmem_server.store.restore import restore as restore_file

    try:
        settings = load({} if data_dir is None else {"data_dir": data_dir}, config_file=config_file)
        if new_key and settings.admin_key_file.exists():
            raise CommandError(f"{settings.admin_key_file} is there already", ExitCode.FAILED)
        with progress_bar() as bar:
            task = bar.add_task("copy", total=None)

            def report(moment: BackupProgress) -> None:
                show(bar, task, moment.stage, moment.done_pages, moment.total_pages)

            restored = restore_file(file, settings.data_dir, report)
        if new_key:
            asyncio.run(_make_key(settings))
    except LightMemError as error:
        raise CommandError(error.message, ExitCode.FAILED) from error
    if as_json:
        output.print_json(restored)
        return
    click.echo(f"{restored.path}: {output.size(restored.size_bytes)}, verified; `lightmem serve` starts on it")
    if not settings.admin_key_file.exists():
        message = f"{settings.admin_key_file} is missing: put the one of the backup's server there"
        click.echo(f"{message}; if it is lost, restore with --new-key", err=True)


async def _make_key(settings: Settings) -> None:
    """Whoever may write the data folder is its operator. Brings an older backup up to date."""
    from lightmem_server.service.auth import leave_admin_key
    from lightmem_server.store.sqlite import SqliteStore

    store = SqliteStore(settings.data_dir)
    await store.open()
    try:
        await leave_admin_key(store, settings.admin_key_file, Clock().now, label="admin key of a restore")
    finally:
        await store.close()
