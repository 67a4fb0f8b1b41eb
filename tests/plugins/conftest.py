"""A key pair, and an installer that accepts its signatures."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from headrace.adapters.plugins.install import PluginInstaller
from headrace.adapters.plugins.installed import InstalledPlugins

NewInstaller = Callable[..., PluginInstaller]


@pytest.fixture(scope="package")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def public_key(key: rsa.RSAPrivateKey, tmp_path: Path) -> Path:
    path = tmp_path / "acme.pem"
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1))
    return path


@pytest.fixture
def new_installer(public_key: Path, tmp_path: Path) -> NewInstaller:
    """Makes installers into the folder `plugins`, with the Python of the tests; `notes` gets what they say."""

    def make(notes: list[str] | None = None, **environ: str) -> PluginInstaller:
        say = (notes if notes is not None else []).append
        plugins = InstalledPlugins(tmp_path / "plugins")
        return PluginInstaller(plugins, [public_key], sys.executable, {**os.environ, **environ}, say)

    return make
