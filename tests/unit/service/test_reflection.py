from __future__ import annotations

import pytest

from lightmem_server.pb import memory_service_pb2
from lightmem_server.service.reflection import MethodPool

FILE = memory_service_pb2.DESCRIPTOR.name


@pytest.mark.parametrize(
    "symbol",
    [
        "lightmem.v1.MemoryService",
        "lightmem.v1.MemoryService.Write",
        "lightmem.v1.WriteRequest",
        "lightmem.v1.SelectorMode",
        "lightmem.v1.RetrievalTrace.Plan",
    ],
)
def test_file_of_a_symbol_is_found(symbol: str) -> None:
    assert MethodPool().FindFileContainingSymbol(symbol).name == FILE


@pytest.mark.parametrize("symbol", ["lightmem.v1.MemoryService.Nothing", "lightmem.v1.Nothing", "Nothing", ""])
def test_symbol_that_is_not_there_is_a_key_error(symbol: str) -> None:
    with pytest.raises(KeyError):
        MethodPool().FindFileContainingSymbol(symbol)


def test_everything_else_is_the_pools() -> None:
    assert MethodPool().FindFileByName(FILE) is memory_service_pb2.DESCRIPTOR
