"""The base of the models of responses, and the types of their fields."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import from_json

if TYPE_CHECKING:
    import httpx
    from typing_extensions import Self

_T = TypeVar("_T")


class ResponseModel(BaseModel):
    """The base of all models: `model.field`, `model["field"]`, `"field" in model`, `.get`, `dict(model)`.

    As a mapping it has the fields that were sent, under the names that they were sent with.
    """

    model_config = ConfigDict(extra="allow", frozen=False, protected_namespaces=(), defer_build=True)
    # not a private attribute of pydantic's, which would more than double the time of making a model
    __slots__ = ("_response",)
    if TYPE_CHECKING:
        _response: httpx.Response | None

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """A payload as this model. pydantic's ValidationError if it does not match."""
        model = cls.model_validate(payload)
        model._response = payload.response if isinstance(payload, Payload) else None
        return model

    @property
    def response(self) -> httpx.Response | None:
        """The HTTP response of this object: status, headers, bytes. None for items of a list and events."""
        return getattr(self, "_response", None)

    @property
    def request_id(self) -> str | None:
        """The server's id of the request, as in the server's logs; None if it sends none."""
        return None if self.response is None else request_id(self.response.headers)

    def __eq__(self, other: object) -> bool:
        """Whether the fields are equal; the responses may differ."""
        if not isinstance(other, ResponseModel) or type(self) is not type(other):
            return NotImplemented
        return self.__dict__ == other.__dict__ and self.model_extra == other.model_extra

    def __copy__(self) -> Self:
        """With the response. A pickled model has none: its request has the API key, which must not get into a cache."""
        new = super().__copy__()
        new._response = self.response
        return new

    def __getitem__(self, name: str) -> Any:
        if name in self.model_fields_set:
            extra = self.model_extra
            return extra[name] if extra is not None and name in extra else self.__dict__[name]
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name in self.model_fields_set

    # iterating over a mapping yields keys; pydantic's iteration yields pairs, as `items()` does
    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(self._names())

    def __len__(self) -> int:
        return len(self.model_fields_set)

    def __bool__(self) -> bool:
        return True

    def _names(self) -> list[str]:
        """Declared fields first, in their order, then the others in the order in which they were sent."""
        names = [name for name in type(self).model_fields if name in self.model_fields_set]
        return names + list(self.model_extra or ())

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def keys(self) -> KeysView[str]:
        return dict.fromkeys(self._names()).keys()

    def values(self) -> ValuesView[Any]:
        return {name: self[name] for name in self._names()}.values()

    def items(self) -> ItemsView[str, Any]:
        return {name: self[name] for name in self._names()}.items()


cast("ABCMeta", Mapping).register(ResponseModel)


class Payload(dict[str, Any]):
    """The JSON object of a response, with the response."""

    def __init__(self, fields: Mapping[str, Any], response: httpx.Response | None) -> None:
        super().__init__(fields)
        self.response = response


def request_id(headers: Mapping[str, str]) -> str | None:
    """The server's id of a request."""
    return headers.get("x-request-id") or headers.get("x-trace-id") or None


def _parse_json(value: Any) -> Any:
    """Dify sends the inputs and outputs of a run's detail as JSON within JSON."""
    if isinstance(value, str):
        try:
            return from_json(value)
        except ValueError:
            return value
    return value


Values = Annotated[Any, BeforeValidator(_parse_json)]


def _none_to_empty(value: Any) -> Any:
    return "" if value is None else value


Id = Annotated[str, BeforeValidator(_none_to_empty)]
"""A field that servers always send; "" if an old server has none."""


class Page(ResponseModel, Generic[_T]):
    """A page of a list."""

    data: list[_T]
    limit: int | None = None
    has_more: bool | None = None
    page: int | None = None
    total: int | None = None
    next_cursor: str | None = None
