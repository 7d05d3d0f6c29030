"""Prompts: versioned files in prompts/, instructions and examples as data rather than strings in code."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Self

from pydantic import BaseModel, ConfigDict

from lightmem_server.slm.protocols import Message


class Example(BaseModel):
    """One exchange as it should go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str
    assistant: str


class Prompt(BaseModel):
    """What one task tells the Writer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    """Names the text, for caches and records: another text has another version."""
    system: str
    user: str
    """With {places} for what differs from call to call."""
    examples: tuple[Example, ...] = ()

    @property
    def static(self) -> tuple[Message, ...]:
        """The part that all calls share."""
        exchanges = (
            message
            for example in self.examples
            for message in (Message("user", example.user), Message("assistant", example.assistant))
        )
        return (Message("system", self.system), *exchanges)

    def ask(self, **values: object) -> tuple[Message, ...]:
        """The part of one call. Raises KeyError for a place without a value."""
        return (Message("user", self.user.format(**values)),)

    @classmethod
    def load(cls, name: str) -> Self:
        """The prompt in prompts/NAME.toml."""
        path = resources.files("lightmem_server.slm").joinpath("prompts", f"{name}.toml")
        return cls.model_validate(tomllib.loads(path.read_text("utf-8")))


def load_prompt(name: str) -> Prompt:
    """The prompt in prompts/NAME.toml."""
    return Prompt.load(name)
