"""A run's state: what its events so far add up to, and what they leave ready to be done.

How a graph is walked (facts of Dify 1.12, from its recorded runs and its engine):

- A node waits for all its incoming edges. When its source ends, an edge is taken or skipped. Once none waits,
  the node is ready if any was taken, else it is to be skipped; a skipped node skips all its edges.
- A node that ended by a handle takes the edges of that handle and skips the others, if it branches; else it takes all.
- The first failure that no strategy handles ends the run as failed, once the nodes already running have ended; none
  starts after it. Inside a container it ends the round in the same way, and the container says what that means.
- Steps count every start and every retry; exceptions count every failed attempt, handled or not. Nodes inside
  containers count in neither, but their tokens do.

The frontier (`ready`, `skips`, `running`, `due`) is kept up to date by `apply`, so that planning costs what has changed
and not what there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.kernel.containers import Level, Opened
from headrace.kernel.events import (
    Delta,
    NodeFailed,
    NodeLogged,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    Record,
    RoundStarted,
    RunEnded,
    RunPaused,
    RunQueued,
    RunResumed,
    RunStarted,
    StopRequested,
)
from headrace.kernel.graph import Graph, NodeSpec
from headrace.kernel.outputs import Outputs
from headrace.kernel.path import NodeId, Path, split
from headrace.kernel.summary import RunSummary
from headrace.values import Value


@dataclass(slots=True)
class Running:
    """A node under way: how many of its attempts have failed."""

    failures: int = 0


class State(RunSummary):
    """A run as its events have left it: its summary, and what can be done next. Only `apply` changes it."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.stop: StopRequested | None = None
        self.made = Outputs(graph)
        self.ready: dict[Path, None] = {}
        self.skips: dict[Path, None] = {}
        self.running: dict[Path, Running] = {}
        self.interrupted: dict[Path, None] = {}
        self.opened: dict[Path, Opened] = {}  # containers under way
        self.due: dict[Path, None] = {}  # those about which there is something to be done
        self._top = Level(graph)
        self._levels: dict[Path, Level] = {"": self._top}
        self.variables = self._top.scopes

    @property
    def outputs(self) -> dict[str, Value]:
        """What the run has put out so far."""
        return self.made.now()

    def locate(self, path: Path) -> tuple[Level, NodeId]:
        """The level that a path is in, and the id of its node there."""
        round_, node = split(path)
        return self._levels[round_], node

    def spec(self, path: Path) -> NodeSpec:
        level, node = self.locate(path)
        return level.graph.nodes[node]

    def apply(self, record: Record) -> None:
        """Takes one more event of the run in. Records without a number change nothing."""
        if record.seq is None:
            return
        super().apply(record)
        if self.made.answer is not None:
            self.made.hear(record)
        match record.event:
            case NodeStarted(path, inputs):
                self._started_node(path, inputs)
            case NodeSucceeded() as event:
                self._succeeded(event)
            case NodeFailed() as event:
                self._failed(event)
            case NodeRetried(path):
                self.running[path].failures += 1
            case NodeSkipped(path):
                del self.skips[path]
                level, node = self.locate(path)
                for edge in level.graph.out.get(node, ()):
                    self._pass(level, edge.target, taken=False)
                self._gone(level)
            case RoundStarted(path, index, seen):
                self._round(self.opened[path], index, seen)
            case RunQueued() as event:
                self.variables["sys"] = event.system
                self.made.begin(self._top.scopes)
            case RunStarted(conversation):
                self.variables["conversation"] = conversation
                self._ready(self._top, self.graph.root)
            case RunResumed():
                self.interrupted = dict.fromkeys(self.running)
            case StopRequested() as event:
                self.stop = self.stop or event
            case RunEnded():
                for frontier in (self.ready, self.skips, self.running, self.interrupted, self.opened, self.due):
                    frontier.clear()
            case RunPaused() | Delta() | NodeLogged():
                pass

    # ------------------------------------------------------------------------------------------------------- nodes

    def _started_node(self, path: Path, inputs: Mapping[str, Value]) -> None:
        self.ready.pop(path, None)
        level, node = self.locate(path)
        body = level.graph.bodies.get(node)
        if body is None:
            self.running[path] = Running()
            return
        opened = self.opened[path] = Opened(path, node, level, body, inputs)
        if scope := body.container.scope(inputs):
            level.scopes[node] = scope
        opened.over = body.container.over(level.variables)
        self._look(opened)

    def _succeeded(self, event: NodeSucceeded) -> None:
        level, node = self._end(event.path)
        level.graph.put(level.scopes, node, event.outputs)
        if event.assigned:
            self._assign(level, event.assigned)
        if event.usage and node not in level.graph.bodies:  # a container's is the sum of what is counted already
            self._spent(level, event.usage)
        if node in level.graph.responses:
            self.made.add(event.path, event.outputs)
        if level.opened is not None and level.graph.nodes[node].traits.ends_loop:
            self._break(level)
        self._leave(level, node, event.handle)

    def _failed(self, event: NodeFailed) -> None:
        if event.path in self.ready:  # a container that had nothing to begin with
            del self.ready[event.path]
        level, node = self._end(event.path)
        if event.strategy is not None:
            level.graph.put(level.scopes, node, event.outputs)
            self._leave(level, node, event.handle)
        elif level is not self._top:
            level.failure = level.failure or event
            self._kill(level)
            self._gone(level)

    def _end(self, path: Path) -> tuple[Level, NodeId]:
        self.running.pop(path, None)
        self.interrupted.pop(path, None)
        if self.opened.pop(path, None):
            self.due.pop(path, None)
        return self.locate(path)

    def _spent(self, level: Level, usage: Mapping[str, Value]) -> None:
        opened = level.opened
        while opened is not None:
            opened.usage.add(usage)
            opened = opened.level.opened

    def _assign(self, level: Level, assigned: Mapping[str, Mapping[str, Value]]) -> None:
        for scope, values in assigned.items():
            home = self._home(level, scope)
            home.scopes[scope] = {**home.scopes.get(scope, {}), **values}

    def _home(self, level: Level, scope: str) -> Level:
        """The level that a scope belongs to: a loop's own for its variables, else the top one."""
        opened = level.opened
        while opened is not None:
            if opened.node == scope:
                return opened.level
            opened = opened.level.opened
        return self._top

    def _leave(self, level: Level, node: NodeId, handle: str) -> None:
        if self.made.handles is not None and level is self._top:
            self.made.handles[node] = handle
        taken, skipped = level.graph.leaves(node, handle)
        for edge in taken:
            self._pass(level, edge.target, taken=True)
        for edge in skipped:
            self._pass(level, edge.target, taken=False)
        self._gone(level)

    def _pass(self, level: Level, target: NodeId, *, taken: bool) -> None:
        """An edge is taken or skipped; once none is waited for, its target is ready or is to be skipped."""
        waiting = level.waiting.get(target, level.graph.arity[target]) - 1
        level.waiting[target] = waiting
        if taken:
            level.taken.add(target)
        if waiting == 0 and not level.dead:
            if target in level.taken:
                self._ready(level, target)
            else:
                self.skips[level.prefix + target] = None
                level.alive += 1

    def _ready(self, level: Level, node: NodeId) -> None:
        self.ready[level.prefix + node] = None
        level.alive += 1

    def _gone(self, level: Level) -> None:
        """One node of a level is done with."""
        level.alive -= 1
        if level.alive <= 0 and level.opened is not None:
            self._over(level, level.opened)

    # ------------------------------------------------------------------------------------------------------ rounds

    def _round(self, opened: Opened, index: int, seen: Mapping[str, Value]) -> None:
        opened.rounds = index + 1
        level = opened.active[index] = Level(opened.body.graph, opened, index, seen)
        self._levels[level.prefix] = level
        self._ready(level, level.graph.root)
        root = level.graph.nodes[level.graph.root]
        if root.traits.starts_body:  # it only marks the place
            del self.ready[level.prefix + root.id]
            self._leave(level, root.id, "source")
        self._look(opened)

    def _over(self, level: Level, opened: Opened) -> None:
        """A round is over."""
        del self._levels[level.prefix], opened.active[level.index]
        container = opened.body.container
        if level.failure is None and not level.dead:
            opened.kept[level.index] = container.kept(opened, level.variables)
            opened.over = opened.over or opened.broken or container.over(level.variables)
        else:
            opened.failed.add(level.index)
            if level.failure is not None and not container.tolerant and opened.failure is None:
                opened.failure = (level.index, level.failure)
                for other in list(opened.active.values()):
                    self._kill(other)
                    self._settle(other)
        self._look(opened)

    def _look(self, opened: Opened) -> None:
        """Sees what there is to do about a container."""
        if opened.path not in self.opened:
            return
        if opened.level.dead:
            if not opened.active:  # it ends with the round that it is in, unheard
                self._end(opened.path)
                self._gone(opened.level)
        elif opened.due:
            self.due[opened.path] = None
        else:
            self.due.pop(opened.path, None)

    def _kill(self, level: Level) -> None:
        """Nothing more is to start in a level, nor inside it. What runs already is let to its end."""
        level.dead = True
        for node in level.graph.nodes:
            path = level.prefix + node
            for frontier in (self.ready, self.skips):
                if path in frontier:
                    del frontier[path]
                    level.alive -= 1
        for node in level.graph.bodies:
            opened = self.opened.get(level.prefix + node)
            if opened is None:
                continue
            self.due.pop(opened.path, None)
            for each in list(opened.active.values()):
                self._kill(each)
                self._settle(each)
            self._look(opened)

    def _settle(self, level: Level) -> None:
        """Ends a level in which nothing is left."""
        if level.alive <= 0 and level.opened is not None and level.index in level.opened.active:
            self._over(level, level.opened)

    def _break(self, level: Level) -> None:
        """A loop's end was reached: the innermost loop around it opens no further round."""
        opened = level.opened
        while opened is not None and not opened.level.graph.nodes[opened.node].traits.loop:
            opened = opened.level.opened
        if opened is not None:
            opened.broken = True
