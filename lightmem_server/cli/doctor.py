"""`lightmem doctor`: check this machine, and say what to do. Each check is a function of the settings."""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import click
from lightmem_client import Client, LightMemError, Tls

from lightmem_server.cli import output
from lightmem_server.cli.options import CommandError, ExitCode, json_option
from lightmem_server.config import Settings, load
from lightmem_server.errors import ConfigError, DamagedError, ModelError, StoreError, StoreVersionError

SLOW_KERNELS = frozenset({"scalar"})
MEMORY_BESIDE_PARTITIONS_BYTES = 1 << 30
"""What models, gRPC and Python take, roughly, beside `resident_bytes`."""

PROBE_BYTES = 1 << 16
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
RESTORE = "move it away, and `lightmem restore` the latest backup"

PRIVATE_MASK = stat.S_IRWXG | stat.S_IRWXO


class Level(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `advice` says what to do, where there is something."""

    check: str
    level: Level
    message: str
    advice: str = ""


Check = Callable[[Settings], Iterator[Finding]]


@click.command()
@click.option("--config", "config_file", type=click.Path(dir_okay=False, path_type=Path), help="TOML file of settings.")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Instead of the setting.")
@click.option("--models-dir", type=click.Path(file_okay=False, path_type=Path), help="Instead of the setting.")
@click.option("--listen", help="Instead of the setting.")
@json_option
def doctor(
    config_file: Path | None, data_dir: Path | None, models_dir: Path | None, listen: str | None, as_json: bool
) -> None:
    """Check what the server needs on this machine. Changes nothing."""
    flags = {"data_dir": data_dir, "models_dir": models_dir, "listen": listen}
    try:
        settings = load({name: value for name, value in flags.items() if value is not None}, config_file=config_file)
    except ConfigError as error:
        findings = [Finding("settings", Level.FAIL, error.message, "mend the setting")]
    else:
        findings = [finding for check in CHECKS for finding in check(settings)]
    if as_json:
        output.print_json(findings)
    else:
        _print(findings)
    failed = [finding.check for finding in findings if finding.level is Level.FAIL]
    if failed:
        raise CommandError(f"not in order: {', '.join(failed)}", ExitCode.FAILED)


def _print(findings: list[Finding]) -> None:
    colours = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
    table = output.table("check", "", "finding")
    for finding in findings:
        text = output.plain(finding.message)
        if finding.advice:
            text.append(f"\n-> {finding.advice}", style="italic")
        table.add_row(finding.check, f"[{colours[finding.level]}]{finding.level}[/]", text)
    output.console().print(table)


def check_python(settings: Settings) -> Iterator[Finding]:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    is_new = sys.version_info >= (3, 11)
    yield Finding("python", Level.OK if is_new else Level.FAIL, version, "" if is_new else "use Python 3.11 or newer")


def check_models(settings: Settings) -> Iterator[Finding]:
    """The embedder and the Selectors: there, and every byte as installed."""
    from lightmem_server.slm.models import ModelState, verify

    roles = {settings.gate_selector: "gate", settings.selector: "selector", settings.embedder: "embedder"}
    for name in settings.needed_models:
        role = roles[name]
        try:
            (status,) = verify([name], settings.models_dir)
        except ModelError as error:
            yield Finding(role, Level.FAIL, error.message, "name a model that `lightmem models list` shows")
            continue
        if status.state is ModelState.INSTALLED:
            yield Finding(role, Level.OK, f"{name}, {status.size_bytes / 1e6:.0f} MB, every file verified")
        else:
            level = Level.WARN if status.state is ModelState.OUTDATED else Level.FAIL
            message = f"{name} is {status.state} in {settings.models_dir}"
            yield Finding(role, level, message, f"run `lightmem models pull {name}`")


def check_data_dir(settings: Settings) -> Iterator[Finding]:
    """The data folder can be written, and its secrets are the owner's alone."""
    folder = settings.data_dir
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not place.is_dir():
        yield Finding("data folder", Level.FAIL, f"{place} is not a folder", "name another with LIGHTMEM_DATA_DIR")
        return
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
    except OSError as error:
        advice = "give yourself the right, or name another folder with LIGHTMEM_DATA_DIR"
        if error.errno in FULL_DISK:
            advice = "make room: until then writes are refused"
        yield Finding("data folder", Level.FAIL, f"{place} cannot be written: {error.strerror}", advice)
        return
    state = "exists" if place == folder else "will be made by the first start"
    space = os.statvfs(place)
    free_bytes = space.f_bavail * space.f_frsize
    if free_bytes < 1 << 30:
        message = f"{folder} {state}; only {output.size(free_bytes)} free"
        yield Finding("data folder", Level.WARN, message, "make room: a full disk refuses writes")
    else:
        yield Finding("data folder", Level.OK, f"{folder} {state}; {output.size(free_bytes)} free")
    for path in (folder, settings.admin_key_file):
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & PRIVATE_MASK:
            level = Level.FAIL if path == settings.admin_key_file else Level.WARN
            mode = "700" if path.is_dir() else "600"
            message = f"{path} can be reached by other users of this machine"
            yield Finding("permissions", level, message, f"run `chmod {mode} {path}`")


def check_database(settings: Settings) -> Iterator[Finding]:
    """The database can be read and written, is not of a newer version, and sound. Reads all of it."""
    from lightmem_server.store.connection import open_read_only, store_errors
    from lightmem_server.store.schema import check_version, read_migrations
    from lightmem_server.store.sqlite import DATABASE_NAME
    from lightmem_server.store.sqlite_read import check

    path = settings.data_dir / DATABASE_NAME
    try:
        if not path.exists():
            return
        with store_errors(str(path)), closing(open_read_only(path)) as database:
            check_version(database, len(read_migrations()))
            findings = check(database)
    except (StoreError, OSError) as error:
        yield Finding("database", Level.FAIL, getattr(error, "message", str(error)), _advise(error))
        return
    if findings:
        message = f"{path} is damaged: {findings[0]}" + (f", and {len(findings) - 1} more" if findings[1:] else "")
        yield Finding("database", Level.FAIL, message, RESTORE)
    elif not os.access(path, os.W_OK):
        yield Finding(
            "database", Level.FAIL, f"{path} cannot be written", f"give yourself the right: `chmod 600 {path}`"
        )
    else:
        yield Finding("database", Level.OK, f"sound; {output.size(path.stat().st_size)}")


def check_snapshots(settings: Settings) -> Iterator[Finding]:
    """The snapshots that users are loaded from can be read. One that can't costs time and loses nothing."""
    from lightmem_server.core import Engine
    from lightmem_server.errors import SnapshotError
    from lightmem_server.pipeline.passages import VIEW_NAMES
    from lightmem_server.slm.manifest import load_manifest
    from lightmem_server.store import snapshots
    from lightmem_server.store.connection import open_read_only, store_errors
    from lightmem_server.store.sqlite import DATABASE_NAME

    path = settings.data_dir / DATABASE_NAME
    count, damaged = 0, []
    try:
        if not path.exists():
            return
        engine = Engine(
            dim=load_manifest().get(settings.embedder).dim,
            view_names=VIEW_NAMES,
            budget_bytes=0,  # each makes room for the next
            stm_turns=settings.stm_turns,
            stm_tokens=settings.stm_tokens,
            language=settings.language,
        )
        with store_errors(str(path)), closing(open_read_only(path)) as database:
            for partition, snapshot in snapshots.each(database):
                count += 1
                try:
                    engine.import_(partition.key, snapshot.data, settings.languages.get(partition.namespace))
                except SnapshotError as error:
                    damaged.append(f"that of {partition.user_id} {error.message}")
    except (StoreError, ModelError, OSError):
        return  # the checks before say so
    if damaged:
        more = f", and {len(damaged) - 1} more" if damaged[1:] else ""
        message = f"{len(damaged)} of {count} cannot be used: {damaged[0]}{more}"
        advice = "nothing is lost: the server loads these users from their records and writes new ones"
        yield Finding("snapshots", Level.WARN, message, advice)
    elif count:
        yield Finding("snapshots", Level.OK, f"{count}, all can be used")


def _advise(error: StoreError | OSError) -> str:
    if isinstance(error, StoreVersionError):
        return "install the newer LightMem that wrote it"
    if isinstance(error, DamagedError):
        return RESTORE
    return "give yourself the right to its folder and to it, or name another folder with LIGHTMEM_DATA_DIR"


def check_port(settings: Settings) -> Iterator[Finding]:
    """The port is free, or a LightMem server answers on it."""
    import socket

    host, _, port = settings.listen.rpartition(":")
    host = host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ports of closed connections are free
            probe.bind(address)
    except OSError as error:
        certificate = settings.tls_cert.read_bytes() if settings.tls_cert is not None else None
        tls = False if certificate is None else Tls(root_certificates=certificate)
        with Client(settings.listen, tls=tls) as client:
            is_ours = client.is_healthy(timeout_seconds=2)
            if is_ours:
                yield Finding("port", Level.OK, f"a server answers at {settings.listen} and is ready")
                yield from check_jobs(client)
        if not is_ours:
            message = f"{settings.listen} cannot be listened on ({error.strerror}), and no ready server answers there"
            yield Finding("port", Level.FAIL, message, "end the other program, or choose another with LIGHTMEM_LISTEN")
    else:
        yield Finding("port", Level.OK, f"{settings.listen} is free")


def check_jobs(client: Client) -> Iterator[Finding]:
    """Background work that the running server has set aside; without an admin key there is nothing to see."""
    try:
        stats = client.stats(timeout_seconds=2)
    except LightMemError:
        return
    if not stats.dead_job_count:
        yield Finding("jobs", Level.OK, f"{stats.pending_job_count} wait, none was set aside")
        return
    message = f"{stats.dead_job_count} failed too often and were set aside"
    for job in stats.dead_jobs[:1]:
        message += f"; the last is {job.kind} of {job.user_id}: {job.error}"
    yield Finding("jobs", Level.WARN, message, "see `lightmem stats`; try again with `lightmem consolidate USER`")


def check_sqlite(settings: Settings) -> Iterator[Finding]:
    """The SQLite that apsw brings."""
    import apsw

    from lightmem_server.store.connection import OLDEST_SQLITE

    version = apsw.sqlite_lib_version()
    is_new = tuple(int(part) for part in version.split(".")) >= OLDEST_SQLITE
    advice = "" if is_new else "run `pip install --upgrade apsw`: older ones can lose commits"
    yield Finding("sqlite", Level.OK if is_new else Level.FAIL, version, advice)


def check_cpu(settings: Settings) -> Iterator[Finding]:
    """The kernels that the Rust core chose."""
    try:
        from lightmem_server.core import cpu_features
    except ImportError as error:
        yield Finding("core", Level.FAIL, f"the Rust core cannot be loaded: {error}", "run `make build`")
        return
    features = cpu_features()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    message = f"{cores} cores; kernels: {', '.join(features) or 'scalar'}"
    if SLOW_KERNELS.issuperset(features):
        yield Finding("cpu", Level.WARN, message, "works, slowly: this CPU has no AVX2, AVX-512 VNNI or NEON")
    else:
        yield Finding("cpu", Level.OK, message)


def check_memory(settings: Settings) -> Iterator[Finding]:
    """Room for the users' partitions beside the models."""
    available_bytes = read_available_memory()
    if available_bytes is None:
        yield Finding("memory", Level.OK, "not known on this system")
        return
    needed_bytes = settings.resident_bytes + settings.record_bytes + MEMORY_BESIDE_PARTITIONS_BYTES
    message = f"{output.size(available_bytes)} available; up to {output.size(needed_bytes)} needed"
    if available_bytes < needed_bytes:
        yield Finding("memory", Level.WARN, message, "lower LIGHTMEM_RESIDENT_BYTES, or free some")
    else:
        yield Finding("memory", Level.OK, message)


def read_available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take: the machine's, and its control group's. None where neither is told."""
    amounts = []
    meminfo = root / "proc/meminfo"
    if meminfo.is_file():
        fields: Mapping[str, str] = dict(
            line.split(":", 1) for line in meminfo.read_text("ascii").splitlines() if ":" in line
        )
        if "MemAvailable" in fields:
            amounts.append(int(fields["MemAvailable"].split()[0]) * 1024)
    group = root / "sys/fs/cgroup"
    limit, used = group / "memory.max", group / "memory.current"
    if limit.is_file() and used.is_file() and (text := limit.read_text("ascii").strip()) != "max":
        amounts.append(int(text) - int(used.read_text("ascii")))
    return max(0, min(amounts)) if amounts else None


CHECKS: tuple[Check, ...] = (
    check_python,
    check_models,
    check_data_dir,
    check_database,
    check_snapshots,
    check_port,
    check_sqlite,
    check_cpu,
    check_memory,
)
