"""Knowledge bases as the API and the commands use them: the rules of datasets and documents.

A failure is a RequestError with Dify's code. A document is stored at once, and indexed by the `Indexer`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import IO, Literal, TypedDict

from headrace.errors import InvalidParam, NotFound, RequestError
from headrace.ids import new_id
from headrace.knowledge.embedding import Embedder
from headrace.knowledge.process_rules import ProcessRuleSettings, process_rule
from headrace.knowledge.segments import SegmentService, check_editable
from headrace.ports.knowledge import (
    UNFINISHED,
    Dataset,
    DatasetChanges,
    DocForm,
    Document,
    DocumentChanges,
    ProcessRule,
    Technique,
)
from headrace.ports.knowledge_store import KnowledgeStore
from headrace.ports.services import Files
from headrace.values import Value

StatusAction = Literal["enable", "disable", "archive", "un_archive"]

DEFAULT_RETRIEVAL: dict[str, Value] = {
    "search_method": "semantic_search",
    "reranking_enable": False,
    "reranking_model": {"reranking_provider_name": "", "reranking_model_name": ""},
    "top_k": 4,
    "score_threshold_enabled": False,
}
_NAME_TAKEN = "The dataset name already exists. Please modify your dataset name."
_ANEW: DocumentChanges = {
    "status": "waiting",
    "error": None,
    "processing_started_at": None,
    "parsing_completed_at": None,
    "cleaning_completed_at": None,
    "splitting_completed_at": None,
    "completed_at": None,
    "paused_at": None,
    "stopped_at": None,
}


class DocumentSettings(TypedDict, total=False):
    """What a caller may decide of a document, and with the first one of its dataset."""

    technique: Technique
    doc_form: DocForm
    doc_language: str
    process_rule: ProcessRuleSettings
    retrieval_model: dict[str, Value]
    embedding_model: str
    embedding_provider: str


class KnowledgeService:
    """`wake` says that there is something to index. `default_embedding` is PROVIDER/MODEL, for datasets whose caller
    names none."""

    def __init__(
        self,
        store: KnowledgeStore,
        files: Files,
        embedder: Embedder,
        *,
        wake: Callable[[], None],
        default_embedding: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.segments = SegmentService(store, embedder, clock)
        self._files = files
        self._embedder = embedder
        self._wake = wake
        self._default_embedding = default_embedding
        self._clock = clock

    # ------------------------------------------------------------------------------------------------------ datasets

    async def create(self, workspace: str, by: str, name: str, settings: DatasetChanges) -> Dataset:
        now = self._clock()
        dataset = Dataset(new_id(), workspace, name, now, now, created_by=by, updated_by=by)
        changes: DatasetChanges = {"retrieval_model": DEFAULT_RETRIEVAL, **settings}
        if changes.get("technique") == "high_quality":
            changes |= self._embedding_model(changes.get("embedding_provider", ""), changes.get("embedding_model", ""))
        if not await self.store.datasets.add_dataset(replace(dataset, **changes)):
            raise RequestError(_NAME_TAKEN, "dataset_name_duplicate", 409)
        return await self.dataset(workspace, dataset.id)

    async def dataset(self, workspace: str, id_: str) -> Dataset:
        dataset = await self.store.datasets.find_dataset(workspace, id_)
        if dataset is None:
            raise NotFound("Dataset not found.")
        return dataset

    async def update(self, dataset: Dataset, by: str, changes: DatasetChanges) -> Dataset:
        """Changes a dataset; another embedding model, or technique, indexes its documents anew."""
        if (changes.get("technique") or dataset.technique) == "high_quality":
            provider = changes.get("embedding_provider", dataset.embedding_provider)
            changes |= self._embedding_model(provider, changes.get("embedding_model", dataset.embedding_model))
        if not await self.store.datasets.change_dataset(
            dataset.id, {**changes, "updated_at": self._clock(), "updated_by": by}
        ):
            await self.dataset(dataset.workspace, dataset.id)
            raise InvalidParam("Dataset name already exists")
        updated = await self.dataset(dataset.workspace, dataset.id)
        if _indexed_by(updated) != _indexed_by(dataset):
            await self.store.documents.index_again(dataset.id)
            self._wake()
        return updated

    async def delete(self, dataset: Dataset) -> None:
        if not await self.store.datasets.remove_dataset(dataset.id):
            raise NotFound("Dataset not found.")
        self._wake()

    def embedding_available(self, dataset: Dataset) -> bool:
        """Whether the embedding model of a dataset can be called, if it needs one."""
        if dataset.technique != "high_quality":
            return True
        return self._embedder.embeddings.missing(dataset.embedding_provider) is None

    def _embedding_model(self, provider: str, model: str) -> DatasetChanges:
        """The embedding model of a dataset. RequestError if it cannot be called."""
        if not (provider and model):
            provider, _, model = self._default_embedding.rpartition("/")
        if not (provider and model):
            raise RequestError(
                "No embedding model is set: name one, or set HEADRACE_EMBEDDING_MODEL to PROVIDER/MODEL.",
                "provider_not_initialize",
                400,
            )
        if (problem := self._embedder.embeddings.missing(provider)) is not None:
            raise RequestError(problem, "provider_not_initialize", 400)
        return {"embedding_provider": provider, "embedding_model": model}

    # ----------------------------------------------------------------------------------------------------- documents

    async def document(self, dataset: Dataset, id_: str) -> Document:
        document = await self.store.documents.find_document(dataset.id, id_)
        if document is None:
            raise NotFound("Document not found.")
        return document

    async def add_document(
        self,
        dataset: Dataset,
        by: str,
        content: bytes | IO[bytes],
        filename: str,
        mime_type: str,
        settings: DocumentSettings,
        name: str | None = None,
    ) -> Document:
        """Adds a document by its content, a text or a file; without a name it has that of the file."""
        rule = self._process_rule(dataset, settings)
        dataset = await self._settle(dataset, settings, rule)
        file = await self._save(content, filename, mime_type)
        [added] = await self._add(dataset, by, rule, [(file, name or filename)], settings.get("doc_language"))
        return added

    async def add_stored_files(self, dataset: Dataset, by: str, files: Sequence[tuple[str, str]]) -> list[Document]:
        """Adds a document for each stored file, by its id and name, as the dataset has decided. They are one batch."""
        rule = self._process_rule(dataset, {})
        return await self._add(await self._settle(dataset, {}, rule), by, rule, files, created_from="rag-pipeline")

    async def _add(
        self,
        dataset: Dataset,
        by: str,
        rule: ProcessRule,
        files: Sequence[tuple[str, str]],
        language: str | None = None,
        created_from: str = "api",
    ) -> list[Document]:
        batch = f"{time.strftime('%Y%m%d%H%M%S', time.gmtime(self._clock()))}{100_000 + secrets.randbelow(900_000)}"
        documents: list[Document] = []
        for file, name in files:
            document = Document(
                new_id(),
                dataset.id,
                name,
                file,
                batch,
                self._clock(),
                self._clock(),
                rule,
                dataset.doc_form or "text_model",
                doc_language=language or "English",
                created_from=created_from,
                created_by=by,
                need_summary=bool(dataset.summary_index.get("enable")),
            )
            added = await self.store.documents.add_document(document)
            if added is None:
                raise NotFound("Dataset not found.")
            documents.append(added)
        await self.store.datasets.change_dataset(dataset.id, {"process_rule": rule})
        self._wake()
        return documents

    async def update_document(
        self,
        dataset: Dataset,
        document: Document,
        settings: DocumentSettings,
        content: bytes | IO[bytes] | None = None,
        filename: str | None = None,
        mime_type: str = "",
        name: str | None = None,
    ) -> Document:
        """Replaces the content of a document, or how it is split; it is indexed anew."""
        check_editable(document)
        if document.status != "completed" or not document.enabled:
            raise RequestError("Document is not available", "invalid_param", 400)
        if (form := settings.get("doc_form", dataset.doc_form)) != dataset.doc_form:
            raise _other_form(form)
        changes: DocumentChanges = {**_ANEW, "updated_at": self._clock()}
        if "process_rule" in settings:
            rule = changes["process_rule"] = self._process_rule(dataset, settings)
            await self.store.datasets.change_dataset(dataset.id, {"process_rule": rule})
        if "doc_language" in settings:
            changes["doc_language"] = settings["doc_language"]
        if name or filename:
            changes["name"] = name or filename or ""
        if content is not None:
            changes["file"] = await self._save(content, filename or document.name, mime_type)
        return await self._restart(dataset, document, changes)

    async def set_status(self, dataset: Dataset, ids: Collection[str], action: StatusAction, by: str) -> None:
        """Enables, disables, archives documents, or ends that; those that are so already stay as they are. All or
        none: RequestError if one of them is not indexed."""
        documents = await self.store.documents.documents_by_id(dataset.id, ids)
        now = self._clock()
        for document in documents:
            if document.status in UNFINISHED:
                message = f"Document:{document.name} is being indexed, please try again later"
                raise RequestError(message, "invalid_action", 400)
            if action == "disable" and document.status != "completed":
                raise RequestError(f"Document: {document.name} is not completed.", "invalid_action", 400)
        changes: DocumentChanges
        match action:
            case "enable":
                changes = {"enabled": True, "disabled_at": None, "disabled_by": None, "updated_at": now}
            case "disable":
                changes = {"enabled": False, "disabled_at": now, "disabled_by": by, "updated_at": now}
            case _:
                changes = {"archived": action == "archive", "updated_at": now}
        for document in documents:
            is_so = document.archived if action in ("archive", "un_archive") else document.enabled
            if is_so != (action in ("enable", "archive")):
                await self.store.documents.change_document(document.id, changes)

    async def pause(self, dataset: Dataset, document: Document) -> Document:
        if document.status not in UNFINISHED:
            raise _indexing("The document is not being indexed.")
        return await self._restart(dataset, document, {"status": "paused", "paused_at": self._clock()})

    async def resume(self, dataset: Dataset, document: Document) -> Document:
        """Continues to index a document that was paused or has failed."""
        if document.status not in ("paused", "error"):
            raise _indexing("The document is neither paused nor in error.")
        is_split = document.splitting_completed_at is not None
        status = "indexing" if is_split else "waiting"
        changes: DocumentChanges = {"status": status, "error": None, "paused_at": None, "stopped_at": None}
        return await self._restart(dataset, document, changes)

    async def rename_document(self, dataset: Dataset, document: Document, name: str) -> Document:
        check_editable(document)
        if not await self.store.documents.change_document(document.id, {"name": name, "updated_at": self._clock()}):
            raise NotFound("Document not found.")
        return await self.document(dataset, document.id)

    async def delete_document(self, document: Document) -> None:
        check_editable(document)
        if not await self.store.documents.remove_document(document.id):
            raise NotFound("Document not found.")
        self._wake()

    # ----------------------------------------------------------------------------------------------------- internals

    async def _restart(self, dataset: Dataset, document: Document, changes: DocumentChanges) -> Document:
        if not await self.store.documents.restart_document(document.id, changes):
            raise NotFound("Document not found.")
        self._wake()
        return await self.document(dataset, document.id)

    async def _save(self, content: bytes | IO[bytes], name: str, mime_type: str) -> str:
        file = await self._files.save(content, filename=name, mime_type=mime_type, transfer_method="local_file")
        return file.related_id or ""

    def _process_rule(self, dataset: Dataset, settings: DocumentSettings) -> ProcessRule:
        return process_rule(settings.get("process_rule"), dataset.process_rule)

    async def _settle(self, dataset: Dataset, settings: DocumentSettings, rule: ProcessRule) -> Dataset:
        """The dataset, after its first document has decided what was open."""
        form: DocForm = settings.get("doc_form") or dataset.doc_form or "text_model"
        technique = dataset.technique or settings.get("technique")
        if technique is None:
            raise InvalidParam("indexing_technique is required.")
        if form != "text_model" and technique != "high_quality":
            raise InvalidParam(f"doc_form {form} needs the indexing_technique high_quality.")
        if form == "hierarchical_model" and rule.mode != "hierarchical":
            raise InvalidParam("doc_form hierarchical_model needs a process_rule of the mode hierarchical.")
        if dataset.doc_form is None:
            decided: DatasetChanges = {"doc_form": form, "technique": technique}
            if technique == "high_quality":
                decided |= self._embedding_model(
                    dataset.embedding_provider or settings.get("embedding_provider", ""),
                    dataset.embedding_model or settings.get("embedding_model", ""),
                )
            if "retrieval_model" in settings and dataset.retrieval_model == DEFAULT_RETRIEVAL:
                decided["retrieval_model"] = settings["retrieval_model"]
            await self.store.datasets.settle_dataset(dataset.id, decided)
            dataset = await self.dataset(dataset.workspace, dataset.id)
        if dataset.doc_form != form:
            raise _other_form(form)
        return dataset


def _indexed_by(dataset: Dataset) -> tuple[Technique | None, str, str]:
    return dataset.technique, dataset.embedding_provider, dataset.embedding_model


def _other_form(form: DocForm | None) -> RequestError:
    return InvalidParam(f"doc_form {form} is different from the dataset doc_form.")


def _indexing(message: str) -> RequestError:
    return RequestError(message, "document_indexing", 400)
