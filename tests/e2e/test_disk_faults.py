"""Real faults of the disk under a real server: a clear status, no ack, health that tells, no corruption, and recovery.

The models are the fakes (tests/fault_server.py): nothing here is theirs, but for the last test, which needs none to load.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lightmem_client import Client, Kind, MemoryFilter, RetryPolicy, SelectorMode
from lightmem_client.errors import NotFoundError, UnavailableError

from lightmem_server.errors import StoreError
from lightmem_server.store.restore import restore
from lightmem_server.store.sqlite import DATABASE_NAME, SqliteStore
from tests.bench.fault_check import find_text
from tests.fault_record import Injected
from tests.server_process import ENDED_SECONDS, ROOT, ServerProcess
from tests.unit.store.test_databases import FIXTURES, assert_as_written, make_database

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
TEXT = "I moved to Porto in May. " + "word " * 400
WORD = "x" * 4000
"""Takes room, and an embedder no time."""

WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
"""Root that permissions bind, as everyone else; those who aren't root need nothing."""


def make_server(data_dir: Path, *arguments: str, **options: Any) -> ServerProcess:
    return ServerProcess(data_dir, *arguments, module="tests.fault_server", **options)


def connect(server: ServerProcess) -> Client:
    return Client(server.address, api_key=server.key, user_id="ann", retry=RetryPolicy(max_attempts=1))


def wait_for_health(server: ServerProcess, status: int) -> None:
    """Follows health until it is so; each change is told."""
    with grpc.insecure_channel(server.address) as channel:
        request = health_pb2.HealthCheckRequest(service="lightmem.v1.MemoryService")
        watch = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=ENDED_SECONDS)
        for response in watch:
            if response.status == status:
                watch.cancel()
                return
    raise AssertionError("health ended")


def write_until_refused(client: Client) -> tuple[dict[str, str], UnavailableError]:
    """What was acknowledged, by id, and what came instead of the first ack that didn't."""
    acknowledged: dict[str, str] = {}
    for number in range(100_000):
        text = f"{number} {TEXT}"
        try:
            acknowledged[client.write(text).memory_ids[0]] = text
        except UnavailableError as error:
            return acknowledged, error
    raise AssertionError("it was never full")


def texts_of(client: Client) -> dict[str, str]:
    """What is stored, by id."""
    return {memory.id: memory.text for memory in client.list()}


def assert_recovered(server: ServerProcess, client: Client, acknowledged: dict[str, str], fault: Injected) -> None:
    """Health says so, everything acknowledged and nothing else is there, and writes are durable again."""
    wait_for_health(server, SERVING)
    fault.check_all(acknowledged, texts_of(client))
    text = f"after {TEXT}"
    acknowledged[client.write(text).memory_ids[0]] = text
    server.kill()
    fault.check_sound(server.data_dir)
    with make_server(server.data_dir) as again, connect(again) as client_again:
        fault.check_all(acknowledged, texts_of(client_again))


def doctor(data_dir: Path, *prefix: str) -> dict[str, tuple[str, str, str]]:
    """What `lightmem doctor` finds, where no models are: check to level, message and advice."""
    command = [*prefix, sys.executable, "-m", "lightmem_server", "doctor", "--json", "--listen", "127.0.0.1:0"]
    places = ["--data-dir", str(data_dir), "--models-dir", str(data_dir / "models")]
    run = subprocess.run([*command, *places], cwd=ROOT, capture_output=True, text=True, check=False)
    return {each["check"]: (each["level"], each["message"], each["advice"]) for each in json.loads(run.stdout)}


# A full disk


class LimitedFiles:
    """A limit on the size of the server's files, which the kernel enforces as it does a full disk."""

    def __init__(self, server: ServerProcess) -> None:
        self._process_id = server.process.pid
        self._log = server.data_dir / f"{DATABASE_NAME}-wal"

    def fill(self) -> None:
        self._set(self._log.stat().st_size + 100_000)

    def make_room(self) -> None:
        self._set(resource.RLIM_INFINITY)

    def _set(self, size_bytes: int) -> None:
        resource.prlimit(self._process_id, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))


