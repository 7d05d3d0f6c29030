from __future__ import annotations

import grpc
import pytest
from clients.python.tests.peer import Failure, details

import lightmem_client
from lightmem_client import errors
from lightmem_client._status import CLASS_OF_STATUS, decode


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
def test_every_status_has_its_error(code: grpc.StatusCode) -> None:
    error = decode(code, "message", ())
    assert error.status is code
    assert type(error) is CLASS_OF_STATUS.get(code, errors.InternalError)


def test_details_are_decoded() -> None:
    failure = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_after_seconds=0.25, field="turns[0].text")
    error = decode(failure.code, "full", [("grpc-status-details-bin", details(failure))])
    assert isinstance(error, lightmem_client.OverloadedError)
    assert (error.reason, error.field, error.retry_after_seconds) == ("OVERLOADED", "turns[0].text", 0.25)
    assert str(error) == error.message == "full"


@pytest.mark.parametrize("value", [b"\xff\xff", "text", b""], ids=repr)
def test_details_that_do_not_parse_are_left_out(value: bytes | str) -> None:
    error = decode(grpc.StatusCode.NOT_FOUND, "gone", [("grpc-status-details-bin", value)])
    assert isinstance(error, lightmem_client.NotFoundError)
    assert (error.reason, error.field) == ("", None)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    for name in dir(errors):
        if name.endswith("Error"):
            assert name in errors.__doc__
