"""Knowledge pipelines: files for them, their datasources, and their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import httpx

from headrace_client._async.dataset_calls import AsyncDatasetResource, dataset_path
from headrace_client._async.recovery import AsyncRecovery
from headrace_client._async.streams import AsyncStream
from headrace_client._async.transport import Timeout
from headrace_client.dataset_models import DatasourcePlugin, PipelineFile, PipelineRun
from headrace_client.errors import APIConnectionError
from headrace_client.event_reader import EventReader
from headrace_client.response_model import Page

if TYPE_CHECKING:
    from headrace_client.dataset_settings import DatasourceType

_ENDS = frozenset({"datasource_completed", "datasource_error", "error"})


class AsyncPipelines(AsyncDatasetResource):
    """Calls for pipelines."""

    async def upload_pipeline_file(
        self, file: Any, *, filename: str | None = None, timeout: Timeout = None
    ) -> PipelineFile:
        """Uploads a file for a pipeline; its `id` is the `reference` of a file in `run_pipeline`."""
        return await self._upload(PipelineFile, "/v1/datasets/pipeline/file-upload", file, filename, None, timeout)

    async def get_datasource_plugins(
        self, dataset_id: str, *, is_published: bool = True, timeout: Timeout = None
    ) -> list[DatasourcePlugin]:
        """The datasources of a knowledge base's pipeline, published or as a draft."""
        path = dataset_path(dataset_id, "pipeline", "datasource-plugins")
        return await self._list(Page[DatasourcePlugin], path, timeout, {"is_published": str(is_published).lower()})

    def stream_datasource_node(
        self,
        dataset_id: str,
        node_id: str,
        datasource_type: DatasourceType,
        *,
        inputs: Mapping[str, Any] | None = None,
        credential_id: str | None = None,
        is_published: bool = True,
        timeout: Timeout = None,
    ) -> AsyncStream:
        """Runs a datasource and streams its events (`datasource_processing`, `datasource_completed`). A stream that is
        cut is not resumed."""
        path = dataset_path(dataset_id, "pipeline", "datasource", "nodes", node_id, "run")
        body: dict[str, Any] = {
            "inputs": dict(inputs or {}),
            "datasource_type": datasource_type,
            "is_published": is_published,
        }
        if credential_id is not None:
            body["credential_id"] = credential_id

        async def start() -> httpx.Response:
            return await self._transport.request("POST", path, json=body, timeout=timeout, repeat=False, stream=True)

        session = self._session
        return AsyncStream(start, _NoRecovery(session, session.user, session.polling), EventReader(_ENDS))

    async def run_pipeline(
        self,
        dataset_id: str,
        start_node_id: str,
        datasources: Sequence[Mapping[str, Any]],
        *,
        datasource_type: DatasourceType = "local_file",
        inputs: Mapping[str, Any] | None = None,
        is_published: bool = True,
        timeout: Timeout = None,
    ) -> PipelineRun:
        """Runs a pipeline for datasources: for files `{"reference": id, "name": ...}` each. A published pipeline's run
        returns at once with its documents: see `wait_until_indexed`; a draft's when it has ended."""
        body = {
            "inputs": dict(inputs or {}),
            "datasource_type": datasource_type,
            "datasource_info_list": [dict(datasource) for datasource in datasources],
            "start_node_id": start_node_id,
            "is_published": is_published,
            "response_mode": "blocking",
        }
        path = dataset_path(dataset_id, "pipeline", "run")
        return await self._call(PipelineRun, "POST", path, body, timeout=timeout, repeat=False)


class _NoRecovery(AsyncRecovery):
    """For a stream without a run that could be read."""

    async def resume(self, reader: EventReader) -> httpx.Response | None:
        return None

    async def fetch_outcome(self, reader: EventReader) -> list[dict[str, Any]]:
        raise APIConnectionError("a datasource's stream cannot be resumed")
