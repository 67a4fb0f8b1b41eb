"""Dify's engine: reads a case a line from stdin, writes what it put out a line to stdout.

It runs in an environment of its own (`make oracle` makes it), as `python -m oracle.graphon_side`. What a whole Dify has
around the engine is replaced by stand-ins: models, the sandbox of code, Jinja2, the types of declared variables.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Generator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, TextIO

import jinja2
from graphon.dsl import importer, node_factory
from graphon.dsl.code_runtime import SandboxCodeExecutionError, _Python3TemplateTransformer
from graphon.file.models import File
from graphon.graph_engine import worker
from graphon.model_runtime.entities.common_entities import I18nObject
from graphon.model_runtime.entities.llm_entities import (
    LLMResult,
    LLMResultChunk,
    LLMResultChunkDelta,
    LLMResultChunkWithStructuredOutput,
    LLMResultWithStructuredOutput,
    LLMUsage,
)
from graphon.model_runtime.entities.message_entities import (
    AssistantPromptMessage,
    PromptMessage,
    PromptMessageContentType,
)
from graphon.model_runtime.entities.model_entities import (
    AIModelEntity,
    FetchFrom,
    ModelFeature,
    ModelPropertyKey,
    ModelType,
)
from graphon.nodes.llm import LLMNode, LLMNodeData
from graphon.nodes.llm.runtime_protocols import LLMProtocol
from graphon.runtime.variable_pool import VariablePool
from graphon.template_rendering import TemplateRenderError
from graphon.variables.factory import build_segment_with_type, segment_to_variable
from graphon.variables.segments import ArrayFileSegment, Segment
from graphon.variables.types import SegmentType
from pydantic import BaseModel

from oracle.model import reply

_LIMITS = {"code": {"min_number": -(2**63)}}  # as Dify's own environment file has it
_ENDS = {
    "NodeRunSucceededEvent": "succeeded",
    "NodeRunFailedEvent": "failed",
    "NodeRunExceptionEvent": "exception",
}
PROMPTS: list[list[tuple[str, str]]] = []
"""What the model was asked in this run."""

_RUN_ENDS = {
    "GraphRunSucceededEvent": "succeeded",
    "GraphRunPartialSucceededEvent": "partial-succeeded",
    "GraphRunFailedEvent": "failed",
    "GraphRunAbortedEvent": "stopped",
}


def _text_of(message: PromptMessage) -> str:
    if not isinstance(message.content, list):
        return message.content or ""
    return "".join(
        part.data if part.type == PromptMessageContentType.TEXT else f"[{part.type.value}]" for part in message.content
    )


class StandInModel(LLMProtocol):
    """`oracle.model`, as a model that can do everything."""

    def __init__(self, provider: str, name: str, parameters: Mapping[str, Any]) -> None:
        self._provider, self._name, self._parameters = provider, name, dict(parameters)

    @property
    def provider(self) -> str:
        return self._provider

    @property
    def model_name(self) -> str:
        return self._name

    @property
    def stop(self) -> None:
        return None

    @property
    def parameters(self) -> Mapping[str, Any]:
        return dict(self._parameters)

    @parameters.setter
    def parameters(self, value: Mapping[str, Any]) -> None:
        self._parameters = dict(value)

    def get_model_schema(self) -> AIModelEntity:
        return AIModelEntity(
            model=self._name,
            label=I18nObject(en_US=self._name),
            model_type=ModelType.LLM,
            features=[
                ModelFeature.TOOL_CALL,
                ModelFeature.MULTI_TOOL_CALL,
                ModelFeature.VISION,
                ModelFeature.STRUCTURED_OUTPUT,
            ],
            fetch_from=FetchFrom.CUSTOMIZABLE_MODEL,
            model_properties={ModelPropertyKey.MODE: "chat", ModelPropertyKey.CONTEXT_SIZE: 128_000},
        )

    def get_llm_num_tokens(self, prompt_messages: Sequence[PromptMessage]) -> int:
        return len(prompt_messages)

    def invoke_llm(
        self, *, prompt_messages: Sequence[PromptMessage], tools: Any = None, stream: bool = True, **_: Any
    ) -> Any:
        return self._answer(prompt_messages, tools or (), stream, None)

    def invoke_llm_with_structured_output(
        self,
        *,
        prompt_messages: Sequence[PromptMessage],
        json_schema: Mapping[str, Any],
        stream: bool = True,
        **_: Any,
    ) -> Any:
        return self._answer(prompt_messages, (), stream, json_schema)

    def is_structured_output_parse_error(self, error: Exception) -> bool:
        return False

    def _answer(
        self, messages: Sequence[PromptMessage], tools: Sequence[Any], stream: bool, schema: Mapping[str, Any] | None
    ) -> Any:
        prompt = [(message.role.value, _text_of(message)) for message in messages]
        PROMPTS.append(prompt)
        text, call = reply(
            prompt,
            [(tool.name, tool.parameters) for tool in tools],
            schema,
        )
        called = AssistantPromptMessage.ToolCall
        calls = [
            called(id="call", type="function", function=called.ToolCallFunction(name=name, arguments=arguments))
            for name, arguments in ([call] if call else [])
        ]
        head: dict[str, Any] = {"model": self._name, "prompt_messages": list(messages)}
        message = AssistantPromptMessage(content=text, tool_calls=calls)
        extra = {"structured_output": json.loads(text)} if schema is not None else {}
        if not stream:
            kind = LLMResult if schema is None else LLMResultWithStructuredOutput
            return kind(**head, message=message, usage=LLMUsage.empty_usage(), **extra)
        chunk = LLMResultChunk if schema is None else LLMResultChunkWithStructuredOutput

        def chunks() -> Generator[Any]:
            delta = LLMResultChunkDelta(index=0, message=message, usage=LLMUsage.empty_usage(), finish_reason="stop")
            yield chunk(**head, delta=delta, **extra)

        return chunks()


def _model(self: Any, *, node_id: str, data: Mapping[str, Any], **_: Any) -> tuple[dict[str, Any], StandInModel]:
    new_data = dict(data)
    model = new_data["model"] = dict(new_data.get("model") or {})
    model["provider"] = str(model.get("provider") or "").split("/")[-1]
    return new_data, StandInModel(model["provider"], str(model.get("name") or ""), model.get("completion_params") or {})


def _llm(self: Any, request: Any) -> LLMNode:
    """As the factory makes it, and with Jinja2."""
    data, model = self._create_slim_llm_runtime(node_id=request.node_id, data=request.data_payload)
    node = LLMNode(
        node_id=request.node_id,
        data=LLMNodeData.model_validate(data),
        graph_init_params=self.graph_init_params,
        graph_runtime_state=self.graph_runtime_state,
        model_instance=model,
        llm_file_saver=node_factory._TextOnlyFileSaver(),
        prompt_message_serializer=node_factory._PassthroughPromptMessageSerializer(),
        jinja2_template_renderer=node_factory._DefaultJinja2TemplateRenderer(),
        default_query_selector=("sys", "query"),
    )
    # the name that the file has for it does not survive the factory
    node.node_data.structured_output_switch_on = bool(data.get("structured_output_enabled"))
    return node


def _render(self: Any, template: str, variables: Mapping[str, Any]) -> str:
    """As Dify's sandbox does: plain Jinja2 over the variables as JSON."""
    try:
        return jinja2.Template(template).render(**json.loads(json.dumps(variables, default=_plain)))
    except Exception as error:
        raise TemplateRenderError(str(error)) from error


