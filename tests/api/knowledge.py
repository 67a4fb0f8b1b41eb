"""A Headrace in the test's process with knowledge bases, in a SQLite file or on PostgreSQL."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from headrace.access.console import ConsoleAccess
from headrace.access.keys import KNOWLEDGE, Rights
from headrace.adapters.documents import DocumentReader
from headrace.adapters.files import limit_for
from headrace.adapters.vectors import vector_index
from headrace.api.app import ApiOptions, Knowledge, create_app
from headrace.api.native import NativeServices
from headrace.knowledge.embedding import Embedder
from headrace.knowledge.indexing import Indexer
from headrace.knowledge.parsing import DocumentParser
from headrace.knowledge.questions import ChunkWriter
from headrace.knowledge.retrieval import Retriever
from headrace.knowledge.service import KnowledgeService
from headrace.main import Service, service
from headrace.settings import Settings
from tests.api.declared import check_response
from tests.knowledge.knowledge_base import FakeEmbeddings, FakeModels
from tests.native.calling import Answer, Caller
from tests.official.world import multipart

AUTOMATIC = {"mode": "automatic"}
on_both = pytest.mark.parametrize("database_url", ["", "postgresql_url"], indirect=True, ids=["sqlite", "postgresql"])
"""A test on both databases: see `database_url`."""


@dataclass(frozen=True)
class Bases:
    """Calls the API with a knowledge key; every response is held against the description. Documents are indexed when
    the test says so."""

    running: Service
    api: Any
    caller: Caller
    indexer: Indexer
    embeddings: FakeEmbeddings

    async def call(self, method: str, path: str, **request: Any) -> Answer:
        answer = await self.caller(method, f"/v1{path}", **request)
        if answer.body and "zip" not in answer.headers["content-type"]:
            check_response(method, f"/v1{path.partition('?')[0]}", answer.status, answer.json)
        return answer

    async def good(self, method: str, path: str, **request: Any) -> Any:
        answer = await self.call(method, path, **request)
        assert answer.status in (200, 201, 204), answer
        return answer.json if answer.body else None

    async def error(self, method: str, path: str, **request: Any) -> tuple[int, str, str]:
        """(status, code, message)"""
        answer = await self.call(method, path, **request)
        assert answer.status >= 400, answer
        return answer.status, answer.json["code"], answer.json["message"]

    async def create(self, name: str = "Manuals", **fields: Any) -> str:
        """The path of a new knowledge base."""
        created = await self.good("POST", "/datasets", json={"name": name, "indexing_technique": "economy", **fields})
        return f"/datasets/{created['id']}"

    async def write(self, base: str, text: str = "The pump starts.", name: str = "pump.md", **fields: Any) -> Any:
        """A new document that is not indexed yet, and its batch."""
        body = {"name": name, "text": text, "process_rule": AUTOMATIC, **fields}
        return await self.good("POST", f"{base}/document/create-by-text", json=body)

    async def upload(
        self, path: str, content: bytes, name: str = "pump.md", method: str = "POST", **settings: Any
    ) -> Answer:
        body, headers = multipart({"data": json.dumps(settings)}, (name, "text/markdown", content))
        return await self.call(method, path, body=body, headers=headers)

    async def of(self, workspace: str) -> Bases:
        """The same with a key of another workspace."""
        return replace(self, caller=Caller(self.api, await key_of(self.running, workspace)))

    def calling(self, key: str | None) -> Bases:
        """The same with another key, or none."""
        return replace(self, caller=Caller(self.api, key))

    async def index(self) -> None:
        """Indexes all that there is to index now."""
        assert self.running.storage.knowledge is not None
        store = self.running.storage.knowledge.open()
        while await store.documents.next_due() == 0.0:
            await self.indexer.work()

    async def indexed(self, base: str, text: str, name: str = "pump.md", **fields: Any) -> str:
        """The path of a new document, which is indexed."""
        created = await self.write(base, text, name, **fields)
        await self.index()
        path = f"{base}/documents/{created['document']['id']}"
        detail = await self.good("GET", path)
        assert (detail["indexing_status"], detail["error"]) == ("completed", None), detail
        return path


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """For `bases_in`; SQLite's, unless a test is `on_both`."""
    name = getattr(request, "param", "")
    return request.getfixturevalue(name) if name else ""


async def key_of(running: Service, workspace: str) -> str:
    return (await running.apps.access.create(Rights(workspace, frozenset({KNOWLEDGE})), "test"))[1]


@asynccontextmanager
async def bases_in(folder: Path, plans: str = "", database_url: str = "") -> AsyncGenerator[Bases]:
    settings = Settings(data=folder, database_url=database_url)
    if plans:
        (folder / "plans.yml").write_text(plans)
        settings = settings.model_copy(update={"plans": folder / "plans.yml"})
    async with service(settings, {}, work=False, limited=True) as running:
        assert running.storage.knowledge is not None
        store, embeddings = running.storage.knowledge.open(), FakeEmbeddings()
        embedder = Embedder(embeddings, store.embeddings, time.time)
        writer = ChunkWriter(FakeModels(), "openai/gpt")
        indexer = Indexer(store, DocumentParser(running.files, DocumentReader(), writer), embedder, writer)
        knowledge = KnowledgeService(store, running.files, embedder, wake=indexer.wake)
        retriever = Retriever(store, embedder, None, vector_index)
        options = ApiOptions(limit_for=limit_for, console=ConsoleAccess(running.secret, "default"))
        api = create_app(
            running.apps,
            running.run_service,
            running.files,
            options,
            NativeServices(
                running.storage.idempotency, running.webhook_sender, running.batch_runner, running.subscriptions
            ),
            knowledge=Knowledge(lambda: knowledge, lambda: retriever),
        )
        yield Bases(running, api, Caller(api, await key_of(running, "default")), indexer, embeddings)
