"""Apps without a graph (chat, completion, agent-chat): what their settings mean, as a graph.

Such a file has `model_config` where others have `workflow`: one model, one prompt, a form, maybe knowledge bases. That
is start -> knowledge-retrieval -> llm -> answer, which then loads as any other graph does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import cast

from headrace.dsl.basic_prompt import (
    START,
    STOPS,
    Fill,
    advanced_messages,
    advanced_text,
    filled,
    filler,
    simple_messages,
    simple_text,
)
from headrace.dsl.check import Report, mapping
from headrace.dsl.yaml_reader import Document, Lines
from headrace.errors import Problem
from headrace.values import Value

COMPLETION = "completion"
AGENT = "agent-chat"
MODES = frozenset({"chat", COMPLETION, AGENT})

RETRIEVAL = "knowledge_retrieval"
MODEL = "llm"
ANSWER = "answer"
_EXTERNAL = "external_data_tool"
_SINGLE_TOOL = 1  # keys of a tool as the first versions wrote it: {its name: its settings}
_ROUTERS = frozenset({"router", "react_router"})  # strategies of agents that choose a knowledge base, and nothing else

_OFF: Mapping[str, Value] = {"enabled": False}
_FEATURES: Mapping[str, Value] = {
    "opening_statement": None,
    "suggested_questions": [],
    "suggested_questions_after_answer": _OFF,
    "speech_to_text": _OFF,
    "text_to_speech": _OFF,
    "retriever_resource": {"enabled": True},
    "annotation_reply": _OFF,
    "more_like_this": _OFF,
    "sensitive_word_avoidance": {"enabled": False, "type": "", "configs": []},
    "file_upload": None,
}


@dataclass(frozen=True, slots=True)
class Converted:
    """`workflow` is what the file would have under that name; `document` knows the lines of it; `tools` are those that
    the app's agent would use: then the graph is not what the app does."""

    document: Document
    workflow: dict[str, Value]
    tools: list[str] = field(default_factory=list[str])


def converted(document: Document, mode: str, report: Report) -> Converted | None:
    """The workflow that does what an app without a graph does; None, and a fatal problem, if it has no settings."""
    config = mapping(document.value.get("model_config"))
    if config is None:
        report(Problem("there is no `model_config` section", field="model_config"))
        return None
    return _Converter(document, config, mode, report).converted()


