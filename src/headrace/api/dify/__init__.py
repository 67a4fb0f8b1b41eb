"""Dify's Service API, `/v1`."""
