"""The next version of Headrace: this one, and a migration more."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from headrace.stores.sql import migrations, snapshot
from headrace.stores.sql.schema import REVISIONS

REVISION = "9998"
_MIGRATION = f"""
import sqlalchemy as sa
from alembic import op

revision = "{REVISION}"
down_revision = "{REVISIONS[-1]}"


def upgrade() -> None:
    op.create_table("migrated", sa.Column("name", sa.String(), primary_key=True))
    op.add_column("runs", sa.Column("colour", sa.String(), nullable=False, server_default="blue"))
"""
_START = """
from pathlib import Path
from tests.stores.next_version import become

become(Path({folder!r}), setattr)
"""


def become(folder: Path, patch: Callable[[object, str, object], None], readable_by: str = REVISIONS[-1]) -> None:
    """Makes this process one of the next version, whose migrations are then in a folder."""
    shutil.copytree(migrations.FOLDER, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / f"{REVISION}_next.py").write_text(_MIGRATION)
    patch(migrations, "FOLDER", folder)
    patch(migrations, "READABLE_BY", readable_by)
    for module in (migrations, snapshot):
        patch(module, "REVISIONS", (*REVISIONS, REVISION))


def python_path(folder: Path) -> str:
    """The PYTHONPATH of processes of the next version."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_START.format(folder=str(folder / "migrations")))
    return f"{folder}:{Path(__file__).parents[2]}"
