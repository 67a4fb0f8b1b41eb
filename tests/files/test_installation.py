"""The installation's secret: configured, in the data folder, or in the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from headrace import backup
from headrace.adapters.installation import configured_secret, database_secret, fingerprint, installation_secret
from headrace.errors import HeadraceError
from headrace.factories import secret_of
from headrace.settings import Settings
from headrace.stores.sql import SqlStorage

SECRET = bytes(range(32))
OTHER = bytes(range(1, 33))


@pytest_asyncio.fixture(params=["sqlite", "postgresql"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[SqlStorage]:
    postgresql = request.param == "postgresql"
    url = request.getfixturevalue("postgresql_url") if postgresql else f"sqlite:///{tmp_path}/headrace.db"
    storage_at_url = await SqlStorage.open(url)
    yield storage_at_url
    await storage_at_url.aclose()


def folder(tmp_path: Path, name: str, secret: bytes | None = None) -> Path:
    path = tmp_path / name
    path.mkdir()
    if secret is not None:
        (path / "secret").write_text(secret.hex())
    return path


def test_a_configured_secret_is_read_from_the_variable_or_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mounted"
    file.write_text(f"{SECRET.hex().upper()}\n")
    assert configured_secret("", None) is None
    assert configured_secret(SECRET.hex(), None) == configured_secret("", file) == SECRET


@pytest.mark.parametrize(
    ("secret", "content", "problem"),
    [
        ("short", None, "HEADRACE_SECRET: must be 64 hexadecimal digits, as `openssl rand -hex 32` prints them"),
        ("g" * 64, None, "HEADRACE_SECRET: must be 64 hexadecimal digits"),
        (SECRET.hex(), SECRET.hex(), "HEADRACE_SECRET and HEADRACE_SECRET_FILE are both set"),
        ("", "", "HEADRACE_SECRET_FILE: .*file: must be 64 hexadecimal digits"),
        ("", b"\xff" * 32, "cannot be read: it is not text"),
        ("", None, "cannot be read: No such file"),
    ],
)
def test_bad_secrets(secret: str, content: str | bytes | None, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(HeadraceError, match=problem):
        configured_secret(secret, file if content is not None or not secret else None)


def test_a_damaged_file_in_the_data_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("0123")
    with pytest.raises(HeadraceError, match=r"/secret: must be 64 hexadecimal digits"):
        installation_secret(tmp_path)


async def test_hosts_with_their_own_folders_share_the_secret_in_the_database(
    storage: SqlStorage, tmp_path: Path
) -> None:
    folders = [folder(tmp_path, name) for name in ("one", "two", "three")]
    facts = storage.installation
    secrets = await asyncio.gather(*(database_secret(facts, path, None, shared=True) for path in folders))
    assert len(set(secrets)) == 1
    assert await database_secret(facts, folders[0], secrets[0], shared=True) == secrets[0]
    assert [list(path.iterdir()) for path in folders] == [[], [], []]


async def test_the_secret_in_the_folder_of_the_first_host_becomes_that_of_all(
    storage: SqlStorage, tmp_path: Path
) -> None:
    first, second = folder(tmp_path, "one", SECRET), folder(tmp_path, "two")
    await storage.installation.fact("secret", fingerprint(SECRET))  # as a version before has left it
    with pytest.raises(HeadraceError, match="is not stored in it: it is configured elsewhere") as refused:
        await database_secret(storage.installation, second, None, shared=True)
    assert "adopt-secret" in str(refused.value)
    assert await database_secret(storage.installation, first, None, shared=True) == SECRET
    assert await database_secret(storage.installation, second, None, shared=True) == SECRET


async def test_another_secret_is_refused(storage: SqlStorage, tmp_path: Path) -> None:
    await database_secret(storage.installation, folder(tmp_path, "one"), SECRET, shared=True)
    other = folder(tmp_path, "two", OTHER)
    with pytest.raises(HeadraceError, match=r"two/secret is not the secret of this database"):
        await database_secret(storage.installation, other, None, shared=True)
    with pytest.raises(HeadraceError, match=r"The configured secret .* is not the secret of this database"):
        await database_secret(storage.installation, other, OTHER, shared=True)
    assert await database_secret(storage.installation, other, SECRET, shared=True) == SECRET
    with pytest.raises(HeadraceError, match="is not stored in it"):  # it is configured, and nowhere else
        await database_secret(storage.installation, folder(tmp_path, "three"), None, shared=True)


@pytest.mark.parametrize("configured", ["", SECRET.hex()])
async def test_a_lost_secret_is_replaced_on_purpose(configured: str, postgresql_url: str, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data", database_url=postgresql_url, secret=configured)
    await secret_of(Settings(data=tmp_path / "data", database_url=postgresql_url, secret=OTHER.hex()))
    with pytest.raises(HeadraceError, match="adopt-secret"):
        await secret_of(settings)
    adopted = await backup.adopt_secret(settings)
    assert adopted == ("The configured secret" if configured else "A new secret")
    secret = await secret_of(settings)
    assert await secret_of(settings) == secret
    assert (secret == SECRET) is bool(configured)
