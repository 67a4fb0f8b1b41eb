"""knowledge-retrieval: queries knowledge bases. Output `result`: the best passages of all of them.

Each item is `{metadata, title, content}`, with `files` and `summary` if there are any. An llm node takes the list as
its context; `retriever_resources` makes a chat answer's citations of it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeVar, cast

from pydantic import Field, field_validator

from headrace.errors import NodeError
from headrace.kernel.graph import Traits
from headrace.kernel.summary import UsageTotal
from headrace.node import Config, Context, Node, OutputType, Result, SelectorField, null_means_default
from headrace.nodes._base_choice import choose_base
from headrace.nodes._metadata_filter import derive_filter
from headrace.nodes._model_call import ModelConfig, reporting
from headrace.ports.services import DatasetDescription, Passage, Resources, Retrieval, Usage
from headrace.values import Value

T = TypeVar("T")

ERROR = "KnowledgeRetrievalNodeError"
_NO_MODEL = "metadata_filtering_mode 'automatic' needs a model that derives the filter: choose one."
_NO_CHOICE = "retrieval_mode 'single' needs a model that chooses a knowledge base: choose one."
_DIFFERENT = "The configured knowledge base list have different {}, please set reranking model."
_WHITESPACE = re.compile(r"[\r\n\t]+")


class RerankingModel(Config):
    provider: str = ""
    model: str = ""

    _null = null_means_default("provider", "model")


class MultipleRetrieval(Config):
    """How results are chosen: at most `top_k`, none below the threshold; the other fields are for the server."""

    top_k: int = Field(default=4, ge=0)
    score_threshold: float | None = None
    reranking_enable: bool = True
    reranking_mode: str | None = "reranking_model"
    reranking_model: RerankingModel | None = None
    weights: Mapping[str, Any] | None = None

    _null = null_means_default("top_k", "reranking_enable")

    @property
    def by_rerank_model(self) -> bool:
        """Whether a model puts into order what several bases find. It may not be chosen."""
        return self.reranking_enable and self.reranking_mode == "reranking_model"

    @property
    def is_weighted(self) -> bool:
        """Whether weights of scores and keywords do."""
        return self.reranking_enable and self.reranking_mode == "weighted_score"

    def settings(self) -> dict[str, Value]:
        """The settings of Dify's `retrieval_model` given here; {} means those of the knowledge base."""
        if not self.reranking_enable:
            return {"reranking_enable": False}
        if self.is_weighted:
            if not self.weights:
                return {}
            return {"reranking_enable": True, "reranking_mode": "weighted_score", "weights": dict(self.weights)}
        model = self.reranking_model
        if model is None or not (model.provider and model.model):
            return {}
        reranking = {"reranking_provider_name": model.provider, "reranking_model_name": model.model}
        return {"reranking_enable": True, "reranking_mode": "reranking_model", "reranking_model": reranking}


class MetadataCondition(Config):
    name: str
    comparison_operator: str
    value: str | float | Sequence[str] | None = None


class MetadataConditions(Config):
    logical_operator: Literal["and", "or"] = "and"
    conditions: Sequence[MetadataCondition] = ()

    _null = null_means_default("logical_operator", "conditions")


class SingleRetrieval(Config):
    model: ModelConfig


class KnowledgeRetrievalConfig(Config):
    """`retrieval_mode` single: a model chooses one of the bases, which is searched by its own settings."""

    query_variable_selector: SelectorField = ()
    dataset_ids: tuple[str, ...] = ()
    retrieval_mode: Literal["single", "multiple"] = "multiple"
    single_retrieval_config: SingleRetrieval | None = None
    multiple_retrieval_config: MultipleRetrieval = Field(default_factory=MultipleRetrieval)
    metadata_filtering_mode: Literal["disabled", "automatic", "manual"] = "disabled"
    metadata_filtering_conditions: MetadataConditions | None = None
    metadata_model_config: ModelConfig | None = None

    _null = null_means_default(
        "query_variable_selector",
        "dataset_ids",
        "retrieval_mode",
        "multiple_retrieval_config",
        "metadata_filtering_mode",
    )

    @field_validator("dataset_ids")
    @classmethod
    def _unique(cls, ids: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(ids))


