"""The template-transform node: its variables, its text, its limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from headrace.adapters.sandbox import LocalSandbox
from headrace.errors import NodeError
from headrace.kernel.graph import NodeSpec
from headrace.kernel.variables import Variables
from headrace.node import Context, Result
from headrace.nodes.template_transform import TemplateTransform, TemplateTransformConfig
from headrace.ports.services import Limits
from headrace.values import File
from tests.resources import only


@pytest.fixture
async def sandbox() -> AsyncIterator[LocalSandbox]:
    sandbox = LocalSandbox()
    yield sandbox
    await sandbox.aclose()


async def render(
    sandbox: LocalSandbox, template: str, start: Mapping[str, Any], limits: Limits | None = None
) -> Result:
    """Every name of `start` is a variable of the template, and so is `gone`, which has no value."""
    config = {
        "template": template,
        "variables": [{"variable": name, "value_selector": ["start", name]} for name in [*start, "gone"]],
    }
    node = TemplateTransform(TemplateTransformConfig.model_validate(config))
    context = Context(
        run="run",
        app="app",
        user="user",
        spec=NodeSpec("t", "template-transform"),
        variables=Variables({"start": start}),
        inputs={},
        resources=only(sandbox=sandbox),
        limits=limits or Limits(),
        emit=lambda name, text: None,
        key="run/t/1",
        new_id=lambda: "id",
    )
    return await node.run(context)


async def test_a_template_as_recorded(sandbox: LocalSandbox) -> None:
    result = await render(sandbox, "Hello {{ q }}! {% for i in [1,2] %}{{ i }}{% endfor %}", {"q": "hi"})
    assert result == Result({"output": "Hello hi! 12"}, {"q": "hi", "gone": None})


async def test_a_missing_variable_is_none(sandbox: LocalSandbox) -> None:
    assert (await render(sandbox, "{{ gone }}{{ unknown }}", {})).outputs == {"output": "None"}


async def test_what_does_not_render_here_renders_confined(sandbox: LocalSandbox) -> None:
    assert (await render(sandbox, "{% set x = n * 2 %}{{ x }}", {"n": 4})).outputs == {"output": "8"}


async def test_files_are_objects(sandbox: LocalSandbox) -> None:
    file = File("image", "remote_url", "a.png", url="http://x/a.png")
    result = await render(sandbox, "{{ f.filename }} {{ f.url }}", {"f": file})
    assert result == Result({"output": "a.png http://x/a.png"}, {"f": file.wire(), "gone": None})


async def test_an_error_tells_what_and_shows_the_inputs(sandbox: LocalSandbox) -> None:
    with pytest.raises(NodeError, match="UndefinedError: 'x' is undefined") as failed:
        await render(sandbox, "{{ x.y.z }}", {"q": "hi"})
    assert failed.value.inputs == {"q": "hi", "gone": None}


async def test_the_text_has_a_limit(sandbox: LocalSandbox) -> None:
    limits = Limits(template_max_output=10)
    assert (await render(sandbox, "{{ q }}", {"q": "x" * 10}, limits)).outputs == {"output": "x" * 10}
    with pytest.raises(NodeError) as failed:
        await render(sandbox, "{{ q }}", {"q": "x" * 11}, limits)
    assert str(failed.value) == "Output length exceeds 10 characters"
    assert failed.value.inputs == {"q": "x" * 11, "gone": None}


async def test_a_template_changes_none_of_its_inputs(sandbox: LocalSandbox) -> None:
    start = {"xs": [1]}
    assert (await render(sandbox, "{% set _ = xs.append(2) %}{{ xs }}", start)).outputs == {"output": "[1, 2]"}
    assert start == {"xs": [1]}
