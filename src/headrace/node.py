"""The contract of a node type: one class, generic in the model of its configuration.

    class ShoutConfig(Config):
        text: str = ""

    class Shout(Node[ShoutConfig]):
        type = "shout"
        instant = True

        async def run(self, ctx: Context) -> Result:
            text = ctx.variables.render(self.config.text)
            if not text:
                raise NodeError("There is nothing to shout.", "EmptyText")
            return Result({"text": text.upper()}, inputs={"text": text})

A node raises `NodeError` when it fails. What follows (a retry, the fail branch, default values, the end of the run) is
up to the workflow, not the node.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Generic, TypeAlias, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from headrace.errors import NodeError
from headrace.frozen import frozen, new_dict
from headrace.kernel.containers import ContainerResult, ContainerRun
from headrace.kernel.events import FormRequested
from headrace.kernel.forms import FormState
from headrace.kernel.graph import NO_TRAITS, SOURCE, Graph, NodeId, NodeSpec, Path, Piece, Traits
from headrace.kernel.secrets import SecretMask
from headrace.kernel.steps import RunStep, Step, Steps, run_no_step
from headrace.kernel.variables import Variables, selectors
from headrace.ports.services import Limits, Resources
from headrace.values import Selector, Value


class Config(BaseModel):
    """The base of config models. Fields of the file that a model does not declare are ignored."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, populate_by_name=True, protected_namespaces=(), defer_build=True
    )


def null_means_default(*fields: str) -> Any:
    """In the body of a config model: a null in these fields means their default. Dify's editor writes null for many
    fields that were never set."""

    def take_default(cls: type[BaseModel], value: object, info: ValidationInfo) -> object:
        assert info.field_name is not None
        return cls.model_fields[info.field_name].get_default(call_default_factory=True) if value is None else value

    return field_validator(*fields, mode="before")(classmethod(take_default))


SELECTOR = object()
"""Marks a config field that holds a selector, or a list of them: `Annotated[list[str], SELECTOR]`."""
SelectorField = Annotated[tuple[str, ...], SELECTOR]

Read: TypeAlias = "tuple[Selector, tuple[str | int, ...]]"
"""A variable that a node reads, and the path of the config field that names it."""

C = TypeVar("C", bound=Config)


@frozen
class Result:
    """The result of a node.

    `outputs` are what later nodes read. `inputs` and `process` appear in the run's trace and in Dify's node_finished
    event. `handle` is the branch that a branching node takes. `usage` is the tokens and price of a model's answer
    (`Usage.wire`). `assigned` are values for variables of other scopes (`conversation`, a loop's id), by scope and
    name.
    """

    outputs: Mapping[str, Value]
    inputs: Mapping[str, Value] = field(default_factory=new_dict)
    process: Mapping[str, Value] = field(default_factory=new_dict)
    handle: str = SOURCE
    usage: Mapping[str, Value] | None = None
    assigned: Mapping[str, Mapping[str, Value]] = field(default_factory=new_dict)


@frozen
class OutputType:
    """The type of an output, by Dify's name: string, number, integer, boolean, object, file, any, or array[...] of one
    of these. `nullable`: it may be null. `sources`: the value is that of the first of these variables that exists."""

    name: str = "any"
    nullable: bool = False
    sources: Sequence[Selector] = ()


@frozen
class Pause:
    """Pauses the run, for instance to wait for a person. The node runs again when the run is resumed."""

    reason: Mapping[str, Value]


@frozen
class Context:
    """What a node sees of its run.

    `emit(name, text)` streams text that is appended to the output `name`. `key` stays the same when an attempt is
    repeated after a crash: use it as an idempotency key. `new_id` returns a new UUID. `types` are the declared types of
    the variables that nodes assign, by (scope, name). `step` runs a part of a longer work; `steps` are those of this
    attempt so far, by name. `path` names the node in its run; `form` is the form that it has requested, with what came
    of it.
    """

    run: str
    app: str
    user: str
    spec: NodeSpec
    variables: Variables
    inputs: Mapping[str, Value]
    resources: Resources
    limits: Limits
    emit: Callable[[str, str], None]
    key: str
    new_id: Callable[[], str]
    types: Mapping[Selector, str] = field(default_factory=new_dict)
    step: RunStep = run_no_step
    steps: Steps = field(default_factory=new_dict)
    path: Path = ""
    form: FormState | None = None


