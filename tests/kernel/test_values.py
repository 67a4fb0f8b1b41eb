"""The forms of a value, and how templates read them."""

from __future__ import annotations

import pytest

from headrace import values
from headrace.kernel.variables import Variables, selectors
from headrace.values import File, Value, Variable

PNG = File("image", "tool_file", "x.png", ".png", "image/png", 70, related_id="1", url="http://h/x.png")
TXT = File("document", "local_file", None, ".txt", "text/plain", 3, related_id="2", url="http://h/2")


@pytest.mark.parametrize(
    ("value", "kind", "text", "markdown"),
    [
        (None, "none", "", ""),
        ("a", "string", "a", "a"),
        (1, "integer", "1", "1"),
        (2.0, "float", "2.0", "2.0"),
        (True, "boolean", "True", "True"),
        ({"a": "漢", "b": None}, "object", '{"a": "漢", "b": null}', '{\n  "a": "漢",\n  "b": null\n}'),
        ([], "array[any]", "", ""),
        (["a", "漢"], "array[string]", '["a", "漢"]', "- a\n- 漢"),
        ([1, 2.5], "array[number]", "[1, 2.5]", "- 1\n- 2.5"),
        ([{"a": 1}], "array[object]", "[{'a': 1}]", "- {'a': 1}"),
        ([True], "array[boolean]", "[True]", "- True"),
        ([1, "a", None], "array[any]", "[1, 'a', None]", "- 1\n- a\n- None"),
        (PNG, "file", "", "![x.png](http://h/x.png)"),
        (TXT, "file", "", "[http://h/2](http://h/2)"),
        ([PNG, TXT], "array[file]", "", "![x.png](http://h/x.png)\n[http://h/2](http://h/2)"),
        (Variable(1, ("s", "n"), "id"), "integer", "1", "1"),
    ],
)
def test_the_forms_of_a_value(value: Value, kind: str, text: str, markdown: str):
    # Dify 1.12, recorded: numbers and booleans as Python writes them, lists as bullets, objects inside as Python's repr
    assert (values.kind(value), values.text(value), values.markdown(value)) == (kind, text, markdown)


def test_plain_values_are_json():
    nested = {"f": [PNG], "v": {"output": Variable([TXT], ("s", "n"), "id")}, "n": 1}
    assert values.to_json(nested) == {"f": [PNG.wire()], "v": {"output": [TXT.wire()]}, "n": 1}
    untouched = {"a": [1, {"b": "c"}]}
    assert values.to_json(untouched) is untouched


def test_files_of_an_event_are_those_of_its_outputs_and_their_lists():
    assert values.files_in({"a": PNG, "b": [TXT, "x"], "c": {"deep": PNG}, "d": 1}) == [PNG, TXT]


SCOPES = {
    "s": {
        "text": "T",
        "object": {"key": {"deep": [1, 2]}},
        "file": PNG,
        "none": None,
        "v": Variable("V", ("x", "y"), "1"),
    },
    "sys": {"user_id": "me"},
}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (("s", "text"), (True, "T")),
        (("s", "object", "key", "deep"), (True, [1, 2])),
        (("s", "file", "name"), (True, "x.png")),
        (("s", "file", "extension"), (True, ".png")),
        (("s", "file", "nonsense"), (True, None)),
        (("s", "none"), (True, None)),
        (("s", "v"), (True, "V")),
        (("s", "nope"), (False, None)),
        (("s", "text", "into", "text"), (False, None)),
        (("nobody", "text"), (False, None)),
        (("s",), (False, None)),
        ((), (False, None)),
    ],
)
def test_what_a_selector_finds(selector: tuple[str, ...], expected: tuple[bool, Value]):
    assert Variables(SCOPES).find(selector) == expected


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("{{#s.text#}} and {{#sys.user_id#}}", "T and me"),
        ("{{#s.object.key#}}", '{"deep": [1, 2]}'),
        ("{{#s.nope#}} {{#nobody.x#}}", "s.nope nobody.x"),  # Dify leaves the bare name
        ("{{#s.none#}}|{{ s.text }}|{{#s#}}|#}}", "|{{ s.text }}|{{#s#}}|#}}"),
        ("", ""),
    ],
)
def test_templates(template: str, rendered: str):
    assert Variables(SCOPES).render(template) == rendered


def test_the_selectors_of_a_template():
    assert selectors("a {{#s.text#}}{{#sys.user_id#}} b {{#s.text#}}") == [("s", "text"), ("sys", "user_id")]


def test_a_picked_variable_keeps_where_it_is_from():
    variables = Variables(SCOPES)
    assert variables.with_origin(("s", "v"), lambda: "new") == Variable("V", ("x", "y"), "1")
    assert variables.with_origin(("s", "text"), lambda: "new") == Variable("T", ("s", "text"), "new")
