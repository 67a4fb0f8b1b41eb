from tests.api.conftest import scripts, server

__all__ = ["scripts", "server"]
