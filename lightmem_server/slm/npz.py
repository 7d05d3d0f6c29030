"""Arrays of a file, whatever is wrong with it."""

from __future__ import annotations

import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lightmem_server.errors import ModelError


def read_npz(path: Path) -> dict[str, NDArray[np.float32]]:
    """What np.savez wrote, by name. Raises ModelError where it didn't."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:  # which leaves it open where it fails
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, TypeError, EOFError, RuntimeError, BadZipFile, zlib.error) as error:
        raise ModelError(f"{path} holds no weights: {error}") from error
