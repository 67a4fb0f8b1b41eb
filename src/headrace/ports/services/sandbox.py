"""Code and templates that users wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from headrace.values import Value


class Sandbox(Protocol):
    """Runs what users wrote, confined: no file, environment, process or network of the host's."""

    async def run(
        self, language: str, code: str, inputs: Mapping[str, Value], seconds: float, app: str = ""
    ) -> Mapping[str, Any]:
        """Calls the code's `main` with the inputs (Python: as keywords; JavaScript: as one object) and returns the
        object it returns. `language` is python3 or javascript; `seconds`: how long it may take; `app`: the id of its
        app, which shares what there is with the others. NodeError with kind `CodeExecutionError`: it raised, ran too
        long, used too much, or returned no object."""
        ...

    async def render(self, template: str, inputs: Mapping[str, Value], seconds: float, app: str = "") -> str:
        """Renders a Jinja2 template. NodeError with kind `CodeExecutionError` where it cannot be."""
        ...

    def missing(self, language: str, code: str) -> str | None:
        """What lacks before this code can run here, and what to set, in words; None if nothing does, as far as can be
        told without running it."""
        ...
