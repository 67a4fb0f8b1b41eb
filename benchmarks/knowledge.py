"""Search by meaning in a knowledge base of SQLite: how much of the exact result is found, at what cost.

There are two sets: real texts (see `texts`), and vectors that are made: points in 48 dimensions around some centres,
turned into 1,024, with noise. A process of its own searches, so that its memory is that of the search.
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
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import resident_mb
from benchmarks.peers import Missing
from benchmarks.table import Row, Target
from benchmarks.texts import vectors

CHUNKS, DIMENSION, QUERIES, BEST = 100_000, 1_024, 200, 10
_OF = f"among {CHUNKS:,} chunks of {DIMENSION:,} dimensions, SQLite"
MADE, REAL = f"Knowledge: search by meaning {_OF}", f"Knowledge: search by meaning of real texts {_OF}"
_BATCH = 1_000


def measure(quick: bool) -> list[Row]:
    count, tries = (10_000, 50) if quick else (CHUNKS, QUERIES)
    all_vectors = _vectors(count + tries)
    rows = _measure(MADE, all_vectors[:count], all_vectors[count:])
    try:
        texts, queries = vectors(count, DIMENSION, tries)
    except Missing as missing:
        return [*rows, Row(REAL, f"recall@{BEST} against exact search", None, "", note=str(missing))]
    return [*rows, *_measure(REAL, texts, queries)]


def _measure(group: str, vectors: Any, queries: Any) -> list[Row]:
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/headrace.db"
        asyncio.run(_fill(url, vectors))
        (Path(folder) / "queries").write_bytes(queries.tobytes())
        command = [sys.executable, "-m", "benchmarks.knowledge", url, f"{folder}/queries"]
        result = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    exact = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :BEST]
    recalls = [
        len({int(node) for node in nodes} & set(best)) for nodes, best in zip(result["found"], exact, strict=True)
    ]
    times = result["milliseconds"]
    return [
        Row(
            group,
            f"recall@{BEST} against exact search",
            sum(recalls) / (BEST * len(recalls)),
            "",
            Target(0.99, more=True),
        ),
        Row(
            group,
            "processor time of a query, median",
            median(times),
            "ms",
            Target(15),
            spread=(min(times), max(times)),
            note="the database's included",
        ),
        Row(group, "memory beyond the process", result["megabytes"], "MB", Target(100), note="numpy included"),
        Row(group, "first query, which reads all vectors", result["first"], "s", note="processor time"),
    ]


def _vectors(count: int) -> Any:
    import numpy as np

    chance = np.random.default_rng(18)
    centres = chance.normal(size=(200, 48))
    points = centres[chance.integers(200, size=count)] + 0.6 * chance.normal(size=(count, 48))
    rotation = points @ chance.normal(size=(48, DIMENSION)) / 48**0.5 + 0.3 * chance.normal(size=(count, DIMENSION))
    return (rotation / np.linalg.norm(rotation, axis=1, keepdims=True)).astype(np.float32)


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


async def _search(url: str, numbers: array[float]) -> dict[str, Any]:
    from headrace.adapters.vectors import vector_index
    from headrace.stores.sql import SqlStorage

    queries = [numbers[start : start + DIMENSION] for start in range(0, len(numbers), DIMENSION)]
    storage = await SqlStorage.open(url)
    assert storage.knowledge is not None
    store = storage.knowledge.open()
    await store.search.version("d1")
    before = resident_mb(os.getpid())
    index = vector_index(store.search)
    all_names: list[list[str]] = []
    seconds: list[float] = []
    for query in [queries[0], *queries]:
        began = time.process_time()
        matches = await index.search("d1", "m", query, BEST)
        seconds.append(time.process_time() - began)
        all_names.append([match.node for match in matches])
    megabytes = resident_mb(os.getpid()) - before
    await storage.aclose()
    milliseconds = [1000 * second for second in seconds[1:]]
    return {"found": all_names[1:], "milliseconds": milliseconds, "first": seconds[0], "megabytes": megabytes}


if __name__ == "__main__":
    json.dump(asyncio.run(_search(sys.argv[1], array("f", Path(sys.argv[2]).read_bytes()))), sys.stdout)
