"""Knowledge bases in a running service: its background work indexes what is added."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.main import service
from headrace.ports.catalog import App
from headrace.ports.services import Retrieval
from headrace.settings import Settings
from tests.knowledge.knowledge_base import RULE


async def test_a_service_indexes_what_is_added(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, demo_model=True)
    async with service(settings, {}) as running:
        assert running.knowledge is not None
        bases = running.knowledge.service
        dataset = await bases.create("default", "key", "Manual", {})
        rules: Any = {"technique": "high_quality", "process_rule": RULE}
        document = await bases.add_document(dataset, "key", b"one\ntwo", "a.md", "text/plain", rules)
        async with asyncio.timeout(60):
            while (await bases.document(dataset, document.id)).status != "completed":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await bases.store.segments.progress([document.id]) == {document.id: (2, 2)}
        dataset = await bases.dataset("default", dataset.id)
        assert (dataset.embedding_provider, dataset.embedding_model) == ("demo", "demo")
        assert bases.embedding_available(dataset)


async def test_a_workflow_queries_a_base_of_its_workspace(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, demo_model=True)
    async with service(settings, {}) as running:
        assert running.knowledge is not None
        bases = running.knowledge.service
        await running.storage.catalog.add_app(App("a1", "app", "workflow", "app.yml", "v1"))
        dataset = await bases.create("default", "key", "Manual", {})
        rules: Any = {"technique": "high_quality", "process_rule": RULE}
        document = await bases.add_document(dataset, "key", "开具发票\n申请退款".encode(), "a.md", "text/plain", rules)
        async with asyncio.timeout(60):
            while (await bases.document(dataset, document.id)).status != "completed":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for method in ("semantic_search", "full_text_search", "hybrid_search"):
            query = Retrieval(dataset.id, "开具发票", 1, settings={"search_method": method}, app="a1")
            (passage,) = await running.resources.knowledge.retrieve(query)
            assert (passage.content, passage.metadata["dataset_name"]) == ("开具发票", "Manual")
        assert running.resources.knowledge.missing(dataset.id) is None


@pytest.mark.parametrize("option", ["memory", "work"])
async def test_a_service_that_does_not_index(option: str, tmp_path: Path) -> None:
    options: Any = {"memory": True} if option == "memory" else {"work": False}
    async with service(Settings(data=tmp_path), {}, **options) as running:
        assert (running.knowledge is None) == (option == "memory")
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert "indexing" not in names


async def test_a_service_without_knowledge_bases_imports_none_of_their_parts(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from headrace.main import service\n"
        "from headrace.settings import Settings\n"
        "async def main():\n"
        "    async with service(Settings(data=Path(sys.argv[1])), {}) as running:\n"
        "        assert not await running.storage.knowledge.is_used()\n"
        "asyncio.run(main())\n"
        "print(*(name for name in sys.modules if 'knowledge' in name))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert set(out.decode().split()) <= {
        "headrace.adapters.knowledge",
        "headrace.adapters.knowledge_answers",
        "headrace.knowledge",
        "headrace.knowledge.router",
        "headrace.knowledge_bases",
        "headrace.nodes.knowledge_retrieval",
        "headrace.ports.services.knowledge",
        "headrace.stores.sql.knowledge_schema",
        "headrace.stores.sql.knowledge_storage",
    }
