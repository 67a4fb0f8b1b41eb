"""Values of every type that Dify has, with the ones that engines get wrong more often than chance would have them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_TEXTS = (
    "", " ", "0", "1", "1.0", "-0", "1e5", "007", "12abc", "true", "True", "False", "None", "null", "NaN",
    "é", "ß", "日本", "🎉", "\u00a0", "e\u0301", "a\nb", "a\tb", "a,b", "apple", "Apple", "banana", "%s", "\\back",
    "{{#start.t#}}", "{{ x }}", "{% if %}", "<b>&</b>", "'single'", '"double"', '{"a": 1}', "[1, 2]",
    "http://x/?a=1&b=2",
)  # fmt: skip
_NUMBERS = (
    0, 1, -1, 2, 3, 10, 255, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63),
    0.0, -0.0, 0.1, 0.5, 1.0, 2.0, -1.5, 3.14159, 1e-7, 1e16, 1e21, 1.5e300, 100.0,
)  # fmt: skip

KEYS = ("a", "b", "name", "n", "key with space", "ключ")

texts = st.sampled_from(_TEXTS) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
integers = st.sampled_from([number for number in _NUMBERS if isinstance(number, int)]) | st.integers(-1000, 1000)
decimals = st.floats(-1e6, 1e6, allow_nan=False).map(lambda number: round(number, 4))
numbers = st.sampled_from(_NUMBERS) | st.integers(-1000, 1000) | decimals
booleans = st.booleans()
keys = st.sampled_from(KEYS)
leaves = st.none() | texts | numbers | booleans
objects = st.dictionaries(
    keys, leaves | st.lists(leaves, max_size=2) | st.dictionaries(keys, leaves, max_size=2), max_size=4
)

BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "string": texts,
    "number": numbers,
    "boolean": booleans,
    "object": objects,
    "array[string]": st.lists(texts, max_size=4),
    "array[number]": st.lists(numbers, max_size=4),
    "array[object]": st.lists(objects, max_size=3),
    "array[boolean]": st.lists(booleans, max_size=4),
}

_REFUSED = (2**63, -(2**63), 1e-7, 1e21, 1.5e300)


def bounded(value: Any) -> Any:
    """The value with numbers and lists that a code node may put out."""
    match value:
        case dict():
            return {name: bounded(item) for name, item in value.items()}
        case list():
            return [bounded(item) for item in value if type(item) is type(value[0])]
        case bool():
            return value
        case int() | float() if value in _REFUSED:
            return 7
        case _:
            return value
