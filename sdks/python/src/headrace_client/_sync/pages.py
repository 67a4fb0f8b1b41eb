# Made by generate_sync.py from _async/pages.py: change that one.
"""Lists that come page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from headrace_client.models import Page

_T = TypeVar("_T")


class Pages(Generic[_T]):
    """A list of any length: iterate over its entries, or, with `pages()`, over its pages. Asks for a page when it is
    needed; iterated again, asks again."""

    def __init__(self, ask: Callable[[Any], Page[_T]], following: Callable[[Page[_T]], Any], first: Any = None) -> None:
        """`ask` gets the page that a mark names; `following` tells the mark of the next one, None after the last."""
        self._ask = ask
        self._following = following
        self._first = first

    def pages(self) -> Iterator[Page[_T]]:
        mark = self._first
        while True:
            page = self._ask(mark)
            yield page
            following = self._following(page) if page.data else None
            if following is None or following == mark:
                return
            mark = following

    def __iter__(self) -> Iterator[_T]:
        for page in self.pages():
            for entry in page.data:
                yield entry

    def first(self) -> Page[_T]:
        """The first page."""
        return self._ask(self._first)
