"""Calls of both services by name over a real channel: whatever comes back, an error too, can be compared and searched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from lightmem_server.pb import admin_service_pb2, memory_service_pb2

METHODS: dict[str, MethodDescriptor] = {
    method.name: method
    for file, service in ((memory_service_pb2, "MemoryService"), (admin_service_pb2, "AdminService"))
    for method in file.DESCRIPTOR.services_by_name[service].methods
}
"""Every RPC, by its name."""

CALL_SECONDS = 20
"""A guard against hanging, not a measurement."""


@dataclass(frozen=True)
class Answer:
    """What came of a call.

    Attributes:
        status: The canonical status.
        message: The text of an error.
        details: The serialized google.rpc.Status of an error.
        responses: The messages that came, before an error too.
    """

    status: grpc.StatusCode
    message: str
    details: bytes
    responses: Sequence[Message]

    @property
    def reason(self) -> str:
        """ErrorInfo.reason; "" without one."""
        info = error_details_pb2.ErrorInfo()
        return next((info.reason for detail in self._details() if detail.Unpack(info)), "")

    @property
    def retry_seconds(self) -> float | None:
        """RetryInfo.retry_delay; None without one."""
        retry = error_details_pb2.RetryInfo()
        found = (retry.retry_delay.ToMilliseconds() / 1000 for detail in self._details() if detail.Unpack(retry))
        return next(found, None)

    @property
    def refusal(self) -> tuple[grpc.StatusCode, str, bytes]:
        """All that an error tells, to be compared."""
        return self.status, self.message, self.details

    @property
    def everything(self) -> bytes:
        """All bytes that reached the caller, to be searched."""
        return b"\n".join(
            [self.message.encode(), self.details, *(response.SerializeToString() for response in self.responses)]
        )

    def _details(self) -> Iterable[object]:
        return status_pb2.Status.FromString(self.details).details


def call(
    channel: grpc.Channel,
    name: str,
    requests: Message | bytes | Iterable[Message | bytes],
    key: str,
    *,
    timeout: float = CALL_SECONDS,
) -> Answer:
    """Call an RPC; a stream of requests where it takes one."""
    method = METHODS[name]
    path = f"/{method.containing_service.full_name}/{name}"
    response_class = GetMessageClass(method.output_type)
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    options = {"timeout": timeout, "metadata": metadata}
    single = isinstance(requests, bytes | Message)
    stream = iter(_bytes(one) for one in ([requests] if single else requests))  # type: ignore[list-item,union-attr]
    argument = stream if method.client_streaming else next(stream)
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    responses: list[Message] = []
    try:
        answer = getattr(channel, kind)(path, None, response_class.FromString)(argument, **options)
        if method.server_streaming:
            responses.extend(answer)
        else:
            responses.append(answer)
    except grpc.RpcError as error:
        trailing = dict(error.trailing_metadata() or ())
        details = trailing.get("grpc-status-details-bin", b"")
        return Answer(error.code(), error.details() or "", details, responses)
    return Answer(grpc.StatusCode.OK, "", b"", responses)


def _bytes(request: Message | bytes) -> bytes:
    return request if isinstance(request, bytes) else bytes(request.SerializeToString())