class Node(ABC, Generic[C]):
    """A node type. One instance serves every run of a workflow version, so it must not keep state of a run."""

    type: ClassVar[str]
    Config: ClassVar[type[Config]]
    """The config model: the type argument of `Node`."""
    instant: ClassVar[bool] = False
    """It never awaits and has no side effects. It runs inline, before the journal is written."""
    branching: ClassVar[bool] = False
    """It takes one of its `branches`. Other nodes continue on every edge."""
    traits: ClassVar[Traits] = NO_TRAITS
    """What other parts of the system need to know about it."""
    partial: ClassVar[bool] = False
    notes: ClassVar[str] = ""
    """For docs/compatibility.md: what it supports or, where it is `partial`, what it lacks of Dify's node."""
    __parameters__: ClassVar[tuple[object, ...]]
    _type_parameter: ClassVar[object] = C

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        config = cls._type_parameter = cls._type_argument()
        if isinstance(config, type) and issubclass(config, Config):
            cls.Config = cls.__dict__.get("Config", config)  # a subclass of a node type may narrow its model
        elif config not in cls.__parameters__:
            raise TypeError(f"{cls.__qualname__} must name its config model, as in Node[{cls.__name__}Config]")

    @classmethod
    def _type_argument(cls) -> object:
        """The type argument for `C`: a config model, or a type parameter of this class."""
        bases: tuple[Any, ...] = cls.__dict__.get("__orig_bases__", cls.__bases__)
        for base in bases:
            origin: Any = get_origin(base) or base
            if isinstance(origin, type) and issubclass(origin, Node):
                arguments = dict(zip(origin.__parameters__, get_args(base), strict=False))
                return arguments.get(origin._type_parameter, origin._type_parameter)
        return None

    def __init__(self, config: C) -> None:
        self.config = config

    @abstractmethod
    async def run(self, ctx: Context) -> Result | Pause | FormRequested:
        """Runs the node once. It raises NodeError to fail; any other exception is a bug in the node type. A node that
        returns a form runs again once it is answered, or its time is over (`Context.form`)."""

    def response_template(self) -> Sequence[Piece] | None:
        """The text and selectors that make up the response; None if the node is not a response node (end, answer)."""
        return None

    def branches(self) -> Iterable[str] | None:
        """The handles that a branching node can take; None if any is possible."""
        return None

    def reads(self) -> Iterable[Read]:
        """The variables that it reads: by default those in the fields marked as selectors, and those that texts refer
        to (`{{#node.output#}}`). `lint` names those that do not exist."""
        return reads_in(self.config, (), selector=False)

    def outputs_schema(self) -> Mapping[str, OutputType] | None:
        """Its outputs by name, as this configuration makes them; None if they are not known before it runs."""
        return None

    def assigns(self) -> Iterable[Selector]:
        """The variables of other scopes that it may assign."""
        return ()

    def metadata(self) -> Mapping[str, Value]:
        """What Dify's `execution_metadata` has of every execution of the node, such as the tool that it calls."""
        return {}

    def step_log(self, step: Step) -> tuple[Mapping[str, Value], Mapping[str, Value]]:
        """(data, metadata) that people see of a step that has ended: its result, unless a node type shows less."""
        return {"output": step.result}, {}

    def problems(self) -> Iterable[tuple[tuple[str | int, ...], str]]:
        """Mistakes in the configuration that do not keep a file from loading, for `lint`: the path of the field in the
        node's data, and a message."""
        return ()

    def missing_requirements(self, resources: Resources) -> Iterable[str]:
        """What is missing on this machine, such as a credential, as messages for `lint` and the start of the server."""
        return ()


