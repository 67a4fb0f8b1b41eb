"""Products and their pictures, in SQLite. Called from worker threads: each call has a connection of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from product_studio.models import NewProduct, Product
from product_studio.pictures import PictureData

_SCHEMA = """
CREATE TABLE IF NOT EXISTS pictures (
    id TEXT PRIMARY KEY, media_type TEXT NOT NULL, data BLOB NOT NULL, created_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS products (
    id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL, description TEXT NOT NULL,
    picture_id TEXT REFERENCES pictures (id), created_at TEXT NOT NULL
);
"""
_FORGOTTEN = timedelta(days=1)  # a picture that no product has is dropped then


class UnknownPicture(Exception):
    """A product names a picture that is not there."""


def picture_url(picture_id: str) -> str:
    return f"/api/pictures/{quote(picture_id, safe='')}"


class Store:
    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with self._open() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(_SCHEMA)
            database.execute(
                "DELETE FROM pictures WHERE created_at < ? AND id NOT IN"
                " (SELECT picture_id FROM products WHERE picture_id IS NOT NULL)",
                ((datetime.now(UTC) - _FORGOTTEN).isoformat(),),
            )

    def add_picture(self, picture_id: str, picture: PictureData) -> None:
        """One that is there already stays as it is."""
        with self._open() as database:
            database.execute(
                "INSERT OR IGNORE INTO pictures VALUES (?, ?, ?, ?)",
                (picture_id, picture.media_type, picture.data, datetime.now(UTC).isoformat()),
            )

    def picture(self, picture_id: str) -> PictureData | None:
        with self._open() as database:
            row = database.execute("SELECT media_type, data FROM pictures WHERE id = ?", (picture_id,)).fetchone()
        return None if row is None else PictureData(row["media_type"], row["data"])

    def add_product(self, new: NewProduct) -> Product:
        """UnknownPicture where its picture is not there."""
        now = datetime.now(UTC)
        try:
            with self._open() as database:
                added = database.execute(
                    "INSERT INTO products (title, description, picture_id, created_at) VALUES (?, ?, ?, ?)",
                    (new.title, new.description, new.picture_id, now.isoformat()),
                ).lastrowid
        except sqlite3.IntegrityError as error:
            raise UnknownPicture(new.picture_id) from error
        assert added is not None
        return _product({**new.model_dump(), "id": added, "created_at": now})

    def products(self, limit: int, before: int | None) -> tuple[list[Product], bool]:
        """(products, newest first, that are older than the product `before`; whether there are more)."""
        with self._open() as database:
            rows = database.execute(
                "SELECT * FROM products WHERE ? IS NULL OR id < ? ORDER BY id DESC LIMIT ?", (before, before, limit + 1)
            ).fetchall()
        return [_product(dict(row)) for row in rows[:limit]], len(rows) > limit

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        """A connection within a transaction: kept if the block ends well."""
        database = sqlite3.connect(self._path)
        try:
            database.row_factory = sqlite3.Row
            database.execute("PRAGMA foreign_keys = ON")
            with database:
                yield database
        finally:
            database.close()


def _product(row: dict[str, object]) -> Product:
    picture = row["picture_id"]
    return Product.model_validate({**row, "picture_url": picture_url(picture) if isinstance(picture, str) else None})
