"""Faults around a running server's process and files: its folder moved or removed under it."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from lightmem_client.errors import UnavailableError

from lightmem_server.store.sqlite import DATABASE_NAME
from tests.e2e.test_disk_faults import (
    NOT_SERVING,
    SERVING,
    TEXT,
    connect,
    fill_up,
    make_server,
    texts_of,
    wait_for_health,
    write_until_refused,
)
from tests.fault_record import Injected
from tests.server_process import ENDED_SECONDS


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"], ids=["database", "log", "index"])
def test_a_file_that_is_moved_away_gets_no_acks_until_it_is_back(
    tmp_path: Path, inject: Callable[[str], Injected], suffix: str
) -> None:
    """What would be written to a file that nobody finds again isn't acknowledged."""
    fault = inject("file moved away")
    data_dir = tmp_path / "data"
    path, away = data_dir / f"{DATABASE_NAME}{suffix}", tmp_path / "away"
    with make_server(data_dir) as server, connect(server) as client:
        told = {client.write(TEXT).memory_ids[0]: TEXT}
        path.rename(away)
        with pytest.raises(UnavailableError, match="moved or removed") as caught:
            client.write("nobody would find this again")
        assert caught.value.reason == "STORE_FAILED"
        wait_for_health(server, NOT_SERVING)
        assert texts_of(client) == told, "reads go on"
        away.rename(path)
        wait_for_health(server, SERVING)
        told[client.write("and on").memory_ids[0]] = "and on"
        server.kill()
    fault.check_sound(data_dir)
    with make_server(data_dir) as server, connect(server) as client:
        fault.check_all(told, texts_of(client))


def test_a_folder_that_is_removed_gets_no_acks(tmp_path: Path, inject: Callable[[str], Injected]) -> None:
    inject("folder removed")
    data_dir = tmp_path / "data"
    with make_server(data_dir) as server, connect(server) as client:
        client.write(TEXT)
        shutil.rmtree(data_dir)
        with pytest.raises(UnavailableError, match="moved or removed"):
            client.write("nobody would find this again")
        wait_for_health(server, NOT_SERVING)
        with pytest.raises(UnavailableError):
            list(client.backup())
        assert server.stop() == 0
    assert not data_dir.exists(), "nothing is left where nothing was"


def test_another_database_in_its_place_gets_no_acks(tmp_path: Path, inject: Callable[[str], Injected]) -> None:
    fault = inject("file replaced")
    data_dir = tmp_path / "data"
    path = data_dir / DATABASE_NAME
    with make_server(data_dir) as server, connect(server) as client:
        told = {client.write(TEXT).memory_ids[0]: TEXT}
        shutil.copy(path, tmp_path / "copy")
        path.rename(tmp_path / "away")
        (tmp_path / "copy").rename(path)
        with pytest.raises(UnavailableError, match="moved or removed"):
            client.write("it would go to a file without a name")
        (tmp_path / "away").rename(path)
        wait_for_health(server, SERVING)
        server.stop()
    with make_server(data_dir) as server, connect(server) as client:
        fault.check_all(told, texts_of(client))


@pytest.mark.parametrize("suffix", ["", "-wal"], ids=["database", "log"])
def test_a_file_that_is_cut_short_gets_no_acks(tmp_path: Path, inject: Callable[[str], Injected], suffix: str) -> None:
    inject("file cut short")
    data_dir = tmp_path / "data"
    with make_server(data_dir) as server, connect(server) as client:
        client.write([f"{number} {TEXT}" for number in range(100)])
        with (data_dir / f"{DATABASE_NAME}{suffix}").open("r+b") as file:
            file.truncate(0)
        with pytest.raises(UnavailableError, match=r"cut short|damaged|disk") as caught:
            client.write("it would be thrown away with the rest")
        assert caught.value.reason == "STORE_FAILED"
        wait_for_health(server, NOT_SERVING)


def test_a_connection_that_says_nothing_is_closed(tmp_path: Path, inject: Callable[[str], Injected]) -> None:
    """While all descriptors are taken nobody else comes in; soon they do."""
    fault = inject("connections that say nothing")
    with make_server(tmp_path / "data", prefix=("prlimit", "--nofile=100")) as server:
        host, _, port = server.address.rpartition(":")
        silent = [socket.create_connection((host, int(port)), timeout=ENDED_SECONDS) for _ in range(70)]
        for connection in silent[::2]:
            connection.sendall(b"PRI * HTTP/2.0\r\n")  # half a greeting
        for connection in silent:
            while connection.recv(1 << 12):  # settings, until the server has closed it
                pass
            connection.close()
        with connect(server) as client:
            fault.check_all({client.write(TEXT).memory_ids[0]: TEXT}, texts_of(client))


def test_a_log_whose_reader_is_gone_stops_nothing(small_disk: Path, inject: Callable[[str], Injected]) -> None:
    """What goes wrong then is logged too, by the thread that commits."""
    fault = inject("log without a reader")
    data_dir = small_disk / "data"
    with make_server(data_dir, log_reader=False) as server, connect(server) as client:
        told = {client.write(TEXT).memory_ids[0]: TEXT}
        ballast = small_disk / "ballast"
        fill_up(ballast)
        acknowledged, error = write_until_refused(client)
        told |= acknowledged
        assert "disk" in error.message
        wait_for_health(server, NOT_SERVING)
        ballast.unlink()
        wait_for_health(server, SERVING)
        told[client.write("and on").memory_ids[0]] = "and on"
        fault.check_all(told, texts_of(client))
        assert server.stop() == 0
