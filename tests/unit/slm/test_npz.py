"""Arrays of a file: all of them, or a typed error."""

from __future__ import annotations

import contextlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.errors import ModelError
from lightmem_server.slm.npz import read_npz

ARRAYS = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.ones(2, np.float32)}


def saved(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


WHOLE = saved(**ARRAYS)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("npz") / "head.npz"


def test_arrays_come_back_by_name(path: Path) -> None:
    path.write_bytes(WHOLE)
    read = read_npz(path)
    assert read.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize(
    "data",
    [b"", b"PK", b"\x93NUMPY", b"not an archive at all", pickle.dumps({"weight": 1}), saved(weight=np.array([print]))],
    ids=["empty", "head of an archive", "head of an array", "text", "pickle", "pickle inside"],
)
def test_what_is_no_archive_of_arrays_is_a_typed_error(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(ModelError, match="holds no weights"):
        read_npz(path)


def test_a_lone_array_is_none(path: Path) -> None:
    file = io.BytesIO()
    np.save(file, ARRAYS["bias"])
    path.write_bytes(file.getvalue())
    with pytest.raises(ModelError, match="holds no weights"):
        read_npz(path)


def test_neither_is_a_folder_or_nothing(tmp_path: Path) -> None:
    for missing in (tmp_path, tmp_path / "none.npz"):
        with pytest.raises(ModelError, match="holds no weights"):
            read_npz(missing)


@pytest.mark.parametrize("byte", [b"\x01", b"\x20", b"\x08"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_claims_of_another_compression_or_a_password_end_in_nothing_else_either(
    path: Path, save: Any, byte: bytes
) -> None:
    save(path, **ARRAYS)
    whole = path.read_bytes()
    entry = whole.index(b"PK\x01\x02")  # of the directory: flags stand 8 bytes behind, the compression 10
    for at in (entry + 8, entry + 10):
        path.write_bytes(whole[:at] + byte + whole[at + 1 :])
        with contextlib.suppress(ModelError):
            read_npz(path)


@given(length=st.integers(0, len(WHOLE) - 1))
def test_cut_off_anywhere_it_is_a_typed_error(path: Path, length: int) -> None:
    path.write_bytes(WHOLE[:length])
    with pytest.raises(ModelError, match="holds no weights"):
        read_npz(path)


@given(position=st.integers(0, len(WHOLE) - 1), bits=st.integers(1, 255))
def test_a_damaged_byte_ends_in_nothing_but_a_typed_error(path: Path, position: int, bits: int) -> None:
    path.write_bytes(WHOLE[:position] + bytes([WHOLE[position] ^ bits]) + WHOLE[position + 1 :])
    with contextlib.suppress(ModelError):
        read_npz(path)
