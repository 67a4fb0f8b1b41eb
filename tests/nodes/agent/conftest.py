from tests.models.conftest import client, server

__all__ = ["client", "server"]
