"""Knowledge bases: create, list, change and search them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace_client._async.core import encode_segment
from headrace_client._async.dataset_calls import dataset_path
from headrace_client._async.dataset_metadata import AsyncDatasetMetadata
from headrace_client._async.documents import AsyncDocuments
from headrace_client._async.pages import AsyncPages
from headrace_client._async.pipelines import AsyncPipelines
from headrace_client._async.segments import AsyncSegments
from headrace_client._async.transport import Timeout
from headrace_client.dataset_models import Dataset, ModelProvider, Retrieved
from headrace_client.response_model import Page

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from headrace_client.dataset_settings import DatasetChanges, DatasetSettings, RetrievalOptions


class AsyncDatasets(AsyncDocuments, AsyncSegments, AsyncDatasetMetadata, AsyncPipelines):
    """Knowledge bases: `client.datasets`. The client's key is a knowledge key (`dataset-...`)."""

    async def create_dataset(
        self, name: str, *, timeout: Timeout = None, **settings: Unpack[DatasetSettings]
    ) -> Dataset:
        """Creates an empty knowledge base. ConflictError if there is one of this name. `settings`: see
        `DatasetSettings`."""
        return await self._call(
            Dataset, "POST", "/v1/datasets", {"name": name, **settings}, timeout=timeout, repeat=False
        )

    def list_datasets(
        self,
        *,
        keyword: str | None = None,
        tag_ids: Sequence[str] | None = None,
        include_all: bool | None = None,
        limit: int = 20,
        page: int = 1,
    ) -> AsyncPages[Dataset]:
        """The knowledge bases of the key's workspace, newest first. `keyword`: text in the name; `tag_ids`: only those
        with one of these tags. A page has at most 100."""
        params = {
            "keyword": keyword,
            "tag_ids": None if tag_ids is None else list(tag_ids),
            "include_all": None if include_all is None else str(include_all).lower(),
            "limit": limit,
        }
        return self._pages(Page[Dataset], "/v1/datasets", params, page)

    async def get_dataset(self, dataset_id: str, *, timeout: Timeout = None) -> Dataset:
        """A knowledge base."""
        return await self._call(Dataset, "GET", dataset_path(dataset_id), timeout=timeout)

    async def update_dataset(
        self, dataset_id: str, *, timeout: Timeout = None, **changes: Unpack[DatasetChanges]
    ) -> Dataset:
        """Changes a knowledge base. Another embedding model indexes all its documents again. `changes`: see
        `DatasetChanges`."""
        return await self._call(Dataset, "PATCH", dataset_path(dataset_id), {**changes}, timeout=timeout)

    async def delete_dataset(self, dataset_id: str, *, timeout: Timeout = None) -> None:
        """Deletes a knowledge base and its documents."""
        await self._send("DELETE", dataset_path(dataset_id), timeout=timeout)

    async def retrieve(
        self, dataset_id: str, query: str, *, timeout: Timeout = None, **options: Unpack[RetrievalOptions]
    ) -> Retrieved:
        """Searches a knowledge base (hit testing). `options`: see `RetrievalOptions`."""
        path = dataset_path(dataset_id, "retrieve")
        return await self._call(Retrieved, "POST", path, {"query": query, **options}, timeout=timeout)

    async def get_models(self, model_type: str = "text-embedding", *, timeout: Timeout = None) -> list[ModelProvider]:
        """The models of a type, by provider: text-embedding, rerank, llm, tts, speech2text or moderation."""
        path = f"/v1/workspaces/current/models/model-types/{encode_segment(model_type)}"
        return (await self._call(Page[ModelProvider], "GET", path, timeout=timeout)).data
