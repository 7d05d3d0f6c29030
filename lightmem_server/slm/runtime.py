"""Loads and releases a server's models together."""

from __future__ import annotations

from dataclasses import dataclass, field

from lightmem_server.config import Settings
from lightmem_server.slm.embedder import BertEmbedder, load_embedder
from lightmem_server.slm.foreground import Foreground
from lightmem_server.slm.manifest import load_manifest
from lightmem_server.slm.selector import CrossEncoderSelector, load_selector
from lightmem_server.slm.writer import GeneratorWriter, load_writer


@dataclass(frozen=True, slots=True)
class LoadedModels:
    """The models of one server. One per role: every request shares them."""

    embedder: BertEmbedder
    selector: CrossEncoderSelector
    gate: CrossEncoderSelector
    """The Selector itself, where consolidation's gate asks the same or nothing."""
    writer: GeneratorWriter | None = None
    foreground: Foreground = field(default_factory=Foreground)
    """What the Writer, and passages that are embedded in bulk, stand aside for."""

    async def close(self) -> None:
        """Fail what waits with UnavailableError, end what runs, free the memory. May be called twice."""
        await self.embedder.close()
        await self.selector.close()
        await self.gate.close()
        if self.writer is not None:
            await self.writer.close()


def load_models(settings: Settings) -> LoadedModels:
    """Load the models that the settings name. Blocking, under a second, seconds with a Writer: run it in a thread.

    Raises:
        ModelNotFoundError: One has not been pulled; the message says how to.
        ModelError: One is damaged, or has another role.
    """
    foreground = Foreground()
    embedder = load_embedder(
        settings.models_dir,
        settings.embedder,
        threads=settings.threads,
        max_queued_texts=settings.max_queued_texts,
        stands_aside=foreground.is_reading,
    )
    selector = _load_selector(settings, settings.selector)
    has_own_gate = settings.gate_selector in settings.needed_models and settings.gate_selector != settings.selector
    gate = _load_selector(settings, settings.gate_selector) if has_own_gate else selector
    return LoadedModels(embedder, selector, gate, _load_writer(settings, foreground), foreground)


def _load_selector(settings: Settings, name: str) -> CrossEncoderSelector:
    return load_selector(
        settings.models_dir, name, threads=settings.threads, max_queued_passages=settings.max_queued_texts
    )


def _load_writer(settings: Settings, foreground: Foreground) -> GeneratorWriter | None:
    name = load_manifest().find_writer(settings.writer)
    if name is None:
        return None
    return load_writer(
        settings.models_dir,
        name,
        threads=settings.writer_threads,
        max_queued=settings.max_queued_generations,
        foreground=foreground,
    )
