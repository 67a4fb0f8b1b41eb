from __future__ import annotations

from typing import Any, Literal

import pytest

from headrace.content.json_schema import JsonSchema

Draft = Literal["draft7", "2020-12"]


@pytest.mark.parametrize("draft", ["draft7", "2020-12"])
@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"$ref": "#/type"}, "x"),
        ({"$ref": "#/required"}, "x"),
        ({"$ref": "#/allOf/x"}, "x"),
        ({"multipleOf": 0.5}, 10**400),
    ],
)
def test_a_value_does_not_match_a_schema_that_cannot_be_applied(draft: Draft, schema: Any, value: Any) -> None:
    outer = {"type": "object", "required": ["a"], "properties": {"a": schema}, "allOf": [{}]}
    mismatch = JsonSchema(outer, draft).mismatch({"a": value})
    assert mismatch is not None
    assert mismatch.message.startswith("the schema cannot be applied: ")


@pytest.mark.parametrize("draft", ["draft7", "2020-12"])
def test_a_schema_that_is_nested_too_deep_is_not_valid(draft: Draft) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(2000):
        schema = {"properties": {"a": schema}}
    with pytest.raises(ValueError, match="nested too deep"):
        JsonSchema(schema, draft)
