"""Puts a trained model into the package and prints its entry of the manifest.

python -m lightmem_server.slm.distill.bundle target/distill/4x1024/model lightmem-selector-l4
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from lightmem_server.slm.models import hash_file
from lightmem_server.slm.pull import BUNDLED

PACKAGE = Path(__file__).parents[1] / BUNDLED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, help="the recipe's folder `model`")
    parser.add_argument("name", help="of the model in the manifest")
    parser.add_argument("--package", type=Path, default=PACKAGE, help="folder of the models that the package brings")
    options = parser.parse_args(arguments)
    target = options.package / options.name
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(options.model.iterdir()):
        shutil.copyfile(path, target / path.name)
    print(manifest_entry(target, options.name))
    return 0


def manifest_entry(folder: Path, name: str) -> str:
    """What the manifest says of the files in a folder; the model's other properties are the teacher's."""
    files = "\n".join(
        f'"{path.name}" = {{ size_bytes = {path.stat().st_size:_}, sha256 = "{hash_file(path)}" }}'
        for path in sorted(folder.iterdir())
        if path.suffix != ".md"  # the card
    )
    return f'[[models."{name}".sources]]\nkind = "bundled"\n\n[models."{name}".sources.files]\n{files}'


if __name__ == "__main__":
    sys.exit(main())