class KnowledgeRetrieval(Node[KnowledgeRetrievalConfig]):
    """Queries all knowledge bases at once, or the one that a model chooses; if one fails, so does the node
    (KnowledgeRetrievalNodeError)."""

    type = "knowledge-retrieval"
    traits: ClassVar[Traits] = Traits(calls_service=True, cites=True)
    partial: ClassVar[bool] = True
    notes: ClassVar[str] = (
        "searches its workspace's own bases, a Dify, or an external knowledge API; no search by image"
    )

    def missing_requirements(self, resources: Resources) -> Iterable[str]:
        messages = [resources.knowledge.missing(dataset) for dataset in self.config.dataset_ids]
        if self.config.metadata_filtering_mode == "automatic":
            model = self.config.metadata_model_config
            messages += model.missing(resources) if model else [_NO_MODEL]
        if self.config.retrieval_mode == "single":
            single = self.config.single_retrieval_config
            messages += single.model.missing(resources) if single else [_NO_CHOICE]
        return tuple(dict.fromkeys(message for message in messages if message))

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {"result": OutputType("array[object]")}

    async def run(self, ctx: Context) -> Result:
        config = self.config
        if not config.query_variable_selector:
            return Result({})  # as in Dify if no query is connected
        query = ctx.variables.get(config.query_variable_selector)
        if not isinstance(query, str):
            raise NodeError("Query variable is not string type.", ERROR)
        inputs = {"query": query}
        with reporting(inputs):
            passages, usage = await self.find(ctx, query)
        return Result({"result": passages}, inputs, {"usage": usage}, usage=usage)

    async def find(self, ctx: Context, query: str) -> tuple[list[dict[str, Value]], Mapping[str, Value]]:
        """The passages for a query, as items of the output, and what the models have used that derive the metadata
        filter and choose a base."""
        if not query.strip():
            return [], Usage().wire()
        conditions, usage = await self._conditions(ctx, query)
        if self.config.retrieval_mode == "single":
            passages, of_choice = await self._retrieve_single(ctx, query, conditions)
        else:
            passages, of_choice = await self._retrieve(ctx, query, conditions), Usage()
        items = [_item(passage, position) for position, passage in enumerate(passages, 1)]
        return items, _sum([part for part in (usage, of_choice) if part != Usage()])

    async def _retrieve_single(
        self, ctx: Context, query: str, conditions: Mapping[str, Value] | None
    ) -> tuple[Sequence[Passage], Usage]:
        """(the passages of the base that a model chooses, its usage)."""
        config, knowledge = self.config, ctx.resources.knowledge
        if config.single_retrieval_config is None:
            raise NodeError(_NO_CHOICE, ERROR)
        bases = await self._available(ctx)
        dataset, usage = await choose_base(ctx, config.single_retrieval_config.model, bases, query, ERROR)
        if dataset is None:
            return [], usage
        retrieval = Retrieval(dataset, query, conditions=conditions, app=ctx.app, by_own_settings=True)
        return await knowledge.retrieve(retrieval), usage

    async def _retrieve(self, ctx: Context, query: str, conditions: Mapping[str, Value] | None) -> Sequence[Passage]:
        """The best passages of all knowledge bases, best first. Several bases are searched by their own settings, and
        what they find is put into one order."""
        config, datasets = self.config.multiple_retrieval_config, self.config.dataset_ids
        settings, threshold, several = config.settings(), config.score_threshold, len(datasets) > 1
        if several and not config.by_rerank_model:
            _require_one_scale(list((await self._available(ctx)).values()), weighted=config.is_weighted)
        results = await _gather(
            ctx.resources.knowledge.retrieve(
                Retrieval(dataset, query, config.top_k, threshold, settings, conditions, ctx.app, several)
            )
            for dataset in datasets
        )
        passages = [passage for result in results for passage in result]
        if several and passages:
            scores = await ctx.resources.knowledge.scores(query, passages, settings)
            passages = [replace(passage, score=score) for passage, score in zip(passages, scores, strict=True)]
        good = [
            passage for passage in passages if threshold is None or passage.score is None or passage.score >= threshold
        ]
        return sorted(good, key=lambda passage: passage.score or 0.0, reverse=True)[: config.top_k]

    async def _available(self, ctx: Context) -> dict[str, DatasetDescription]:
        """The knowledge bases with documents that can be found; Dify leaves out the others."""
        datasets = self.config.dataset_ids
        descriptions = await _gather(ctx.resources.knowledge.describe(dataset, ctx.app) for dataset in datasets)
        return {dataset: of for dataset, of in zip(datasets, descriptions, strict=True) if of.has_documents}

    async def _conditions(self, ctx: Context, query: str) -> tuple[Mapping[str, Value] | None, Usage]:
        """(the metadata filter, if any; the usage of the model that derived it)."""
        config = self.config
        filters = config.metadata_filtering_conditions
        usage = Usage()
        conditions: Sequence[Mapping[str, Value]] = ()
        match config.metadata_filtering_mode:
            case "automatic":
                if config.metadata_model_config is None:
                    raise NodeError(_NO_MODEL, ERROR)
                names = await _gather(
                    ctx.resources.knowledge.fields(dataset, ctx.app) for dataset in config.dataset_ids
                )
                fields = list(dict.fromkeys(name for dataset_names in names for name in dataset_names))
                conditions, usage = await derive_filter(ctx, config.metadata_model_config, fields, query, ERROR)
            case "manual" if filters is not None:
                conditions = [
                    {
                        "name": condition.name,
                        "comparison_operator": condition.comparison_operator,
                        "value": _rendered(ctx, condition.value),
                    }
                    for condition in filters.conditions
                ]
            case _:
                pass
        operator = filters.logical_operator if filters else "or"
        return ({"logical_operator": operator, "conditions": conditions} if conditions else None), usage