class SmallDisk:
    """A file system of 64 MB, filled by a file that isn't the server's."""

    def __init__(self, server: ServerProcess) -> None:
        self._ballast = server.data_dir / "ballast"

    def fill(self) -> None:
        fill_up(self._ballast)

    def make_room(self) -> None:
        self._ballast.unlink()


def fill_up(path: Path) -> None:
    """Make a file that takes all room of its disk."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 10))


@pytest.fixture(params=["limit on files", "file system of 64 MB"])
def full_disk(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Callable[[ServerProcess], Any]]:
    """A data folder, and what fills its disk up."""
    if request.param == "limit on files":
        return tmp_path / "data", LimitedFiles
    folder: Path = request.getfixturevalue("small_disk")
    return folder, SmallDisk


def test_a_full_disk_refuses_writes_until_there_is_room(
    full_disk: tuple[Path, Callable[[ServerProcess], Any]], inject: Callable[[str], Injected]
) -> None:
    data_dir, make_disk = full_disk
    fault = inject("full disk")
    with make_server(data_dir) as server, connect(server) as client:
        kept = client.write(TEXT).memory_ids[0]
        disk = make_disk(server)
        disk.fill()
        acknowledged, error = write_until_refused(client)
        acknowledged[kept] = TEXT
        assert error.reason == "STORE_FAILED"
        assert "disk" in error.message
        wait_for_health(server, NOT_SERVING)
        assert client.get(kept).text == TEXT, "reads go on"
        assert kept in [hit.memory.id for hit in client.retrieve("Porto", max_memories=100).memories]
        disk.make_room()
        assert_recovered(server, client, acknowledged, fault)


def test_a_backup_without_room_leaves_nothing_and_stops_nobody(
    small_disk: Path, inject: Callable[[str], Injected]
) -> None:
    fault = inject("full disk in a backup")
    texts = [f"{number} {TEXT}" for number in range(100)]
    with make_server(small_disk) as server, connect(server) as client:
        kept = dict(zip(client.write(texts).memory_ids, texts, strict=True))
        disk = SmallDisk(server)
        disk.fill()
        with pytest.raises(UnavailableError) as caught:
            list(client.backup("a.db"))
        assert caught.value.reason == "STORE_FAILED"
        assert list((small_disk / "backups").iterdir()) == []
        assert doctor(small_disk)["data folder"] == (
            "fail",
            f"{small_disk} cannot be written: {os.strerror(errno.ENOSPC)}",
            "make room: until then writes are refused",
        )
        disk.make_room()
        wait_for_health(server, SERVING)
        assert list(client.backup("a.db"))[-1].stage == "done"
        fault.check_all(kept, texts_of(client))


def test_consolidation_on_a_full_disk_is_done_once_there_is_room(
    small_disk: Path, inject: Callable[[str], Injected]
) -> None:
    fault = inject("full disk in a consolidation")
    facts = MemoryFilter(kinds=[Kind.FACT])
    texts = ["I moved to Porto in May.", "My sister is called Rita."]
    with make_server(small_disk) as server, connect(server) as client:
        said = dict(zip(client.write(texts, session_id="s").memory_ids, texts, strict=True))
        disk = SmallDisk(server)
        disk.fill()
        acknowledged, _ = write_until_refused(client)
        with pytest.raises(UnavailableError) as caught:
            list(client.consolidate(timeout_seconds=ENDED_SECONDS))
        assert caught.value.reason in ("STORE_FAILED", "RUN_FAILED")
        wait_for_health(server, NOT_SERVING)
        disk.make_room()
        wait_for_health(server, SERVING)
        assert list(client.consolidate(timeout_seconds=ENDED_SECONDS))[-1].stage == "done"
        made = list(client.list(filter=facts))
        assert "User lives in Porto" in [fact.text for fact in made]
        turns = {memory.id: memory.text for memory in client.list(filter=MemoryFilter(kinds=[Kind.TURN]))}
        fault.check_all(said | acknowledged, turns)  # nothing that a model made replaced what was said
        server.kill()
        fault.check_sound(small_disk)


def test_an_export_on_a_full_disk_says_so(small_disk: Path, inject: Callable[[str], Injected]) -> None:
    """What waits for its reader stands on the same disk."""
    fault = inject("full disk in an export")
    with make_server(small_disk) as server, connect(server) as client:
        texts = [f"{number} {TEXT}" for number in range(100)]
        kept = dict(zip(client.write(texts).memory_ids, texts, strict=True))
        disk = SmallDisk(server)
        disk.fill()
        with pytest.raises(UnavailableError) as caught:
            list(client.export_user("ann"))
        assert caught.value.reason == "STORE_FAILED"
        disk.make_room()
        assert sum(len(part.lines) for part in client.export_user("ann")) > len(kept)
        fault.check_all(kept, texts_of(client))


def test_an_import_on_a_full_disk_is_finished_once_there_is_room(
    small_disk: Path, inject: Callable[[str], Injected]
) -> None:
    fault = inject("full disk in an import")
    with make_server(small_disk) as server, connect(server) as client:
        texts = [f"{number} {WORD}" for number in range(800)]
        for start in range(0, len(texts), 100):
            client.write(texts[start : start + 100])
        lines = [line for part in client.export_user("ann") for line in part.lines]
        disk = SmallDisk(server)
        disk.fill()
        with pytest.raises(UnavailableError) as caught:
            client.import_user("bob", lines)
        assert caught.value.reason == "STORE_FAILED"
        disk.make_room()
        wait_for_health(server, SERVING)
        client.import_user("bob", lines)
        stored = {memory.id: memory.text for memory in client.list(user_id="bob")}
        fault.check_all(texts_of(client), stored)
        assert sorted(stored.values()) == sorted(texts)
        server.kill()
        fault.check_sound(small_disk)


def test_an_erasure_on_a_full_disk_gives_no_receipt_before_it_is_done(
    small_disk: Path, inject: Callable[[str], Injected]
) -> None:
    fault = inject("full disk in an erasure")
    secret = "Zanzibar4711"
    with make_server(small_disk) as server, connect(server) as client:
        kept = {client.write(TEXT).memory_ids[0]: TEXT}
        for number in range(8):
            client.write([f"{secret} {number} {place} {WORD}" for place in range(100)], user_id="bob")
        disk = SmallDisk(server)
        disk.fill()
        with contextlib.suppress(UnavailableError):
            client.erase_user("bob")
            assert find_text(small_disk, [secret]) == [], "it gave a receipt"
        disk.make_room()
        wait_for_health(server, SERVING)
        client.erase_user("bob")
        fault.row.lost += find_text(small_disk, [secret])
        assert fault.row.lost == []
        assert list(client.list(user_id="bob")) == []
        fault.check_all(kept, texts_of(client))
        server.kill()
        fault.check_sound(small_disk)


async def test_a_migration_on_a_full_disk_leaves_the_database_as_it_was(
    small_disk: Path, inject: Callable[[str], Injected]
) -> None:
    inject("full disk in a migration")
    path = small_disk / DATABASE_NAME
    make_database(FIXTURES[0], path)
    before = path.read_bytes()
    ballast = small_disk / "ballast"
    fill_up(ballast)
    store = SqliteStore(small_disk)
    with pytest.raises(StoreError, match="disk"):
        await store.open()
    assert path.read_bytes() == before
    ballast.unlink()
    await store.open()
    await assert_as_written(store)
    await store.close()


# Rights


@pytest.fixture
def as_anyone() -> tuple[str, ...]:
    """What to put before a command for permissions to bind it."""
    if os.geteuid() != 0:
        return ()
    if subprocess.run([*WITHOUT_RIGHTS, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("root's rights cannot be dropped here, so permissions bind nobody")
    return WITHOUT_RIGHTS


@pytest.fixture
def filled(template: tuple[Path, dict[str, str]], tmp_path: Path) -> Path:
    """A data folder with memories of ann, closed."""
    return Path(shutil.copytree(template[0], tmp_path / "data"))


@pytest.fixture
def told(template: tuple[Path, dict[str, str]]) -> dict[str, str]:
    """What was acknowledged of `filled`: texts by id."""
    return template[1]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    data_dir = tmp_path_factory.mktemp("filled") / "data"
    told: dict[str, str] = {}
    with make_server(data_dir) as server, connect(server) as client:
        for number in range(20):
            texts = [f"{number} {place} {TEXT}" for place in range(10)]
            told |= zip(client.write(texts, session_id=f"s{number}").memory_ids, texts, strict=True)
        server.stop()
    return data_dir, told


@pytest.mark.parametrize(
    ("change", "message", "check"),
    [
        (lambda folder: folder.chmod(0o500), "Permission denied|cannot be opened|read-only", "data folder"),
        (lambda folder: (folder / DATABASE_NAME).chmod(0o400), "read-only", "database"),
        (lambda folder: (folder / DATABASE_NAME).chmod(0o000), "cannot be opened", "database"),
    ],
    ids=["folder read-only", "database read-only", "database not readable"],
)
def test_a_start_without_the_right_to_write_says_so(
    filled: Path,
    as_anyone: tuple[str, ...],
    change: Callable[[Path], None],
    message: str,
    check: str,
    inject: Callable[[str], Injected],
    told: dict[str, str],
) -> None:
    fault = inject("start without rights")
    before = (filled / DATABASE_NAME).read_bytes()
    change(filled)
    try:
        with pytest.raises(RuntimeError, match=message) as caught, make_server(filled, prefix=as_anyone):
            pass
        assert str(filled) in str(caught.value)
        before_doctor = sorted(filled.iterdir())
        level, _, advice = doctor(filled, *as_anyone)[check]
        assert (level, "right" in advice) == ("fail", True)
        assert sorted(filled.iterdir()) == before_doctor, "it changes nothing"
    finally:
        filled.chmod(0o700)
        (filled / DATABASE_NAME).chmod(0o600)
    assert (filled / DATABASE_NAME).read_bytes() == before
    with make_server(filled, prefix=as_anyone) as server, connect(server) as client:
        fault.check_all(told, texts_of(client))
        assert server.process.poll() is None


def test_rights_lost_while_it_runs_lose_nothing(
    filled: Path, as_anyone: tuple[str, ...], inject: Callable[[str], Injected], told: dict[str, str]
) -> None:
    """The files are open: what is acknowledged is durable still. What needs a new file says that it can't."""
    fault = inject("rights lost while it runs")
    with make_server(filled, prefix=as_anyone) as server, connect(server) as client:
        filled.chmod(0o500)
        try:
            memory_id = client.write(TEXT).memory_ids[0]
            with pytest.raises(UnavailableError, match="Permission denied"):
                list(client.backup())
        finally:
            filled.chmod(0o700)
        server.kill()
    with make_server(filled) as server, connect(server) as client:
        fault.check_all(told | {memory_id: TEXT}, texts_of(client))


