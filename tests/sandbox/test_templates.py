"""Templates: those whose work is bounded render in the service's process, others in a confined one, all alike."""

import time
from typing import Any

import pytest

from headrace.adapters.sandbox import LocalSandbox, templates
from headrace.errors import NodeError

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROWS = [{"name": "a", "n": 1}, {"name": "<b>", "n": 2.5}]

# template, inputs, text, whether it renders in this process
TEMPLATES: list[tuple[str, dict[str, Any], str, bool]] = [
    ("Hello {{ q }}! {% for i in [1,2] %}{{ i }}{% endfor %}", {"q": "hi"}, "Hello hi! 12", True),
    ("{{ missing }}|{{ nothing }}|{{ flag }}", {"nothing": None, "flag": True}, "|None|True", True),
    ("{{ row.name }} {{ row['n'] }} {{ row.none }}", {"row": ROWS[1]}, "<b> 2.5 ", True),
    (
        "{% for r in rows %}{{ loop.index }}. {{ r.name }}{% if not loop.last %}, {% endif %}{% endfor %}",
        {"rows": ROWS},
        "1. a, 2. <b>",
        True,
    ),
    ("{% for k, v in row.items() %}{{ k }}={{ v }};{% endfor %}", {"row": ROWS[0]}, "name=a;n=1;", True),
    ("{% for r in rows if r.n > 1 %}{{ r.name }}{% else %}none{% endfor %}", {"rows": ROWS}, "<b>", True),
    ("{{ rows | map(attribute='name') | join(', ') }}", {"rows": ROWS}, "a, <b>", True),
    ("{{ text | upper }}{{ text | length }}{{ text.split(',')[0] }}", {"text": "é,b"}, "É,B3é", True),
    ("{{ rows | tojson }}", {"rows": [{"a": "中<"}]}, '[{"a": "\\u4e2d\\u003c"}]', True),
    ("{{ x | default('none', true) }}{% if x is none %}!{% endif %}", {"x": None}, "none!", True),
    ("{{ a + b }} {{ a / b }} {{ 'x' ~ a }} {{ a if a > b else b }}", {"a": 1, "b": 2}, "3 0.5 x1 2", True),
    ("{# comment #}line\n", {}, "line", True),
    ("{{ '{{' }} {% raw %}{{ x }}{% endraw %}", {}, "{{ {{ x }}", True),
    ("plain text 宜蘭", {}, "plain text 宜蘭", True),
    ("", {}, "", True),
    ("{% set x = 1 %}{{ x }}", {}, "1", False),
    ("{% for a in xs %}{% for b in a %}{{ b }}{% endfor %}{% endfor %}", {"xs": [[1], [2, 3]]}, "123", False),
    ("{{ 3 * n }} {{ n ** 2 }} {{ '%05.1f' % n }} {{ n % 2 }}", {"n": 3}, "9 9 003.0 1", False),
    ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(n) }}", {"n": 3}, "<3>", False),
    (
        "{% set ns = namespace(t=0) %}{% for i in xs %}{% set ns.t = ns.t + i %}{% endfor %}{{ ns.t }}",
        {"xs": [1, 2]},
        "3",
        False,
    ),
    ("{% set _ = xs.append(3) %}{{ xs }}", {"xs": [1]}, "[1, 3]", False),
    ("{{ text | replace('a', 'b') }}", {"text": "aa"}, "bb", False),
    ("{% for i in range(3) %}{{ i }}{% endfor %}", {}, "012", False),
]


@pytest.mark.parametrize(("template", "inputs", "text", "here"), TEMPLATES)
async def test_templates_render(
    sandbox: LocalSandbox, template: str, inputs: dict[str, Any], text: str, here: bool
) -> None:
    assert (templates.plan(template) is not None) == here
    assert await sandbox.render(template, inputs, 5) == text
    job = {"language": "jinja2", "code": template, "inputs": inputs, "most": 1000}
    assert (await sandbox._plain.run(job, 60)).decode() == text  # the other way gives the same


