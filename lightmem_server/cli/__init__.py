"""The command line: one module per command, imported when it is called."""

from __future__ import annotations

import importlib

import click

COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("lightmem_server.cli.serve", "Run the server."),
    "demo": ("lightmem_server.cli.demo", "See it work: a server, a conversation, five questions."),
    "models": ("lightmem_server.cli.models", "Fetch, list and check the models."),
    "add": ("lightmem_server.cli.add", "Store one turn, or many from a file."),
    "search": ("lightmem_server.cli.search", "Find what matters to a question."),
    "list": ("lightmem_server.cli.list_", "Show a user's memories, newest first."),
    "history": ("lightmem_server.cli.history", "Show how a memory came to be what it is."),
    "consolidate": ("lightmem_server.cli.consolidate", "Abstract a user's turns now, or undo that."),
    "export": ("lightmem_server.cli.export", "Write everything of a user to a file."),
    "import": ("lightmem_server.cli.import_", "Take in a file that export wrote."),
    "erase": ("lightmem_server.cli.erase", "Remove everything of a user, for good."),
    "stats": ("lightmem_server.cli.stats", "Figures of the server, or of one user."),
    "keys": ("lightmem_server.cli.keys", "Make, list, rotate and revoke API keys."),
    "mcp": ("lightmem_server.cli.mcp", "Serve a user's memory to MCP agents."),
    "backup": ("lightmem_server.cli.backup", "Copy everything while the server goes on."),
    "restore": ("lightmem_server.cli.restore", "Make a data folder of a backup."),
    "doctor": ("lightmem_server.cli.doctor", "Check this machine, and say what to do."),
}
"""Name to module, and the line that `lightmem --help` shows. The command is the module's attribute of that name."""

ATTRIBUTES = {"list": "list_", "import": "import_"}
"""Where the attribute has another name than the command. (A module `list` would hide the builtin in this package, and `import`
is a keyword.)"""


class LazyGroup(click.Group):
    """A group whose commands are imported when they run: `lightmem --help` doesn't load the models' runtime."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command = getattr(module, ATTRIBUTES.get(cmd_name, cmd_name))
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""
\b
Exit codes:
  0  done
  1  failed
  2  used wrongly
  3  not found
  4  no server, not ready, or the key is not accepted

The commands speak to LIGHTMEM_TARGET, else to localhost:7420, with LIGHTMEM_API_KEY, else with the key that the server's
first start left on this machine.
""",
)
@click.version_option(package_name="lightmem-server", prog_name="lightmem", message="%(prog)s %(version)s")
def cli() -> None:
    """LightMem: a memory server for LLM agents, on your own machine."""
