"""The sandbox that Headrace brings: whichever of its engines fits runs the code, and every one of them confines it."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from headrace.adapters.sandbox import scan, templates
from headrace.adapters.sandbox.monty import MontyPool
from headrace.adapters.sandbox.workers import MEGABYTE, NoConfinement, WorkerFailed, Workers
from headrace.errors import NodeError
from headrace.values import Value, plain

FAILED = "CodeExecutionError"
LANGUAGES = ("python3", "javascript")
MOST_RENDERED = 2_000_000  # characters
_COMPILED_AT_ONCE = 2_000  # a longer template is made ready in a thread

_ELSEWHERE = "Set HEADRACE_SANDBOX_URL to a sandbox service that has it installed."
_BROUGHT = frozenset({"jinja2", "markupsafe"})
_NO_MODULE = re.compile(r"^ModuleNotFoundError: No module named .*\n\Z", re.MULTILINE)
_IMPORT = re.compile(r"(?m)^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import|import[ \t]+([\w., \t]+))")


class LocalSandbox:
    """`resources.Sandbox` on this machine. Nothing is started before it is needed.

    Python runs in Monty where it surely can, else in a confined CPython; JavaScript in a confined QuickJS; templates
    in this process where their work is bounded, else in a confined one. `memory` is in bytes a job, `concurrent` is how
    many confined jobs may run at once.
    """

    def __init__(self, *, concurrent: int | None = None, memory: int = 256 * MEGABYTE, monty: bool = True) -> None:
        self._workers = Workers(concurrent, memory)
        self._monty = MontyPool(max(4, 2 * (os.cpu_count() or 1))) if monty else None

    async def run(self, language: str, code: str, inputs: Mapping[str, Value], seconds: float) -> Mapping[str, Any]:
        """See `resources.Sandbox.run`."""
        if language not in LANGUAGES:
            raise NodeError(f"The code is in '{language}'; it can be in python3 or javascript.", FAILED)
        given: dict[str, Any] = plain(dict(inputs))
        if language == "python3" and self._monty is not None and scan.fits(code):
            begun = time.monotonic()
            told = await self._monty.run(code, given, seconds / 4)
            if told is not None:
                return result_of(told)
            seconds -= time.monotonic() - begun
        modules = imported(code) if language == "python3" else []
        return result_of(await self._confined({"language": language, "code": code, "inputs": given}, modules, seconds))

    async def render(self, template: str, inputs: Mapping[str, Value], seconds: float) -> str:
        """See `resources.Sandbox.render`."""
        given: dict[str, Any] = plain(dict(inputs))
        if (text := await render_here(template, given)) is not None:
            return text
        job = {"language": "jinja2", "code": template, "inputs": given, "most": MOST_RENDERED}
        return await self._confined(job, [], seconds)

    def missing(self, language: str, code: str) -> str | None:
        """See `resources.Sandbox.missing`: the packages that the code imports and that are not installed."""
        lacking = [name for name in needed(code) if not _here(name)] if language == "python3" else []
        if not lacking:
            return None
        names = " and ".join(f"'{name}'" for name in lacking)
        return f"the code imports {names}, which the built-in sandbox does not have. {_ELSEWHERE}"

    async def start(self) -> None:
        """Makes the confined processes ready before the first of them is needed. NodeError where there can be none."""
        await self._confined({"language": "jinja2", "code": "", "inputs": {}}, [], 20)

    async def aclose(self) -> None:
        """Ends everything that runs."""
        if self._monty is not None:
            await self._monty.aclose()
        await self._workers.aclose()

    async def _confined(self, job: Mapping[str, Any], modules: list[str], seconds: float) -> str:
        try:
            return (await self._workers.run(job, modules, seconds)).decode("utf-8", "surrogatepass")
        except NoConfinement as error:
            raise NodeError(
                f"Code cannot be confined on this system ({error}), and Headrace runs none unconfined. "
                "Run it on Linux, or set HEADRACE_SANDBOX_URL to a sandbox service.",
                FAILED,
            ) from None
        except WorkerFailed as error:
            lacking = _NO_MODULE.search(str(error))
            raise NodeError(f"{error}{_ELSEWHERE}" if lacking else str(error), FAILED) from None
        except UnicodeDecodeError:
            raise NodeError("The code's process did not answer in UTF-8.", FAILED) from None


async def render_here(template: str, inputs: dict[str, Any]) -> str | None:
    """The template rendered in this process, or None where it is not known to be quick and harmless."""
    if len(template) > _COMPILED_AT_ONCE:
        ready = await asyncio.to_thread(templates.plan, template)
    else:
        ready = templates.plan(template)
    if ready is None:
        return None
    most = int(templates.MOST_WORK / max(ready.cost, 0.1))
    if templates.weight(inputs, most) > most:
        return None
    try:
        return templates.render(ready.template, inputs, MOST_RENDERED, templates.SECONDS)
    except templates.Slow:
        return None
    except Exception as error:  # whatever a template's author may cause: it is the template that failed
        raise NodeError(templates.told(error), FAILED) from None


def result_of(told: str) -> dict[str, Any]:
    """The object that `main` returned. NodeError if it is none."""
    try:
        result: object = json.loads(told)
    except (ValueError, RecursionError):
        raise NodeError("The code's result is not JSON, or nested too deep.", FAILED) from None
    if not isinstance(result, dict):
        what = {"NoneType": "nothing", "str": "a string", "bool": "a boolean", "list": "a list"}
        kind = what.get(type(result).__name__, "a number")
        raise NodeError(f"main must return an object (a dict); it returned {kind}.", FAILED)
    return result  # pyright: ignore[reportUnknownVariableType]


@lru_cache(1024)
def _imported(code: str) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for match in _IMPORT.finditer(code):
        for part in (match[1] or match[2]).split(","):
            if words := part.split():
                names[words[0]] = None
    return tuple(names)[:100]


def needed(code: str) -> list[str]:
    """The packages that a Python program cannot do without: what it imports, but for what it tries to."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape in a string: the author's own business
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):  # running it says so
        return []
    names: dict[str, None] = {}
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        match node:
            case ast.Import():
                names |= {alias.name.partition(".")[0]: None for alias in node.names}
            case ast.ImportFrom(module=str(module), level=0):
                names[module.partition(".")[0]] = None
            case ast.Try():
                stack += [*node.finalbody, *node.orelse]
            case _:
                stack += reversed(list(ast.iter_child_nodes(node)))
    return list(names)


def _here(module: str) -> bool:
    """Whether the confined process has it: what is installed beside Headrace is not there, but for Jinja."""
    return module in sys.stdlib_module_names or module in _BROUGHT


def imported(code: str) -> list[str]:
    """The modules that a Python program names in import statements, and more rarely a word that is none."""
    return list(_imported(code))
