"""Values checked against JSON schemas that come from workflows and clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

_MOST_REFERENCES = 10_000  # followed in one check
_UNCHECKABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What the package raises for a valid schema that cannot be applied, such as a reference to something other than a
schema."""


class Mismatch(NamedTuple):
    """Why a value does not match: where (`$.item.name`; nowhere if it cannot be checked), and what is wrong there."""

    path: str
    message: str


class JsonSchema:
    """A schema of a draft. It refers to nothing but itself, since the target of a `$ref` would be fetched from the
    network. ValueError if it is not valid."""

    def __init__(self, schema: Mapping[str, Any], draft: Literal["draft7", "2020-12"]) -> None:
        # imported here because it takes 60 ms, and few workflows and requests have a schema
        from jsonschema import Draft7Validator, Draft202012Validator, SchemaError, validators

        base = Draft7Validator if draft == "draft7" else Draft202012Validator
        try:
            base.check_schema(schema)
        except SchemaError as error:
            raise ValueError(error.message) from error
        except RecursionError:
            raise ValueError("it is nested too deep") from None
        self.schema = schema
        self._follow = base.VALIDATORS["$ref"]
        self._left = 0
        extended = validators.extend(base, {"$ref": self._reference})  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        self._validator = cast("type[Draft202012Validator]", extended)

    def mismatch(self, value: Any) -> Mismatch | None:
        """The first reason why a value does not match; None if it does."""
        from referencing import Registry
        from referencing.exceptions import Unresolvable

        self._left = _MOST_REFERENCES
        validator = self._validator(self.schema, registry=Registry())
        errors = cast("Iterator[ValidationError]", validator.iter_errors(value))  # pyright: ignore[reportUnknownMemberType]
        try:
            return next((Mismatch(error.json_path, error.message) for error in errors), None)
        except Unresolvable as error:
            return Mismatch("", f"the schema refers to '{error.ref}', which is not in it")
        except RecursionError:
            return Mismatch("", "the schema refers to itself without end, or too often, or the value is too deep")
        except _UNCHECKABLE as error:
            return Mismatch("", f"the schema cannot be applied: {error}")

    def _reference(self, validator: Any, reference: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        self._left -= 1
        if self._left < 0:
            raise RecursionError
        yield from self._follow(validator, reference, instance, schema)
