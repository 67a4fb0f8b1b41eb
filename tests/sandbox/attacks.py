"""What the tests of attacks have in common. An attack is code that answers `{"got": ...}` if it gets through."""

from pathlib import Path

import pytest

from headrace.adapters.sandbox import LocalSandbox
from headrace.errors import NodeError

SECRET = "hunter2-of-the-service"


def untouched(secret: Path) -> bool:
    return secret.read_text() == SECRET and list(secret.parent.iterdir()) == [secret]


async def refused(sandbox: LocalSandbox, code: str, inputs: dict[str, object], language: str = "python3") -> str:
    """The error of code that answers `{"got": ...}` if it gets through."""
    with pytest.raises(NodeError) as failed:
        await sandbox.run(language, code, inputs, 1.5)
    # the latter is of a result that is not an object
    assert failed.value.kind in ("CodeExecutionError", "WorkflowNodeError")
    assert SECRET not in str(failed.value)
    return str(failed.value)


async def works(sandbox: LocalSandbox) -> None:
    assert await sandbox.run("python3", "def main(a):\n    return {'r': a + 1}", {"a": 1}, 60) == {"r": 2}
    assert await sandbox.run("javascript", "function main({a}) { return {r: a + 1} }", {"a": 1}, 60) == {"r": 2}
    assert await sandbox.render("{{ range(a) | list }}", {"a": 2}, 5) == "[0, 1]"


def main_of(body: str) -> str:
    return "def main(path, port):\n" + "".join(f"    {line}\n" for line in body.strip().splitlines())
