"""Loads a file exported by Dify as a workflow that can run, and reports all its problems.

Files of every DSL version up to `NEWEST` load, and newer ones as far as they are compatible. Something that Headrace
does not run (an unknown node type) is reported but not fatal, because other branches may run.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import cast

from pydantic import ValidationError

from headrace.dsl import basic_apps
from headrace.dsl.check import Draft, drafts, excerpt, links, mapping, number_of, unread
from headrace.dsl.duplicate_outputs import duplicates
from headrace.dsl.error_handling import ErrorHandling
from headrace.dsl.scopes import Level, Levels
from headrace.dsl.typed_values import blank, fitted
from headrace.dsl.unknown_node import UnknownNode
from headrace.dsl.yaml_reader import Document, read
from headrace.errors import HeadraceError, LoadError, Problem
from headrace.kernel.containers import ContainerBody
from headrace.kernel.graph import FAIL_BRANCH, SOURCE, Graph, NodeId, NodeSpec, Piece
from headrace.node import Config, ContainerNode, DeclaredVariable, Flow, Node, Registry
from headrace.values import Value

NEWEST = "0.7.0"
_WORKFLOW = "workflow"
MODES = frozenset({_WORKFLOW, "advanced-chat", *basic_apps.MODES})
NOT_RUN: Mapping[str, str] = {
    "agent": "an agent of Dify 1.16 and later, with its own prompt, tools and skills",
    "channel": "a channel",
    "rag-pipeline": "a pipeline that fills a knowledge base",
}
"""Modes of Dify that Headrace does not run, with a description."""
_SETTINGS = ("icon", "icon_background", "icon_type", "use_icon_as_answer_icon")


def load(content: str | bytes, registry: Registry, source: str = "workflow") -> Flow:
    """The workflow in a file. LoadError with all its fatal problems; `source` names the file in them."""
    flow, problems = inspect(content, registry, source)
    fatal = [problem for problem in problems if problem.fatal]
    if flow is None or fatal:
        raise LoadError(source, fatal)
    return flow


def inspect(content: str | bytes, registry: Registry, source: str = "workflow") -> tuple[Flow | None, list[Problem]]:
    """(workflow, problems in the order of the file). The workflow is None if and only if some problem is fatal."""
    try:
        document = read(content, source)
    except LoadError as error:
        return None, list(error.problems)
    loader = _Loader(document, registry)
    flow = loader.flow()
    problems = sorted(loader.problems, key=lambda problem: problem.line or 0)
    return (None if any(problem.fatal for problem in problems) else flow), problems


class _Loader:
    """Loads one document, and collects its problems."""

    def __init__(self, document: Document, registry: Registry) -> None:
        self._document = document
        self._registry = registry
        self._file: dict[str, Value] = document.value
        self._nodes: dict[NodeId, Node[Config]] = {}
        self._drafts: dict[NodeId, Draft] = {}
        self._names_by_scope: dict[str, Collection[str]] = {}
        self._drafts_in_order: list[Draft] = []
        self._app_mode = _WORKFLOW
        self.problems = list(document.problems)

    def flow(self) -> Flow | None:
        """The workflow; it is only usable if none of the `problems` is fatal."""
        if not self._is_app():
            return None
        app = mapping(self._file.get("app"))
        if app is None:
            self._report("there is no `app` section: is it an app exported by Dify?", self._file, "app")
            app = {}
        mode = self._app_mode = self._mode(app)
        settings = {key: app[key] for key in _SETTINGS if key in app}
        environment: dict[str, Value] = {}
        secrets: frozenset[str] = frozenset()
        features: Mapping[str, Value] = {}
        conversation: list[DeclaredVariable] = []
        workflow = mapping(self._file.get("workflow"))
        name = _text(app.get("name")) or "Untitled"
        if workflow is None and mode in basic_apps.MODES:
            if basic_app := basic_apps.convert(self._document, mode, self.problems.append):
                self._document, workflow = basic_app.document, basic_app.workflow
        elif workflow is None and mode not in NOT_RUN:
            self._report("there is no `workflow` section", self._file, "workflow")
        if workflow is None:
            graph = None
        else:
            environment, secrets = self._environment(workflow)
            features = mapping(workflow.get("features")) or {}
            conversation = self._conversation(workflow)
            self._names_by_scope = {"env": environment, "conversation": {variable.name for variable in conversation}}
            graph = self._graph(workflow)
        if graph is None:
            return None
        description = _text(app.get("description"))
        return Flow(graph, self._nodes, name, mode, description, environment, secrets, features, settings, conversation)

    def _report(
        self,
        message: str,
        holder: Value,
        key: str | int | None = None,
        *,
        node: str | None = None,
        field: str | None = None,
        fatal: bool = True,
    ) -> None:
        line = self._document.line(holder, key)
        self.problems.append(Problem(message, node, field or (None if key is None else str(key)), line, fatal))

    # -------------------------------------------------------------------------------------------------- the file

    def _is_app(self) -> bool:
        file = self._file
        if not file.keys() & {"app", "workflow", "model_config", "kind"}:
            message = "the file has neither `app` nor `workflow`: is it an app exported by Dify?"
            self.problems.append(Problem(message))
            return False
        kind = file.get("kind")
        if kind not in (None, "", "app"):
            self._report(f"the file contains {excerpt(kind)}, not an app", file, "kind")
            return False
        version = file.get("version")
        if version not in (None, ""):
            numbers = re.match(r"(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?", _text(version))
            if numbers is None:
                self._report(f"{excerpt(version)} is not a version of a workflow file", file, "version", fatal=False)
            elif tuple(int(part or 0) for part in numbers.groups()) > tuple(map(int, NEWEST.split("."))):
                message = f"version {_text(version)} is newer than {NEWEST}, the newest known here: parts may not run"
                self._report(message, file, "version", fatal=False)
        return True

    def _mode(self, app: dict[str, Value]) -> str:
        mode = app.get("mode")
        if mode is None and app:
            self._report("the app's mode is missing", app, "mode", field="app.mode")
        elif isinstance(mode, str) and mode in NOT_RUN:
            self._report(
                f"the app is of mode '{mode}' ({NOT_RUN[mode]}), which Headrace does not run",
                app,
                "mode",
                field="app.mode",
            )
        elif app and not (isinstance(mode, str) and mode in MODES):
            self._report(f"{excerpt(mode)} is not a mode of an app", app, "mode", field="app.mode")
        return mode if isinstance(mode, str) else _WORKFLOW

    def _environment(self, workflow: dict[str, Value]) -> tuple[dict[str, Value], frozenset[str]]:
        """(values by name, the secret values)."""
        values: dict[str, Value] = {}
        secrets: set[str] = set()
        for field, name, entry in self._variables(workflow, "environment"):
            value = entry.get("value")
            match entry.get("value_type"):
                case "secret":
                    value = _text(value)
                    secrets |= {value} if value else set()
                case "number" if isinstance(value, str) and value:
                    number = number_of(value)
                    if number is None:
                        message = f"the environment variable '{name}' must be a number, not {excerpt(value)}"
                        self._report(message, entry, "value", field=f"{field}.value")
                    value = number
                case "string":
                    value = fitted(value, "string")[1]
                case _:
                    pass
            values[name] = value
        return values, frozenset(secrets)

    def _conversation(self, workflow: dict[str, Value]) -> list[DeclaredVariable]:
        """The conversation variables, in the order of the file."""
        variables: dict[str, DeclaredVariable] = {}
        for field, name, entry in self._variables(workflow, "conversation"):
            kind = _text(entry.get("value_type")) or "string"
            fits, value = fitted(entry.get("value", blank(kind)), kind)
            if not fits:
                message = f"the conversation variable '{name}' must be of type {kind}: it begins without a value"
                self._report(message, entry, "value", field=f"{field}.value", fatal=False)
            id_ = _text(entry.get("id")) or name
            variables[name] = DeclaredVariable(id_, name, kind, _text(entry.get("description")), value)
        return list(variables.values())

    def _variables(self, workflow: dict[str, Value], scope: str) -> Iterator[tuple[str, str, dict[str, Value]]]:
        """(field, name, entry) of the variables of a scope. Entries without a name are reported, and left out."""
        section = f"{scope}_variables"
        names: set[str] = set()
        for index, item in enumerate(self._list(workflow, section)):
            field = f"{section}.{index}"
            entry = mapping(item)
            name = _text(entry.get("name")) if entry else ""
            if entry is None or not name:
                message = f"each {scope} variable must be a mapping with a name"
                self._report(message, workflow[section], index, field=field)
                continue
            if name in names:
                self._report(f"the {scope} variable '{name}' is defined twice", entry, "name", field=f"{field}.name")
            names.add(name)
            yield field, name, entry

    def _list(self, holder: dict[str, Value], key: str, *, wanted: bool = False) -> list[Value]:
        value = holder.get(key)
        if isinstance(value, list):
            return cast("list[Value]", value)
        if value is not None or wanted:
            self._report(f"`{key}` {'is missing' if value is None else 'must be a list'}", holder, key)
        return []

    # ------------------------------------------------------------------------------------------------- the graph

    def _graph(self, workflow: dict[str, Value]) -> Graph | None:
        graph = mapping(workflow.get("graph"))
        if graph is None:
            self._report("the workflow has no graph", workflow, "graph", field="workflow.graph")
            return None
        nodes = self._list(graph, "nodes", wanted=True)
        self._drafts, notes = drafts(self._document, nodes, self._registry, self.problems.append)
        edges = links(self._document, self._list(graph, "edges"), self._drafts, notes, self.problems.append)
        if not isinstance(graph.get("nodes"), list):
            return None
        levels = Levels(self._drafts, edges, self.problems.append)
        top = levels.top()
        if top is None:
            for draft in self._drafts.values():
                self._node(draft)
            self._check_reads(levels)
            return None
        nodes_by_id = self._built(top, levels)
        self._check_reads(levels)
        if not any(problem.fatal for problem in self.problems):
            self.problems += duplicates(nodes_by_id, self._drafts, self._document)
        return nodes_by_id

    def _built(self, level: Level, levels: Levels, parent: NodeId | None = None) -> Graph:
        specs: list[NodeSpec] = []
        responses: dict[NodeId, list[str | tuple[str, ...]]] = {}
        bodies: dict[NodeId, ContainerBody] = {}
        for draft in level.nodes:
            node = self._node(draft)
            if node is None:
                continue
            self._nodes[draft.id] = node
            handling = ErrorHandling(self._document, draft, self.problems.append)
            specs.append(
                NodeSpec(
                    draft.id,
                    draft.type,
                    draft.title,
                    draft.data,
                    parent,
                    branching=node.branching,
                    retry=handling.retry(),
                    strategy=handling.strategy,
                    defaults=handling.defaults(),
                    assigns=frozenset(node.assigns()),
                    traits=node.traits,
                    metadata=node.metadata(),
                )
            )
            pieces = node.response_template()
            if pieces is not None:
                responses[draft.id] = list(pieces)
            body = levels.body(draft)
            if body is not None and isinstance(node, ContainerNode):
                bodies[draft.id] = ContainerBody(self._built(body, levels, draft.id), node)
            elif isinstance(node, ContainerNode):
                self._report(f"this {draft.type} has no start node inside", draft.data, node=draft.name)
        self._handles(level, {spec.id: spec for spec in specs})
        edges = [link.edge for link in level.links]
        starts = [start.id for start in level.starts]
        return Graph(specs, edges, starts[0], cast("Mapping[NodeId, list[Piece]]", responses), bodies, starts)

    def _check_reads(self, levels: Levels) -> None:
        known = (self._drafts, self._nodes, self._document, self._names_by_scope, self._app_mode, levels.border)
        for draft in self._drafts_in_order:
            self.problems.extend(unread(draft, *known))

    def _node(self, draft: Draft) -> Node[Config] | None:
        """The node, or an `Unknown` one if its type is unknown; None if its configuration is invalid."""
        self._drafts_in_order.append(draft)
        cls = draft.cls
        if cls is None:
            message = f"nodes of type '{draft.kind}' are not run here"
            self._report(message, draft.data, "type", node=draft.name, fatal=False)
            return UnknownNode(draft.kind, draft.name)
        try:
            node = cls(cls.Config.model_validate(draft.data))
            for field, flaw in node.problems():
                where, line = self._document.locate(draft.data, field)
                self.problems.append(Problem(flaw, draft.name, where or None, line, fatal=False))
            return node
        except ValidationError as error:
            problems_reported: set[tuple[str, str]] = set()
            for detail in error.errors(include_url=False, include_context=False, include_input=False):
                field, line = self._document.locate(draft.data, detail["loc"])
                message = _worded(detail["type"], detail["msg"])
                if (field, message) not in problems_reported:
                    problems_reported.add((field, message))
                    self.problems.append(Problem(message, draft.name, field or None, line))
        except (HeadraceError, ValueError) as error:  # raised by a node type for the configuration as a whole
            self._report(str(error) or type(error).__name__, draft.data, node=draft.name)
        return None

    def _handles(self, level: Level, specs: Mapping[NodeId, NodeSpec]) -> None:
        """Reports the edges that no run can take."""
        for link in level.links:
            spec = specs.get(link.edge.source)
            if spec is None or isinstance(self._nodes[spec.id], UnknownNode):
                continue
            handles = self._nodes[spec.id].branches() if spec.branching else {SOURCE}
            if handles is None or not (spec.branching or spec.strategy == FAIL_BRANCH):
                continue
            handles = [*handles, *([FAIL_BRANCH] if spec.strategy == FAIL_BRANCH else [])]
            if link.edge.handle not in handles:
                message = f"an edge leaves by the branch '{link.edge.handle}', which the node does not have"
                name = self._drafts[spec.id].name
                self.problems.append(Problem(message, name, "sourceHandle", link.line, fatal=False))


def _text(value: Value) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)


def _worded(kind: str, message: str) -> str:
    """A message of pydantic, for users."""
    if kind == "missing":
        return "is missing"
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
