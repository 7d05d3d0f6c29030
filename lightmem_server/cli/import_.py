"""`lightmem import`: take in a file that `lightmem export` wrote, or what other systems export."""

from __future__ import annotations

import functools
import itertools
import os
import stat
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import IO

import click
import lightmem_client
from rich.progress import Progress, TaskID

from lightmem_server.cli import output
from lightmem_server.cli.export import progress
from lightmem_server.cli.foreign import READERS, ForeignError, Found, Report, read_mem0
from lightmem_server.cli.options import CommandError, ExitCode, ServerOptions, json_option, server_options

MOST_NAMED = 10
"""Users in a message."""


@click.command("import")
@click.argument("user")
@click.argument("file", type=click.File("rb"))
@click.option("--from", "wrote", type=click.Choice(list(READERS)), help="What wrote FILE.  [default: lightmem export]")
@click.option("--only", help="With --from mem0: of several users in FILE the one whose memories are meant.")
@click.option("--dry-run", is_flag=True, help="With --from: say what FILE holds, and store nothing.")
@server_options
@json_option
def import_(
    user: str,
    file: IO[bytes],
    wrote: str | None,
    only: str | None,
    dry_run: bool,
    server: ServerOptions,
    as_json: bool,
) -> None:
    """Take FILE, or standard input with -, in as memories of USER.

    What `lightmem export` wrote comes back with ids, history and vectors, and needs an admin key; a memory that is there with
    other content ends it. With --from it is what another system exported: each memory or message becomes a turn.

    What is there already stays as it is: after a failure, or a Ctrl-C, call it again.
    """
    if only is not None and wrote != "mem0":
        raise click.UsageError("--only needs --from mem0")
    if wrote is not None:
        read = READERS[wrote] if only is None else functools.partial(read_mem0, only=only)
        _take_in(user, read, file, dry_run, server, as_json)
        return
    if dry_run:
        raise click.UsageError("--dry-run needs --from")
    with server.connect() as client, progress("bytes") as bar:
        source = _Source(file, bar)
        try:
            result = client.import_user(user, source.lines())
        except lightmem_client.LightMemError:
            if source.bad_line:  # what the client saw is the end of the lines
                raise CommandError(f"line {source.bad_line}: is not UTF-8", ExitCode.USAGE) from None
            raise
    if as_json:
        output.print_json(result)
        return
    new = f"; {result.reembedded_count:,} got vectors of this server's embedder" if result.reembedded_count else ""
    click.echo(f"{result.imported_count:,} memories imported, {result.skipped_count:,} were there{new}")


def _take_in(
    user: str, read: Callable[[IO[bytes]], Report], file: IO[bytes], dry_run: bool, server: ServerOptions, as_json: bool
) -> None:
    try:
        report = read(file)
    except (ForeignError, UnicodeDecodeError) as error:
        raise CommandError(f"{getattr(file, 'name', 'the file')}: {error}", ExitCode.USAGE) from error
    if len(report.users) > 1:
        names = ", ".join(sorted(report.users)[:MOST_NAMED])
        raise CommandError(
            f"holds memories of {len(report.users):,} users: {names}; say whose with --only", ExitCode.USAGE
        )
    stored = replayed = 0
    if not dry_run:
        with server.connect() as client, progress("turns") as bar:
            task = bar.add_task("stored", total=len(report.found))
            missing = _missing(client, user, report.found)
            replayed = len(report.found) - len(missing)
            bar.advance(task, replayed)
            for is_replay in _write(client, user, missing):
                replayed += is_replay
                stored += not is_replay
                bar.advance(task)
    made = {
        "turns": len(report.found),
        "conversations": len({found.session_id for found in report.found}),
        "stored": stored,
        "were_there": replayed,
        "skipped": dict(report.skipped),
        "metadata_left_out": report.metadata_left_out,
    }
    if as_json:
        output.print_json(made)
        return
    done = "nothing stored: a dry run" if dry_run else f"{stored:,} stored, {replayed:,} were there"
    click.echo(f"{len(report.found):,} turns in {made['conversations']:,} conversations; {done}")
    for why, count in report.skipped.items():
        click.echo(f"{count:,} left out: {why}")
    if report.metadata_left_out:
        click.echo(f"{report.metadata_left_out:,} entries of metadata left out: no memory can have them")


def _missing(client: lightmem_client.Client, user: str, found: Sequence[Found]) -> list[Found]:
    """Those whose words are not in their conversation yet, as often as the file has them.

    The server knows a repeated request for a day; this knows one for as long as the memories are there.
    """
    wanted = Counter((one.session_id, one.turn.text) for one in found)
    there: Counter[tuple[str, str]] = Counter()
    turns = lightmem_client.MemoryFilter(kinds=[lightmem_client.Kind.TURN], include_archived=True)
    for memory in client.list(user_id=user, filter=turns, page_size=1000):
        if (memory.session_id, memory.text) in wanted:
            there[memory.session_id, memory.text] += 1
    missing = []
    for one in found:
        if there[one.session_id, one.turn.text] > 0:
            there[one.session_id, one.turn.text] -= 1
        else:
            missing.append(one)
    return missing


def _write(client: lightmem_client.Client, user: str, found: Sequence[Found]) -> Iterator[bool]:
    """Store turns, conversation by conversation; whether each was there already."""
    for (session_id, agent_id), turns in itertools.groupby(found, key=lambda one: (one.session_id, one.agent_id)):
        waiting: deque[tuple[Found, lightmem_client.PendingWrite]] = deque()
        try:
            with client.open_writer(user_id=user, session_id=session_id, agent_id=agent_id) as writer:
                for one in turns:
                    waiting.append((one, writer.send(one.turn, request_id=one.request_id)))
                    while waiting and waiting[0][1].is_done:
                        yield waiting[0][1].result().is_replay
                        waiting.popleft()
                while waiting:
                    yield waiting[0][1].result().is_replay
                    waiting.popleft()
        except lightmem_client.InvalidArgumentError as error:
            error.message = f"{waiting[0][0].key}: {error.message}; what comes before it is stored"
            raise


class _Source:
    """The lines of a file as they are sent, with a bar of its bytes."""

    def __init__(self, file: IO[bytes], bar: Progress) -> None:
        self.bad_line = 0
        self._file = file
        self._bar = bar
        self._task: TaskID = bar.add_task("imported", total=_size(file))

    def lines(self) -> Iterator[str]:
        """Ends at a line that is no text; `bad_line` is its number then."""
        for number, line in enumerate(self._file, start=1):
            try:
                yield line.decode()
            except UnicodeDecodeError:
                self.bad_line = number
                return
            self._bar.advance(self._task, len(line))


def _size(file: IO[bytes]) -> int | None:
    """None: it is a pipe, or has no descriptor."""
    try:
        status = os.fstat(file.fileno())
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
