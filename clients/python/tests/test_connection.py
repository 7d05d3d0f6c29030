from __future__ import annotations

from pathlib import Path

import pytest

from lightmem_client import Client, InvalidArgumentError, UnauthenticatedError
from lightmem_client._connection import credentials, find_key, find_target, is_local


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("localhost:7420", True),
        ("127.0.0.1:7420", True),
        ("127.8.8.8:1", True),
        ("[::1]:7420", True),
        ("ipv4:127.0.0.1:1", True),
        ("ipv6:[::1]:1", True),
        ("dns:///localhost:7420", True),
        ("dns:localhost:7420", True),
        ("localhost", True),
        ("unix:/run/lightmem.sock", True),
        ("10.0.0.7:7420", False),
        ("memory.example.org:7420", False),
        ("localhost.example.org:7420", False),
        ("dns:///memory.example.org:7420", False),
        ("dns://localhost/memory.example.org:7420", False),
    ],
)
def test_only_this_machine_is_local(target: str, expected: bool) -> None:
    assert is_local(target) is expected


def test_target_comes_from_argument_then_environment_then_default() -> None:
    assert find_target("a:1", {"LIGHTMEM_TARGET": "b:2"}) == "a:1"
    assert find_target(None, {"LIGHTMEM_TARGET": "b:2"}) == "b:2"
    assert find_target(None, {}) == "localhost:7420"
    with pytest.raises(InvalidArgumentError, match="takes HOST:PORT, not http://a:1"):
        find_target(None, {"LIGHTMEM_TARGET": "http://a:1"})


def test_key_comes_from_argument_then_environment_then_file(tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_text("lm_file\n")
    environment = {"LIGHTMEM_API_KEY": "lm_env", "LIGHTMEM_DATA_DIR": str(tmp_path)}
    assert find_key("lm_arg", "localhost:1", environment) == "lm_arg"
    assert find_key(None, "localhost:1", environment) == "lm_env"
    del environment["LIGHTMEM_API_KEY"]
    assert find_key(None, "localhost:1", environment) == "lm_file"


def test_local_admin_key_is_never_sent_to_another_machine(tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_text("lm_file")
    with pytest.raises(UnauthenticatedError, match=r"no key for memory\.example\.org") as caught:
        find_key(None, "memory.example.org:1", {"LIGHTMEM_DATA_DIR": str(tmp_path)})
    assert caught.value.reason == "KEY_MISSING"


@pytest.mark.parametrize("content", [None, b"  \n", b"\xff\xfe"], ids=["missing", "empty", "not text"])
def test_unusable_key_file_says_where_it_was_looked_for(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "admin.key").write_bytes(content)
    with pytest.raises(UnauthenticatedError, match=r"admin\.key"):
        find_key(None, "localhost:1", {"LIGHTMEM_DATA_DIR": str(tmp_path)})


@pytest.mark.parametrize("key", ["lm_\u00fc", "lm_a\nb"], ids=repr)
def test_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(InvalidArgumentError):
        find_key(key, "localhost:1", {})


def test_plain_text_is_spoken_only_to_this_machine_unless_asked_for() -> None:
    assert credentials("localhost:1", None) is None
    assert credentials("memory.example.org:1", None) is not None
    assert credentials("memory.example.org:1", False) is None
    assert credentials("localhost:1", True) is not None


def test_making_a_client_opens_and_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTMEM_DATA_DIR", "/nowhere")
    client = Client("localhost:1")
    client.close()


def test_key_does_not_show_in_a_repr() -> None:
    client = Client("localhost:1", api_key="lm_very_secret")
    assert "very_secret" not in repr(client._connection)
