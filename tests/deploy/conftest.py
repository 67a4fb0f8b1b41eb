"""The image, made by hand once; and `invoke`, as the command line's own tests have it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import invoke
from tests.deploy.image import Image, build

__all__ = ["image", "invoke"]


@pytest.fixture(scope="package")
def image() -> Iterator[Image]:
    with tempfile.TemporaryDirectory(prefix="headrace-image-") as folder:
        root = Path(folder)
        root.chmod(0o755)  # another user starts it
        yield build(root)
