"""`headrace knowledge`: documents for knowledge bases. Works on a data folder with or without a running server."""

from __future__ import annotations

import asyncio
import json
import mimetypes
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.cli.apps import json_option
from headrace.cli.catalog import installation, when
from headrace.cli.shared import BadUsage, data_option, printable_lines, say, table, wait_for

if TYPE_CHECKING:
    from headrace.knowledge.service import DocumentSettings, KnowledgeService
    from headrace.knowledge_bases import KnowledgeBases
    from headrace.ports.knowledge import Dataset, DatasetChanges, Document, Technique

_CLI = "cli"  # who created what the commands create
_PAGE = 100
_LONGEST_NAME = 40  # characters, as in the API
_POLL_SECONDS = 0.2  # between looks whether documents are indexed

workspace_option = click.option(
    "--workspace", metavar="NAME", help="The workspace.  [HEADRACE_WORKSPACE; default: default]"
)


@click.group()
def knowledge() -> None:
    """Adds documents to knowledge bases, indexes, lists, searches and removes them.

    BASE is the name of a knowledge base, or its id. A server that runs on the same data folder notices.
    """


@knowledge.command("add", short_help="Adds files to a knowledge base.")
@click.argument("base")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--economy", is_flag=True, help="A new knowledge base finds chunks by their keywords, without a model.")
@click.option(
    "--embedding",
    metavar="PROVIDER/MODEL",
    help="The embedding model of a new knowledge base.  [HEADRACE_EMBEDDING_MODEL]",
)
@workspace_option
@data_option
def add(
    base: str, files: tuple[Path, ...], economy: bool, embedding: str | None, workspace: str | None, data: Path | None
) -> None:
    """Adds FILES to the knowledge base BASE, which is created if there is none of that name, and indexes them.

    Prints the ids of the documents. The exit code is 1 if one of them could not be indexed."""
    if economy and embedding:
        raise BadUsage("--economy needs no embedding model: leave out --embedding")
    provider, _, model = (embedding or "").rpartition("/")
    if embedding and not (provider and model):
        raise BadUsage("--embedding is PROVIDER/MODEL, such as openai/text-embedding-3-small")
    technique: Technique = "economy" if economy else "high_quality"
    changes: DatasetChanges = {"technique": technique}
    if embedding:
        changes |= {"embedding_provider": provider, "embedding_model": model}

    async def work() -> bool:
        async with _opened(data, workspace, indexing=True) as (bases, of):
            service = bases.service
            dataset = await _find(service, of, base)
            is_new = dataset is None
            if dataset is None:
                if not base.strip() or len(base) > _LONGEST_NAME:
                    raise BadUsage(f"the name of a knowledge base has 1 to {_LONGEST_NAME} characters")
                dataset = await service.create(of, _CLI, base, changes)
            settings: DocumentSettings = {"technique": dataset.technique or technique}
            documents: list[Document] = []
            try:
                for file in files:
                    mime_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
                    with file.open("rb") as content:
                        documents.append(
                            await service.add_document(dataset, _CLI, content, file.name, mime_type, settings)
                        )
            finally:
                if is_new and not documents:  # the first file was refused
                    await service.delete(dataset)
            return await _indexed(service, dataset, documents)

    if not wait_for(work()):
        raise SystemExit(1)


@knowledge.command("list", short_help="Lists knowledge bases, or the documents of one.")
@click.argument("base", required=False)
@workspace_option
@json_option
@data_option
def list_(base: str | None, workspace: str | None, as_json: bool, data: Path | None) -> None:
    """Lists all knowledge bases of a workspace, or the documents of BASE."""

    async def work() -> None:
        async with _opened(data, workspace) as (bases, of):
            service = bases.service
            if base is None:
                datasets = await _datasets(service, of)
                counts = await service.store.datasets.count_documents([dataset.id for dataset in datasets])
                head = ("ID", "NAME", "TECHNIQUE", "DOCUMENTS", "CREATED")
                rows = [
                    (
                        dataset.id,
                        dataset.name,
                        dataset.technique or "",
                        str(counts[dataset.id].documents if dataset.id in counts else 0),
                        when(dataset.created_at),
                    )
                    for dataset in datasets
                ]
                nothing = f"There are no knowledge bases in the workspace '{of}' yet."
            else:
                documents = await _documents(service, await _existing(service, of, base))
                progress = await service.store.segments.progress([document.id for document in documents])
                head = ("ID", "NAME", "STATUS", "SEGMENTS", "CREATED")
                rows = [
                    (
                        document.id,
                        document.name,
                        document.status if document.error is None else f"{document.status}: {document.error}",
                        str(progress[document.id].total if document.id in progress else 0),
                        when(document.created_at),
                    )
                    for document in documents
                ]
                nothing = "There are no documents yet."
        if as_json:
            fields = [name.lower() for name in head]
            click.echo(json.dumps([dict(zip(fields, row, strict=True)) for row in rows], ensure_ascii=False, indent=2))
        elif rows:
            click.echo(table([head, *rows]))
        else:
            say(nothing)

    wait_for(work())


