"""A package index and a model hub on loopback, over real HTTP, that misbehave as told; and wheels of tiny models."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lightmem_server.slm.manifest import Manifest, ModelRole
from tests.unit.slm import tiny_bert, tiny_gguf

PACKAGE, WHEEL = "tiny-models", "tiny_models-1.0-py3-none-any.whl"
REVISION = "1" * 40


@dataclass
class TinyIndex:
    """What is served, how, and what was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Path to content."""
    wheels: dict[str, str] = field(default_factory=lambda: {PACKAGE: WHEEL})
    """Package to the one wheel that the index has of it."""
    cut_after: list[int] = field(default_factory=list)
    """For each of the next downloads: cut the connection after so many bytes of it."""
    hold_after: int | None = None
    """Stop after so many bytes of a download, until `release`."""
    has_ranges: bool = True
    has_json: bool = True
    status: int = 200
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """(path, Range header) of each."""
    held: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    @property
    def downloads(self) -> list[str | None]:
        """The Range headers of the requests for files."""
        return [wanted for path, wanted in self.requests if not path.startswith("/simple/")]


@contextmanager
def serve(index: TinyIndex) -> Iterator[TinyIndex]:
    """Serve on a free port until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, index)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    index.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield index
    finally:
        index.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


def answer(request: BaseHTTPRequestHandler, index: TinyIndex) -> None:
    wanted = request.headers.get("Range")
    index.requests.append((request.path, wanted))
    if index.status != 200:
        return send(request, index.status, b"no", "text/plain")
    package = request.path.removeprefix("/simple/").removesuffix("/")
    if (wheel := index.wheels.get(package)) is not None:
        if index.has_json:
            page = {"files": [{"filename": wheel, "url": f"../../files/{wheel}#sha256=0", "hashes": {}}]}
            return send(request, 200, json.dumps(page).encode(), "application/vnd.pypi.simple.v1+json")
        link = f'<!DOCTYPE html><body><a href="/other">other</a><br><a href="../../files/{wheel}#sha256=0">{wheel}</a>'
        return send(request, 200, link.encode(), "text/html; charset=utf-8")
    content = index.files.get(request.path)
    if content is None:
        return send(request, 404, b"no", "text/plain")
    match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
    if not (match and index.has_ranges):
        return send_file(request, index, 200, content, {})
    start = int(match[1])
    content_range = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
    return send_file(request, index, 206, content[start:], content_range)


def send(request: BaseHTTPRequestHandler, status: int, body: bytes, kind: str) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def send_file(
    request: BaseHTTPRequestHandler, index: TinyIndex, status: int, body: bytes, headers: dict[str, str]
) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        request.send_header(name, value)
    request.end_headers()
    if index.hold_after is not None:
        request.wfile.write(body[: index.hold_after])
        request.wfile.flush()
        index.held.set()
        index.release.wait()
        body = body[index.hold_after :]
    if index.cut_after:
        body = body[: index.cut_after.pop(0)]
        request.close_connection = True
    try:
        request.wfile.write(body)
    except OSError:  # the test's client was killed
        request.close_connection = True


def publish(index: TinyIndex, folder: Path) -> Manifest:
    """Make a wheel with an embedder ("tiny-embedder", quantized ONNX) and a cross-encoder ("tiny-selector", safetensors),
    put it and the files themselves on the index as a hub's, and describe all of it."""
    folder.mkdir(exist_ok=True)
    tiny_bert.make_tokenizer(folder / "tokenizer.json")
    tiny_bert.write_quantized_onnx(folder / "e.onnx", tiny_bert.make_weights(1, is_cross_encoder=False))
    tiny_bert.write_safetensors(folder / "s.safetensors", tiny_bert.make_weights(2, is_cross_encoder=True))
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr("tiny_models/__init__.py", "raise RuntimeError('a model package is data, not code')")
        for name in ("tokenizer.json", "e.onnx", "s.safetensors"):
            wheel.write(folder / name, f"tiny_models/{name}")
            index.files[f"/hub/resolve/{REVISION}/{name}"] = (folder / name).read_bytes()
    index.files[f"/files/{WHEEL}"] = (folder / WHEEL).read_bytes()
    index.files = {path.replace("/hub/", "/who/tiny/"): content for path, content in index.files.items()}
    models = {
        "tiny-embedder": describe(folder, ModelRole.EMBEDDER, "onnx", "e.onnx"),
        "tiny-selector": describe(folder, ModelRole.SELECTOR, "safetensors", "s.safetensors"),
    }
    return Manifest.model_validate({"profiles": {"lite": list(models)}, "models": models})


def publish_writer(index: TinyIndex, folder: Path, parts: int = 3) -> Manifest:
    """Make a Writer ("tiny-writer", GGUF), put it on the index in pieces, a wheel each, and describe it."""
    folder.mkdir(exist_ok=True)
    content = tiny_gguf.write(folder / "w.gguf", tiny_gguf.make_weights(3, has_bias=True)).read_bytes()
    step = -(-len(content) // parts)
    pieces = []
    for number in range(1, parts + 1):
        package, path = f"tiny-writer-part{number}", f"tiny_writer_part{number}/data/part{number}.bin"
        file = f"tiny_writer_part{number}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(folder / file, "w") as wheel:
            wheel.writestr(path, content[(number - 1) * step : number * step])
        index.wheels[package] = file
        index.files[f"/files/{file}"] = (folder / file).read_bytes()
        pieces.append({"package": package, "version": "1.0", **measure(folder, file), "path": path})
    weights = {"path": "w.gguf", **measure(folder, "w.gguf")}
    weights.pop("file")
    source = {"kind": "joined", "format": "gguf", "weights": weights, "parts": pieces}
    model = {**tiny_gguf.make_spec().model_dump(), "sources": [source]}
    return Manifest.model_validate({"profiles": {}, "models": {"tiny-writer": model}})


def describe(folder: Path, role: ModelRole, kind: str, weights: str) -> dict[str, Any]:
    """A manifest entry with the wheel as its first source and the hub as its second."""
    spec = tiny_bert.make_spec(role).model_dump()
    wheel = {
        "kind": "wheel",
        "format": kind,
        "package": PACKAGE,
        "version": "1.0",
        **measure(folder, WHEEL),
        "weights": {"path": f"tiny_models/{weights}", **measure(folder, weights)},
        "tokenizer": {"path": "tiny_models/tokenizer.json", **measure(folder, "tokenizer.json")},
    }
    for part in ("weights", "tokenizer"):
        wheel[part].pop("file")
    hub = {
        "kind": "hub",
        "format": kind,
        "repository": "who/tiny",
        "revision": REVISION,
        "weights": {**wheel["weights"], "path": weights},
        "tokenizer": {**wheel["tokenizer"], "path": "tokenizer.json"},
    }
    return {**spec, "sources": [wheel, hub]}


def measure(folder: Path, name: str) -> dict[str, Any]:
    content = (folder / name).read_bytes()
    return {"file": name, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
