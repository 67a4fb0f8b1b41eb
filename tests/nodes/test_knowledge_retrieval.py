"""The knowledge-retrieval node: whom it asks, what it makes of the answers, and what others make of its result."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from headrace.errors import NodeError, StoreError
from headrace.node import Result
from headrace.nodes.knowledge_retrieval import KnowledgeRetrieval, retriever_resources
from headrace.ports.services import ChatChunk, DatasetDescription, Passage, Retrieval, ToolCall, Usage
from headrace.values import Value
from tests.nodes import llm_world, plain
from tests.nodes.llm_world import USAGE, Model
from tests.resources import only


@dataclass
class Base:
    """Knowledge bases by id; a base that is not there fails."""

    bases: Mapping[str, Sequence[Passage]]
    requests: list[Retrieval] = field(default_factory=list)
    gate: asyncio.Barrier | None = None
    has: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    """Names of metadata fields, by base."""
    described: Mapping[str, DatasetDescription] = field(default_factory=dict[str, DatasetDescription])
    order: Mapping[str, float] = field(default_factory=dict[str, float])
    """The scores that put the passages of several bases into one order, by text."""
    ordered: list[tuple[str, Sequence[str], Mapping[str, Value]]] = field(default_factory=list)

    async def retrieve(self, retrieval: Retrieval) -> Sequence[Passage]:
        self.requests.append(retrieval)
        if self.gate is not None:
            await self.gate.wait()
        if retrieval.dataset not in self.bases:
            raise NodeError(f"Knowledge base '{retrieval.dataset}': gone", "KnowledgeRetrievalNodeError")
        return self.bases[retrieval.dataset]

    async def fields(self, dataset: str, app: str = "") -> Sequence[str]:
        return self.has.get(dataset, ())

    async def describe(self, dataset: str, app: str = "") -> DatasetDescription:
        return self.described.get(dataset, DatasetDescription(f"Base {dataset}"))

    async def scores(
        self, query: str, passages: Sequence[Passage], settings: Mapping[str, Value]
    ) -> Sequence[float | None]:
        self.ordered.append((query, [passage.content for passage in passages], settings))
        return [self.order.get(passage.content, passage.score) for passage in passages]

    def missing(self, dataset: str) -> str | None:
        return None if dataset in self.bases else "set HEADRACE_KNOWLEDGE_URL"


def passage(said: str, score: float | None, **metadata: Value) -> Passage:
    return Passage(said, f"{said}.txt", score, {"_source": "knowledge", "dataset_id": "d", **metadata})


def config(*datasets: str, **more: Any) -> dict[str, Value]:
    return {
        "query_variable_selector": ["start", "q"],
        "dataset_ids": list(datasets),
        "retrieval_mode": "multiple",
    } | more


async def retrieve(base: Base, data: Mapping[str, Value], query: Value = "why?", **start: Value) -> Result:
    scopes = {"start": {"q": query, **start}}
    return await plain.run(KnowledgeRetrieval, data, scopes, resources=only(knowledge=base))


async def failure(base: Base, data: Mapping[str, Value], query: Value = "why?") -> NodeError:
    with pytest.raises(NodeError) as raised:
        await retrieve(base, data, query)
    return raised.value


async def test_the_best_of_all_bases_in_order() -> None:
    base = Base({"a": [passage("x", 0.9), passage("y", 0.2)], "b": [passage("z", 0.5, segment_id="s")]})
    result = await retrieve(base, config("a", "b", "a", multiple_retrieval_config={"top_k": 2}))
    assert result.inputs == {"query": "why?"}
    assert result.outputs == {
        "result": [
            {
                "metadata": {
                    "_source": "knowledge",
                    "dataset_id": "d",
                    "retriever_from": "workflow",
                    "score": 0.9,
                    "position": 1,
                },
                "title": "x.txt",
                "content": "x",
            },
            {
                "metadata": {
                    "_source": "knowledge",
                    "dataset_id": "d",
                    "segment_id": "s",
                    "retriever_from": "workflow",
                    "score": 0.5,
                    "position": 2,
                },
                "title": "z.txt",
                "content": "z",
            },
        ]
    }
    assert [request.dataset for request in base.requests] == ["a", "b"]  # each once


async def test_bases_are_asked_at_the_same_time() -> None:
    base = Base({"a": [], "b": [], "c": []}, gate=asyncio.Barrier(3))
    async with asyncio.timeout(60):
        assert (await retrieve(base, config("a", "b", "c"))).outputs == {"result": []}


async def test_the_threshold_keeps_what_has_no_score() -> None:
    base = Base({"a": [passage("x", 0.3), passage("y", None), passage("z", 0.7)]})
    result = await retrieve(base, config("a", multiple_retrieval_config={"top_k": 9, "score_threshold": 0.5}))
    assert [item["content"] for item in result.outputs["result"]] == ["z", "y"]
    assert base.requests[0].score_threshold == 0.5


@pytest.mark.parametrize("query", ["", " \n"])
async def test_nothing_asked_is_nothing_found(query: str) -> None:
    base = Base({"a": [passage("x", 1)]})
    assert (await retrieve(base, config("a"), query)).outputs == {"result": []}
    assert base.requests == []


async def test_no_bases_and_no_query() -> None:
    assert (await retrieve(Base({}), config())).outputs == {"result": []}
    assert (await retrieve(Base({}), {"dataset_ids": ["a"], "query_variable_selector": None})).outputs == {}


@pytest.mark.parametrize("query", [1, None, ["q"], {"q": 1}])
async def test_a_query_that_is_no_text(query: Value) -> None:
    error = await failure(Base({"a": []}), config("a"), query)
    assert str(error) == "Query variable is not string type."
    assert error.kind == "KnowledgeRetrievalNodeError"


async def test_an_error_of_the_database_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(retrieval: Retrieval) -> Sequence[Passage]:
        raise StoreError("the database is gone")

    base = Base({})
    monkeypatch.setattr(base, "retrieve", fail)
    with pytest.raises(StoreError, match="the database is gone"):
        await retrieve(base, config("a", "b"))


async def test_a_base_that_fails_fails_the_node_and_is_named() -> None:
    error = await failure(Base({"a": []}), config("a", "b"))
    assert str(error) == "Knowledge base 'b': gone"
    assert error.inputs == {"query": "why?"}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"reranking_enable": False}, {"reranking_enable": False}),
        (
            {"reranking_model": {"provider": "cohere", "model": "r"}},
            {
                "reranking_enable": True,
                "reranking_mode": "reranking_model",
                "reranking_model": {"reranking_provider_name": "cohere", "reranking_model_name": "r"},
            },
        ),
        (
            {"reranking_mode": "weighted_score", "weights": {"keyword_setting": {"keyword_weight": 0.3}}},
            {
                "reranking_enable": True,
                "reranking_mode": "weighted_score",
                "weights": {"keyword_setting": {"keyword_weight": 0.3}},
            },
        ),
        ({"reranking_model": {"provider": "", "model": None}}, {}),
        ({"reranking_mode": "weighted_score", "weights": None}, {}),
        (None, {}),
    ],
)
async def test_reranking_is_handed_on(written: Value, expected: Mapping[str, Value]) -> None:
    base = Base({"a": []})
    await retrieve(base, config("a", multiple_retrieval_config=written))
    assert base.requests[0].settings == expected


async def test_several_bases_are_searched_by_their_own_settings_and_put_into_one_order() -> None:
    bases = {"a": [passage("x", 0.9), passage("y", 0.8)], "b": [passage("z", 0.1), passage("w", None)]}
    base = Base(bases, order={"x": 0.2, "z": 0.95, "w": 0.6, "y": 0.4})
    model = {"provider": "cohere", "model": "r"}
    chosen = {"top_k": 3, "score_threshold": 0.3, "reranking_model": model}
    result = await retrieve(base, config("a", "b", multiple_retrieval_config=chosen))
    found = [(item["content"], item["metadata"]["score"]) for item in result.outputs["result"]]
    assert found == [("z", 0.95), ("w", 0.6), ("y", 0.4)]
    assert [request.by_own_settings for request in base.requests] == [True, True]
    ((query, texts, settings),) = base.ordered
    assert (query, texts) == ("why?", ["x", "y", "z", "w"])
    assert settings["reranking_model"] == {"reranking_provider_name": "cohere", "reranking_model_name": "r"}


VECTORS = DatasetDescription("a", technique="high_quality", embedding=("openai", "small"))
OTHER_VECTORS = replace(VECTORS, embedding=("openai", "large"))
KEYWORDS = DatasetDescription("c", technique="economy")
EXTERNAL, UNKNOWN = DatasetDescription("d", technique=""), DatasetDescription("e")
WEIGHTED = {"reranking_mode": "weighted_score", "weights": {"vector_setting": {"vector_weight": 0.5}}}
BY_MODEL = {"reranking_mode": "reranking_model", "reranking_model": {"provider": "p", "model": "m"}}
NOT_RERANKED = {"reranking_enable": False}


@pytest.mark.parametrize(
    ("described", "chosen", "different"),
    [
        ((VECTORS, KEYWORDS), NOT_RERANKED, "indexing technique"),
        ((KEYWORDS, VECTORS), WEIGHTED, "indexing technique"),
        ((VECTORS, EXTERNAL), WEIGHTED, "indexing technique"),
        ((VECTORS, VECTORS, OTHER_VECTORS), WEIGHTED, "embedding model"),
    ],
)
async def test_bases_whose_scores_cannot_be_compared_need_a_rerank_model(
    described: Sequence[DatasetDescription], chosen: Mapping[str, Value], different: str
) -> None:
    bases = {str(number): [passage("x", 0.9)] for number in range(len(described))}
    base = Base(bases, described=dict(zip(bases, described, strict=True)))
    error = await failure(base, config(*bases, multiple_retrieval_config=chosen))
    message = f"The configured knowledge base list have different {different}, please set reranking model."
    assert (str(error), error.kind, base.requests) == (message, "ValueError", [])  # as in Dify, nothing is searched


@pytest.mark.parametrize(
    ("described", "chosen"),
    [
        ((VECTORS, KEYWORDS), BY_MODEL),
        ((VECTORS, OTHER_VECTORS), BY_MODEL),
        ((VECTORS, OTHER_VECTORS), NOT_RERANKED),
        ((KEYWORDS, KEYWORDS), WEIGHTED),
        ((VECTORS, UNKNOWN), WEIGHTED),
        ((VECTORS, replace(KEYWORDS, has_documents=False)), WEIGHTED),
    ],
)
async def test_bases_whose_scores_can_be_compared_or_are_not_are_all_searched(
    described: Sequence[DatasetDescription], chosen: Mapping[str, Value]
) -> None:
    base = Base({"a": [passage("x", 0.9)], "b": []}, described=dict(zip("ab", described, strict=True)))
    result = await retrieve(base, config("a", "b", multiple_retrieval_config=chosen))
    assert [item["content"] for item in result.outputs["result"]] == ["x"]
    assert [request.dataset for request in base.requests] == ["a", "b"]


async def test_one_base_is_not_put_into_order_again() -> None:
    base = Base({"a": [passage("x", 0.9)]})
    await retrieve(base, config("a"))
    assert (base.ordered, base.requests[0].by_own_settings) == ([], False)


# -------------------------------------------------------------------------------------- one base that a model chooses


async def single(base: Base, *says: ChatChunk | Exception, **more: Any) -> tuple[Result, Model]:
    model = Model(says)
    of = {"model": {"provider": "p", "name": "m", "completion_params": {"temperature": 1, "seed": 7}, **more}}
    data = config(*base.bases, retrieval_mode="single", single_retrieval_config=of)
    known = only(knowledge=base, models=model)
    return await plain.run(KnowledgeRetrieval, data, {"start": {"q": "why?"}}, resources=known), model


def calling(name: str) -> ChatChunk:
    return ChatChunk("", usage=USAGE, tool_calls=[ToolCall("1", name, "{}")])


async def test_a_model_chooses_the_base_by_a_function() -> None:
    bases = {"a": [passage("x", 0.9)], "b": [passage("y", 0.1), passage("z", None)]}
    base = Base(bases, described={"a": DatasetDescription("Base a", "All\r\nabout pumps")})
    result, model = await single(base, calling("knowledge_base_2"))
    assert [item["content"] for item in result.outputs["result"]] == ["y", "z"]
    assert [(request.dataset, request.by_own_settings) for request in base.requests] == [("b", True)]
    (request,) = model.requests
    assert [(tool.name, tool.description) for tool in request.tools] == [
        ("knowledge_base_1", "Allabout pumps"),
        ("knowledge_base_2", "useful for when you want to answer queries about the Base b"),
    ]
    assert request.messages[-1].text == "why?"
    assert request.parameters == {"temperature": 0.2, "top_p": 0.3, "max_tokens": 1500, "seed": 7}
    assert result.usage == USAGE.wire()


@pytest.mark.parametrize("answer", [ChatChunk("none of them"), calling("knowledge_base_3"), calling("other")], ids=str)
async def test_a_model_that_chooses_no_base_finds_nothing(answer: ChatChunk) -> None:
    base = Base({"a": [passage("x", 0.9)], "b": []})
    result, _ = await single(base, answer)
    assert (result.outputs, base.requests) == ({"result": []}, [])


async def test_a_base_without_documents_is_not_offered_to_the_model() -> None:
    base = Base({"a": [passage("x", 0.9)], "b": []}, described={"b": DatasetDescription("b", has_documents=False)})
    result, model = await single(base)
    assert [item["content"] for item in result.outputs["result"]] == ["x"]
    assert model.requests == []


async def test_one_base_is_chosen_without_a_model() -> None:
    result, model = await single(Base({"a": [passage("x", 0.9)]}))
    assert [item["content"] for item in result.outputs["result"]] == ["x"]
    assert model.requests == []


async def test_a_model_that_goes_on_with_a_text_names_the_base() -> None:
    base = Base({"a": [], "b": [passage("y", 0.1)]})
    result, model = await single(base, ChatChunk("knowledge_base_2."), mode="completion")
    assert [item["content"] for item in result.outputs["result"]] == ["y"]
    (request,) = model.requests
    assert request.tools == ()
    assert "knowledge_base_1: useful for when you want to answer queries about the Base a" in request.messages[0].text


async def test_a_model_that_cannot_choose_fails_the_node() -> None:
    base = Base({"a": [], "b": []})
    with pytest.raises(NodeError, match="overloaded"):
        await single(base, NodeError("overloaded", "InvokeServerUnavailableError"))
    with pytest.raises(NodeError, match="needs a model that chooses a knowledge base"):
        await retrieve(base, config("a", "b", retrieval_mode="single"))


async def test_metadata_conditions_read_variables() -> None:
    base = Base({"a": []})
    conditions = [
        {"id": "1", "name": "author", "comparison_operator": "is", "value": "the {{#start.who#}}\n!"},
        {"name": "year", "comparison_operator": "≥", "value": "{{#start.year#}}"},
        {"name": "kind", "comparison_operator": "in", "value": ["x", "{{#start.who#}}"]},
        {"name": "note", "comparison_operator": "empty"},
        {"name": "pages", "comparison_operator": "<", "value": 5},
    ]
    data = config(
        "a",
        metadata_filtering_mode="manual",
        metadata_filtering_conditions={"logical_operator": "or", "conditions": conditions},
    )
    await retrieve(base, data, who="cat", year=2024)
    assert base.requests[0].conditions == {
        "logical_operator": "or",
        "conditions": [
            {"name": "author", "comparison_operator": "is", "value": "the cat !"},
            {"name": "year", "comparison_operator": "≥", "value": 2024},
            {"name": "kind", "comparison_operator": "in", "value": ["x", "cat"]},
            {"name": "note", "comparison_operator": "empty", "value": None},
            {"name": "pages", "comparison_operator": "<", "value": 5},
        ],
    }
    await retrieve(base, data | {"metadata_filtering_mode": "disabled"})
    assert base.requests[1].conditions is None


AUTOMATIC = {"metadata_filtering_mode": "automatic", "metadata_model_config": {"provider": "p", "name": "m"}}


async def automatic(base: Base, *says: ChatChunk | Exception, query: str = "why?", **more: Any) -> tuple[Result, Model]:
    model = Model(says)
    data = config(*base.bases, **AUTOMATIC | more)
    known = only(knowledge=base, models=model)
    return await plain.run(KnowledgeRetrieval, data, {"start": {"q": query}}, resources=known), model


def mapped(*conditions: tuple[Value, Value, Value]) -> ChatChunk:
    keys = ("metadata_field_name", "metadata_field_value", "comparison_operator")
    answer = json.dumps({"metadata_map": [dict(zip(keys, condition, strict=True)) for condition in conditions]})
    return ChatChunk(f"Here you are:\n```json\n{answer}\n```")


async def test_a_model_thinks_up_the_filter() -> None:
    base = Base({"a": [passage("one", 0.9)], "b": []}, has={"a": ["author", "year"], "b": ["year", "kind"]})
    says = mapped(
        ("author", "Ann", "is"),
        ("year", 2024, "≥"),
        ("kind", ["x", None, 3], "in"),
        ("kind", "left out", "not empty"),
        ("secret", "no such field", "is"),
        ("author", "no such operator", "~"),
        ("author", {"no": "value"}, "is"),
        ("author", True, "is"),
        ("author", None, "is"),
        (["author"], "Ann", ["is"]),
    )
    result, model = await automatic(base, says, query="What does Ann say of 2024?")
    filter = {
        "logical_operator": "or",
        "conditions": [
            {"name": "author", "comparison_operator": "is", "value": "Ann"},
            {"name": "year", "comparison_operator": "≥", "value": 2024},
            {"name": "kind", "comparison_operator": "in", "value": ["x", "3"]},
            {"name": "kind", "comparison_operator": "not empty", "value": None},
        ],
    }
    assert [item.conditions for item in base.requests] == [filter, filter]
    (request,) = model.requests
    assert json.loads(request.messages[-1].text) == {
        "input_text": "What does Ann say of 2024?",
        "metadata_fields": ["author", "year", "kind"],
    }
    assert result.usage == USAGE.wire()
    assert result.process == {"usage": USAGE.wire()}
    assert result.outputs["result"][0]["content"] == "one"


@pytest.mark.parametrize(
    "answer",
    ["I cannot say.", "", "[]", '{"metadata_map": {}}', '{"metadata_map": ["x", null]}', '{"other": 1}', "null"],
)
async def test_an_answer_that_is_no_filter_filters_nothing(answer: str) -> None:
    base = Base({"a": []}, has={"a": ["author"]})
    result, _ = await automatic(base, ChatChunk(answer))
    assert base.requests[0].conditions is None
    assert result.usage == USAGE.wire()


async def test_conditions_are_joined_as_the_file_says() -> None:
    base = Base({"a": []}, has={"a": ["author"]})
    await automatic(base, mapped(("author", "x", "is")), metadata_filtering_conditions={"logical_operator": "and"})
    assert base.requests[0].conditions is not None
    assert base.requests[0].conditions["logical_operator"] == "and"


async def test_a_model_is_not_asked_of_documents_without_metadata() -> None:
    base = Base({"a": [passage("one", 0.9)]})
    result, model = await automatic(base)
    assert model.requests == []
    assert base.requests[0].conditions is None
    assert result.usage == Usage().wire()


async def test_a_model_that_goes_on_with_a_text_thinks_up_the_filter() -> None:
    base = Base({"a": []}, has={"a": ["author"]})
    data = {"provider": "p", "name": "m", "mode": "completion"}
    _, model = await automatic(base, mapped(("author", "x", "is")), metadata_model_config=data)
    (message,) = model.requests[0].messages
    assert message.text.endswith('{"input_text": "why?", "metadata_fields": ["author"]}\nOutput: ')
    assert base.requests[0].conditions is not None


async def test_a_model_that_fails_fails_the_node() -> None:
    base = Base({"a": []}, has={"a": ["author"]})
    with pytest.raises(NodeError, match="busy") as raised:
        await automatic(base, NodeError("busy", "ServerOverloaded"))
    assert raised.value.inputs == {"query": "why?"}
    assert base.requests == []


async def test_what_is_missing_is_reported_before_a_run() -> None:
    def needs(**more: Any) -> list[str]:
        data = config("a", "b", "c", **more)
        node = KnowledgeRetrieval(KnowledgeRetrieval.Config.model_validate(data))
        return list(node.missing_requirements(only(knowledge=Base({"a": []}), models=Model())))

    assert needs() == ["set HEADRACE_KNOWLEDGE_URL"]
    assert needs(**AUTOMATIC) == ["set HEADRACE_KNOWLEDGE_URL"]
    other = {"provider": "q", "name": "m"}
    assert needs(**AUTOMATIC | {"metadata_model_config": other})[1:] == ["set the key of q"]
    modelless = {"metadata_filtering_mode": "automatic"}
    assert "'automatic'" in needs(**modelless)[1]
    assert str(await failure(Base({"a": []}), config("a", **modelless))) == needs(**modelless)[1]


async def test_an_llm_takes_the_result_as_its_context() -> None:
    second = Passage("two", "t", 0.1, {"_source": "knowledge"}, summary="in short", files=({"id": "f"},))
    result = await retrieve(Base({"a": [passage("one", 0.9), second]}), config("a"))
    assert result.outputs["result"][1]["files"] == [{"id": "f"}]
    llm = llm_world.node(
        [{"role": "system", "text": "Use: {{#context#}}"}],
        context={"enabled": True, "variable_selector": ["know", "result"]},
    )
    ran = await llm_world.run(llm, scopes={"know": result.outputs})
    assert ran.request.messages[0].text == "Use: one\nin short\ntwo"


async def test_citations_of_a_chat_answer() -> None:
    known = passage(
        "one", 0.9, dataset_name="D", document_id="i", document_name="one.txt", segment_id=None, segment_hit_count=3
    )
    result = await retrieve(Base({"a": [known]}), config("a"))
    assert retriever_resources(result.outputs) == [
        {
            "position": 1,
            "dataset_id": "d",
            "dataset_name": "D",
            "document_id": "i",
            "document_name": "one.txt",
            "retriever_from": "workflow",
            "score": 0.9,
            "hit_count": 3,
            "content": "one",
            "title": "one.txt",
        }
    ]
    others = {"text": "x", "list": ["x", {"metadata": None}, {"metadata": {"_source": "else"}}, {"a": 1}]}
    assert retriever_resources(others) == []