# Damage


def spoil(path: Path, begin: float, end: float) -> None:
    """Overwrite pages from one share of the file to another, but never the first, as a failing disk does."""
    content = bytearray(path.read_bytes())
    pages = len(content) // 4096
    first, last = max(1, int(pages * begin)) * 4096, int(pages * end) * 4096
    content[first:last] = b"\xaa" * (last - first)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, path.stat().st_size // 2),
        lambda path: spoil(path, 0, 1),
        lambda path: path.write_bytes(b"not a database" * 1000),
    ],
    ids=["truncated", "spoilt", "replaced"],
)
def test_a_start_on_a_damaged_database_is_refused(
    filled: Path, damage: Callable[[Path], None], inject: Callable[[str], Injected], told: dict[str, str]
) -> None:
    """And a copy from before brings everything back: nothing was written over what can be saved."""
    fault = inject("start on a damaged database")
    path = filled / DATABASE_NAME
    whole = path.read_bytes()
    damage(path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match=r"damaged|not a SQLite database"), make_server(filled):
        pass
    level, _, advice = doctor(filled)["database"]
    assert (level, "restore" in advice) == ("fail", True)
    assert path.read_bytes() == before
    path.write_bytes(whole)
    with make_server(filled) as server, connect(server) as client:
        fault.check_all(told, texts_of(client))


