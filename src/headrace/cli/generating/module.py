"""The source of the module."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any, cast

from headrace.cli.generating import inputs, outputs
from headrace.cli.generating.inputs import Form
from headrace.cli.generating.outputs import output_fields
from headrace.cli.generating.text import Model, docstring, words
from headrace.node import Flow
from headrace.nodes.start import Input, StartConfig

WORKFLOW, COMPLETION = "workflow", "completion"
_RESERVED = frozenset(
    {
        *("IO", "Any", "Annotated", "Literal", "PathLike", "Sequence", "BaseModel", "ConfigDict", "Field"),
        *("PlainValidator", "AsyncClient", "AsyncStream", "Client", "File", "Message", "PollingPlan", "Stream"),
        *("UploadedFile", "WorkflowRun", "Inputs", "Outputs", "OutputFile", "FileValue", "True", "False", "None"),
    }
)
_FROM: Mapping[str, Sequence[str]] = {
    "collections.abc": ("Sequence",),
    "os": ("PathLike",),
    "typing": ("IO", "Annotated", "Any", "Literal"),
    "headrace_client": (
        *("AsyncClient", "AsyncStream", "Client", "File", "Message"),
        *("PollingPlan", "Stream", "UploadedFile", "WorkflowRun"),
    ),
    "pydantic": ("BaseModel", "ConfigDict", "Field", "PlainValidator"),
}
_STANDARD = ("collections.abc", "os", "typing")

_FILE_VALUE = '''\
def _file(value: Any) -> Any:
    """A string must be a URL; use `pathlib.Path` for a path."""
    if isinstance(value, str) and not value.startswith(("http://", "https://")):
        raise ValueError("must be a URL, bytes, a file object or a pathlib.Path")
    return value


FileValue = Annotated[
    File | UploadedFile | PathLike[str] | bytes | IO[bytes] | str,
    PlainValidator(_file),
]'''

_OUTPUT_FILE = '''\
class OutputFile(BaseModel):
    """A file of the workflow. It can be fetched at `url`."""

    model_config = ConfigDict(extra="allow")

    type: str | None = None
    transfer_method: str | None = None
    filename: str | None = None
    extension: str | None = None
    mime_type: str | None = None
    size: int | None = None
    url: str | None = None
    remote_url: str | None = None
    related_id: str | None = None'''

_VALUES_OF = '''\
def values_of(inputs: {inputs_type}) -> dict[str, Any]:
    """The inputs by their names in the workflow, without those that are None."""
    values: dict[str, Any] = {{}}
    {loop}for name, field in Inputs.model_fields.items():
    {indent}    value = getattr(inputs, name)
    {indent}    if isinstance(value, BaseModel):
    {indent}        value = value.model_dump(by_alias=True, exclude_unset=True)
    {indent}    if value is not None:
    {indent}        alias = field.serialization_alias
    {indent}        values[name if alias is None else alias] = value
    return values'''

_OUTPUTS_OF = '''\
def outputs_of(run: WorkflowRun | None) -> Outputs:
    """The outputs of a run that has ended.

    RunFailedError if it failed or was stopped; pydantic's ValidationError if its
    outputs are not of the types in the file.
    """
    if run is None or not run.ended:
        raise ValueError("The run has not ended.")
    return Outputs.model_validate(run.raise_for_status().outputs or {})'''

_RUN = '''\
{define} run{suffix}(
    client: {client},
    inputs: {inputs_type},
    *,
    workflow_id: str | None = None,
    user: str | None = None,{files}
    polling: PollingPlan | None = None,
) -> Outputs:
    """Runs the workflow and waits for its end. Errors: see `outputs_of` and the client."""
    workflow_run = {wait}client.run_and_wait(
        values_of(inputs),
        workflow_id=workflow_id,
        user=user,{pass_files}
        polling=polling,
    )
    return outputs_of(workflow_run)'''

_STREAM = '''\
def stream{suffix}(
    client: {client},
    inputs: {inputs_type},
    *,
    workflow_id: str | None = None,
    user: str | None = None,{files}
) -> {stream}:
    """Runs the workflow and streams its events; then call `outputs_of(stream.run)`."""
    return client.stream_workflow(
        values_of(inputs),
        workflow_id=workflow_id,
        user=user,{pass_files}
    )'''

_SEND = '''\
{define} send{suffix}(
    client: {client},
    query: str,
    inputs: {inputs_type},
    *,
    conversation_id: str | None = None,
    user: str | None = None,{files}
) -> Message:
    """Sends a message and waits for the answer; without an id, it starts a conversation."""
    return {wait}client.send_chat_message(
        query,
        inputs=values_of(inputs),
        conversation_id=conversation_id,
        user=user,{pass_files}
    )'''

_STREAM_CHAT = '''\
def stream{suffix}(
    client: {client},
    query: str,
    inputs: {inputs_type},
    *,
    conversation_id: str | None = None,
    user: str | None = None,{files}
) -> {stream}:
    """Sends a message and streams the answer."""
    return client.stream_chat_message(
        query,
        inputs=values_of(inputs),
        conversation_id=conversation_id,
        user=user,{pass_files}
    )'''

_COMPLETE = '''\
{define} complete{suffix}(
    client: {client},
    inputs: {inputs_type},
    *,
    user: str | None = None,{files}
) -> Message:
    """Creates a completion and waits for the whole text."""
    return {wait}client.create_completion(
        values_of(inputs),
        user=user,{pass_files}
    )'''

_STREAM_COMPLETION = '''\
def stream{suffix}(
    client: {client},
    inputs: {inputs_type},
    *,
    user: str | None = None,{files}
) -> {stream}:
    """Creates a completion and streams the text."""
    return client.stream_completion(
        values_of(inputs),
        user=user,{pass_files}
    )'''


def module(flow: Flow, form: Sequence[Input], source: str, *, asynchronous: bool = False) -> str:
    """The module's source, always the same for a file. `source` is the file's name. With `asynchronous`, each function
    has an async version for AsyncClient."""
    models = Form(form, _RESERVED)
    optional = not models.required
    inputs_type = "Inputs | None" if optional else "Inputs"
    has_files = _has_uploads(flow)
    fields = output_fields(flow) if flow.mode == WORKFLOW else []

    blocks = [choice.source() for choice in models.choices]
    if has_files or any(inputs.FILE in field.type for model in models.models for field in model.fields):
        blocks.insert(0, _FILE_VALUE)
    blocks += [model.source() for model in models.models]
    if any(outputs.FILE in field.type for field in fields):
        blocks.append(_OUTPUT_FILE)
    if flow.mode == WORKFLOW:
        about = "The outputs of the workflow." if fields else "The workflow has no outputs."
        blocks.append(Model("Outputs", about, "allow", fields).source())
    loop = ("if inputs is not None:\n        ", "    ") if optional else ("", "")
    blocks.append(_VALUES_OF.format(inputs_type=inputs_type, loop=loop[0], indent=loop[1]))
    if flow.mode == WORKFLOW:
        blocks.append(_OUTPUTS_OF)
    for is_async in (False, True) if asynchronous else (False,):
        blocks += [
            template.format(
                define="async def" if is_async else "def",
                suffix="_async" if is_async else "",
                client="AsyncClient" if is_async else "Client",
                stream="AsyncStream" if is_async else "Stream",
                wait="await " if is_async else "",
                inputs_type=f"{inputs_type} = None" if optional else inputs_type,
                files="\n    files: Sequence[FileValue] | None = None," if has_files else "",
                pass_files="\n        files=files," if has_files else "",
            )
            for template in _functions(flow.mode)
        ]
    body = "\n\n\n".join(blocks)
    head = docstring(_about(flow, source, asynchronous=asynchronous))
    space = "\n\n\n" if body.startswith(("class ", "def ")) else "\n\n"
    return f"{head}\n\n{_imports(body)}{space}{body}\n"


def _functions(mode: str) -> Sequence[str]:
    if mode == WORKFLOW:
        return _RUN, _STREAM
    return (_COMPLETE, _STREAM_COMPLETION) if mode == COMPLETION else (_SEND, _STREAM_CHAT)


def _about(flow: Flow, source: str, *, asynchronous: bool) -> str:
    name, more = words(flow.name), words(flow.description)
    flag = " --async" if asynchronous else ""
    note = f"{MARK} {words(source)}{flag}`: generate it again instead of editing it."
    return f"{name}{f': {more}' if more else '.'}\n\n{note}"


MARK = "Made by `headrace generate"
"""Marks a generated module, which may be replaced."""


def _has_uploads(flow: Flow) -> bool:
    settings = flow.features.get("file_upload")
    return isinstance(settings, dict) and bool(cast("dict[str, Any]", settings).get("enabled"))


def _imports(body: str) -> str:
    """The imports of the names that are used; the standard library first."""
    used_names = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    groups: list[list[str]] = [[], []]
    for source, names in _FROM.items():
        imports = [name for name in names if name in used_names]
        if not imports:
            continue
        line = f"from {source} import {', '.join(imports)}"
        if len(line) > 88:
            line = f"from {source} import (\n" + "".join(f"    {name},\n" for name in imports) + ")"
        groups[source not in _STANDARD].append(line)
    return "\n\n".join("\n".join(lines) for lines in groups if lines)


def form_of(flow: Flow) -> Sequence[Input] | None:
    """The start node's form; None if the workflow starts with a node of another type."""
    node = flow.nodes[flow.graph.root]
    return node.config.variables if isinstance(node.config, StartConfig) else None
