"""Generate the code of proto/ for the server and for the clients in Python, Go and TypeScript.

Run by `make proto`; `make lint` runs it with --check and fails when the committed code is not what the .proto files give. One
protoc, that of grpcio-tools, serves all; the plugins are pinned: Python's in constraints.txt, Go's here, TypeScript's in its
package-lock.json. Without Go or npm their code is left as it is, and that is said. protoc writes absolute imports for Python
(`from lightmem.v1 import …`), which would need a top-level package `lightmem`; they are made relative, so that each copy lives
inside its own package.
"""

from __future__ import annotations

import argparse
import importlib.resources
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
REPOSITORY = ROOT.parent
CLIENTS = REPOSITORY / "clients"
OURS = [f"lightmem/v1/{path.name}" for path in sorted(ROOT.glob("lightmem/v1/*.proto"))]
ERROR_DETAILS = ["google/rpc/status.proto", "google/rpc/error_details.proto"]
"""Of googleapis-common-protos; Python and Go have packages of them."""

ABSOLUTE_IMPORT = re.compile(r"^(\s*)from lightmem\.v1 import ", re.MULTILINE)

GO_PACKAGE = "github.com/lightmem/lightmem/clients/go/lightmempb"
GO_PLUGINS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2",
)


@dataclass(frozen=True)
class Language:
    """What is generated, and where it goes.

    Attributes:
        targets: Folders that hold nothing but this code.
        generate: Gives it: path within the folder to content.
        program: What has to be installed for it; None: nothing more.
    """

    name: str
    targets: tuple[Path, ...]
    generate: Callable[[], dict[str, str]]
    program: str | None = None


def python() -> dict[str, str]:
    """Messages and stubs, typed."""
    files = {
        Path(name).name: ABSOLUTE_IMPORT.sub(r"\1from . import ", code)
        for name, code in run_protoc(
            OURS,
            "--python_out={out}",
            "--grpc_python_out={out}",
            "--mypy_out=relax_strict_optional_primitives:{out}",
            "--mypy_grpc_out={out}",
        ).items()
    }
    files["__init__.py"] = '"""Code generated from proto/ by proto/generate.py; do not edit."""\n'
    return files


def go() -> dict[str, str]:
    """Messages and stubs, one package."""
    plugins = REPOSITORY / "target" / "protoc" / re.sub(r"[^\w.]+", "-", " ".join(GO_PLUGINS))
    for plugin in GO_PLUGINS:
        if not (plugins / Path(plugin.partition("@")[0]).name).exists():
            subprocess.run(["go", "install", plugin], check=True, env={**os.environ, "GOBIN": str(plugins)})
    options = []
    for name in ("go", "go-grpc"):
        options += [f"--plugin=protoc-gen-{name}={plugins / f'protoc-gen-{name}'}", f"--{name}_out={{out}}"]
        options += [f"--{name}_opt=module={GO_PACKAGE}", *(f"--{name}_opt=M{file}={GO_PACKAGE}" for file in OURS)]
    return run_protoc(OURS, *options)


def typescript() -> dict[str, str]:
    """Messages and descriptions of the services."""
    folder = CLIENTS / "typescript"
    plugin = folder / "node_modules" / ".bin" / "protoc-gen-es"
    if not plugin.exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], check=True, cwd=folder)
    options = [f"--plugin=protoc-gen-es={plugin}", "--es_out={out}", "--es_opt=target=ts,import_extension=js"]
    return run_protoc([*OURS, *ERROR_DETAILS], *options)


LANGUAGES = (
    Language(
        "Python",
        (REPOSITORY / "lightmem_server" / "pb", CLIENTS / "python" / "lightmem_client" / "pb"),
        python,
    ),
    Language("Go", (CLIENTS / "go" / "lightmempb",), go, "go"),
    Language("TypeScript", (CLIENTS / "typescript" / "src" / "gen",), typescript, "npm"),
)


def run_protoc(sources: list[str], *options: str) -> dict[str, str]:
    """Run protoc; `{out}` in an option is the folder that is then read.

    Returns:
        Path within that folder to content.

    Raises:
        SystemExit: If protoc refuses the files; it has said why.
    """
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    googleapis = Path(str(importlib.resources.files("google.rpc").joinpath("status.proto"))).parents[2]
    with tempfile.TemporaryDirectory() as out:
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={ROOT}",
                f"--proto_path={well_known}",
                f"--proto_path={googleapis}",
                *(option.replace("{out}", out) for option in options),
                *sources,
            ]
        )
        if status != 0:
            raise SystemExit(status)
        return {
            path.relative_to(out).as_posix(): path.read_text("utf-8")
            for path in sorted(Path(out).rglob("*"))
            if path.is_file()
        }


def update(target: Path, files: dict[str, str], is_check: bool) -> list[Path]:
    """Make a folder hold just these files. Returns those that it did not; with `is_check` they stay as they are."""
    present = {
        path.relative_to(target).as_posix()
        for path in target.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    stale = [name for name in files if name not in present or (target / name).read_text("utf-8") != files[name]]
    left_over = sorted(present - files.keys())
    if not is_check:
        for name in stale:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_text(files[name], "utf-8")
        for name in left_over:
            (target / name).unlink()
    return [target / name for name in (*stale, *left_over)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    is_check = parser.parse_args().check
    stale: list[Path] = []
    for language in LANGUAGES:
        if language.program is not None and shutil.which(language.program) is None:
            print(f"skipped: the generated code of {language.name}, since {language.program} is not installed")
            continue
        files = language.generate()
        for target in language.targets:
            stale += update(target, files, is_check)
    for path in stale:
        print(f"{'out of date' if is_check else 'wrote'}: {path.relative_to(REPOSITORY)}")
    if stale and is_check:
        print("run `make proto` and commit the result", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
