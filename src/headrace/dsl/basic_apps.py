"""Apps without a graph (chat, completion, agent-chat), converted to one.

Their files have `model_config` instead of `workflow`: a model, a prompt, a form, perhaps knowledge bases. That becomes
start -> knowledge-retrieval -> llm -> answer, or start -> agent-app -> answer if there are tools, and then loads like
any other graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import cast

from headrace.dsl.basic_agent import agent, is_tool
from headrace.dsl.basic_prompt import (
    START,
    STOPS,
    Fill,
    advanced_messages,
    advanced_text,
    placeholder_filler,
    replaced,
    simple_messages,
    simple_text,
)
from headrace.dsl.check import Report, mapping
from headrace.dsl.yaml_reader import Document, Lines
from headrace.errors import Problem
from headrace.frozen import frozen
from headrace.values import Value

COMPLETION = "completion"
AGENT = "agent-chat"
MODES = frozenset({"chat", COMPLETION, AGENT})

RETRIEVAL = "knowledge_retrieval"
MODEL = "llm"
ANSWER = "answer"
_EXTERNAL = "external_data_tool"
_ROUTERS = frozenset({"router", "react_router"})  # agent strategies that only choose a knowledge base

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


@frozen
class Converted:
    """`workflow` is the equivalent of that section; `document` has its lines."""

    document: Document
    workflow: dict[str, Value]


def convert(document: Document, mode: str, report: Report) -> Converted | None:
    """The equivalent workflow; None, and a fatal problem, if the app has no settings."""
    config = mapping(document.value.get("model_config"))
    if config is None:
        report(Problem("there is no `model_config` section", field="model_config"))
        return None
    return _Converter(document, config, mode, report).convert()


class _Converter:
    """Converts the settings of one app."""

    def __init__(self, document: Document, config: dict[str, Value], mode: str, report: Report) -> None:
        self._document = document
        self._config = config
        self._completion = mode == COMPLETION
        self._agent = mode == AGENT
        self._report = report
        self._lines: dict[int, Lines] = dict(document.lines)
        self._agent_mode = mapping(config.get("agent_mode")) or {}
        self._agent_tools = [mapping(item) or {} for item in self._items(self._agent_mode, "tools", "agent_mode.tools")]

    def convert(self) -> Converted:
        config = self._config
        variables = self._variables()
        names = {name for variable in variables if isinstance(name := variable.get("variable"), str)}
        retrieval = self._retrieval(placeholder_filler(names))
        nodes = [self._node(START, "start", "Start", {"variables": variables}, config.get("user_input_form"))]
        tools = [*self._tools()]
        if tools or (self._agent and self._agent_mode.get("enabled") and retrieval is not None):
            text = config.get("pre_prompt")
            instruction = placeholder_filler(names)(text) if isinstance(text, str) else ""
            data = agent(config, tools, retrieval, instruction=instruction, vision=self._vision())
            nodes.append(self._node(MODEL, "agent-app", "Agent", data, config))
        else:
            if retrieval is not None:
                source = config.get("dataset_configs")
                nodes.append(self._node(RETRIEVAL, "knowledge-retrieval", "Knowledge Retrieval", retrieval, source))
            nodes.append(self._node(MODEL, "llm", "LLM", self._model(names, has_context=retrieval is not None), config))
        nodes.append(self._node(ANSWER, "answer", "Answer", {"answer": f"{{{{#{MODEL}.text#}}}}"}, config))
        edges: list[Value] = [
            {"source": before["id"], "target": after["id"], "sourceHandle": "source"}
            for before, after in pairwise(nodes)
        ]
        workflow: dict[str, Value] = {"graph": {"nodes": nodes, "edges": edges}, "features": self._features()}
        return Converted(replace(self._document, lines=self._lines), workflow)

    def _node(self, id_: str, kind: str, title: str, data: dict[str, Value], source: Value) -> dict[str, Value]:
        """A node with data from some part of the file, and that part's lines."""
        data = {"type": kind, "title": title, **data}
        self._copy_lines(data, source)
        return {"id": id_, "data": data}

    def _copy_lines(self, target: dict[str, Value], source: Value) -> None:
        lines = self._document.lines.get(id(source))
        if lines is not None:
            start, inside = lines
            self._lines[id(target)] = (start, inside if isinstance(inside, dict) else {})

    def _warn(self, message: str, holder: Value, key: str | int | None, where: str) -> None:
        self._report(Problem(message, None, where, self._document.line(holder, key), fatal=False))

    def _items(self, holder: Mapping[str, Value], key: str, where: str = "") -> list[Value]:
        """A list of the settings; empty if it is missing, with a problem if it is something else."""
        value = holder.get(key)
        if isinstance(value, list):
            return cast("list[Value]", value)
        if value:
            self._warn(f"`{key}` must be a list", holder, key, where or key)
        return []

    # ------------------------------------------------------------------------------------------------------- the form

    def _variables(self) -> list[dict[str, Value]]:
        """The start node's variables. The caller sends what an external data tool would return."""
        variables = [*self._form()]
        for index, item in enumerate(self._items(self._config, "external_data_tools")):
            tool = mapping(item)
            if not tool or not tool.get("enabled"):
                continue
            if all(tool.get("variable") != variable.get("variable") for variable in variables):
                variables.append(self._external(tool, f"external_data_tools.{index}"))
        return variables

    def _form(self) -> Iterator[dict[str, Value]]:
        for index, item in enumerate(self._items(self._config, "user_input_form")):
            where = f"user_input_form.{index}"
            entry = mapping(item)
            kind, settings = next(iter(entry.items()), ("", None)) if entry else ("", None)
            field = mapping(settings)
            if field is None:
                message = "a field of the form must be a mapping of its type to its settings: it is ignored"
                self._warn(message, self._config["user_input_form"], index, where)
                continue
            if kind == _EXTERNAL:
                yield self._external(field, where)
                continue
            variable = {**field, "type": kind}
            self._copy_lines(variable, field)
            yield variable

    def _external(self, tool: dict[str, Value], where: str) -> dict[str, Value]:
        name = tool.get("variable")
        message = f"external data tools are not run here: '{name}' must be sent by the caller as an input"
        self._warn(message, tool, "variable", where)
        variable: dict[str, Value] = {**tool, "type": _EXTERNAL, "required": False}
        self._copy_lines(variable, tool)
        return variable

    # ------------------------------------------------------------------------------------------------------ knowledge

    def _datasets(self) -> Iterator[str]:
        """The ids of the enabled knowledge bases; files of the first versions list them among the tools."""
        settings = mapping(self._config.get("dataset_configs")) or {}
        datasets = mapping(settings.get("datasets")) or {}
        entries = [mapping(item) for item in self._items(datasets, "datasets")]
        if self._agent_mode.get("enabled"):
            entries += self._agent_tools
        for entry in entries:
            dataset = mapping(entry.get("dataset")) if entry else None
            if dataset and dataset.get("enabled") and isinstance(dataset.get("id"), str):
                yield cast("str", dataset["id"])

    def _retrieval(self, fill: Fill) -> dict[str, Value] | None:
        """The data of the knowledge-retrieval node; None if there are no knowledge bases, or there is no query."""
        datasets = [*dict.fromkeys(self._datasets())]
        if not datasets:
            return None
        query = ["sys", "query"]
        if self._completion:
            name = self._config.get("dataset_query_variable")
            if not isinstance(name, str) or not name:
                message = "`dataset_query_variable` is missing, so the knowledge bases are not queried"
                self._warn(message, self._config, "dataset_query_variable", "dataset_query_variable")
                return None
            query = [START, name]
        settings = mapping(self._config.get("dataset_configs")) or {}
        data: dict[str, Value] = {
            "query_variable_selector": query,
            "dataset_ids": datasets,
            "retrieval_mode": settings.get("retrieval_model") or "multiple",
            "multiple_retrieval_config": _retrieval_config(settings),
        }
        for name in ("metadata_filtering_mode", "metadata_model_config"):
            if settings.get(name):
                data[name] = settings[name]
        if conditions := settings.get("metadata_filtering_conditions"):
            data["metadata_filtering_conditions"] = replaced(conditions, fill)
        return data

    # ------------------------------------------------------------------------------------------------------ the model

    def _model(self, names: set[str], *, has_context: bool) -> dict[str, Value]:
        config = self._config
        data: dict[str, Value] = {"model": config["model"]} if "model" in config else {}
        model = mapping(config.get("model"))
        as_text = model is not None and model.get("mode") == COMPLETION
        fill = placeholder_filler(names, histories=as_text)
        prefix: Value = None
        if config.get("prompt_type") == "advanced":
            if as_text:
                settings = mapping(config.get("completion_prompt_config")) or {}
                data["prompt_template"], prefix = advanced_text(settings, fill)
            else:
                settings = mapping(config.get("chat_prompt_config")) or {}
                data["prompt_template"] = advanced_messages(self._items(settings, "prompt"), fill)
        else:
            template = simple_text if as_text else simple_messages
            data["prompt_template"] = template(
                config.get("pre_prompt"), fill, completion=self._completion, has_context=has_context
            )
            if model is not None and as_text and not self._completion:
                data["model"] = self._with_stop_words(model)
        # a completion app has no conversation, but its caller may still send a query, as in old versions
        data["memory"] = {"role_prefix": prefix, "window": {"enabled": False}}
        if has_context:
            data["context"] = {"enabled": True, "variable_selector": [RETRIEVAL, "result"]}
        data["vision"] = self._vision()
        return data

    def _with_stop_words(self, model: dict[str, Value]) -> dict[str, Value]:
        parameters = mapping(model.get("completion_params")) or {}
        if parameters.get("stop"):
            return model
        copy: dict[str, Value] = {**model, "completion_params": {**parameters, "stop": list(STOPS)}}
        self._copy_lines(copy, model)
        return copy

    def _vision(self) -> dict[str, Value]:
        upload = mapping(self._config.get("file_upload")) or {}
        image = mapping(upload.get("image")) or {}
        options: dict[str, Value] = {"variable_selector": ["sys", "files"], "detail": image.get("detail") or "low"}
        return {"enabled": bool(upload.get("enabled", image.get("enabled"))), "configs": options}

    # -------------------------------------------------------------------------------------------- features and tools

    def _features(self) -> dict[str, Value]:
        config = self._config
        features = {
            name: config[name] if config.get(name) is not None else default for name, default in _FEATURES.items()
        }
        moderation = mapping(features["sensitive_word_avoidance"])
        if moderation and moderation.get("enabled"):
            message = "messages are not checked for sensitive words here"
            self._warn(message, config, "sensitive_word_avoidance", "sensitive_word_avoidance")
        # a feature without a default is left out
        return {name: value for name, value in features.items() if value is not None}

    def _tools(self) -> Iterator[dict[str, Value]]:
        """The enabled tools of the app's agent. A chat may have an agent, too."""
        settings = self._agent_mode
        if settings.get("strategy") in _ROUTERS or not (self._agent or settings.get("enabled")):
            return
        for tool in self._agent_tools:
            if not is_tool(tool):
                continue
            if tool.get("enabled"):
                yield tool
            elif "enabled" not in tool:
                message = f"the tool '{tool.get('tool_name')}' is not enabled (`enabled: true`): it is ignored"
                self._warn(message, tool, None, "agent_mode.tools")


def _retrieval_config(settings: Mapping[str, Value]) -> dict[str, Value]:
    """The `multiple_retrieval_config` of a knowledge-retrieval node."""
    config: dict[str, Value] = {
        "top_k": settings.get("top_k"),
        "score_threshold": settings.get("score_threshold") if settings.get("score_threshold_enabled") else None,
        "reranking_enable": settings.get("reranking_enable", settings.get("reranking_enabled")),
        "reranking_mode": settings.get("reranking_mode") or "reranking_model",
        "weights": settings.get("weights"),
    }
    model = mapping(settings.get("reranking_model")) or {}
    provider = model.get("reranking_provider_name") or model.get("provider")
    name = model.get("reranking_model_name") or model.get("model")
    return config | ({"reranking_model": {"provider": provider, "model": name}} if provider and name else {})
