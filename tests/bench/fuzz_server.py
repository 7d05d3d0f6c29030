"""Random requests to every RPC of both services, and random bytes to the port, of a real server process.

    python -m tests.bench.fuzz_server --minutes 20
    python -m tests.bench.fuzz_server --seconds 10         what the tests run

Hypothesis makes the requests from the API's own descriptors: fields at and beyond their bounds, unknown enum numbers, deep
filters, ids that exist, bodies with bytes exchanged. What is wrong: a status UNKNOWN or INTERNAL, an error without a
reason, a refusal without a RetryInfo, an answer that doesn't come, a server that ended or left health, memory beyond
GROWTH_MIB more than after the first tenth; a bystander's acknowledged words that aren't there at the end, or a store that
isn't sound. A failing request is shrunk and printed.

Writes target/bench/fuzz_server.json. Ends with 1 when something is wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lightmem_client import Client, MemoryFilter
from lightmem_client.errors import LightMemError

from lightmem_server.cli.process import clean_environment, running_server
from lightmem_server.config import load
from lightmem_server.pb import admin_service_pb2 as admin
from lightmem_server.pb import memory_pb2
from lightmem_server.pb import memory_service_pb2 as memory
from tests.bench import report
from tests.bench.fault_check import check_database
from tests.bench.fault_table import Result, Row
from tests.bench.fuzz_requests import PLACEHOLDER, KeyKind, Request, requests, requests_to
from tests.bench.options import ROOT
from tests.bench.telling import Telling
from tests.wire import METHODS, Answer, call

RESULT_FILE = ROOT / "target" / "bench" / "fuzz_server.json"
GROWTH_MIB = 256
"""The users' partitions may take 64 MiB (the setting of this run); allocators and the database's cache the rest."""

FLAGS = (
    *("--resident-bytes", str(64 << 20), "--mtm-capacity", "1000"),
    *("--consolidation-idle-seconds", "2", "--max-auth-failures-per-minute", "600"),
)
EXAMPLES_PER_METHOD = 3
"""To each method, before the rounds."""

COURSE_POINTS = 20
"""How often memory is noted over the whole time: what grows without end grows at the end too."""

EXAMPLES_PER_ROUND = 100
RAW_PER_ROUND = 10
ANSWER_SECONDS = 60
MOST_BACKUPS = 5
"""Each is a copy of the database."""

ENDLESS = frozenset({"Consolidate"})
"""May rightly be at work when the client's deadline passes."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STARTS = (
    b"",
    PREFACE,
    PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00",
)


@dataclass
class Fuzz:
    """A server under fuzzing, and what came of it."""

    target: str
    process_id: int
    channel: grpc.Channel
    keys: dict[KeyKind, str]
    statuses: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    raw_count: int = 0
    bystander: str = field(default_factory=lambda: f"bystander-{secrets.token_hex(8)}")
    """A user whom no random request can name."""
    told: dict[str, str] = field(default_factory=dict)
    """What was acknowledged to the bystander: texts by id."""

    def rss_mib(self) -> float:
        """Resident memory of the server."""
        pages = int(Path(f"/proc/{self.process_id}/statm").read_text().split()[1])
        return pages * 4096 / (1 << 20)

    def send(self, request: Request) -> None:
        """One call; AssertionError says what is wrong with its answer."""
        if request.method == "Backup" and self.calls["Backup"] >= MOST_BACKUPS:
            return
        bodies = [body.replace(PLACEHOLDER, self._any_id()) for body in request.bodies]
        if not METHODS[request.method].client_streaming:
            bodies = bodies[:1]
        answer = call(self.channel, request.method, bodies, self.keys[request.key], timeout=ANSWER_SECONDS)
        self.calls[request.method] += 1
        self.statuses[answer.status.name] += 1
        for response in answer.responses:
            if isinstance(response, memory.WriteResponse):
                self.ids = [*response.memory_ids, *self.ids][:20]
        check(request.method, answer)

    def send_raw(self, drawn: random.Random) -> None:
        """Bytes to the port, and the connection dropped, or left to the server for a moment."""
        host, _, port = self.target.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.settimeout(0.05)
            try:
                connection.sendall(drawn.choice(STARTS) + drawn.randbytes(drawn.choice((0, 9, 100, 5000))))
                if drawn.random() < 0.5:
                    connection.shutdown(socket.SHUT_WR)
                connection.recv(4096)
            except OSError:
                pass  # the server may close it, or say nothing: both are fine
        self.raw_count += 1

    def tell_bystander(self) -> None:
        """Say something that must be there at the end."""
        text = f"I am a bystander, and this is my word number {len(self.told)}."
        with self._client() as client:
            self.told[client.write(text, request_id=secrets.token_hex(8)).memory_ids[0]] = text

    def read_bystander(self) -> dict[str, str]:
        """What is stored of it: texts by id."""
        with self._client() as client:
            found = client.list(filter=MemoryFilter(include_archived=True))
            return {memory.id: memory.text for memory in found}

    def _client(self) -> Client:
        return Client(
            self.target, api_key=self.keys["operator"], user_id=self.bystander, timeout_seconds=ANSWER_SECONDS
        )

    def check_alive(self) -> None:
        """AssertionError when the server isn't SERVING."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        health = stub.Check(health_pb2.HealthCheckRequest(), timeout=ANSWER_SECONDS)
        assert health.status == health_pb2.HealthCheckResponse.SERVING

    def _any_id(self) -> bytes:
        return (self.ids[0] if self.ids else "0" * 36).encode()


def check(method: str, answer: Answer) -> None:
    """AssertionError where an answer isn't a documented one."""
    shown = (method, answer.status.name, answer.message)
    assert answer.status not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), shown
    if answer.status is grpc.StatusCode.DEADLINE_EXCEEDED:
        assert method in ENDLESS, shown
    elif answer.status is not grpc.StatusCode.OK and answer.details:
        assert answer.reason, shown
        if answer.status is grpc.StatusCode.RESOURCE_EXHAUSTED:
            assert answer.retry_seconds is not None, shown
    elif answer.status is not grpc.StatusCode.OK:
        assert "larger than max" in answer.message or "metadata" in answer.message, (
            shown
        )  # the transport's own refusals


