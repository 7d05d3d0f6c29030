"""The composition root: builds a server out of its parts, starts it, and drains it.

The port is open at once and health says NOT_SERVING until the models are loaded and the store is open; until then every call
gets UNAVAILABLE. On SIGTERM or SIGINT health turns NOT_SERVING, new calls are refused, and those at work may end
within `drain_seconds`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from lightmem_server.config import Settings
from lightmem_server.core import HEAT_HALF_LIFE, UNBOUNDED, Engine, TierPolicy
from lightmem_server.errors import ConfigError, UnavailableError
from lightmem_server.pb import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    memory_service_pb2,
    memory_service_pb2_grpc,
)
from lightmem_server.pipeline.access import AccessRecorder
from lightmem_server.pipeline.archive import Archiving
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation.consolidate import StagedConsolidator
from lightmem_server.pipeline.consolidation.control import Consolidating
from lightmem_server.pipeline.consolidation.progress import ProgressBoard
from lightmem_server.pipeline.consolidation.proposals import PROMPT as FACTS_PROMPT
from lightmem_server.pipeline.consolidation.proposals import FactsPrompt
from lightmem_server.pipeline.consolidation.run import Consolidator
from lightmem_server.pipeline.consolidation.summaries import PROMPT as SUMMARY_PROMPT
from lightmem_server.pipeline.consolidation.triggers import Triggers
from lightmem_server.pipeline.consolidation.undo import Undoing
from lightmem_server.pipeline.consolidation.worker import Worker, WorkerPolicy
from lightmem_server.pipeline.edit import Editing
from lightmem_server.pipeline.erase import Erasing
from lightmem_server.pipeline.graphs import GraphBuilder
from lightmem_server.pipeline.passages import FORMAT, VIEW_NAMES
from lightmem_server.pipeline.residents import ROW_FORMAT, Residents
from lightmem_server.pipeline.retrieve import Retrieving
from lightmem_server.pipeline.snapshots import Snapshots
from lightmem_server.pipeline.transfer import Exporting, Importing
from lightmem_server.pipeline.upkeep import Upkeep
from lightmem_server.pipeline.write import Writing
from lightmem_server.service import reflection
from lightmem_server.service.admin import AdminServicer
from lightmem_server.service.admission import Admission
from lightmem_server.service.auth import Authenticator, ensure_admin_key
from lightmem_server.service.backend import Backend, ModelInfo
from lightmem_server.service.failures import FailureLimit
from lightmem_server.service.interceptors import BoundaryInterceptor
from lightmem_server.service.keys import Keys
from lightmem_server.service.memory import MemoryServicer
from lightmem_server.service.store_watch import watch
from lightmem_server.service.tls import TlsFiles
from lightmem_server.slm import time_window
from lightmem_server.slm.foreground import Foreground
from lightmem_server.slm.hypothetical import HypotheticalQueries
from lightmem_server.slm.prompt import load_prompt
from lightmem_server.slm.protocols import Embedder, Selector, TokenCounter, Writer
from lightmem_server.slm.tokens import load_token_counter
from lightmem_server.store.protocol import JobStore, Store
from lightmem_server.store.sqlite import SqliteStore

SERVICES = tuple(
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in ((memory_service_pb2, "MemoryService"), (admin_service_pb2, "AdminService"))
)

HANDSHAKE_SECONDS = 10
"""How long a connection may take to speak TLS and HTTP/2. Each holds a file descriptor: who opens many and says nothing would
keep others out for gRPC's two minutes."""

REFUSED_AT_ONCE = 256
"""Calls that one connection may have in beyond those which are admitted, for as long as it takes to refuse them."""

log = structlog.get_logger()


class Models(Protocol):
    """The loaded models of a server; slm.runtime gives the real ones, slm.fakes those of tests."""

    @property
    def embedder(self) -> Embedder:
        """Makes vectors."""

    @property
    def selector(self) -> Selector:
        """Judges candidates."""

    @property
    def gate(self) -> Selector:
        """Judges what consolidation proposes."""

    @property
    def writer(self) -> Writer | None:
        """Writes hypothetical queries; None: there is none."""

    @property
    def foreground(self) -> Foreground:
        """What its background work stands aside for."""

    async def close(self) -> None:
        """Release them."""