class ContainerNode(Node[C]):
    """A node with a graph inside. It implements `kernel.containers.Container`, and is never run itself."""

    async def run(self, ctx: Context) -> Result:
        raise NodeError("A container is not run itself; this is a bug.", "Defect")

    @property
    @abstractmethod
    def max_parallel(self) -> int: ...

    @property
    @abstractmethod
    def continue_on_error(self) -> bool: ...

    @property
    def shares_scopes(self) -> bool:
        return False

    def declares(self) -> Mapping[str, str]:
        """The declared types of the variables in its `scope`, by name."""
        return {}

    @abstractmethod
    def prepare(self, node: NodeId, variables: Variables) -> Mapping[str, Value]: ...

    @abstractmethod
    def max_rounds(self, inputs: Mapping[str, Value]) -> int: ...

    @abstractmethod
    def shared_variables(self, inputs: Mapping[str, Value]) -> Mapping[str, Value]: ...

    @abstractmethod
    def round_variables(self, inputs: Mapping[str, Value], index: int) -> Mapping[str, Value]: ...

    @abstractmethod
    def is_done(self, variables: Variables) -> bool: ...

    @abstractmethod
    def round_result(self, run: ContainerRun, variables: Variables) -> Value: ...

    @abstractmethod
    def result(self, run: ContainerRun) -> ContainerResult: ...

    @abstractmethod
    def failure_message(self, index: int, error: str) -> str: ...


def reads_in(value: object, path: tuple[str | int, ...], *, selector: bool) -> Iterator[Read]:
    """The variables that a value of a config names. `selector`: the value is a selector, or has some inside."""
    if isinstance(value, str):
        yield from ((selector_, path) for selector_ in selectors(value))
    elif isinstance(value, BaseModel):
        for name, field_ in type(value).model_fields.items():
            marked = SELECTOR in field_.metadata or _is_marked(field_.annotation)
            yield from reads_in(getattr(value, name), (*path, name), selector=marked)
    elif isinstance(value, Mapping):
        for key, item in cast("Mapping[str, object]", value).items():
            yield from reads_in(item, (*path, key), selector=selector)
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        items = cast("Sequence[object]", value)
        if selector and items and all(isinstance(item, str) for item in items):
            yield tuple(cast("Sequence[str]", items)), path
        else:
            for index, item in enumerate(items):
                yield from reads_in(item, (*path, index), selector=selector)


def _is_marked(annotation: object) -> bool:
    return annotation is SELECTOR or any(_is_marked(argument) for argument in get_args(annotation))


Registry = Mapping[str, type[Node[Config]]]
"""Node types by name."""


@frozen
class DeclaredVariable:
    """A conversation variable as the file declares it. `value` is its value in a new conversation."""

    id: str
    name: str
    type: str
    description: str
    value: Value


@dataclass(frozen=True)
class Flow:
    """A workflow version that is ready to run: its graph, its nodes by id, and the other settings of its file."""

    graph: Graph
    nodes: Mapping[str, Node[Config]]
    name: str
    mode: str
    description: str = ""
    environment: Mapping[str, Value] = field(default_factory=dict[str, Value])
    secrets: frozenset[str] = frozenset()  # values that are masked in all output
    features: Mapping[str, Value] = field(default_factory=dict[str, Value])
    settings: Mapping[str, Value] = field(default_factory=dict[str, Value])  # icon, icon_background, ...
    conversation: Sequence[DeclaredVariable] = ()

    @cached_property
    def mask(self) -> SecretMask | None:
        """Masks the secrets of the workflow; None if there are none."""
        return SecretMask(self.secrets) or None

    @cached_property
    def masked_environment(self) -> Mapping[str, Value]:
        """The environment variables as clients may see them: a response reads them directly, not from a record."""
        return cast("Mapping[str, Value]", self.mask.value(dict(self.environment))) if self.mask else self.environment

    @cached_property
    def triggers(self) -> Sequence[str]:
        """The ids of the triggers at which runs may begin."""
        return [id_ for id_ in self.graph.starts if self.graph.nodes[id_].traits.triggers_run]

    @cached_property
    def instant(self) -> bool:
        """Whether no run of it ever waits for anything but a person, nor repeats nodes."""
        return not self.graph.bodies and all(node.instant for node in self.nodes.values())

    @cached_property
    def types(self) -> Mapping[Selector, str]:
        """The declared types of the variables that nodes assign, by (scope, name)."""
        types: dict[Selector, str] = {("conversation", variable.name): variable.type for variable in self.conversation}
        for id_, node in self.nodes.items():
            if isinstance(node, ContainerNode):
                types |= {(id_, name): type_ for name, type_ in node.declares().items()}
        return types