@pytest.mark.parametrize(
    "template",
    [
        "{{ x.y() }}",
        "{{ x() }}",
        "{{ x * 2 }}",
        "{{ x ** 2 }}",
        "{{ x % 2 }}",
        "{{ x|center(9) }}",
        "{{ x|format(1) }}",
        "{{ x|attr('y') }}",
        "{{ x|indent }}",
        "{{ x|join(y) }}",
        "{{ x|join('" + "-" * 200 + "') }}",
        "{{ x|map('center', 9) }}",
        "{{ x|tojson|tojson }}",
        "{{ x|tojson(indent=100000) }}",
        "{{ x|sum(start=[]) }}",
        "{{ x|selectattr('a', 'in', y) }}",
        "{{ x.strip(*y) }}",
        "{{ x|join(**y) }}",
        "{% for a in x recursive %}{% endfor %}",
        "{% call x() %}{% endcall %}",
        "{% filter upper %}x{% endfilter %}",
        "{% include x %}",
        "{% extends x %}",
        "{% block a %}{% endblock %}",
        "{{ range(9) }}",
        "{{ x is callable }}",
        "{{ x|striptags }}",
        "{% with a = 1 %}{% endwith %}",
        "{{ x|nosuch }}",
        "{{ x",
        "x" * 20_000,
    ],
)
async def test_what_is_not_known_to_be_bounded_is_for_a_confined_process(template: str) -> None:
    assert templates.plan(template) is None


async def test_large_inputs_go_to_a_confined_process() -> None:
    ready = templates.plan("{{ x|upper }}")
    assert ready is not None
    assert templates.weight({"x": "y" * 1000}, 10**6) < 1010
    assert 100 < templates.weight([["y"] * 1000] * 10**6, 100) < 3000  # and counting them takes no time


async def test_a_render_that_takes_too_long_here_is_given_up(sandbox: LocalSandbox) -> None:
    template = "{% for x in xs %}{% if x|upper|lower|title == y %}{{ x }}{% endif %}{% endfor %}done"
    ready = templates.plan(template)
    assert ready is not None
    inputs = {"xs": ["abc def"] * 100_000, "y": ""}
    began = time.thread_time()
    with pytest.raises(templates.Slow):
        templates.render(ready.template, inputs, 10**6, 0.002)
    assert time.thread_time() - began < 0.05
    templates.remember_slow(template, templates.weight(inputs, 10**9))
    assert await sandbox.render(template, inputs, 5) == "done"


async def test_a_template_that_was_too_slow_is_not_tried_here_again(
    sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With smaller inputs it is; what it renders is the same either way."""
    template = "{% for x in xs %}{{ x|upper }}{% endfor %} once"
    here: list[int] = []
    render = templates.render

    def too_slow(template: Any, inputs: Any, most: int, seconds: float | None = None) -> str:
        here.append(len(inputs["xs"]))
        if len(inputs["xs"]) > 10:
            raise templates.Slow
        return render(template, inputs, most, seconds)

    monkeypatch.setattr(templates, "render", too_slow)
    for count in (100, 100, 200, 5, 5):
        assert await sandbox.render(template, {"xs": ["a"] * count}, 5) == "A" * count + " once"
    assert here == [100, 5, 5]


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("line\n{{ x", "TemplateSyntaxError.*line 2"),
        ("{{ x|nosuch }}", "No filter named 'nosuch'"),
        ("{{ a.b.c }}", "UndefinedError: 'a' is undefined"),
        ("\n\n{{ 1 / 0 }}", "ZeroDivisionError.*line 3"),
        ("{% set x = 1 %}\n{{ x / 0 }}", "ZeroDivisionError.*line 2"),
        ("{{ q + 1 }}", "TypeError"),
        ("{{ q.__class__.__name__ }}", "SecurityError"),
    ],
)
async def test_what_is_wrong_with_a_template_is_said(sandbox: LocalSandbox, template: str, error: str) -> None:
    with pytest.raises(NodeError, match=error) as failed:
        await sandbox.render(template, {"q": "hi"}, 5)
    assert failed.value.kind == "CodeExecutionError"


async def test_the_text_has_an_end(sandbox: LocalSandbox) -> None:
    with pytest.raises(NodeError, match="longer than 2000000 characters"):
        await sandbox.render("{% for i in range(300) %}{{ x }}{% endfor %}", {"x": "y" * 10_000}, 5)
    with pytest.raises(NodeError, match="longer than 2000000 characters"):
        await sandbox.render("{{ x }}{{ x }}", {"x": "y" * 1_200_000}, 5)


async def test_lone_surrogates_survive(sandbox: LocalSandbox) -> None:
    assert await sandbox.render("{% set y = x %}{{ y }}", {"x": "\ud800"}, 5) == "\ufffd"
