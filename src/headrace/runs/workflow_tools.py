"""Workflows as tools: a tool node, or an agent, runs another served app."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from headrace.apps.catalog import Release
from headrace.errors import InvalidParam, NodeError, RequestError
from headrace.frozen import frozen
from headrace.kernel.events import RunEnded, RunId
from headrace.kernel.summary import ENDED_WELL, RunSummary
from headrace.nodes.start import Input, Start
from headrace.ports import App
from headrace.ports.services import (
    FileMessage,
    JsonMessage,
    LogMessage,
    ParameterType,
    TextMessage,
    Tool,
    ToolContext,
    ToolMessage,
    ToolParameter,
    ToolReference,
    ToolSpec,
    UsageMessage,
    VariableMessage,
)
from headrace.runs.called_runs import CALLED_BY, INVOKE_ERROR, called_run, callers, follow_called
from headrace.runs.service import RunService, Submission
from headrace.values import File, Value, files_in, to_json

NOT_FOUND = "ToolNotFoundError"
_TYPES: Mapping[str, ParameterType] = {
    "number": "number",
    "checkbox": "boolean",
    "select": "select",
    "json_object": "object",
    "file": "file",
    "file-list": "files",
}
_OWN_OUTPUTS = ("text", "json", "files")


class WorkflowTools:
    """Implements `ToolSource` for the provider type `workflow`. `names` has the name or id of an app by the name of the
    tool; other tools are the apps of their name. An app finds the apps of its own workspace only; `workspace` is that
    of a caller that is not an app."""

    def __init__(self, run_service: RunService, names: Mapping[str, str], workspace: str) -> None:
        self._run_service = run_service
        self._names = names
        self._workspace = workspace

    async def find(self, reference: ToolReference) -> Tool:
        """See `Tools.find`."""
        apps, name = self._run_service.apps, self._wanted(reference)
        caller = await apps.find(reference.app) if reference.app else None
        members = await apps.catalog.apps(caller.workspace if caller else self._workspace)
        for app in sorted(members, key=lambda member: member.mode != "workflow"):
            if app.id in name or app.name in name:
                release = await apps.version(app, app.version)
                return WorkflowTool(self._run_service, release, start_of(release), reference.tool_name)
        workflows = ", ".join(sorted(app.name for app in members if app.mode == "workflow")) or "none"
        raise NodeError(f"{_unknown(reference)} Workflows that are served: {workflows}.", NOT_FOUND)

    def missing(self, reference: ToolReference) -> str | None:
        """See `Tools.missing`."""
        known = any(self._run_service.apps.knows(name) for name in self._wanted(reference))
        return None if known else _unknown(reference)

    async def specs(self) -> Mapping[str, Sequence[ToolSpec]]:
        """See `ToolSource.specs`."""
        apps = self._run_service.apps
        releases = [await apps.version(app, app.version) for app in await apps.catalog.apps(self._workspace)]
        tools = [entry for entry in releases if not _why_not_a_tool(entry)]
        return {entry.app.name: [spec_of(entry.app, start_of(entry), entry.app.name)] for entry in tools}

    async def aclose(self) -> None:
        """Nothing is open: the runs are the service's."""

    def _wanted(self, reference: ToolReference) -> frozenset[str]:
        """The names, or the id, of the app that is the tool."""
        names = (reference.tool_name, reference.provider_name, reference.provider_id)
        wire_names = [self._names[name] for name in names if name in self._names]
        return frozenset(filter(None, wire_names or names))


def _unknown(reference: ToolReference) -> str:
    return (
        f"The tool '{reference.tool_name}' is a workflow: serve an app of that name, or name its app in the tools.yaml "
        "of HEADRACE_TOOLS."
    )


def start_of(release: Release) -> Start:
    """The start node of an app that can be a tool. NodeError if it cannot."""
    if problem := _why_not_a_tool(release):
        raise NodeError(f"The app '{release.app.name}' cannot be a tool: {problem}.", NOT_FOUND)
    start = release.flow.nodes[release.flow.graph.root]
    assert isinstance(start, Start)
    return start


