"""LightMem: a self-hosted memory server for LLM agents."""

from importlib.metadata import version

__version__ = version("lightmem-server")
