"""LightMem for MCP clients: desktop agents and others that speak the Model Context Protocol. A client of a LightMem server."""