def _why_not_a_tool(release: Release) -> str:
    """As in Dify an app that waits for a person cannot be a tool: a caller would hold its node for days."""
    from headrace.nodes.human_input.node import HumanInput

    flow = release.flow
    if flow.mode != "workflow":
        return f"it is of mode '{flow.mode}', not a workflow"
    if not isinstance(flow.nodes[flow.graph.root], Start):
        return "it begins with a trigger, and has no start node"
    if any(spec.type == HumanInput.type for spec in flow.graph.all_nodes()):
        return "it has human-input nodes"
    return ""


def spec_of(app: App, start: Start, name: str) -> ToolSpec:
    """An app as a tool: its inputs are the parameters."""
    return ToolSpec(name, app.name, app.description, tuple(map(_parameter, start.fields)))


def _parameter(field: Input) -> ToolParameter:
    label = str((field.model_extra or {}).get("label") or "")
    type_ = _TYPES.get(field.type, "string")
    schema = {"type": "object", **field.json_schema} if type_ == "object" and field.json_schema else None
    return ToolParameter(
        field.variable,
        type_,
        required=field.required,
        default=field.default,
        options=tuple(field.options),
        label=label,
        description=label,
        input_schema=schema,
    )


@frozen
class WorkflowTool:
    """Implements `Tool`: runs an app."""

    run_service: RunService
    release: Release
    start: Start
    name: str

    @property
    def spec(self) -> ToolSpec:
        return spec_of(self.release.app, self.start, self.name)

    async def call(self, parameters: Mapping[str, Value], context: ToolContext) -> AsyncGenerator[ToolMessage]:
        """See `Tool.call`. The run's outputs are a JSON object, its text, and a variable each; its files are files.
        A run that is stopped, or comes to its end, stops those that it called."""
        await callers(self.run_service, context.run)
        inputs = await self._inputs(parameters)
        run = called_run(context.key)
        submission = Submission(self.release, context.user, inputs, source=f"{CALLED_BY}{context.run}")
        try:
            await self.run_service.submit(submission, run, admitted=True)
        except RequestError as error:
            raise NodeError(error.message, INVOKE_ERROR) from error
        summary = RunSummary(self.release.flow.graph)
        async with aclosing(follow_called(self.run_service, run, context.run, context.user)) as records:
            async for record in records:
                summary.apply(record)
        if summary.ended is None:
            await self.run_service.stop(run, context.user)
            raise NodeError(f"The run {run} has paused, and a tool cannot wait for it.", INVOKE_ERROR)
        for message in self._messages(run, summary, summary.ended):
            yield message

    def _messages(self, run: RunId, summary: RunSummary, end: RunEnded) -> list[ToolMessage]:
        if end.status not in ENDED_WELL:
            stopped = end.status == "stopped" or not end.error
            raise NodeError(f"The run {run} was stopped." if stopped else str(end.error), INVOKE_ERROR)
        outputs = dict(end.outputs)
        value = to_json(outputs)
        link = {"workflow_run_id": run, "app_id": self.release.app.id, "status": end.status}
        return [
            LogMessage(run, self.release.app.name, "success", data=link),
            *map(_file_message, files_in(outputs)),
            TextMessage(json.dumps(value, ensure_ascii=False)),
            JsonMessage(value, for_model=False),
            *(VariableMessage(name, value) for name, value in outputs.items() if name not in _OWN_OUTPUTS),
            *([UsageMessage(summary.usage.wire())] if summary.usage.tokens else []),
        ]

    async def _inputs(self, parameters: Mapping[str, Value]) -> dict[str, Value]:
        """The inputs of the run, checked as those of a caller."""
        inputs = {name: _as_sent(value) for name, value in parameters.items() if value is not None}
        try:
            return await self.start.accept(inputs, _file_in)
        except InvalidParam as error:
            raise NodeError(error.message, "ToolParameterError") from error


def _file_message(file: File) -> FileMessage:
    """A file of the run's outputs. As in Dify the text says where it is, if it is neither an image nor an upload."""
    return FileMessage(file, mentioned=file.transfer_method == "tool_file" and file.type != "image")


def _as_sent(value: Value) -> Value:
    """A value as a caller of the API sends it: files in objects."""
    if isinstance(value, File):
        return {"file": value}
    if isinstance(value, list):
        return [_as_sent(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


async def _file_in(mapping: Mapping[str, Value]) -> File:
    file = mapping.get("file")
    if not isinstance(file, File):
        raise InvalidParam("A file of a tool's parameters must be a file of the workflow.")
    return file
