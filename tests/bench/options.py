"""What the quality benches share of their command line: which dialogue set, in which layout, and how much of it."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lightmem_server.cli.process import clean_environment, running_server
from lightmem_server.config import load
from lightmem_server.slm.distill.sets import HELD_OUT_SEASONS
from tests.bench.datasets import Conversation, DataError, read_jsonl, read_locomo
from tests.bench.friendsqa import read_friendsqa

ROOT = Path(__file__).parents[2]
DEFAULT_DATA = ROOT.parent / "shared" / "data" / "locomo10.json"

READERS: Mapping[str, Callable[[Path], list[Conversation]]] = {
    "friendsqa": read_friendsqa,
    "jsonl": read_jsonl,
    "locomo": read_locomo,
}


def make_parser(
    doc: str | None, *, layout: str = "locomo", data: Path | None = DEFAULT_DATA
) -> argparse.ArgumentParser:
    """A parser of DATA or --data, --layout and --quick, described by the first line of a bench's docstring.

    Args:
        layout, data: The defaults; without `data` it has to be given.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("path", nargs="?", type=Path, metavar="DATA", help="the same as --data")
    parser.add_argument("--data", type=Path, default=data, help="file, or folder; see tests/bench/datasets.py")
    parser.add_argument("--layout", choices=sorted(READERS), default=layout, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="one conversation, few questions; judges nothing")
    return parser


def add_held_out(parser: argparse.ArgumentParser) -> None:
    """The option of a bench that judges our own Selector, which has seen most of FriendsQA."""
    parser.add_argument("--held-out", action="store_true", help="of FriendsQA the two seasons not trained on")


def parse_options(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse; `data` is then what was given, either way."""
    options = parser.parse_args(arguments)
    options.data = options.path or options.data
    return options


def read_conversations(options: argparse.Namespace) -> list[Conversation] | int:
    """The conversations that were asked for; without any, what to exit with, once standard error says why: data that
    isn't there is no failure, data that can't be read is."""
    if options.data is None or not options.data.exists():
        print(f"SKIPPED: there is no data at {options.data}; name it with --data PATH", file=sys.stderr)
        return 0
    try:
        conversations = READERS[options.layout](options.data)
        if getattr(options, "held_out", False):
            return [one for one in conversations if one.conversation_id in HELD_OUT_SEASONS]
        return conversations
    except (DataError, OSError) as error:
        print(f"the data cannot be read: {error}", file=sys.stderr)
        return 2


def add_server(parser: argparse.ArgumentParser) -> None:
    """Options of a bench that goes through a server, see `open_server`; and of where its result goes besides."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here too")
    parser.add_argument("--target", metavar="HOST:PORT", help="a server that runs already")
    parser.add_argument("--key", help="its key")


@contextlib.contextmanager
def open_server(options: argparse.Namespace) -> Iterator[tuple[str, str | None]]:
    """The target and key of the server that runs already, or of one with default settings for as long as this lasts."""
    if options.target is not None:
        yield options.target, options.key
        return
    flags = ("--models-dir", str(load().models_dir))
    with (
        tempfile.TemporaryDirectory(prefix="lightmem-bench-") as folder,
        running_server(Path(folder) / "data", flags=flags, environment=clean_environment()) as server,
    ):
        yield server.target, server.key


def open_bars() -> Progress:
    """Progress on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
