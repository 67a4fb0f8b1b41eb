from tests.api.conftest import scripts

__all__ = ["scripts"]
