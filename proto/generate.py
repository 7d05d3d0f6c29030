"""Generate the Python code of proto/ for the server and for the client.

Run by `make proto`; `make lint` runs it with --check and fails when the committed code is not what the .proto
files give. protoc writes absolute imports (`from lightmem.v1 import …`), which would need a top-level package
`lightmem`; they are made relative, so that each copy lives inside its own package.
"""

from __future__ import annotations

import argparse
import importlib.resources
import re
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
TARGETS = (ROOT.parent / "lightmem_server" / "pb", ROOT.parent / "clients" / "python" / "lightmem_client" / "pb")
ABSOLUTE_IMPORT = re.compile(r"^(\s*)from lightmem\.v1 import ", re.MULTILINE)


def generate() -> dict[str, str]:
    """Run protoc.

    Returns:
        File name to content, `__init__.py` included.

    Raises:
        SystemExit: If protoc refuses the files; it has said why.
    """
    sources = sorted(ROOT.glob("lightmem/v1/*.proto"))
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    with tempfile.TemporaryDirectory() as out:
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={ROOT}",
                f"--proto_path={well_known}",
                f"--python_out={out}",
                f"--grpc_python_out={out}",
                f"--mypy_out=relax_strict_optional_primitives:{out}",
                f"--mypy_grpc_out={out}",
                *(str(source) for source in sources),
            ]
        )
        if status != 0:
            raise SystemExit(status)
        files = {
            path.name: _make_imports_relative(path.read_text("utf-8"))
            for path in sorted(Path(out, "lightmem", "v1").iterdir())
        }
    files["__init__.py"] = '"""Code generated from proto/ by proto/generate.py; do not edit."""\n'
    return files


def _make_imports_relative(code: str) -> str:
    return ABSOLUTE_IMPORT.sub(r"\1from . import ", code)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    is_check = parser.parse_args().check
    files = generate()
    stale = []
    for target in TARGETS:
        target.mkdir(parents=True, exist_ok=True)
        present = {path.name for path in target.iterdir() if path.is_file()}
        for name, content in files.items():
            path = target / name
            if name in present and path.read_text("utf-8") == content:
                continue
            stale.append(path)
            if not is_check:
                path.write_text(content, "utf-8")
        for name in present - files.keys():
            stale.append(target / name)
            if not is_check:
                (target / name).unlink()
    for path in stale:
        print(f"{'out of date' if is_check else 'wrote'}: {path.relative_to(ROOT.parent)}")
    if stale and is_check:
        print("run `make proto` and commit the result", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
