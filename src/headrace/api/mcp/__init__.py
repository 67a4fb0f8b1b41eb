"""The Model Context Protocol: apps as tools, at `/mcp`."""
