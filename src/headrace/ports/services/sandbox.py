"""Code and templates of users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from headrace.values import Value


class Sandbox(Protocol):
    """Runs users' code without access to the host's files, environment, processes and network."""

    async def run(
        self, language: str, code: str, inputs: Mapping[str, Value], seconds: float, app: str = ""
    ) -> Mapping[str, Any]:
        """Calls the code's `main` with the inputs (Python: as keywords; JavaScript: as one object) and returns the
        object that it returns. `language` is python3 or javascript; `seconds` is the time limit; `app` is the app's id,
        by which capacity is shared fairly. NodeError with kind `CodeExecutionError` if it raises, exceeds a limit, or
        does not return an object."""
        ...

    async def render(self, template: str, inputs: Mapping[str, Value], seconds: float, app: str = "") -> str:
        """Renders a Jinja2 template. NodeError with kind `CodeExecutionError` if that fails."""
        ...

    def missing(self, language: str, code: str) -> str | None:
        """A message that says what is missing to run this code here, and what to set; None if nothing is, as far as
        that is known without running it."""
        ...
