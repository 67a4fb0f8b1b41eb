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
    picture_id TEXT REFERENCES pictures (id), created_at TEXT NOT NULL, deleted_at TEXT
);
"""
_KEPT = timedelta(days=1)  # deleted products, and pictures that no product has


class UnknownProduct(Exception):
    """There is no product with this id."""


class UnknownPicture(Exception):
    """A product names a picture that is not stored."""


def picture_url(picture_id: str) -> str:
    return f"/api/pictures/{quote(picture_id, safe='')}"


class Store:
    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with self._open() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(_SCHEMA)
            if "deleted_at" not in {column["name"] for column in database.execute("PRAGMA table_info(products)")}:
                database.execute("ALTER TABLE products ADD COLUMN deleted_at TEXT")
            until = (datetime.now(UTC) - _KEPT).isoformat()
            database.execute("DELETE FROM products WHERE deleted_at < ?", (until,))
            database.execute(
                "DELETE FROM pictures WHERE created_at < ? AND id NOT IN"
                " (SELECT picture_id FROM products WHERE picture_id IS NOT NULL)",
                (until,),
            )

    def add_picture(self, picture_id: str, picture: PictureData) -> None:
        """One that is already stored stays as it is."""
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
        """UnknownPicture if there is no such picture."""
        with self._open() as database, _known_picture(new):
            row = database.execute(
                "INSERT INTO products (title, description, picture_id, created_at) VALUES (?, ?, ?, ?) RETURNING *",
                (new.title, new.description, new.picture_id, datetime.now(UTC).isoformat()),
            ).fetchone()
        return _product(row)

    def put_product(self, product_id: int, new: NewProduct) -> Product:
        """Replaces a product, or restores a deleted one. UnknownProduct, UnknownPicture."""
        with self._open() as database, _known_picture(new):
            row = database.execute(
                "UPDATE products SET title = ?, description = ?, picture_id = ?, deleted_at = NULL WHERE id = ?"
                " RETURNING *",
                (new.title, new.description, new.picture_id, product_id),
            ).fetchone()
        if row is None:
            raise UnknownProduct(product_id)
        return _product(row)

    def delete_product(self, product_id: int) -> None:
        """It can be restored for a day. UnknownProduct, unless it was deleted before."""
        with self._open() as database:
            deleted = database.execute(
                "UPDATE products SET deleted_at = coalesce(deleted_at, ?) WHERE id = ?",
                (datetime.now(UTC).isoformat(), product_id),
            )
        if not deleted.rowcount:
            raise UnknownProduct(product_id)

    def products(self, limit: int, before: int | None) -> tuple[list[Product], int, bool]:
        """(products, newest first, that are older than the product `before`; the number of all products; whether
        there are more)."""
        with self._open() as database:
            rows = database.execute(
                "SELECT * FROM products WHERE deleted_at IS NULL AND (? IS NULL OR id < ?) ORDER BY id DESC LIMIT ?",
                (before, before, limit + 1),
            ).fetchall()
            (total,) = database.execute("SELECT count(*) FROM products WHERE deleted_at IS NULL").fetchone()
        return [_product(row) for row in rows[:limit]], total, len(rows) > limit

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


@contextmanager
def _known_picture(new: NewProduct) -> Generator[None]:
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise UnknownPicture(new.picture_id) from error


def _product(row: sqlite3.Row) -> Product:
    picture = row["picture_id"]
    return Product.model_validate({**dict(row), "picture_url": picture_url(picture) if picture else None})