class CodeExecutionError(SandboxCodeExecutionError):
    """By the name that Dify has for it."""


def _execute(self: Any, *, language: Any, code: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The program that Dify sends to its sandbox, run here."""
    if language != "python3":
        raise CodeExecutionError(f"no stand-in runs {language}")
    program = _Python3TemplateTransformer.build_program(code=code, inputs=inputs)
    lines: list[str] = []
    names: dict[str, Any] = {"__name__": "__main__", "print": lambda *args: lines.append(" ".join(map(str, args)))}
    try:
        exec(compile(program.code, "code", "exec"), names)
    except Exception as error:
        raise CodeExecutionError("".join(traceback.format_exception_only(error))) from error
    try:
        return _Python3TemplateTransformer.parse_result("\n".join(lines))
    except SandboxCodeExecutionError as error:
        raise ValueError(str(error)) from error  # as Dify's own reader of results raises it


def _pool(
    *, runtime_variables: Any, root_node_id: str, run_context: Mapping[str, Any], start_inputs: Mapping[str, Any]
) -> VariablePool:
    """The variables that a run begins with: the declared ones have the types that they are declared with."""
    pool = VariablePool()
    outputs = (
        ("env", runtime_variables.environment_variables),
        ("conversation", runtime_variables.conversation_variables),
    )
    for scope, variables in outputs:
        for variable in variables:
            kind = variable.source.get("value_type") or variable.source.get("type") or "string"
            if kind == "number":
                kind = "integer" if isinstance(variable.value, int) else "float"
            segment = build_segment_with_type(SegmentType("string" if kind == "secret" else kind), variable.value)
            pool.add((scope, variable.name), segment_to_variable(segment=segment, selector=[scope, variable.name]))
    for name, value in run_context.items():
        pool.add(("sys", name), value)
    pool.add(("sys", "files"), ArrayFileSegment(value=[]))
    for name, value in start_inputs.items():
        pool.add((root_node_id, name), value)
    return pool


class _Eager(threading.Event):
    """A worker looks for work every 100 ms: most of the time of a small graph."""

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(0.002)


def patch() -> None:
    worker.threading = SimpleNamespace(**{**vars(threading), "Event": _Eager})
    node_factory.SlimDslNodeFactory._create_slim_llm_runtime = _model
    factory = node_factory.SlimDslNodeFactory
    factory.NODE_BUILDERS = {**factory.NODE_BUILDERS, "llm": _llm}
    node_factory._DefaultJinja2TemplateRenderer.render_template = _render
    node_factory.SandboxCodeExecutor.execute = _execute
    importer._build_variable_pool = _pool


def _plain(value: object) -> Any:
    """As Dify tells it."""
    match value:
        case Segment():
            return value.value
        case File():
            return value.to_dict()
        case BaseModel():
            return value.model_dump()
        case _:
            raise TypeError(f"{type(value).__name__} is not a value")


def _node(event: Any, status: str) -> dict[str, Any]:
    result = event.node_run_result
    error = getattr(event, "error", None) or result.error or None
    return {"id": event.node_id, "status": status, "outputs": dict(result.outputs or {}), "error": error}


def run(case: Mapping[str, Any]) -> dict[str, Any]:
    try:
        engine = importer.loads(
            case["dsl"], start_inputs=case["inputs"], run_context=case["system"], credentials=_LIMITS
        )
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error} {getattr(error, 'details', None) or ''}"}
    PROMPTS.clear()
    nodes: list[dict[str, Any]] = []
    end: dict[str, Any] = {}
    try:
        for event in engine.run():
            name = type(event).__name__
            if name in _ENDS:
                nodes.append(_node(event, _ENDS[name]))
            elif name in _RUN_ENDS:
                outputs, error = getattr(event, "outputs", {}), getattr(event, "error", None)
                end = {"status": _RUN_ENDS[name], "outputs": dict(outputs), "error": error}
    except Exception:
        if end.get("status") != "failed":  # what failed a run is raised after its events
            raise
    return {"nodes": nodes, **end, "prompts": PROMPTS}


def main(source: TextIO, sink: TextIO) -> None:
    logging.disable(logging.CRITICAL)
    patch()
    for line in source:
        try:
            answer = run(json.loads(line))
            text = json.dumps(answer, default=_plain)
        except Exception:
            text = json.dumps({"defect": traceback.format_exc()})
        sink.write(text + "\n")
        sink.flush()


if __name__ == "__main__":
    answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr  # what a program prints is no answer
    main(sys.stdin, answers)
