"""`lightmem`, and `python -m lightmem_server`."""

from __future__ import annotations

from lightmem_server.cli import cli


def main() -> None:
    """Run the command line."""
    cli(prog_name="lightmem")


if __name__ == "__main__":
    main()
