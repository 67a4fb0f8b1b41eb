"""What `headrace doctor` learns of knowledge bases without changing the database."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, case, func, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from headrace.errors import StoreError
from headrace.frozen import frozen
from headrace.stores.sql.database import engine_of
from headrace.stores.sql.failures import is_transient, reason
from headrace.stores.sql.knowledge_schema import dataset, dataset_document
from headrace.stores.sql.snapshot import file_of


@frozen
class BaseState:
    """A knowledge base, and how many documents it has: all, those that are being indexed, and in error.
    `failure` is the error of one of the last."""

    name: str
    embedding_provider: str
    embedding_model: str
    documents: int
    waiting: int
    failed: int
    failure: str


def knowledge_states(url: str) -> Sequence[BaseState]:
    """All knowledge bases, by their names; the model is empty where none is needed. StoreError if the database cannot
    be read."""
    file = file_of(url)
    if file is not None and not file.is_file():
        return []
    engine = engine_of(url)
    document = dataset_document.c

    def count(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    def needed(model: ColumnElement[str]) -> ColumnElement[str]:
        return case((dataset.c.technique == "high_quality", model), else_="")

    query = (
        select(
            dataset.c.name,
            needed(dataset.c.embedding_provider),
            needed(dataset.c.embedding_model),
            func.count(document.id),
            count(document.status.not_in(("completed", "error", "paused"))),
            count(document.status == "error"),
            func.max(case((document.status == "error", func.coalesce(document.error, "")), else_="")),
        )
        .select_from(
            dataset.outerjoin(dataset_document, and_(document.dataset == dataset.c.id, document.deleted.is_(False)))
        )
        .where(dataset.c.deleted.is_(False))
        .group_by(*(dataset.c[name] for name in ("id", "name", "technique", "embedding_provider", "embedding_model")))
        .order_by(dataset.c.name)
    )
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table(dataset.name):
                return []
            return [BaseState(*row) for row in connection.execute(query)]
    except (SQLAlchemyError, OSError) as error:
        name = engine.url.render_as_string(hide_password=True)
        raise StoreError(f"{name} cannot be read: {reason(error)}", transient=is_transient(error)) from error
    finally:
        engine.dispose()