class LightMemServer:
    """One server process's parts and their life."""

    def __init__(
        self,
        settings: Settings,
        load_models: Callable[[Settings], Models],
        *,
        clock: Clock | None = None,
        make_consolidator: Callable[[Store, Models], Consolidator] | None = None,
        make_store: Callable[[Path], JobStore] = SqliteStore,
    ) -> None:
        """
        Args:
            load_models: Blocking; run in a thread. Raises ModelError.
            make_consolidator: Makes what consolidates; None: stage by stage, with the models.
            make_store: Makes the store, not opened, of a data folder.
        """
        self._settings = settings
        self._load_models = load_models
        self._clock = clock or Clock()
        self._make_consolidator = make_consolidator or self._staged
        self._make_store = make_store
        self._not_ready: UnavailableError | None = UnavailableError("the server is starting", reason="STARTING")
        self._backend: Backend | None = None
        self._health = health.aio.HealthServicer()
        self._resources = contextlib.AsyncExitStack()
        self._grpc: grpc.aio.Server | None = None
        self.admission = Admission.from_settings(settings)
        """Who is at work and who waits."""
        self.address = settings.listen
        """Where it listens; after start with the real port, when 0 was asked for."""

    async def start(self) -> None:
        """Open the port, load, and say SERVING.

        Raises:
            ConfigError: The address cannot be bound, or the store's vectors are another model's.
            ModelError, StoreError.
        """
        settings = self._settings
        boundary = BoundaryInterceptor(
            self._check_ready,
            lambda: self._ready().authenticator,
            self.admission,
            max_send_seconds=settings.max_send_seconds,
        )
        server = self._grpc = grpc.aio.server(
            interceptors=[boundary],
            options=[
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                (
                    "grpc.max_concurrent_streams",
                    _calls_per_connection(settings),
                ),  # bounds what a connection leaves unread
                ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a rival
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_time_ms", 30_000),  # finds clients that vanished
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
            ],
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        memory_service_pb2_grpc.add_MemoryServiceServicer_to_server(
            MemoryServicer(settings, self._ready, self.admission), server
        )
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(AdminServicer(self._ready), server)
        reflection.enable((*SERVICES, health.SERVICE_NAME), server)
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self.address = self._bind(server)
        await server.start()
        log.info("listening", address=self.address)
        self._backend = await self._build()
        # A full collection would walk all that was loaded, and hold every call up for 65 ms.
        gc.collect()
        gc.freeze()
        self._not_ready = None
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        log.info("serving", address=self.address, data_dir=str(settings.data_dir))

    async def stop(self) -> None:
        """Drain: refuse new calls, let those at work end within `drain_seconds`, release everything."""
        self._not_ready = UnavailableError("the server is draining", reason="DRAINING")
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        if self._backend is not None:
            self._backend.consolidating.drain()
        if self._grpc is not None:
            await self._grpc.stop(self._settings.drain_seconds)
        await self._resources.aclose()
        log.info("stopped")

    async def _build(self) -> Backend:
        settings, resources, clock = self._settings, self._resources, self._clock
        started = clock.monotonic()
        models = await asyncio.to_thread(self._load_models, settings)
        resources.push_async_callback(models.close)
        embedder, selector, writer = models.embedder, models.selector, models.writer
        log.info("models_loaded", seconds=round(clock.monotonic() - started, 2))
        tokenizers = await asyncio.to_thread(_load_tokenizers, settings, embedder.tokens)
        await asyncio.to_thread(time_window.warm_up)

        store = self._make_store(settings.data_dir)
        resources.push_async_callback(store.close)
        await store.open()
        await resources.enter_async_context(_running(watch(store, self._set_serving)))
        embedding = _embedding_of(embedder)
        await _check_embedding(store, embedding)
        await ensure_admin_key(store, settings.admin_key_file, clock.now)
        if settings.min_shared_users is not None:
            await store.require_support(settings.min_shared_users)

        engine = Engine(
            dim=embedder.dim,
            view_names=VIEW_NAMES,
            budget_bytes=settings.resident_bytes,
            stm_turns=settings.stm_turns,
            stm_tokens=settings.stm_tokens,
            language=settings.language,
            ann_rows=settings.ann_rows,
            rescore_vectors=settings.rescore_vectors,
        )
        for language in settings.languages.values():
            engine.check_language(language)
        threads = len(os.sched_getaffinity(0)) + 1  # the engine's calls, plus one that waits for a partition's lock
        executor = resources.enter_context(ThreadPoolExecutor(threads, thread_name_prefix="core"))
        graphs = GraphBuilder(engine)
        resources.callback(graphs.close)
        await resources.enter_async_context(_running(graphs.run()))
        identity = f"{embedding}/rows-{ROW_FORMAT}"
        snapshots = Snapshots(store, engine, executor, identity=identity)
        residents = Residents(
            store,
            engine,
            executor,
            embedding=embedding,
            languages=settings.languages,
            snapshots=snapshots,
            record_bytes=settings.record_bytes,
        )
        triggers = None if settings.consolidation == "off" else _triggers(settings)
        upkeep = Upkeep(Archiving(store, residents, _tier_policy(settings), clock, triggers), snapshots, clock)
        await resources.enter_async_context(_running(upkeep.run()))
        residents.listeners += [graphs.notice, upkeep.note]
        undoing = Undoing(store, residents, embedder, embedding=embedding)
        consolidating = self._consolidating(store, residents, models, undoing)
        await resources.enter_async_context(_running(consolidating.run()))
        access = AccessRecorder(store, residents, clock)
        resources.push_async_callback(access.flush)
        await resources.enter_async_context(_running(access.run()))
        authenticator = Authenticator(store, clock.now, FailureLimit(settings.max_auth_failures_per_minute))
        return Backend(
            store=store,
            engine=engine,
            authenticator=authenticator,
            keys=Keys(store, authenticator, clock.now),
            writing=Writing(store, residents, embedder, embedding=embedding, clock=clock, triggers=triggers),
            retrieving=Retrieving(
                store,
                residents,
                embedder,
                selector,
                hypothetical=None if writer is None else HypotheticalQueries(writer),
                tokenizers=tokenizers,
                clock=clock,
                has_shared=settings.min_shared_users is not None,
            ),
            editing=Editing(store, residents, embedder, embedding=embedding),
            consolidating=consolidating,
            erasing=Erasing(store, residents, clock, stop_work=consolidating.stop),
            exporting=Exporting(store, embedding=embedding, spool_dir=settings.data_dir),
            importing=Importing(
                store,
                residents,
                embedder,
                embedding=embedding,
                clock=clock,
                max_text_bytes=settings.max_text_bytes,
                triggers=triggers,
            ),
            access=access,
            clock=clock,
            models=[
                ModelInfo("embedder", embedder.name, embedding),
                ModelInfo("selector", selector.name, selector.identity),
                *([ModelInfo("writer", writer.name, writer.identity)] if writer is not None else []),
            ],
            foreground=models.foreground,
            server_version=version("lightmem-server"),
        )

    def _consolidating(self, store: JobStore, residents: Residents, models: Models, undoing: Undoing) -> Consolidating:
        settings, board, worker = self._settings, ProgressBoard(), None
        if settings.consolidation == "on":
            consolidator = self._make_consolidator(store, models)
            policy = WorkerPolicy(
                workers=settings.consolidation_workers,
                seconds_per_hour=settings.consolidation_seconds_per_hour,
                most_attempts=settings.consolidation_max_attempts,
            )
            worker = Worker(store, consolidator, board, self._clock, policy, commit=residents.commit)
        hours = settings.consolidation_schedule_hours
        return Consolidating(store, board, undoing, self._clock, worker=worker, schedule_hours=hours)

    def _staged(self, store: Store, models: Models) -> Consolidator:
        return StagedConsolidator(
            store,
            models.embedder,
            models.gate,
            models.writer,
            embedding=_embedding_of(models.embedder),
            clock=self._clock,
            facts_prompt=FactsPrompt.load(FACTS_PROMPT),
            summary_prompt=load_prompt(SUMMARY_PROMPT),
            foreground=models.foreground,
            zone=ZoneInfo(self._settings.time_zone),
            min_shared_users=self._settings.min_shared_users,
        )

    def _bind(self, server: grpc.aio.Server) -> str:
        settings = self._settings
        try:
            if settings.tls_cert is not None and settings.tls_key is not None:
                files = TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
                port = server.add_secure_port(settings.listen, files.credentials())
            else:
                port = server.add_insecure_port(settings.listen)
        except RuntimeError as error:
            raise ConfigError(f"cannot listen on {settings.listen}: is the port taken?") from error
        return f"{settings.listen.rpartition(':')[0]}:{port}"

    def _check_ready(self) -> None:
        if self._not_ready is not None:
            raise self._not_ready

    def _ready(self) -> Backend:
        if self._backend is None:
            raise UnavailableError("the server is starting", reason="STARTING")
        return self._backend

    async def _set_serving(self, is_serving: bool) -> None:
        """Health as the store has it; before the start and in the drain it is NOT_SERVING anyway."""
        if self._not_ready is None:
            statuses = health_pb2.HealthCheckResponse
            await self._set_health(statuses.SERVING if is_serving else statuses.NOT_SERVING)

    async def _set_health(self, status: int) -> None:
        for service in ("", *SERVICES):
            await self._health.set(service, status)


async def serve(
    settings: Settings,
    load_models: Callable[[Settings], Models],
    *,
    make_store: Callable[[Path], JobStore] = SqliteStore,
) -> None:
    """Run a server until SIGTERM or SIGINT, then drain. Raises what LightMemServer.start raises."""
    server = LightMemServer(settings, load_models, make_store=make_store)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    starting = asyncio.create_task(server.start())
    waiting = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting  # raises what it failed with
        await waiting
    finally:
        waiting.cancel()
        # A start that was interrupted while models load in a thread can't be cut short; it ends by itself in seconds.
        await asyncio.gather(starting, return_exceptions=True)
        await server.stop()


def _calls_per_connection(settings: Settings) -> int:
    """More than are ever let in: what HTTP/2 does not let in waits in the client, and nobody tells it why or until when."""
    return settings.max_streams_per_key + settings.max_inflight_requests + REFUSED_AT_ONCE


def _embedding_of(embedder: Embedder) -> str:
    """What vectors are stored under: what makes them, and of what."""
    return f"{embedder.identity}/passages-{FORMAT}"


async def _check_embedding(store: Store, embedding: str) -> None:
    """Refuse to mix vectors of different models, which don't compare."""
    others = {name: count for name, count in (await store.embedding_models()).items() if name != embedding}
    if others:
        stored = ", ".join(f"{count} by {name}" for name, count in others.items())
        raise ConfigError(
            f"the data folder holds vectors of another embedder ({stored}; now {embedding}): "
            "start with the `embedder` that made them, or with another data_dir"
        )


def _load_tokenizers(settings: Settings, builtin: TokenCounter) -> dict[str, TokenCounter]:
    named = {name: load_token_counter(path) for name, path in settings.tokenizers.items()}
    return {**named, "": builtin, "builtin": builtin}


def _tier_policy(settings: Settings) -> TierPolicy:
    """Only turns and summaries are bounded so far; nothing is promoted or summarised by it yet."""
    return TierPolicy(
        half_life=HEAT_HALF_LIFE,
        capacity=[UNBOUNDED, UNBOUNDED, settings.mtm_capacity, UNBOUNDED],
        promote_heat=0.0,
        summarise_turns=1,
        stm_turns=settings.stm_turns,
        stm_tokens=settings.stm_tokens,
    )


def _triggers(settings: Settings) -> Triggers:
    return Triggers(settings.consolidation_idle_seconds, settings.stm_turns, settings.stm_tokens)


@contextlib.asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
