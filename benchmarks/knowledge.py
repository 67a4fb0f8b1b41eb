"""Search by meaning in a knowledge base: how much of the exact result is found, at what cost.

`measure` measures the default index on SQLite, with two sets: real texts (see `texts`), and vectors that are made:
points in 48 dimensions around some centres, turned into 1,024, with noise. `measure_graphs` measures the indexes that
are graphs, with the real texts. A process of its own searches, so that its memory is that of the search.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import processor_seconds_of_server, resident_mb
from benchmarks.peers import Missing
from benchmarks.table import Row, Target
from benchmarks.texts import vectors
from tests import postgresql

CHUNKS, DIMENSION, QUERIES, BEST = 100_000, 1_024, 200, 10
_AMONG = f"among {CHUNKS:,} chunks of {DIMENSION:,} dimensions"
MADE = f"Knowledge: search by meaning {_AMONG}, SQLite"
REAL, USEARCH, PGVECTOR = (
    f"Knowledge: search by meaning of real texts {_AMONG}, {where}"
    for where in ("SQLite", "SQLite with usearch", "PostgreSQL with pgvector")
)
_APPROXIMATE = "a graph is searched approximately"
_RECALL = f"recall@{BEST} against exact search"
_BATCH = 1_000


def measure(quick: bool) -> list[Row]:
    count, tries = _size(quick)
    all_vectors = _vectors(count + tries)
    rows = _rows_of_signs(MADE, all_vectors[:count], all_vectors[count:])
    try:
        texts, queries = vectors(count, DIMENSION, tries)
    except Missing as missing:
        return [*rows, Row(REAL, _RECALL, None, "", note=str(missing))]
    return [*rows, *_rows_of_signs(REAL, texts, queries)]


def measure_graphs(quick: bool) -> list[Row]:
    count, tries = _size(quick)
    try:
        texts, queries = vectors(count, DIMENSION, tries)
    except Missing as missing:
        return [Row(group, _RECALL, None, "", note=str(missing)) for group in (USEARCH, PGVECTOR)]
    with _filled(texts) as url:
        rows = _rows_of_graph(USEARCH, url, "usearch", texts, queries)
    try:
        # the graph has to be in memory, both while it is built and while it is searched
        with (
            postgresql.serving(shared_buffers="1GB", maintenance_work_mem="1GB") as server,
            _filled(texts, server.new_database()) as url,
        ):
            rows += _rows_of_graph(PGVECTOR, url, "pgvector", texts, queries, server.pid)
    except OSError as missing:
        rows.append(Row(PGVECTOR, _RECALL, None, "", note=str(missing)))
    return rows


def _size(quick: bool) -> tuple[int, int]:
    """(chunks, queries)."""
    return (10_000, 50) if quick else (CHUNKS, QUERIES)


def _rows_of_signs(group: str, stored: Any, queries: Any) -> list[Row]:
    with _filled(stored) as url:
        result = _searched(url, "signs", queries)
    return [
        *_rows(group, result, stored, queries, "the database's included"),
        Row(group, "memory beyond the process", result["megabytes"], "MB", Target(100), note="numpy included"),
        Row(group, "first query, which reads all vectors", result["first"], "s", note="processor time"),
    ]


def _rows_of_graph(group: str, url: str, kind: str, stored: Any, queries: Any, server: int | None = None) -> list[Row]:
    """`server` is the process of PostgreSQL."""
    first_result = _searched(url, kind, queries[:1], server)  # and keeps the graph, which the next process reads
    result = _searched(url, kind, queries, server)
    time_of = "the database's included" if server is None else "the mean of the database's included"
    graph = "in the data folder" if server is None else "its table and graph, in PostgreSQL"
    return [
        *_rows(group, result, stored, queries, time_of),
        Row(group, "memory beyond the process", result["megabytes"], "MB", note="the database's own is not counted"),
        Row(group, "first query of a process", result["first"], "s", note="processor time"),
        Row(
            group,
            "building the index",
            first_result["first"],
            "s",
            note="processor time; once, by the first query of all",
        ),
        Row(group, "size of the index", result["size"], "MB", note=graph),
    ]


def _rows(group: str, result: dict[str, Any], stored: Any, queries: Any, note: str) -> list[Row]:
    import numpy as np

    exact = np.argsort(-(queries @ stored.T), axis=1, kind="stable")[:, :BEST]
    found = [len({int(node) for node in nodes} & set(best)) for nodes, best in zip(result["found"], exact, strict=True)]
    times = result["milliseconds"]
    return [
        Row(group, _RECALL, sum(found) / (BEST * len(found)), "", Target(0.99, more=True), missed=_APPROXIMATE),
        Row(
            group,
            "processor time of a query, median",
            median(times),
            "ms",
            Target(15),
            spread=(min(times), max(times)),
            note=note,
        ),
    ]


@contextmanager
def _filled(stored: Any, url: str = "") -> Generator[str]:
    """The URL of a database with these vectors: of a new one of SQLite, if none is given."""
    with tempfile.TemporaryDirectory() as folder:
        url = url or f"sqlite:///{folder}/headrace.db"
        asyncio.run(_fill(url, stored))
        yield url


def _searched(url: str, kind: str, queries: Any, server: int | None = None) -> dict[str, Any]:
    """What a process of its own finds, see `_search`."""
    given = json.dumps({"url": url, "kind": kind, "server": server})
    command = [sys.executable, "-m", "benchmarks.knowledge", given]
    return json.loads(subprocess.run(command, check=True, input=queries.tobytes(), stdout=subprocess.PIPE).stdout)


def _vectors(count: int) -> Any:
    import numpy as np

    chance = np.random.default_rng(18)
    centres = chance.normal(size=(200, 48))
    points = centres[chance.integers(200, size=count)] + 0.6 * chance.normal(size=(count, 48))
    turned = points @ chance.normal(size=(48, DIMENSION)) / 48**0.5 + 0.3 * chance.normal(size=(count, DIMENSION))
    return (turned / np.linalg.norm(turned, axis=1, keepdims=True)).astype(np.float32)


async def _fill(url: str, vectors: Any) -> None:
    from headrace.ports.knowledge import Dataset, Document, IndexNode, ProcessRule, Segment, SegmentIndex
    from headrace.stores.sql import SqlStorage

    storage = await SqlStorage.open(url)
    assert storage.knowledge is not None
    store = storage.knowledge.open()
    await store.datasets.add_dataset(Dataset("d1", "default", "Manual", 1.0, 1.0))
    rule = ProcessRule("r", "automatic")
    await store.documents.add_document(Document("o1", "d1", "o1", "file", "batch", 1.0, 1.0, rule))
    assert await store.documents.claim_document("c", 36_000) is not None
    for start in range(0, len(vectors), _BATCH):
        batch = [
            (str(start + at), array("f", vector.tobytes())) for at, vector in enumerate(vectors[start : start + _BATCH])
        ]
        segments = [Segment(name, "d1", "o1", int(name), "text", 1.0, 1.0) for name, _ in batch]
        assert await store.segments.add_segments("o1", "c", segments, [])
        indexes = [SegmentIndex(name, [IndexNode(name, vector)]) for name, vector in batch]
        assert await store.segments.index_segments("o1", indexes, "m", 1.0, "c")
    await store.documents.change_document("o1", {"status": "completed"})
    await storage.aclose()


async def _search(url: str, kind: Any, server: int | None, numbers: array[float]) -> dict[str, Any]:
    """The nodes that each query finds, the milliseconds that it takes, and what the index needs. Times are those of
    the processor; of the server, whose queries are too short for its clock, the mean."""
    from headrace.adapters.vectors import vector_index
    from headrace.stores.sql import SqlStorage

    queries = [numbers[start : start + DIMENSION] for start in range(0, len(numbers), DIMENSION)]
    folder = Path(url.removeprefix("sqlite:///")).parent / "vectors"
    storage = await SqlStorage.open(url)
    assert storage.knowledge is not None
    store = storage.knowledge.open()
    await store.search.version("d1")
    before = resident_mb(os.getpid())
    index = store.index or vector_index(store.search, kind, folder)
    found: list[list[str]] = []
    seconds: list[float] = []
    of_server: list[float] = []
    for query in [queries[0], *queries]:
        server_began = processor_seconds_of_server(server) if server else 0.0
        began = time.process_time()
        matches = await index.search("d1", "m", query, BEST)
        seconds.append(time.process_time() - began)
        of_server.append(processor_seconds_of_server(server) - server_began if server else 0.0)
        found.append([match.node for match in matches])
    megabytes = resident_mb(os.getpid()) - before
    await storage.aclose()
    mean = sum(of_server[1:]) / len(queries)
    return {
        "found": found[1:],
        "milliseconds": [1000 * (second + mean) for second in seconds[1:]],
        "first": seconds[0] + of_server[0],
        "megabytes": megabytes,
        "size": _size_of_tables(url) if server else sum(file.stat().st_size for file in folder.glob("*")) / 1e6,
    }


def _size_of_tables(url: str) -> float:
    """MB (10^6 bytes)."""
    from psycopg import connect

    with connect(url) as connection:
        row = connection.execute("SELECT pg_total_relation_size(relation::regclass) FROM vector_index").fetchone()
    assert row is not None
    return int(row[0]) / 1e6


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    json.dump(asyncio.run(_search(**given, numbers=array("f", sys.stdin.buffer.read()))), sys.stdout)
