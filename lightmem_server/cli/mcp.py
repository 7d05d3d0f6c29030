"""`lightmem mcp`: an MCP server in front of a LightMem server."""

from __future__ import annotations

import asyncio
from importlib import metadata

import click
from lightmem_client import AsyncClient, InvalidArgumentError

from lightmem_server.cli.options import CommandError, ExitCode, ServerOptions, server_options
from lightmem_server.config import is_loopback, split_address

MISSING = "lightmem mcp needs the official MCP SDK: pip install 'lightmem-server[mcp]'"


@click.command()
@click.option("--user", "-u", "user_id", default="", envvar="LIGHTMEM_USER", help="Whose memory. Required with stdio.")
@click.option(
    "--session", "-s", default="mcp", show_default=True, help="The conversation that added memories belong to."
)
@click.option(
    "--transport", type=click.Choice(["stdio", "http"]), default="stdio", show_default=True, help="How agents connect."
)
@click.option("--listen", default="127.0.0.1:7421", show_default=True, help="Address and port, with http.")
@click.option("--allow-insecure", is_flag=True, help="Listen beyond loopback: keys and memories travel in the clear.")
@server_options
def mcp(user_id: str, session: str, transport: str, listen: str, allow_insecure: bool, server: ServerOptions) -> None:
    """Serve the memory of one user to MCP agents, over stdio or streamable HTTP (path /mcp).

    The user comes from here, or over HTTP from the header 'lightmem-user'; the key from --key or LIGHTMEM_API_KEY, or over
    HTTP from the header 'authorization: Bearer lm_...'. A model can choose neither.
    """
    try:
        from lightmem_server.mcp.connection import KeyedConnections, OneConnection
        from lightmem_server.mcp.tools import make_server
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("mcp"):
            raise
        raise CommandError(MISSING, ExitCode.FAILED) from error

    tls = server.tls()

    def connect(key: str | None) -> AsyncClient:
        try:
            return AsyncClient(server.target, api_key=key, tls=tls)
        except InvalidArgumentError as error:
            raise click.UsageError(error.message) from error

    if transport == "stdio":
        if not user_id:
            raise click.UsageError("stdio needs --user, or LIGHTMEM_USER")
        one = OneConnection(connect(server.key), user_id)
        asyncio.run(make_server(one, session_id=session, version=metadata.version("lightmem-server")).run_stdio_async())
        return
    try:
        host, port = split_address(listen)
    except ValueError as error:
        raise click.UsageError(f"--listen {error}") from error
    if not is_loopback(host) and not allow_insecure:
        raise click.UsageError(
            f"--listen {listen} is beyond loopback: put a proxy with TLS in front, or say --allow-insecure"
        )
    keyed = KeyedConnections(connect, user_id)
    made = make_server(keyed, session_id=session, version=metadata.version("lightmem-server"))
    click.echo(f"MCP at http://{listen}/mcp", err=True)
    asyncio.run(made.run_streamable_http_async(host=host, port=port))