@knowledge.command(short_help="Searches a knowledge base.")
@click.argument("base")
@click.argument("query")
@workspace_option
@data_option
def search(base: str, query: str, workspace: str | None, data: Path | None) -> None:
    """Prints what a search for QUERY finds in BASE, best first, with the scores."""

    from headrace.knowledge.retrieval import parse_settings

    async def work() -> None:
        async with _opened(data, workspace) as (bases, of):
            service = bases.service
            dataset = await _existing(service, of, base)
            settings = parse_settings(dataset.retrieval_model)
            hits = await bases.retriever.retrieve(dataset, query, settings)
        for hit in hits:
            score = "" if hit.score is None else f" {hit.score:.3f}"
            click.echo(
                printable_lines(f"[{hit.document.name} #{hit.segment.position}{score}]\n{hit.segment.content}\n")
            )
        if not hits:
            say("Nothing was found.")

    wait_for(work())


@knowledge.command("rm", short_help="Removes a document, or a knowledge base.")
@click.argument("base")
@click.argument("document", required=False)
@workspace_option
@data_option
def remove(base: str, document: str | None, workspace: str | None, data: Path | None) -> None:
    """Removes DOCUMENT (its id or name) from BASE, or BASE with all its documents."""

    async def work() -> None:
        async with _opened(data, workspace) as (bases, of):
            service = bases.service
            dataset = await _existing(service, of, base)
            if document is None:
                await service.delete(dataset)
                return
            await service.delete_document(await _document(service, dataset, document))

    wait_for(work())


@knowledge.command(short_help="Pauses the indexing of a document.")
@click.argument("base")
@click.argument("document")
@workspace_option
@data_option
def pause(base: str, document: str, workspace: str | None, data: Path | None) -> None:
    """Pauses the indexing of DOCUMENT (its id or name) in BASE. What is indexed already stays so."""

    async def work() -> None:
        async with _opened(data, workspace) as (bases, of):
            dataset = await _existing(bases.service, of, base)
            await bases.service.pause(dataset, await _document(bases.service, dataset, document))

    wait_for(work())


@knowledge.command(short_help="Continues to index a document.")
@click.argument("base")
@click.argument("document")
@workspace_option
@data_option
def resume(base: str, document: str, workspace: str | None, data: Path | None) -> None:
    """Continues to index DOCUMENT (its id or name) in BASE, which was paused or has failed.

    Prints its id. The exit code is 1 if it could not be indexed."""

    async def work() -> bool:
        async with _opened(data, workspace, indexing=True) as (bases, of):
            dataset = await _existing(bases.service, of, base)
            document_record = await _document(bases.service, dataset, document)
            return await _indexed(bases.service, dataset, [await bases.service.resume(dataset, document_record)])

    if not wait_for(work()):
        raise SystemExit(1)


# ------------------------------------------------------------------------------------------------------------ internals


@asynccontextmanager
async def _opened(
    data: Path | None, workspace: str | None, *, indexing: bool = False
) -> AsyncGenerator[tuple[KnowledgeBases, str]]:
    """(the knowledge bases of a data folder, the workspace); with `indexing` documents are indexed here, too."""
    async with installation(data, create=True) as running:
        bases = running.knowledge
        assert bases is not None
        async with bases.running(index=True) if indexing else nullcontext():
            yield bases, workspace or running.settings.workspace


async def _indexed(service: KnowledgeService, dataset: Dataset, documents: Sequence[Document]) -> bool:
    """Prints each document when it is indexed. False if one of them could not be."""
    waiting, failed = {document.id for document in documents}, False
    while waiting:
        for document in await service.store.documents.documents_by_id(dataset.id, waiting):
            if document.status == "completed":
                click.echo(document.id)
            elif document.status in ("error", "paused"):
                failed = True
                say(f"{document.name} ({document.id}): {document.error or document.status}")
            else:
                continue
            waiting.remove(document.id)
        await asyncio.sleep(_POLL_SECONDS if waiting else 0)
    return not failed


async def _datasets(service: KnowledgeService, workspace: str) -> list[Dataset]:
    datasets: list[Dataset] = []
    total = 1
    while len(datasets) < total:
        page, total = await service.store.datasets.datasets(workspace, offset=len(datasets), limit=_PAGE)
        if not page:
            break
        datasets += page
    return datasets


async def _documents(service: KnowledgeService, dataset: Dataset) -> list[Document]:
    from headrace.ports.knowledge import DocumentFilter

    documents: list[Document] = []
    total = 1
    while len(documents) < total:
        page, total = await service.store.documents.documents(
            dataset.id, DocumentFilter(offset=len(documents), limit=_PAGE)
        )
        if not page:
            break
        documents += page
    return documents


async def _document(service: KnowledgeService, dataset: Dataset, name: str) -> Document:
    """The document with this id or name."""
    documents = [item for item in await _documents(service, dataset) if name in (item.id, item.name)]
    if len(documents) != 1:
        ids = f": {', '.join(item.id for item in documents)}" if documents else ""
        raise BadUsage(f"'{name}' names {len(documents)} documents of '{dataset.name}'{ids}")
    return documents[0]


async def _find(service: KnowledgeService, workspace: str, name: str) -> Dataset | None:
    """The knowledge base with this id or name."""
    datasets = await _datasets(service, workspace)
    return next((dataset for dataset in datasets if name in (dataset.id, dataset.name)), None)


async def _existing(service: KnowledgeService, workspace: str, name: str) -> Dataset:
    dataset = await _find(service, workspace, name)
    if dataset is None:
        raise BadUsage(f"no knowledge base has the name or id '{name}' (see `headrace knowledge list`)")
    return dataset
