"""What a process that has nothing to do sends to its database: each of these is repeated for as long as it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from headrace.stores.sql import SqlStorage
from tests.stores.plans import listening


@pytest.fixture
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlStorage]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'headrace.db'}"
    else:
        url = request.getfixturevalue("postgresql_server").new_database()
    store = await SqlStorage.open(url)
    await store.leases.heartbeat()
    yield store
    await store.aclose()


REPEATED: dict[str, Callable[[SqlStorage], Awaitable[object]]] = {
    "the look for dead workers": lambda store: store.leases.heartbeat(),
    "the look for runs in the queue": lambda store: store.queue.is_empty(),
    "the check of the schema": lambda store: store.database.check_schema(),
    "the look for orphaned runs": lambda store: store.leases.orphaned(),
    "the look for batches": lambda store: store.batches.batches(status="running"),
    "the look for forms": lambda store: store.forms.due_forms(0.0, None, 1),
    "the look for callbacks": lambda store: store.callbacks.due_callbacks(0.0, 1),
}


@pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("work", REPEATED.values(), ids=REPEATED)
async def test_what_an_idle_process_repeats_is_one_read(
    store: SqlStorage, work: Callable[[SqlStorage], Awaitable[object]]
) -> None:
    with listening(store) as statements:
        await work(store)
    assert [statement.split()[0] for statement, _ in statements] == ["SELECT"], "and no transaction"
