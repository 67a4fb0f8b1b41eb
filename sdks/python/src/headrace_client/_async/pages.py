"""Lists that come page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

from headrace_client.models import Page

_T = TypeVar("_T")


class AsyncPages(Generic[_T]):
    """A list of any length: iterate over its entries, or, with `pages()`, over its pages. Asks for a page when it is
    needed; iterated again, asks again."""

    def __init__(
        self, ask: Callable[[Any], Awaitable[Page[_T]]], following: Callable[[Page[_T]], Any], first: Any = None
    ) -> None:
        """`ask` gets the page that a mark names; `following` tells the mark of the next one, None after the last."""
        self._ask = ask
        self._following = following
        self._first = first

    async def pages(self) -> AsyncIterator[Page[_T]]:
        mark = self._first
        while True:
            page = await self._ask(mark)
            yield page
            following = self._following(page) if page.data else None
            if following is None or following == mark:
                return
            mark = following

    async def __aiter__(self) -> AsyncIterator[_T]:
        async for page in self.pages():
            for entry in page.data:
                yield entry

    async def first(self) -> Page[_T]:
        """The first page."""
        return await self._ask(self._first)
