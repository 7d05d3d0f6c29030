"""One version number for the crate, the server and the clients that carry one."""

import json
import tomllib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def read_toml(name: str) -> dict[str, dict[str, object]]:
    return tomllib.loads((ROOT / name).read_text("utf-8"))


def test_crate_server_and_client_have_one_version() -> None:
    crate = tomllib.loads((ROOT / "Cargo.toml").read_text("utf-8"))["workspace"]["package"]["version"]
    client = read_toml("clients/python/pyproject.toml")["project"]["version"]
    assert version("lightmem-server") == version("lightmem-client") == client == crate


def test_typescript_client_has_that_version_too() -> None:
    for name in ("package.json", "package-lock.json"):
        package = json.loads((ROOT / "clients/typescript" / name).read_text("utf-8"))
        assert package["version"] == version("lightmem-server")
