"""What differs between two workflow files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.dsl.diff import Diff
from headrace.dsl.diff import diff as compare
from headrace.dsl.redaction import shown
from headrace.dsl.yaml_reader import Document, read
from headrace.kernel.secrets import STARS
from headrace.nodes import registry

DATA = Path(__file__).parent.parent / "data"
REGISTRY = registry(())


def diff(old: Document, new: Document) -> Diff:
    return compare(old, new, REGISTRY)


def document(name: str) -> Document:
    return read((DATA / "diff" / name).read_text("utf-8"), name)


def node(old: Any, new: Any) -> list[Mapping[str, Any]]:
    """The fields told of one node whose field `f` had one value and has another."""
    documents = [
        Document({"workflow": {"graph": {"nodes": [{"id": "n", "data": {"type": "any", "f": value}}]}}})
        for value in (old, new)
    ]
    changed = diff(*documents).to_json()["nodes"]["changed"]  # pyright: ignore
    return changed[0]["fields"] if changed else []


def test_everything_that_can_differ():
    result = diff(document("old.yml"), document("new.yml")).to_json()
    assert result == json.loads((DATA / "diff" / "old-new.json").read_text("utf-8"))


def test_backwards_what_was_added_is_removed():
    there, back = diff(document("old.yml"), document("new.yml")), diff(document("new.yml"), document("old.yml"))
    assert (there.nodes.added, there.edges_added) == (back.nodes.removed, back.edges_removed)
    assert {(feature.field, feature.after) for feature in there.features} == {
        (feature.field, feature.before) for feature in back.features
    }


@pytest.mark.parametrize("file", sorted((DATA / "apps").glob("*.yml")), ids=lambda file: file.stem)
def test_a_file_and_itself(file: Path):
    differences = diff(*[read(file.read_text("utf-8"), "f")] * 2)
    assert not differences
    assert differences.to_json()["same"] is True


def test_layout_is_no_difference():
    plain = yaml.safe_load((DATA / "diff" / "old.yml").read_text("utf-8"))
    moved = json.loads(json.dumps(plain))
    moved["workflow"]["graph"] |= {"viewport": {"x": 9}}
    for index, item in enumerate(moved["workflow"]["graph"]["nodes"]):
        item |= {"position": {"x": index}, "positionAbsolute": {"y": 1}, "width": 9, "height": 9, "selected": True}
        item |= {"zIndex": 3, "dragging": True, "sourcePosition": "left"}
        item["data"] |= {"selected": True, "_connectedSourceHandleIds": ["x"]}
    for edge in moved["workflow"]["graph"]["edges"]:
        edge |= {"id": edge["id"] + "x", "zIndex": 5, "data": {"sourceType": "x"}, "selected": True}
    assert not diff(Document(plain), Document(moved))


def test_a_field_called_width_may_mean_something():
    assert not diff(*(_container("iteration", width) for width in (1, 2)))
    assert diff(*(_container("resize-image", width) for width in (1, 2)))


def _container(kind: str, width: int) -> Document:
    nodes: Any = [{"id": "i", "data": {"type": kind, "width": width}}]
    return Document({"workflow": {"graph": {"nodes": nodes}}})


@pytest.mark.parametrize(
    ("old", "new", "result"),
    [
        (1, 1.0, []),
        (1, True, [{"field": "f", "change": "changed", "from": 1, "to": True}]),
        (None, "", [{"field": "f", "change": "changed", "from": None, "to": ""}]),
        ({"a": 1}, {}, [{"field": "f.a", "change": "removed", "from": 1}]),
        ({}, {"x.y": 1}, [{"field": "f['x.y']", "change": "added", "to": 1}]),
        (["a"], ["b"], [{"field": "f", "change": "changed", "from": ["a"], "to": ["b"]}]),
        ([{"a": 1}], [{"a": 2}], [{"field": "f[0].a", "change": "changed", "from": 1, "to": 2}]),
        ([{"a": 1}, {"a": 2}], [{"a": 2}], [{"field": "f[0]", "change": "removed", "from": {"a": 1}}]),
        ([{"a": 2}], [{"a": 1}, {"a": 2}], [{"field": "f[0]", "change": "added", "to": {"a": 1}}]),
        (
            [{"id": "x", "a": 1}, {"id": "y"}],
            [{"id": "y"}, {"id": "x", "a": 2}],
            [
                {"field": "f[x].a", "change": "changed", "from": 1, "to": 2},
                {"field": "f (order)", "change": "changed", "from": ["x", "y"], "to": ["y", "x"]},
            ],
        ),
        ({"a": 1}, [1], [{"field": "f", "change": "changed", "from": {"a": 1}, "to": [1]}]),
        (float("nan"), float("nan"), []),
    ],
)
def test_fields(old: Any, new: Any, result: list[Any]):
    assert node(old, new) == result


def test_secrets_are_not_shown_anywhere():
    old, new = document("old.yml"), document("new.yml")
    for item in (diff(old, new), diff(new, old), diff(old, Document({})), diff(Document({}), new)):
        assert "sk-old" not in repr(item)
        assert "sk-new" not in repr(item)


@pytest.mark.parametrize("value", ["sk-1234", 1234567, True, ["sk-1234"]])
def test_that_a_secret_differs_is_reported(value: Any):
    def file(value: Any, kind: str) -> Document:
        entries = [{"name": "KEY", "value": value, "value_type": kind}]
        return Document({"workflow": {"environment_variables": entries}})

    for old, new in ((value, "other-secret"), ("other-secret", value), (value, "")):
        differences = diff(file(old, "secret"), file(new, "secret"))
        assert differences.environment_variables.changed
        assert "1234" not in repr(differences)
        assert "other-secret" not in repr(differences)
    assert "1234" not in repr(diff(file(value, "string"), file("other-secret", "secret")))
    made_secret = diff(file("sk-1234", "string"), file("sk-1234", "secret"))
    assert [field.field for field in made_secret.environment_variables.changed[0].fields] == ["value_type"]


def test_mistakes_in_a_file_are_differences_like_others():
    nodes: Any = [{"data": {"type": "a"}}, 7, {"id": "n"}, {"id": "n", "data": {"x": 1}}, {"id": [1], "data": "no"}]
    odd = Document({"workflow": {"graph": {"nodes": nodes, "edges": [3, {}, {"source": "n"}]}, "features": 3}})
    differences = diff(Document({"workflow": 3}), odd)
    assert [item.about["id"] for item in differences.nodes.added] == ["(node 1)", "n", "n", "(node 4)"]
    assert diff(odd, Document({"app": 1}))
    assert not diff(odd, odd)


def test_a_deep_nest_takes_no_time():
    def nest(leaf: int) -> Any:
        value: Any = leaf
        for _ in range(190):
            value = [value, {"k": 1}]
        return value

    assert [item["to"] for item in node(nest(1), nest(2))] == [2]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "name", "a", "b.c"]), inner),
    max_leaves=15,
)


@settings(max_examples=200)
@given(VALUES, VALUES)
def test_no_reported_change_is_no_difference(old: Any, new: Any):
    assert node(old, old) == []
    alike = _canonical(old) == _canonical(new)
    assert (node(old, new) == []) == alike


def _canonical(value: Any) -> Any:
    """A form in which two values are equal if JSON would not tell them apart."""
    match value:
        case bool():
            return ("bool", value)
        case float() if value != value:
            return ("nan",)
        case dict():
            return {key: _canonical(item) for key, item in value.items()}
        case list():
            return [_canonical(item) for item in value]
        case _:
            return value


def test_a_content_without_secrets_is_shown_as_it_is():
    content = "# mine\napp: {name: a}\nworkflow: {environment_variables: [{name: A, value: '', value_type: secret}]}\n"
    assert shown(content) == (content, False)


@pytest.mark.parametrize(
    "spelled",
    ["sk-12345", "'sk-12345'", '"sk\\x2d12345"', '"sk-\\\n      12345"', "!!str sk-12345"],
)
def test_a_secret_is_shown_as_stars_however_it_is_spelled(spelled: str):
    content = f"""app: {{name: a}}   # sk-12345
workflow:
  environment_variables:
  - name: KEY
    value_type: secret
    value: {spelled}
  graph: {{nodes: [{{id: n, data: {{type: x, url: "http://x?k=sk-12345", 汉: 字}}}}]}}
"""
    text, masked = shown(content)
    assert masked
    assert "12345" not in text
    document = read(text, "f").value
    assert document["workflow"]["environment_variables"][0]["value"] == STARS  # pyright: ignore
    assert document["workflow"]["graph"]["nodes"][0]["data"] == {"type": "x", "url": f"http://x?k={STARS}", "汉": "字"}  # pyright: ignore


@pytest.mark.parametrize("value", ["12345678", "0x1F4", "true", "1.50"])
def test_a_secret_that_is_no_text(value: str):
    content = f"workflow: {{environment_variables: [{{name: K, value: {value}, value_type: secret}}]}}"
    text, masked = shown(content)
    assert masked
    assert value not in text
