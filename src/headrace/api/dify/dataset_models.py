"""The models that knowledge bases use, by their type."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.dify.dataset_access import KnowledgeRoutes
from headrace.api.dify.schemas import dataset_settings as settings
from headrace.api.dify.schemas import datasets as schemas
from headrace.api.http.params import MODEL_TYPES
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation
from headrace.errors import InvalidParam
from headrace.ports.knowledge import Dataset

_PAGE = 100
_BAD_TYPE = InvalidParam(f"model_type: Input should be one of {', '.join(MODEL_TYPES)}")


class DatasetModelRoutes(KnowledgeRoutes):
    """`/v1/workspaces/current/models/model-types/{model_type}`."""

    tag = "Models"

    @Operation("GET", "/workspaces/current/models/model-types/{model_type}", schemas.MODELS, errors=(_BAD_TYPE,))
    async def list_knowledge_models(self, request: Request) -> Response:
        """List models.

        Those that the workspace's knowledge bases use (text-embedding, rerank). There is no list of all: any model is
        accepted that its provider has, if the server has the provider's credentials.
        """
        principal = await self.api.knowledge_principal(request)
        type_ = request.path_params["model_type"]
        if type_ not in MODEL_TYPES:
            raise _BAD_TYPE
        models: defaultdict[str, dict[str, None]] = defaultdict(dict)
        for dataset in await self._datasets(principal.workspace):
            for provider, model in _used(dataset, type_):
                models[provider][model] = None
        response: schemas.ModelProviders = {
            "data": [
                {
                    "provider": provider,
                    "label": _label(provider.rpartition("/")[2]),
                    "icon_small": None,
                    "icon_small_dark": None,
                    "status": "active",
                    "models": [_body(model, type_) for model in sorted(names)],
                    "tenant_id": principal.workspace,
                }
                for provider, names in sorted(models.items())
            ]
        }
        return json_response(response)

    async def _datasets(self, workspace: str) -> Sequence[Dataset]:
        datasets: list[Dataset] = []
        total = 1
        while len(datasets) < total:
            page, total = await self.knowledge.store.datasets.datasets(workspace, offset=len(datasets), limit=_PAGE)
            datasets += page
            if not page:
                break
        return datasets


def _used(dataset: Dataset, type_: str) -> Iterator[tuple[str, str]]:
    """(provider, model) of each model of this type that a knowledge base uses."""
    if type_ == "text-embedding" and dataset.embedding_model:
        yield dataset.embedding_provider, dataset.embedding_model
    if type_ == "rerank":
        model = cast("settings.RetrievalModel", dict(dataset.retrieval_model)).get("reranking_model") or {}
        provider, name = model.get("reranking_provider_name"), model.get("reranking_model_name")
        if provider and name:
            yield provider, name


def _body(model: str, type_: str) -> schemas.ModelBody:
    return {
        "model": model,
        "label": _label(model),
        "model_type": type_,
        "features": [],
        "fetch_from": "customizable-model",
        "model_properties": {},
        "status": "active",
        "deprecated": False,
        "load_balancing_enabled": False,
        "has_invalid_load_balancing_configs": False,
    }


def _label(name: str) -> schemas.Label:
    return {"en_US": name, "zh_Hans": name}
