"""The module, put together."""

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
    """A text is a file only where it is a URL; a path is given as `pathlib.Path`."""
    if isinstance(value, str) and not value.startswith(("http://", "https://")):
        raise ValueError("must be a URL, bytes, a file object or a pathlib.Path")
    return value


FileValue = Annotated[
    File | UploadedFile | PathLike[str] | bytes | IO[bytes] | str,
    PlainValidator(_file),
]'''

_OUTPUT_FILE = '''\
class OutputFile(BaseModel):
    """A file that the workflow made, or was given. `url` is where it can be fetched."""

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
def values_of(inputs: {given}) -> dict[str, Any]:
    """The inputs by the names that the workflow gives them; those that are None are left out."""
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

    RunFailedError if it failed or was stopped; pydantic's ValidationError where its
    outputs are not of the types that the file says.
    """
    if run is None or not run.ended:
        raise ValueError("The run has not ended.")
    return Outputs.model_validate(run.raise_for_status().outputs or {})'''

_RUN = '''\
{define} run{suffix}(
    client: {client},
    inputs: {given},
    *,
    workflow_id: str | None = None,
    user: str | None = None,{files}
    polling: PollingPlan | None = None,
) -> Outputs:
    """Runs the workflow and waits for its end. Errors: as `outputs_of`, and the client's."""
    done = {wait}client.run_and_wait(
        values_of(inputs),
        workflow_id=workflow_id,
        user=user,{pass_files}
        polling=polling,
    )
    return outputs_of(done)'''

_STREAM = '''\
def stream{suffix}(
    client: {client},
    inputs: {given},
    *,
    workflow_id: str | None = None,
    user: str | None = None,{files}
) -> {stream}:
    """Runs the workflow and tells its events; after them, `outputs_of(stream.run)`."""
    return client.stream_workflow(
        values_of(inputs),
        workflow_id=workflow_id,
        user=user,{pass_files}
    )'''

_SEND = '''\
{define} send{suffix}(
    client: {client},
    query: str,
    inputs: {given},
    *,
    conversation_id: str | None = None,
    user: str | None = None,{files}
) -> Message:
    """Sends a message and waits for the whole answer; without an id, it begins a chat."""
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
    inputs: {given},
    *,
    conversation_id: str | None = None,
    user: str | None = None,{files}
) -> {stream}:
    """Sends a message and tells the answer as it comes."""
    return client.stream_chat_message(
        query,
        inputs=values_of(inputs),
        conversation_id=conversation_id,
        user=user,{pass_files}
    )'''

_COMPLETE = '''\
{define} complete{suffix}(
    client: {client},
    inputs: {given},
    *,
    user: str | None = None,{files}
) -> Message:
    """Has the app write, and waits for the whole text."""
    return {wait}client.create_completion(
        values_of(inputs),
        user=user,{pass_files}
    )'''

_STREAM_COMPLETION = '''\
def stream{suffix}(
    client: {client},
    inputs: {given},
    *,
    user: str | None = None,{files}
) -> {stream}:
    """Has the app write, and tells the text as it comes."""
    return client.stream_completion(
        values_of(inputs),
        user=user,{pass_files}
    )'''


def module(flow: Flow, form: Sequence[Input], made_from: str, *, asynchronous: bool = False) -> str:
    """The module's source: the same for the same file. `made_from`: how the file is called. With `asynchronous` each
    function has a twin for AsyncClient."""
    taken = Form(form, _RESERVED)
    optional = not taken.required
    given = "Inputs | None" if optional else "Inputs"
    taken_files = _takes_files(flow)
    told = output_fields(flow) if flow.mode == WORKFLOW else []

    blocks = [choice.source() for choice in taken.choices]
    if taken_files or any(inputs.FILE in field.type for model in taken.models for field in model.fields):
        blocks.insert(0, _FILE_VALUE)
    blocks += [model.source() for model in taken.models]
    if any(outputs.FILE in field.type for field in told):
        blocks.append(_OUTPUT_FILE)
    if flow.mode == WORKFLOW:
        about = "What the workflow puts out." if told else "The workflow puts nothing out."
        blocks.append(Model("Outputs", about, "allow", told).source())
    loop = ("if inputs is not None:\n        ", "    ") if optional else ("", "")
    blocks.append(_VALUES_OF.format(given=given, loop=loop[0], indent=loop[1]))
    if flow.mode == WORKFLOW:
        blocks.append(_OUTPUTS_OF)
    for twin in (False, True) if asynchronous else (False,):
        blocks += [
            each.format(
                define="async def" if twin else "def",
                suffix="_async" if twin else "",
                client="AsyncClient" if twin else "Client",
                stream="AsyncStream" if twin else "Stream",
                wait="await " if twin else "",
                given=f"{given} = None" if optional else given,
                files="\n    files: Sequence[FileValue] | None = None," if taken_files else "",
                pass_files="\n        files=files," if taken_files else "",
            )
            for each in _functions(flow.mode)
        ]
    body = "\n\n\n".join(blocks)
    head = docstring(_about(flow, made_from, asynchronous=asynchronous))
    space = "\n\n\n" if body.startswith(("class ", "def ")) else "\n\n"
    return f"{head}\n\n{_imports(body)}{space}{body}\n"


def _functions(mode: str) -> Sequence[str]:
    if mode == WORKFLOW:
        return _RUN, _STREAM
    return (_COMPLETE, _STREAM_COMPLETION) if mode == COMPLETION else (_SEND, _STREAM_CHAT)


def _about(flow: Flow, made_from: str, *, asynchronous: bool) -> str:
    name, more = words(flow.name), words(flow.description)
    flag = " --async" if asynchronous else ""
    made = f"{MARK} {words(made_from)}{flag}`: make it again rather than change it."
    return f"{name}{f': {more}' if more else '.'}\n\n{made}"


MARK = "Made by `headrace generate"
"""What every module says of itself."""


def _takes_files(flow: Flow) -> bool:
    told = flow.features.get("file_upload")
    return isinstance(told, dict) and bool(cast("dict[str, Any]", told).get("enabled"))


def _imports(body: str) -> str:
    """The imports of all that is used; types of the SDK and pydantic after the standard library's."""
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    groups: list[list[str]] = [[], []]
    for source, names in _FROM.items():
        wanted = [name for name in names if name in used]
        if not wanted:
            continue
        line = f"from {source} import {', '.join(wanted)}"
        if len(line) > 88:
            line = f"from {source} import (\n" + "".join(f"    {name},\n" for name in wanted) + ")"
        groups[source not in _STANDARD].append(line)
    return "\n\n".join("\n".join(lines) for lines in groups if lines)


def form_of(flow: Flow) -> Sequence[Input] | None:
    """The start node's form; None where something else begins the workflow."""
    node = flow.nodes[flow.graph.root]
    return node.config.variables if isinstance(node.config, StartConfig) else None