def _require_one_scale(bases: Sequence[DatasetDescription], *, weighted: bool) -> None:
    """Scores of keywords and of vectors, and those of vectors of different models, cannot be compared: NodeError with
    Dify's message and type if a rerank model is needed. A base whose technique is not known is not compared."""
    known = [base for base in bases if base.technique is not None]
    if len({base.technique for base in known}) > 1:
        raise NodeError(_DIFFERENT.format("indexing technique"), "ValueError")
    of_vectors = {base.embedding for base in known if base.technique == "high_quality"}
    if weighted and len(of_vectors) > 1:
        raise NodeError(_DIFFERENT.format("embedding model"), "ValueError")


def _sum(usages: Sequence[Usage]) -> dict[str, Value]:
    if len(usages) < 2:
        return (usages[0] if usages else Usage()).wire()
    total = UsageTotal()
    for usage in usages:
        total.add(usage.wire())
    return {**Usage().wire(), **total.wire()}


async def _gather(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results, in order, of calls made at the same time. Raises the first error and cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except* Exception as errors:
        first = errors.exceptions[0]
    else:
        return [task.result() for task in tasks]
    raise first


def _rendered(ctx: Context, value: str | float | Sequence[str] | None) -> Value:
    """A condition's value; one that only refers to a number stays a number."""
    if isinstance(value, str):
        reference = re.fullmatch(r"\{\{#([^#]+)#\}\}", value)
        number = ctx.variables.get(reference[1].split(".")) if reference else None
        if isinstance(number, int | float):
            return number
        return _WHITESPACE.sub(" ", ctx.variables.render(value)).strip()
    return [ctx.variables.render(item) for item in value] if isinstance(value, Sequence) else value


def _item(passage: Passage, position: int) -> dict[str, Value]:
    item: dict[str, Value] = {
        "metadata": {
            "_source": "knowledge",
            **passage.metadata,
            "retriever_from": "workflow",
            "score": passage.score or 0.0,
            "position": position,
        },
        "title": passage.title,
        "content": passage.content,
    }
    if passage.files:
        item["files"] = list(passage.files)
    if passage.summary:
        item["summary"] = passage.summary
    return item


_RENAMED = {
    "hit_count": "segment_hit_count",
    "word_count": "segment_word_count",
    "index_node_hash": "segment_index_node_hash",
}
_CITED = (
    "position",
    "dataset_id",
    "dataset_name",
    "document_id",
    "document_name",
    "data_source_type",
    "segment_id",
    "retriever_from",
    "score",
    "hit_count",
    "word_count",
    "segment_position",
    "index_node_hash",
    "page",
    "doc_metadata",
)


def retriever_resources(outputs: Mapping[str, Value]) -> list[dict[str, Value]]:
    """`metadata.retriever_resources` of a chat answer: the passages among a node's outputs, in order.

    Passages are recognized by `metadata._source`; fields without a value are left out.
    """
    lists = [cast("list[Value]", value) for value in outputs.values() if isinstance(value, list)]
    return [citation for items in lists for item in items if (citation := _cited(item)) is not None]


def _cited(item: Value) -> dict[str, Value] | None:
    if not isinstance(item, Mapping):
        return None
    passage = cast("Mapping[str, Value]", item)
    metadata = passage.get("metadata")
    if not isinstance(metadata, Mapping) or cast("Mapping[str, Value]", metadata).get("_source") != "knowledge":
        return None
    fields = cast("Mapping[str, Value]", metadata)
    citation = {name: fields.get(_RENAMED.get(name, name)) for name in _CITED}
    citation |= {name: passage.get(name) for name in ("content", "title", "files", "summary")}
    return {name: value for name, value in citation.items() if value is not None}
