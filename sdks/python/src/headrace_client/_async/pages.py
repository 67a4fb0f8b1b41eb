"""Lists with pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

from headrace_client.response_model import Page

_T = TypeVar("_T")


class AsyncPages(Generic[_T]):
    """A paginated list: iterate over its items, or, with `pages()`, over its pages. A page is requested when it is
    needed; each iteration requests the pages anew."""

    def __init__(
        self, ask: Callable[[Any], Awaitable[Page[_T]]], following: Callable[[Page[_T]], Any], first: Any = None
    ) -> None:
        """`ask` fetches the page of a cursor; `following` returns the cursor of the next page, None after the last."""
        self._fetch_page = ask
        self._next_cursor = following
        self._first = first

    async def pages(self) -> AsyncIterator[Page[_T]]:
        cursor = self._first
        while True:
            page = await self._fetch_page(cursor)
            yield page
            next_cursor = self._next_cursor(page) if page.data else None
            if next_cursor is None or next_cursor == cursor:
                return
            cursor = next_cursor

    async def __aiter__(self) -> AsyncIterator[_T]:
        async for page in self.pages():
            for item in page.data:
                yield item

    async def first(self) -> Page[_T]:
        """The first page."""
        return await self._fetch_page(self._first)
