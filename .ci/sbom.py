"""Writes what the native module is linked from as a CycloneDX 1.6 document, from Cargo.lock, and lists the licences.

    python .ci/sbom.py target/sbom/rust.cdx.json

Needs no network once the crates are there. (The Python side is `cyclonedx-py`; cargo-cyclonedx would write this one too, but
takes minutes to build.)
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

TREE = ("cargo", "tree", "--package", "lightmem-core-python", "--edges", "normal,build", "--prefix", "none", "--locked")
ROOT = "lightmem-core-python"


def read_crates() -> dict[tuple[str, str], str]:
    """Name and version of each crate to its licence; the workspace's own too."""
    listed = subprocess.run([*TREE, "--format", "{p}|{l}"], check=True, capture_output=True, text=True).stdout
    crates = {}
    for line in listed.splitlines():
        package, _, licence = line.removesuffix(" (*)").partition("|")
        name, version = package.split()[:2]
        crates[name, version.removeprefix("v")] = licence.removesuffix(" (*)").replace("/", " OR ")
    return crates


def to_document(crates: dict[tuple[str, str], str]) -> dict[str, Any]:
    """The CycloneDX document."""
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:cargo/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:cargo/{name}@{version}",
            "licenses": [{"expression": " ".join(licence.split())}],
        }
        for (name, version), licence in sorted(crates.items())
    ]
    root = next(component for component in components if component["name"] == ROOT)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": root},
        "components": [component for component in components if component is not root],
    }


def main() -> None:
    """Write the document, print the licences."""
    crates = read_crates()
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(to_document(crates), indent=2) + "\n", "utf-8")
    for licence, count in Counter(crates.values()).most_common():
        print(f"{count:4} crates under {licence}")


if __name__ == "__main__":
    main()
