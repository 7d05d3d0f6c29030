"""`lightmem restore`: from a backup to a data folder. Works on files, without a server."""

from __future__ import annotations

from pathlib import Path

import click

from lightmem_server.cli import output
from lightmem_server.cli.backup import progress_bar, show
from lightmem_server.cli.options import CommandError, ExitCode, json_option
from lightmem_server.config import load
from lightmem_server.errors import LightMemError
from lightmem_server.store.backup_protocol import BackupProgress


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--config", "config_file", type=click.Path(dir_okay=False, path_type=Path), help="TOML file of settings.")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Instead of the setting.")
@json_option
def restore(file: Path, config_file: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Put FILE, a backup, where the server looks for its database, once it is verified.

    Refused while a server has the data folder open, and where a database is there already. An older backup is brought up to
    date by the next start; one of a newer LightMem is refused. The keys are those of the backup: put its `admin.key` beside
    it, where the folder has none.
    """
    # Imported here: `lightmem --help` should not wait for SQLite.
    from lightmem_server.store.restore import restore as restore_file

    try:
        settings = load({} if data_dir is None else {"data_dir": data_dir}, config_file=config_file)
        with progress_bar() as bar:
            task = bar.add_task("copy", total=None)

            def report(moment: BackupProgress) -> None:
                show(bar, task, moment.stage, moment.done_pages, moment.total_pages)

            restored = restore_file(file, settings.data_dir, report)
    except LightMemError as error:
        raise CommandError(error.message, ExitCode.FAILED) from error
    if as_json:
        output.print_json(restored)
        return
    click.echo(f"{restored.path}: {output.size(restored.size_bytes)}, verified; `lightmem serve` starts on it")
    if not settings.admin_key_file.exists():
        click.echo(f"{settings.admin_key_file} is missing: put the one of the backup's server there", err=True)