class _Converter:
    """Goes through the settings of one app once."""

    def __init__(self, document: Document, config: dict[str, Value], mode: str, report: Report) -> None:
        self._document = document
        self._config = config
        self._completion = mode == COMPLETION
        self._agent = mode == AGENT
        self._report = report
        self._lines: dict[int, Lines] = dict(document.lines)
        self._agent_mode = mapping(config.get("agent_mode")) or {}
        self._agent_tools = [mapping(item) or {} for item in self._items(self._agent_mode, "tools", "agent_mode.tools")]

    def converted(self) -> Converted:
        config = self._config
        variables = self._variables()
        names = {name for each in variables if isinstance(name := each.get("variable"), str)}
        retrieval = self._retrieval(filler(names))
        nodes = [self._node(START, "start", "Start", {"variables": variables}, config.get("user_input_form"))]
        if retrieval is not None:
            source = config.get("dataset_configs")
            nodes.append(self._node(RETRIEVAL, "knowledge-retrieval", "Knowledge Retrieval", retrieval, source))
        nodes.append(self._node(MODEL, "llm", "LLM", self._model(names, known=retrieval is not None), config))
        nodes.append(self._node(ANSWER, "answer", "Answer", {"answer": f"{{{{#{MODEL}.text#}}}}"}, config))
        edges: list[Value] = [
            {"source": before["id"], "target": after["id"], "sourceHandle": "source"}
            for before, after in pairwise(nodes)
        ]
        workflow: dict[str, Value] = {"graph": {"nodes": nodes, "edges": edges}, "features": self._features()}
        tools = [*self._tools()]
        return Converted(replace(self._document, lines=self._lines), workflow, tools)

    def _node(self, id_: str, kind: str, title: str, data: dict[str, Value], source: Value) -> dict[str, Value]:
        """A node whose data come from some part of the file: its lines are that part's."""
        made = {"type": kind, "title": title, **data}
        self._stands_where(made, source)
        return {"id": id_, "data": made}

    def _stands_where(self, made: dict[str, Value], source: Value) -> None:
        lines = self._document.lines.get(id(source))
        if lines is not None:
            start, inside = lines
            self._lines[id(made)] = (start, inside if isinstance(inside, dict) else {})

    def _tell(self, message: str, holder: Value, key: str | int | None, where: str) -> None:
        self._report(Problem(message, None, where, self._document.line(holder, key), fatal=False))

    def _items(self, holder: Mapping[str, Value], key: str, where: str = "") -> list[Value]:
        """A list in the settings; none where there is nothing, and a problem where there is something else."""
        value = holder.get(key)
        if isinstance(value, list):
            return cast("list[Value]", value)
        if value:
            self._tell(f"`{key}` is to be a list", holder, key, where or key)
        return []

    # ------------------------------------------------------------------------------------------------------- the form

    def _variables(self) -> list[dict[str, Value]]:
        """The start node's variables. What an external data tool would find is asked of the caller."""
        found = [*self._form()]
        for index, item in enumerate(self._items(self._config, "external_data_tools")):
            tool = mapping(item)
            named = any(tool.get("variable") == each.get("variable") for each in found) if tool else True
            if tool and tool.get("enabled") and not named:
                found.append(self._external(tool, f"external_data_tools.{index}"))
        return found

    def _form(self) -> Iterator[dict[str, Value]]:
        for index, item in enumerate(self._items(self._config, "user_input_form")):
            where = f"user_input_form.{index}"
            entry = mapping(item)
            kind, settings = next(iter(entry.items()), ("", None)) if entry else ("", None)
            given = mapping(settings)
            if given is None:
                message = "a field of the form is to be a mapping of its type to its settings: left out"
                self._tell(message, self._config["user_input_form"], index, where)
                continue
            if kind == _EXTERNAL:
                yield self._external(given, where)
                continue
            made = {**given, "type": kind}
            self._stands_where(made, given)
            yield made

    def _external(self, tool: dict[str, Value], where: str) -> dict[str, Value]:
        name = tool.get("variable")
        message = f"external data tools are not run here: '{name}' is what the caller gives as an input of that name"
        self._tell(message, tool, "variable", where)
        made: dict[str, Value] = {**tool, "type": _EXTERNAL, "required": False}
        self._stands_where(made, tool)
        return made

    # ------------------------------------------------------------------------------------------------------ knowledge

    def _datasets(self) -> Iterator[str]:
        """The ids of the knowledge bases that are switched on; the first versions have them among the tools."""
        settings = mapping(self._config.get("dataset_configs")) or {}
        chosen = mapping(settings.get("datasets")) or {}
        entries = [mapping(item) for item in self._items(chosen, "datasets")]
        if self._agent_mode.get("enabled"):
            entries += self._agent_tools
        for entry in entries:
            dataset = mapping(entry.get("dataset")) if entry else None
            if dataset and dataset.get("enabled") and isinstance(dataset.get("id"), str):
                yield cast("str", dataset["id"])

    def _retrieval(self, fill: Fill) -> dict[str, Value] | None:
        """The settings of the node that asks the knowledge bases; None if there are none, or nothing to ask with."""
        datasets = [*dict.fromkeys(self._datasets())]
        if not datasets:
            return None
        query = ["sys", "query"]
        if self._completion:
            name = self._config.get("dataset_query_variable")
            if not isinstance(name, str) or not name:
                message = "`dataset_query_variable` does not say what the knowledge bases are asked: they are left out"
                self._tell(message, self._config, "dataset_query_variable", "dataset_query_variable")
                return None
            query = [START, name]
        settings = mapping(self._config.get("dataset_configs")) or {}
        made: dict[str, Value] = {
            "query_variable_selector": query,
            "dataset_ids": datasets,
            "retrieval_mode": settings.get("retrieval_model") or "multiple",
            "multiple_retrieval_config": _choosing(settings),
        }
        for name in ("metadata_filtering_mode", "metadata_model_config"):
            if settings.get(name):
                made[name] = settings[name]
        if conditions := settings.get("metadata_filtering_conditions"):
            made["metadata_filtering_conditions"] = filled(conditions, fill)
        return made

    # ------------------------------------------------------------------------------------------------------ the model

    def _model(self, names: set[str], *, known: bool) -> dict[str, Value]:
        config = self._config
        made: dict[str, Value] = {"model": config["model"]} if "model" in config else {}
        model = mapping(config.get("model"))
        completes = model is not None and model.get("mode") == COMPLETION
        fill = filler(names, histories=completes)
        prefix: Value = None
        if config.get("prompt_type") == "advanced":
            if completes:
                written = mapping(config.get("completion_prompt_config")) or {}
                made["prompt_template"], prefix = advanced_text(written, fill)
            else:
                written = mapping(config.get("chat_prompt_config")) or {}
                made["prompt_template"] = advanced_messages(self._items(written, "prompt"), fill)
        else:
            shape = simple_text if completes else simple_messages
            made["prompt_template"] = shape(config.get("pre_prompt"), fill, completion=self._completion, known=known)
            if model is not None and completes and not self._completion:
                made["model"] = self._stopping(model)
        # a completion app holds no conversation, but its caller may still send a query of the old kind
        made["memory"] = {"role_prefix": prefix, "window": {"enabled": False}}
        if known:
            made["context"] = {"enabled": True, "variable_selector": [RETRIEVAL, "result"]}
        made["vision"] = self._vision()
        return made

    def _stopping(self, model: dict[str, Value]) -> dict[str, Value]:
        parameters = mapping(model.get("completion_params")) or {}
        if parameters.get("stop"):
            return model
        made: dict[str, Value] = {**model, "completion_params": {**parameters, "stop": list(STOPS)}}
        self._stands_where(made, model)
        return made

    def _vision(self) -> dict[str, Value]:
        upload = mapping(self._config.get("file_upload")) or {}
        image = mapping(upload.get("image")) or {}
        options: dict[str, Value] = {"variable_selector": ["sys", "files"], "detail": image.get("detail") or "low"}
        return {"enabled": bool(upload.get("enabled", image.get("enabled"))), "configs": options}

    # -------------------------------------------------------------------------------------------- features and tools

    def _features(self) -> dict[str, Value]:
        config = self._config
        features = {name: config[name] if config.get(name) is not None else usual for name, usual in _FEATURES.items()}
        moderation = mapping(features["sensitive_word_avoidance"])
        if moderation and moderation.get("enabled"):
            message = "what is said is not checked for sensitive words here"
            self._tell(message, config, "sensitive_word_avoidance", "sensitive_word_avoidance")
        # what has no usual value is told as if it was never written
        return {name: value for name, value in features.items() if value is not None}

    def _tools(self) -> Iterator[str]:
        """The tools that the app's agent would use: those that are switched on. A chat may be one, too."""
        agent = self._agent_mode
        if agent.get("strategy") in _ROUTERS or not (self._agent or agent.get("enabled")):
            return
        for tool in self._agent_tools:
            if not tool or "dataset" in tool:
                continue
            name: Value = tool.get("tool_name")
            if len(tool) == _SINGLE_TOOL:
                name, settings = next(iter(tool.items()))
                tool = mapping(settings) or {}
            if tool.get("enabled"):
                yield str(name)
            elif "enabled" not in tool:
                message = f"the tool '{name}' is not switched on (`enabled: true`): left out"
                self._tell(message, tool, None, "agent_mode.tools")


def _choosing(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Which passages are chosen, in the words of a knowledge-retrieval node."""
    made: dict[str, Value] = {
        "top_k": settings.get("top_k"),
        "score_threshold": settings.get("score_threshold") if settings.get("score_threshold_enabled") else None,
        "reranking_enable": settings.get("reranking_enable", settings.get("reranking_enabled")),
        "reranking_mode": settings.get("reranking_mode") or "reranking_model",
        "weights": settings.get("weights"),
    }
    model = mapping(settings.get("reranking_model")) or {}
    provider = model.get("reranking_provider_name") or model.get("provider")
    name = model.get("reranking_model_name") or model.get("model")
    return made | ({"reranking_model": {"provider": provider, "model": name}} if provider and name else {})
