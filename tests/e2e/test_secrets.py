"""Secrets and what people said are in no log, error, trace, process list or environment.

Keys, a TLS private key and a text are planted; a real server at its most talkative is used well and badly; then everything
that others than the callers can see is searched.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
import trustme

from lightmem_server.pb import admin_service_pb2 as admin
from lightmem_server.pb import memory_pb2
from lightmem_server.pb import memory_service_pb2 as pb
from tests.server_process import ServerProcess
from tests.wire import Answer, call

SAID = f"heron{secrets.token_hex(8)}"
"""A word of what was said, and of ids and names."""


@dataclass
class Used:
    """A server that was used, and what there is to see of it."""

    server: ServerProcess
    keys: dict[str, str]
    private_key: str
    answers: list[Answer] = field(default_factory=list)
    traces: list[bytes] = field(default_factory=list)

    def log(self) -> str:
        return "\n".join(json.dumps(entry, ensure_ascii=False) for entry in list(self.server.log))


def processes(root: int) -> Iterator[Path]:
    """A process and all below it, in /proc."""
    yield Path(f"/proc/{root}")
    for children in Path(f"/proc/{root}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from processes(int(child))


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory, models: None) -> Iterator[Used]:
    folder = tmp_path_factory.mktemp("secrets")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    flags = ["--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"), "--log-level", "debug"]
    with ServerProcess(folder / "data", *flags) as server:
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        with grpc.secure_channel(server.address, credentials) as channel:
            used = Used(server, {"admin": server.key}, issued.private_key_pem.bytes().decode())
            use(used, channel)
            yield used


def use(used: Used, channel: grpc.Channel) -> None:
    """Calls of all sorts, the refused ones too."""
    keys = used.keys
    made = call(channel, "CreateKey", admin.CreateKeyRequest(key=admin.ApiKey(user_ids=[SAID])), keys["admin"])
    assert isinstance(made.responses[0], admin.CreateKeyResponse)
    keys["agent"] = made.responses[0].secret
    rotation = admin.RotateKeyRequest(key_id=made.responses[0].key.key_id)
    rotated = call(channel, "RotateKey", rotation, keys["admin"])
    assert isinstance(rotated.responses[0], admin.RotateKeyResponse)
    keys["rotated"] = rotated.responses[0].secret
    keys["guess"] = f"lm_{rotation.key_id}_{secrets.token_urlsafe(32)}"
    scope = memory_pb2.Scope(user_id=SAID, session_id=SAID)
    turn = memory_pb2.Turn(text=f"I am Ana and {SAID} is the word.", speaker=SAID)
    write = pb.WriteRequest(scope=scope, turns=[turn], request_id=SAID)
    other = pb.WriteRequest(scope=scope, turns=[turn, turn], request_id=SAID)
    long = pb.WriteRequest(scope=scope, turns=[memory_pb2.Turn(text=SAID * 4000)])
    retrieve = pb.RetrieveRequest(scope=scope, query="Which word did Ana say?")
    good = keys["rotated"]
    for name, request, key in (
        ("Write", write, good),
        ("Write", other, good),
        ("Write", long, good),
        ("Write", write, keys["agent"]),
        ("Write", b"\xff" + SAID.encode(), good),
        ("Consolidate", admin.ConsolidateRequest(user_id=SAID), keys["admin"]),
        ("Consolidate", admin.ConsolidateRequest(user_id=SAID), good),
        ("GetMemory", pb.GetMemoryRequest(scope=scope, memory_id=SAID), good),
        ("ListMemories", pb.ListMemoriesRequest(scope=scope, page_token=SAID), good),
        ("ListMemories", pb.ListMemoriesRequest(scope=memory_pb2.Scope(user_id="bob")), good),
        ("Retrieve", pb.RetrieveRequest(scope=scope, query="x", tokenizer=SAID), good),
        ("Retrieve", pb.RetrieveRequest(scope=scope, query="x", time_zone=SAID), good),
        ("GetStats", admin.GetStatsRequest(), keys["guess"]),
        ("GetStats", admin.GetStatsRequest(), "lm_" + SAID),
    ):
        used.answers.append(call(channel, name, request, key))
    found = call(channel, "Retrieve", retrieve, good)
    assert SAID.encode() in found.everything, "what is searched for was there to be found"
    used.traces += [r.trace.SerializeToString() for r in found.responses if isinstance(r, pb.RetrieveResponse)]


def test_no_log_line_has_a_secret_or_what_was_said(used: Used) -> None:
    log = used.log()
    assert log.count('"event": "rpc"') > 10
    for name, key in used.keys.items():
        assert key.split("_", 2)[2] not in log, name
    assert SAID not in log
    assert used.private_key.splitlines()[1] not in log


def test_no_error_or_trace_has_a_secret_or_what_was_said(used: Used) -> None:
    refused = [answer for answer in used.answers if answer.status is not grpc.StatusCode.OK]
    assert len(refused) > 8
    for seen in [b"\n".join([answer.message.encode(), answer.details]) for answer in refused] + used.traces:
        assert not any(key.split("_", 2)[2].encode() in seen for key in used.keys.values())
        assert SAID.encode() not in seen


@pytest.mark.parametrize("what", ["cmdline", "environ"])
def test_no_process_shows_a_secret_or_what_was_said(used: Used, what: str) -> None:
    seen = [(process / what).read_bytes() for process in processes(used.server.process.pid)]
    assert seen
    assert seen[0]
    for data in seen:
        assert not any(key.split("_", 2)[2].encode() in data for key in used.keys.values())
        assert SAID.encode() not in data
        assert used.private_key.splitlines()[1].encode() not in data


def test_what_is_stored_of_a_key_is_its_hash(used: Used) -> None:
    for file in used.server.data_dir.rglob("*"):
        if file.is_file() and file.name != "admin.key":
            data = file.read_bytes()
            assert not any(key.split("_", 2)[2].encode() in data for key in used.keys.values()), file.name
