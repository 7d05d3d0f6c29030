"""Loads and releases a server's models together."""

from __future__ import annotations

from dataclasses import dataclass

from lightmem_server.config import Settings
from lightmem_server.slm.embedder import BertEmbedder, load_embedder
from lightmem_server.slm.selector import CrossEncoderSelector, load_selector


@dataclass(frozen=True, slots=True)
class LoadedModels:
    """The models of one server. One per role: every request shares them."""

    embedder: BertEmbedder
    selector: CrossEncoderSelector

    async def close(self) -> None:
        """Fail what waits with UnavailableError, end what runs, free the memory. May be called twice."""
        await self.embedder.close()
        await self.selector.close()


def load_models(settings: Settings) -> LoadedModels:
    """Load the models that the settings name. Blocking, under a second: run it in a thread.

    Raises:
        ModelNotFoundError: One has not been pulled; the message says how to.
        ModelError: One is damaged, or has another role.
    """
    return LoadedModels(
        load_embedder(
            settings.models_dir,
            settings.embedder,
            threads=settings.threads,
            max_queued_texts=settings.max_queued_texts,
        ),
        load_selector(
            settings.models_dir,
            settings.selector,
            threads=settings.threads,
            max_queued_passages=settings.max_queued_texts,
        ),
    )
