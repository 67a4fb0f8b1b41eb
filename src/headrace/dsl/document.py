"""What a workflow file says, as written: the app, its nodes and edges, its variables. Every version of the format.

Facts: versions 0.1.0 to 0.6.0 differ in what nodes hold, hardly in the frame. Notes on the canvas are nodes of the type
`""`; what is inside an iteration or loop stands in the same list, with the container's id as `parentId` (or, in older
files, in its data).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from headrace.dsl.yaml import Tree, parse
from headrace.errors import LoadError, Problem
from headrace.kernel.graph import SOURCE
from headrace.values import Value

NEWEST = (0, 6, 0)
GRAPH_MODES = ("workflow", "advanced-chat")
MODES = (*GRAPH_MODES, "chat", "completion", "agent-chat")
SCOPES = ("sys", "env", "conversation")  # what selectors begin with besides a node's id

_SETTINGS = ("icon", "icon_type", "icon_background", "use_icon_as_answer_icon")


class Problems:
    """Collects what is wrong with a file."""

    def __init__(self, source: str, found: Sequence[Problem] = ()) -> None:
        self.source = source
        self.found = list(found)

    def add(
        self,
        message: str,
        *,
        node: str | None = None,
        field: str | None = None,
        line: int | None = None,
        fatal: bool = True,
    ) -> None:
        self.found.append(Problem(message, node, field, line, fatal))

    def note(
        self, message: str, *, node: str | None = None, field: str | None = None, line: int | None = None
    ) -> None:
        """The file loads in spite of it."""
        self.add(message, node=node, field=field, line=line, fatal=False)

    @property
    def fatal(self) -> bool:
        return any(problem.fatal for problem in self.found)


@dataclass(frozen=True, slots=True)
class RawNode:
    """A node as written. `parent` is the id of the container it is in."""

    id: str
    type: str
    title: str
    data: Mapping[str, Value]
    parent: str | None
    line: int | None


@dataclass(frozen=True, slots=True)
class RawEdge:
    source: str
    target: str
    handle: str
    line: int | None


@dataclass(frozen=True, slots=True)
class Document:
    """`nodes` are without notes, `edges` without those of notes; what is malformed is left out and told."""

    tree: Tree
    name: str
    mode: str
    description: str
    nodes: Sequence[RawNode] = ()
    edges: Sequence[RawEdge] = ()
    environment: Mapping[str, Value] = field(default_factory=dict[str, Value])
    secrets: frozenset[str] = frozenset()
    features: Mapping[str, Value] = field(default_factory=dict[str, Value])
    settings: Mapping[str, Value] = field(default_factory=dict[str, Value])


def read(content: str | bytes, source: str, problems: Problems) -> Document:
    """Reads a file. LoadError where it cannot be read as a workflow file at all; lesser faults go to `problems`."""
    tree = parse(content, source)
    problems.found.extend(tree.notes)
    root = tree.root
    if root is None:
        problems.add("is empty")
    elif not isinstance(root, dict):
        problems.add("is no workflow file: it holds no mapping with `app` and `workflow`", line=1)
    if problems.fatal:
        raise LoadError(source, problems.found)
    return _Reader(tree, cast("dict[str, Value]", root), source, problems).document()


class _Reader:
    def __init__(self, tree: Tree, root: dict[str, Value], source: str, problems: Problems) -> None:
        self.tree = tree
        self.root = root
        self.source = source
        self.problems = problems

    def document(self) -> Document:
        kind = self.root.get("kind")
        if kind not in (None, "", "app"):
            line = self.tree.line(self.root, "kind")
            self.problems.add(f"is of kind {_short(kind)}; only app is a workflow file", field="kind", line=line)
            raise LoadError(self.source, self.problems.found)
        self._version()
        app = self._mapping(self.root, "app", required=True)
        mode = app.get("mode")
        if app and mode not in MODES:
            line = self.tree.line(self.root, "app", "mode")
            what = f"is {_short(mode)}" if "mode" in app else "is missing"
            self.problems.add(f"{what}; it must be one of {', '.join(MODES)}", field="app.mode", line=line)
        graphed = mode in GRAPH_MODES
        workflow = self._mapping(self.root, "workflow", required=graphed)
        if self.problems.fatal:
            raise LoadError(self.source, self.problems.found)
        name, description = app.get("name"), app.get("description")
        settings: dict[str, Value] = {key: app[key] for key in _SETTINGS if key in app}
        if conversation := self._entries(workflow, "conversation_variables", "workflow"):
            settings["conversation_variables"] = [entry for entry, _ in conversation]
        nodes, notes = self._nodes(workflow) if graphed else ([], set[str]())
        environment, secrets = self._environment(workflow)
        return Document(
            self.tree,
            str(name) if name not in (None, "") else self.source,
            cast("str", mode),
            str(description or ""),
            nodes,
            self._edges(workflow, notes) if graphed else [],
            environment,
            secrets,
            self._mapping(workflow, "features", "workflow"),
            settings,
        )

    def _version(self) -> None:
        version = self.root.get("version")
        if version is None:
            return
        match = re.match(r"(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?", str(version))
        line = self.tree.line(self.root, "version")
        if match is None:
            self.problems.note(f"{_short(version)} is no version of the file format", field="version", line=line)
        elif tuple(int(part or 0) for part in match.groups()) > NEWEST:
            newest = ".".join(map(str, NEWEST))
            message = f"{version} is newer than {newest}, the newest file format known here; what is new in it is lost"
            self.problems.note(message, field="version", line=line)

    # ------------------------------------------------------------------------------------------- nodes and edges

    def _nodes(self, workflow: dict[str, Value]) -> tuple[list[RawNode], set[str]]:
        """The nodes, and the ids of notes."""
        graph = self._mapping(workflow, "graph", "workflow", required=True)
        nodes: dict[str, RawNode] = {}
        notes: set[str] = set()
        for entry, line in self._entries(graph, "nodes", "workflow.graph"):
            node = self._node(entry, line)
            if node is None:
                continue
            if not node.type:
                notes.add(node.id)
            elif node.id in nodes:
                first = nodes[node.id].line
                self.problems.add(f"has the id of another node (line {first})", node=node.id, field="id", line=line)
            else:
                nodes[node.id] = node
        return list(nodes.values()), notes - nodes.keys()

    def _node(self, entry: dict[str, Value], line: int | None) -> RawNode | None:
        """A node; with no type if it is a note, None if it is nothing."""
        node_id, data = entry.get("id"), entry.get("data")
        note = entry.get("type") == "custom-note"
        name = _name(node_id)
        if name is None:
            if not note:
                self.problems.add("a node has no id (a text)", field="id", line=line)
            return None
        if note:
            return RawNode(name, "", "", {}, None, line)
        if name in SCOPES:
            self.problems.add(f"the id {name} is taken: it names the {name} variables", node=name, line=line)
        if not isinstance(data, dict):
            line = self.tree.line(entry, "data") or line
            self.problems.add("has no data (a mapping)", node=name, field="data", line=line)
            return None
        data = cast("dict[str, Value]", data)
        kind, title = data.get("type"), data.get("title")
        if not isinstance(kind, str):
            line = self.tree.line(data, "type") or line
            self.problems.add("has no type (a text)", node=name, field="type", line=line)
            return None
        return RawNode(name, kind, str(title or ""), data, _parent(entry, data), line)

    def _edges(self, workflow: dict[str, Value], notes: set[str]) -> list[RawEdge]:
        graph = workflow.get("graph")
        edges: list[RawEdge] = []
        if not isinstance(graph, dict):
            return edges
        for entry, line in self._entries(cast("dict[str, Value]", graph), "edges", "workflow.graph"):
            source, target, handle = _name(entry.get("source")), _name(entry.get("target")), entry.get("sourceHandle")
            if source is None or target is None:
                end = "source" if source is None else "target"
                self.problems.add(f"an edge has no {end} (a node's id)", field=f"edges.{end}", line=line)
            elif source not in notes and target not in notes:
                # a handle written without quotes: if-else leaves by true and false
                handle = str(handle).lower() if isinstance(handle, bool) else _name(handle) or SOURCE
                edges.append(RawEdge(source, target, handle, line))
        return edges

    # --------------------------------------------------------------------------------------------------- variables

    def _environment(self, workflow: dict[str, Value]) -> tuple[dict[str, Value], frozenset[str]]:
        """Values by name, and the values that are secret."""
        values: dict[str, Value] = {}
        secrets: set[str] = set()
        for entry, line in self._entries(workflow, "environment_variables", "workflow"):
            name, value, kind = _name(entry.get("name")), entry.get("value"), str(entry.get("value_type") or "string")
            if name is None:
                self.problems.add("an environment variable has no name", field="environment_variables.name", line=line)
                continue
            where = f"environment_variables.{name}"
            if name in values:
                self.problems.note("is there twice; the last one counts", field=where, line=line)
            if kind in {"number", "integer", "float"} and isinstance(value, str):
                number = _number(value)
                if number is None:
                    self.problems.add(f"{_short(value)} is no number", field=where, line=line)
                value = number
            elif kind in {"string", "secret"} and not isinstance(value, str):
                value = "" if value is None else str(value)
            values[name] = value
            if kind == "secret":
                if value:
                    secrets.add(value)
                else:
                    self.problems.note("is a secret, and the file has no value for it", field=where, line=line)
        return values, frozenset(secrets)

    # ------------------------------------------------------------------------------------------------------- parts

    def _mapping(
        self, holder: dict[str, Value], key: str, path: str = "", *, required: bool = False
    ) -> dict[str, Value]:
        """A part that is a mapping; {} where it is missing."""
        value = holder.get(key)
        if isinstance(value, dict):
            return cast("dict[str, Value]", value)
        if value is not None or required:
            where = f"{path}.{key}" if path else key
            what = "must be a mapping" if key in holder else "is missing"
            self.problems.add(what, field=where, line=self.tree.line(holder, key))
        return {}

    def _entries(
        self, holder: dict[str, Value], key: str, path: str
    ) -> Iterator[tuple[dict[str, Value], int | None]]:
        """The mappings of a part that is a list, each with its line."""
        value = holder.get(key)
        where = f"{path}.{key}"
        if value is None:
            return
        if not isinstance(value, list):
            self.problems.add("must be a list", field=where, line=self.tree.line(holder, key))
            return
        for index, entry in enumerate(cast("list[Value]", value)):
            line = self.tree.line(cast("list[Value]", value), index)
            if isinstance(entry, dict):
                yield cast("dict[str, Value]", entry), line
            else:
                self.problems.add("must be a mapping", field=f"{where}.{index}", line=line)


def _parent(entry: Mapping[str, Value], data: Mapping[str, Value]) -> str | None:
    own = _name(entry.get("parentId"))
    if own is not None:
        return own
    inside = [data.get("iteration_id") if data.get("isInIteration") is not False else None]
    inside += [data.get("loop_id") if data.get("isInLoop") is not False else None]
    return next((parent for each in inside if (parent := _name(each)) is not None), None)


def _name(value: Value) -> str | None:
    """A text that names something; a number written without quotes is one. None where it names nothing."""
    return (str(value) or None) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _number(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return None


def _short(value: Value) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
