"""Vector indexes that outlive a process: in files, and in PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headrace.adapters.vectors import vector_index
from headrace.doctor import Status, examine
from headrace.errors import HeadraceError
from headrace.ports.knowledge import SegmentIndex
from headrace.ports.knowledge_search import VectorIndex
from headrace.ports.knowledge_store import KnowledgeStore
from headrace.settings import Settings
from headrace.stores.sql import SqlStorage
from headrace.stores.sql.knowledge.pgvector import DISTANCE, GRAPH_SETTINGS, SEARCH
from tests.contracts.segments import add, of_vector, segments
from tests.postgresql import Server, execute

QUERY = array("f", [1.0, *[0.0] * 63])


def fan(first: int, last: int) -> list[SegmentIndex]:
    """Vectors that are less and less like the query, in all directions."""
    chance = random.Random(first)
    segments: list[SegmentIndex] = []
    for number in range(first, last):
        angle = math.acos(1 - number / 1_500)  # the steps are those that 16-bit floats have
        others = [chance.gauss(0, 1) for _ in range(63)]
        length = math.hypot(*others)
        numbers = [math.cos(angle), *(math.sin(angle) * other / length for other in others)]
        segments.append(of_vector(f"s{number:04}", numbers))
    return segments


@asynccontextmanager
async def open_index(url: str) -> AsyncIterator[KnowledgeStore]:
    storage = await SqlStorage.open(url)
    assert storage.knowledge is not None
    try:
        yield storage.knowledge.open()
    finally:
        await storage.aclose()


async def best(index: VectorIndex, count: int = 3) -> list[str]:
    return segments(await index.search("d1", "m", QUERY, count))


# ------------------------------------------------------------------------------------------------------------- usearch


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[KnowledgeStore]:
    pytest.importorskip("usearch")
    async with open_index(f"sqlite:///{tmp_path}/headrace.db") as store:
        yield store


async def test_an_index_in_a_file_is_read_and_not_built_again(
    store: KnowledgeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.adapters.vectors.graph._FEW", 1)
    await add(store, "o1", fan(0, 1_500))
    assert await best(vector_index(store.search, "usearch", tmp_path / "vectors")) == ["s0000", "s0001", "s0002"]
    await store.segments.remove_segment("s0001")
    await add(store, "o2", [of_vector("t1", QUERY)])
    read: list[int] = []
    vectors_after = store.search.vectors_after

    async def counted(*key: object) -> object:
        rows = await vectors_after(*key)  # type: ignore[arg-type]
        read.append(len(rows))
        return rows

    monkeypatch.setattr(store.search, "vectors_after", counted)
    assert sorted(await best(vector_index(store.search, "usearch", tmp_path / "vectors"))) == ["s0000", "s0002", "t1"]
    assert read == [1, 0]


@pytest.mark.parametrize("damage", ["facts", "index", "no index"])
async def test_a_damaged_file_is_made_anew(
    damage: str, store: KnowledgeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await add(store, "o1", fan(0, 1_500))
    await best(vector_index(store.search, "usearch", tmp_path / "vectors"))
    (facts,) = (tmp_path / "vectors").glob("*.json")
    (index,) = (tmp_path / "vectors").glob("*.usearch")
    if damage == "no index":
        index.unlink()
    else:
        path = facts if damage == "facts" else index
        path.write_bytes(path.read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        assert await best(vector_index(store.search, "usearch", tmp_path / "vectors")) == ["s0000", "s0001", "s0002"]
    assert len(list((tmp_path / "vectors").iterdir())) == 2
    assert await best(vector_index(store.search, "usearch", tmp_path / "vectors")) == ["s0000", "s0001", "s0002"]


# ------------------------------------------------------------------------------------------------------------ pgvector


async def test_processes_that_search_at_once_build_one_table(pgvector_url: str) -> None:
    async with open_index(pgvector_url) as first, open_index(pgvector_url) as second:
        assert first.index is not None
        assert second.index is not None
        await add(first, "o1", fan(0, 1_500))
        nearest = await asyncio.gather(*(best(index) for index in (first.index, second.index) for _ in range(3)))
        assert nearest == [["s0000", "s0001", "s0002"]] * 6
        await add(second, "o2", [of_vector("t1", QUERY)])
        assert sorted(await best(first.index, 2)) == ["s0000", "t1"]
    assert tables(pgvector_url) == 1


async def test_a_table_is_replaced_if_most_has_changed(pgvector_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.stores.sql.knowledge.pgvector._MOST_CHANGES", 10)
    async with open_index(pgvector_url) as store:
        assert store.index is not None
        await add(store, "o1", fan(100, 110))
        assert await best(store.index) == ["s0100", "s0101", "s0102"]
        await add(store, "o2", fan(0, 50))
        assert await best(store.index) == ["s0000", "s0001", "s0002"]
        assert tables(pgvector_url) == 1
        while await store.datasets.remove_dataset("d1") or await store.documents.purge():
            pass
        await add(store, "o3", [of_vector("t1", QUERY)], dataset="d2")
        assert segments(await store.index.search("d2", "m", QUERY, 3)) == ["t1"]
        assert tables(pgvector_url) == 1


async def test_tables_may_be_dropped_at_any_time(pgvector_url: str) -> None:
    async with open_index(pgvector_url) as store:
        assert store.index is not None
        await add(store, "o1", fan(0, 10))
        assert await best(store.index) == ["s0000", "s0001", "s0002"]
        execute(pgvector_url, "DELETE FROM vector_index")
        assert await best(store.index) == ["s0000", "s0001", "s0002"]


async def test_a_search_follows_the_graph(pgvector_url: str) -> None:
    async with open_index(pgvector_url) as store:
        assert store.index is not None
        await add(store, "o1", fan(0, 1_500))
        await best(store.index)
    plan = plan_of(pgvector_url, array("f", QUERY).tolist())
    assert "embedding_idx on vector_index_" in plan
    assert "Sort" not in plan


async def test_a_database_without_the_extension_is_an_error_that_says_so(postgresql_server: Server) -> None:
    url = postgresql_server.new_database()
    async with open_index(url) as store:
        await add(store, "o1", fan(0, 10))
    execute(
        url, "DROP ROLE IF EXISTS plain; CREATE ROLE plain LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO plain"
    )
    async with open_index(url.replace("headrace@", "plain@")) as store:
        assert store.index is not None
        with pytest.raises(
            HeadraceError, match=r"needs the extension vector, version 0\.8 or later, .* permission denied"
        ):
            await store.index.search("d1", "m", QUERY, 3)


@pytest.mark.parametrize(
    ("kind", "database", "status", "message"),
    [
        ("pgvector", "sqlite", Status.FAILED, "pgvector needs a database on PostgreSQL"),
        ("pgvector", "postgresql", Status.OK, "pgvector 0."),
        ("pgvector", "without", Status.FAILED, "the server does not have pgvector"),
        ("usearch", "sqlite", Status.OK, "usearch"),
    ],
)
async def test_doctor_examines_the_vector_index(
    kind: str,
    database: str,
    status: Status,
    message: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = "" if database == "sqlite" else request.getfixturevalue("postgresql_url")
    if database == "without":
        monkeypatch.setattr("headrace.stores.sql.diagnosis._PGVECTOR", "SELECT NULL")
    settings = Settings(data=tmp_path, database_url=url, vector_index=kind)  # type: ignore[arg-type]
    (finding,) = [finding async for finding in examine(settings, ["vector index"])]
    assert (finding.status, finding.message.startswith(message)) == (status, True)


def tables(url: str) -> int:
    """How many tables with vectors pgvector has, of those that `vector_index` names."""
    from psycopg import connect

    with connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM vector_index i JOIN pg_class c ON c.relname = i.relation"
        ).fetchone()
    assert row is not None
    return int(row[0])


def plan_of(url: str, query: list[float]) -> str:
    """How PostgreSQL searches the only table there is."""
    from psycopg import connect

    with connect(url) as connection:
        row = connection.execute("SELECT relation FROM vector_index").fetchone()
        assert row is not None
        for setting in GRAPH_SETTINGS:
            connection.execute(f"SET LOCAL {setting}".encode())
        statement = SEARCH.format(relation=row[0], documents="", distance=DISTANCE)
        statement = statement.replace(":query", "%(query)s").replace(":limit", "%(limit)s")
        plan = connection.execute(f"EXPLAIN {statement}".encode(), {"query": str(query), "limit": 10})
        return "\n".join(line for (line,) in plan)
