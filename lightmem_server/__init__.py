"""LightMem: a self-hosted memory server for LLM agents."""