def test_flipped_pages_are_not_served_and_a_backup_brings_everything_back(
    filled: Path, tmp_path: Path, inject: Callable[[str], Injected], told: dict[str, str]
) -> None:
    fault = inject("spoilt pages met while it runs")
    with make_server(filled) as server, connect(server) as client:
        backup = Path(list(client.backup("good.db"))[-1].path)
        server.stop()
    spoil(filled / DATABASE_NAME, 0.3, 0.7)
    with make_server(filled) as server, connect(server) as client:
        with pytest.raises(UnavailableError) as caught:
            list(client.list())
        assert caught.value.reason == "STORE_FAILED"
        assert "damaged" in caught.value.message
        wait_for_health(server, NOT_SERVING)
        with pytest.raises(UnavailableError, match="damaged"):
            list(client.backup("bad.db"))
        assert doctor(filled)["database"][0] == "fail"
        server.stop()
    restore(backup, tmp_path / "restored", lambda moment: None)
    (tmp_path / "restored" / "admin.key").write_bytes((filled / "admin.key").read_bytes())
    with make_server(tmp_path / "restored") as server, connect(server) as client:
        fault.check_all(told, texts_of(client))


def test_a_corrupt_snapshot_is_rebuilt_from_the_records(tmp_path: Path, inject: Callable[[str], Injected]) -> None:
    fault = inject("corrupt snapshot")
    data_dir = tmp_path / "data"
    told: dict[str, str] = {}
    with make_server(data_dir) as server, connect(server) as client:
        for number in range(6):  # enough for a snapshot
            texts = [f"turn {number} {place}" for place in range(60)]
            told |= zip(client.write(texts, session_id=f"s{number}").memory_ids, texts, strict=True)
        key = "the spare key is under the blue flowerpot"
        kept = client.write(key).memory_ids[0]
        told[kept] = key
        wait_for_snapshot(data_dir)
        server.kill()
    assert doctor(data_dir)["snapshots"] == ("ok", "1, all can be used", "")
    with closing(apsw.Connection(str(data_dir / DATABASE_NAME))) as connection:
        connection.execute("UPDATE snapshot SET data = zeroblob(length(data))")
    level, finding, _ = doctor(data_dir)["snapshots"]
    assert level == "warn"
    assert finding.startswith("1 of 1 cannot be used: that of ")
    with make_server(data_dir) as server, connect(server) as client:
        found = client.retrieve("blue flowerpot", selector_mode=SelectorMode.OFF)
        assert found.memories[0].memory.id == kept
        assert found.trace.matched_count == 361
        fault.check_all(told, texts_of(client))
        assert "snapshot_unusable" in [entry["event"] for entry in server.log]
        wait_for_health(server, SERVING)


def wait_for_snapshot(data_dir: Path) -> None:
    """Looks until the background work has kept one."""
    with closing(apsw.Connection(str(data_dir / DATABASE_NAME), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        connection.set_busy_timeout(1000)
        while not connection.execute("SELECT count(*) FROM snapshot").get:
            pass


# Models


def test_a_missing_model_file_is_named_with_what_to_do(tmp_path: Path, inject: Callable[[str], Injected]) -> None:
    inject("missing models")
    models_dir = tmp_path / "models"
    models_dir.mkdir()
    with (
        pytest.raises(RuntimeError, match="lightmem models pull"),
        ServerProcess(tmp_path / "data", "--models-dir", str(models_dir)),
    ):
        pass
    found = doctor(tmp_path / "data")
    assert found["embedder"][0] == found["selector"][0] == "fail"
    assert "lightmem models pull" in found["embedder"][2]


def test_errors_of_callers_do_not_touch_health(tmp_path: Path) -> None:
    with make_server(tmp_path / "data") as server, connect(server) as client:
        with pytest.raises(NotFoundError):
            client.get("01890000-0000-7000-8000-000000000000")
        client.write(TEXT)
        assert client.is_healthy()