def play(one: Fuzz, drawn: st.SearchStrategy[Request], count: int) -> None:
    """So many requests, as drawn. Raises AssertionError at the first wrong answer, shrunk."""

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn)
    def calls(request: Request) -> None:
        one.send(request)

    calls()


def fuzz(one: Fuzz, seconds: float, seed: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Fuzz for so long; the figures. Raises AssertionError at the first wrong answer, shrunk."""
    drawn = random.Random(seed)
    began, first_rss, peak = time.monotonic(), None, 0.0
    course: list[float] = []

    # Draws among all methods may leave one out for minutes: Hypothesis repeats what it has drawn.
    for name in sorted(METHODS):
        play(one, requests_to([name]), EXAMPLES_PER_METHOD)
    while time.monotonic() - began < seconds:
        play(one, requests, EXAMPLES_PER_ROUND)
        for _ in range(RAW_PER_ROUND):
            one.send_raw(drawn)
        one.tell_bystander()
        one.check_alive()
        tell(f"{sum(one.calls.values()):,} requests, {one.raw_count} raw connections, {time.monotonic() - began:.0f} s")
        rss = one.rss_mib()
        peak = max(peak, rss)
        if time.monotonic() - began >= len(course) * seconds / COURSE_POINTS:
            course.append(round(rss, 1))
        if first_rss is None and time.monotonic() - began >= seconds / 10:
            first_rss = rss
    growth = peak - (first_rss if first_rss is not None else peak)
    assert growth <= GROWTH_MIB, f"memory grew by {growth:.0f} MiB"
    missing = METHODS.keys() - one.calls.keys()
    assert not missing, f"never called: {missing}"
    return {
        "seconds": round(time.monotonic() - began, 1),
        "calls": dict(sorted(one.calls.items())),
        "statuses": dict(one.statuses),
        "raw_connections": one.raw_count,
        "rss_mib": {"after_a_tenth": round(first_rss or peak, 1), "most": round(peak, 1), "growth": round(growth, 1)},
        "rss_mib_course": course,
    }


def run(seconds: float, seed: int, folder: Path, tell: Callable[[str], None], result: Result) -> None:
    """Fuzz a server of its own.

    Args:
        folder: Where its data may lie.
        tell: Called with how far it is.
        result: Gets a row and the figures.
    """
    row = Row("random requests and bytes")
    result.rows.append(row)
    data_dir = folder / "data"
    flags = (*FLAGS, "--models-dir", str(load().models_dir))
    with (
        running_server(data_dir, flags=flags, environment=clean_environment()) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        one = Fuzz(server.target, server.process_id, channel, _make_keys(channel, server.key))
        try:
            result.figures |= {"fuzz": fuzz(one, seconds, seed, tell)}
            row.compare(one.told, one.read_bystander())
        except (AssertionError, grpc.RpcError, LightMemError, OSError) as error:
            row.wrong.append("\n".join([f"fuzzing: {error}", *getattr(error, "__notes__", [])]))
        row.injected = sum(one.calls.values()) + one.raw_count
        row.acknowledged = len(one.told)
    row.corrupted += check_database(data_dir)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, help="instead of --minutes")
    parser.add_argument("--seed", type=int, default=0, help="of the bytes to the port; requests are always new ones")
    options = parser.parse_args(arguments)
    seconds = options.minutes * 60 if options.seconds is None else options.seconds
    telling, found = Telling(), Result()
    telling.begin("fuzzing")
    with tempfile.TemporaryDirectory(prefix="lightmem-fuzz-") as folder:
        run(seconds, options.seed, Path(folder), telling.step, found)
    (row,) = found.rows
    telling.end(f"{row.counts()}")
    problems = [*row.lost, *row.corrupted, *row.wrong]
    result = {
        "machine": report.machine(),
        "commit": report.commit(ROOT),
        "settings": {"seconds": seconds, "seed": options.seed},
        "figures": {**found.figures.get("fuzz", {}), "bystander": row.counts()},
        "targets": {"wrong_answers": {"value": len(problems), "bar": 0, "ok": not problems}},
    }
    RESULT_FILE.parent.mkdir(parents=True, exist_ok=True)
    RESULT_FILE.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result["figures"], indent=2))
    for problem in problems:
        print(f"WRONG: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _make_keys(channel: grpc.Channel, operator: str) -> dict[KeyKind, str]:
    made = call(channel, "CreateKey", admin.CreateKeyRequest(key=admin.ApiKey(user_ids=["ana"])), operator)
    assert isinstance(made.responses[0], admin.CreateKeyResponse)
    turn = memory_pb2.Turn(text="I live in Porto.")
    scope = memory_pb2.Scope(user_id="ana", session_id="s")
    call(channel, "Write", memory.WriteRequest(scope=scope, turns=[turn]), operator)
    return {"operator": operator, "agent": made.responses[0].secret, "bad": "lm_guess_guess", "none": ""}


if __name__ == "__main__":
    sys.exit(main())
