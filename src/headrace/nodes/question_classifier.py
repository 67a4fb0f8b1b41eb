"""question-classifier: a model assigns a question to one of several classes, each with its own branch.

As in Dify, a branch is named by the id of its class; an answer that names none of the classes means the first one, and
an answer without any JSON is a failure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, field_validator

from headrace import values
from headrace.errors import NodeError
from headrace.kernel.graph import Traits
from headrace.node import Config, Context, Node, OutputType, Result, SelectorField, null_means_default
from headrace.nodes._memory import MemoryConfig, recall, text_from
from headrace.nodes._model_call import ModelConfig, complete, process_of, reporting, request_of
from headrace.nodes._prompt import VisionConfig, attach, files_of
from headrace.nodes._reasoning import without_reasoning
from headrace.nodes._structured import object_in
from headrace.ports.services import Message, Resources
from headrace.values import Value

ERROR = "QuestionClassifierNodeError"
_AROUND = " \t\r\n\"'`.*"  # what models put around a word

_TASK = """\
You sort texts into categories.

### Task
Read `input_text` and choose the one entry of `categories` that fits it best. Never choose more than one, and never make
one up. Also collect the words of the text that led you to it. Where `classification_instructions` are given, they
decide in cases of doubt.

### Input
A JSON object with `input_text`, `categories` (a list of objects with `category_id` and `category_name`) and
`classification_instructions`.

### Output
Nothing but one JSON object with `keywords`, `category_id` and `category_name`, the last two copied unchanged from the
chosen entry of `categories`.
"""
_HISTORY = """
### Conversation so far
<histories>
{histories}
</histories>
"""


class Example:
    """A question as the model gets it, and the right answer."""

    def __init__(self, text: str, classes: Mapping[str, str], hint: str, keywords: Sequence[str], right: str) -> None:
        self.question = _question(text, classes, hint)
        answer = {"keywords": keywords, "category_id": right, "category_name": classes[right]}
        self.answer = json.dumps(answer, ensure_ascii=False)


def _question(text: str, classes: Mapping[str, str], hint: str) -> str:
    question = {
        "input_text": [text],
        "categories": [{"category_id": id, "category_name": name} for id, name in classes.items()],
        "classification_instructions": [hint] if hint else [],
    }
    return json.dumps(question, ensure_ascii=False)


_EXAMPLES = (
    Example(
        "The parcel was promised for Monday. It is Friday and nobody can tell me where it is.",
        {"7f3a": "Billing", "c210": "Delivery", "e94b": "Product advice"},
        "Complaints go by what they are about.",
        ["parcel", "promised for Monday", "where it is"],
        "c210",
    ),
    Example(
        "Which of the two lamps is bright enough for a desk?",
        {"15d0": "Returns", "a8c6": "Product advice"},
        "",
        ["which", "lamps", "bright enough"],
        "a8c6",
    ),
)


class ClassConfig(Config):
    """`name` describes the class, and may refer to variables."""

    id: str
    name: str = ""

    _null = null_means_default("name")

    @field_validator("id", mode="before")
    @classmethod
    def _number_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value


class QuestionClassifierConfig(Config):
    query_variable_selector: SelectorField = ()
    model: ModelConfig
    classes: Sequence[ClassConfig] = ()
    instruction: str = ""
    memory: MemoryConfig | None = None
    vision: VisionConfig = Field(default_factory=VisionConfig)

    _null = null_means_default("query_variable_selector", "classes", "instruction", "vision")


class QuestionClassifier(Node[QuestionClassifierConfig]):
    """Outputs `class_name`, `class_id` and `usage`."""

    type = "question-classifier"
    traits: ClassVar[Traits] = Traits(calls_model=True)
    branching: ClassVar[bool] = True

    def branches(self) -> Iterable[str]:
        return [class_.id for class_ in self.config.classes]

    def missing_requirements(self, resources: Resources) -> Iterable[str]:
        return self.config.model.missing(resources)

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {
            "class_name": OutputType("string"),
            "class_id": OutputType("string"),
            "usage": OutputType("object"),
        }

    async def run(self, ctx: Context) -> Result:
        query = ctx.variables.get(self.config.query_variable_selector)
        inputs: dict[str, Value] = {"query": query}
        with reporting(inputs):
            classes = {class_.id: ctx.variables.render(class_.name) for class_ in self.config.classes}
            if not classes:
                raise NodeError("There is no class to choose: add one to the question classifier.", ERROR)
            request = request_of(ctx, self.config.model, await self._messages(ctx, values.text(query), classes))
            answer = await complete(ctx, request, kind=ERROR)
            choice = await _chosen(answer.text, classes)
        usage = answer.usage.wire()
        outputs: dict[str, Value] = {"class_name": classes[choice], "class_id": choice, "usage": usage}
        return Result(outputs, inputs, process_of(request, answer), handle=choice, usage=usage)

    async def _messages(self, ctx: Context, query: str, classes: Mapping[str, str]) -> list[Message]:
        config = self.config
        files = files_of(ctx, config.vision.configs.variable_selector) if config.vision.enabled else []
        question = _question(query, classes, ctx.variables.render(config.instruction))
        histories = text_from(await recall(ctx, config.memory, config.model, _TASK + question))
        task = _TASK + _HISTORY.format(histories=histories) if histories else _TASK
        if config.model.is_completion:
            parts = [task, "### Examples"]
            parts += [f"Input: {example.question}\nOutput: {example.answer}" for example in _EXAMPLES]
            messages = [Message("user", "\n".join([*parts, "### Now", f"Input: {question}\nOutput: "]))]
        else:
            messages = [Message("system", task)]
            for example in _EXAMPLES:
                messages += [Message("user", example.question), Message("assistant", example.answer)]
            messages.append(Message("user", question))
        attach(messages, files, config.vision.configs.detail)
        return messages


async def _chosen(text: str, classes: Mapping[str, str]) -> str:
    """The id of the class that an answer names by id or by name; the first class if it names none. NodeError if there
    is no JSON in the answer."""
    ids: dict[str, str] = {}
    for id, name in classes.items():
        ids.setdefault(name.strip(), id)
    bare = without_reasoning(text).strip(_AROUND)
    if bare in classes or (bare and bare in ids):
        return bare if bare in classes else ids[bare]
    try:
        answer = await object_in(text)
    except NodeError:
        raise NodeError("could not find json block in the output.", "OutputParserError") from None
    id, name = str(answer.get("category_id")).strip(_AROUND), answer.get("category_name")
    if id in classes:
        return id
    first = next(iter(classes))
    return ids.get(name.strip(), first) if isinstance(name, str) and name.strip() else first
