"""The built-in sandbox: every program runs confined, or not at all."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from headrace.adapters.sandbox import node_scan, quickjs, templates
from headrace.adapters.sandbox.child_process import MEGABYTE
from headrace.adapters.sandbox.egress_proxy import PROXY, EgressProxy, certificates_here
from headrace.adapters.sandbox.imports import HTTP_MODULES, NETWORK_MODULES, NETWORK_PACKAGES, imports
from headrace.adapters.sandbox.node import NodePool
from headrace.adapters.sandbox.packages import Packages
from headrace.adapters.sandbox.slots import Owner, Slots
from headrace.adapters.sandbox.workers import NoConfinement, WorkerFailed, Workers
from headrace.adapters.sandbox.zygote_wire import Plan
from headrace.content.python_json import load_json
from headrace.content.surrogates import mend_text
from headrace.errors import NodeError
from headrace.values import Value, to_json

FAILED = "CodeExecutionError"
NO_OBJECT = "WorkflowNodeError"  # Dify detects it after the code has run, and uses the general name of failures
LANGUAGES = ("python3", "javascript")
MOST_RENDERED = 2_000_000  # characters
_COMPILED_AT_ONCE = 2_000  # characters; longer templates are compiled in a thread
_KEPT_WITH_PACKAGES = 2

_ELSEWHERE = (
    "List it in HEADRACE_CODE_PACKAGES, or set HEADRACE_SANDBOX_URL to a sandbox service that has it installed."
)
_NOT_INSTALLED = "The packages of HEADRACE_CODE_PACKAGES are not installed: `headrace packages` installs them"
_NOT_AHEAD = "This system has no Landlock, so that only modules that are loaded ahead can be imported."
_BROUGHT = frozenset({"jinja2", "markupsafe"})
_NO_MODULE = re.compile(r"^ModuleNotFoundError: No module named .*\n\Z", re.MULTILINE)
_NOT_CONNECTED = re.compile(r"\b(?:EPERM|EACCES|EAI_AGAIN|ENOTFOUND|ENOSYS)\b")
_NOT_OPENED = re.compile(r"^PermissionError: .*\.py'\n\Z", re.MULTILINE)


class LocalSandbox:
    """Implements `ports.services.Sandbox` on this machine. Processes are started when needed.

    Python runs in a confined CPython; JavaScript in a confined Node.js if there is one, else in a confined QuickJS,
    whose errors name what it does not support; templates in this process if their work is bounded, else in a confined
    one. `memory` in bytes and `longest` in seconds are the limits of a job; `concurrent` jobs run at once, shared
    fairly by workspace (`workspace_of` returns an app's) and app. Programs may import `packages` besides the standard
    library, and use the network through `egress`.
    """

    def __init__(
        self,
        *,
        concurrent: int | None = None,
        memory: int = 256 * MEGABYTE,
        longest: float = 60,
        packages: Packages | None = None,
        egress: EgressProxy | None = None,
        workspace_of: Callable[[str], Awaitable[str]] | None = None,
        node: NodePool | None = None,
    ) -> None:
        self._slots = Slots(concurrent or max(16, 4 * (os.cpu_count() or 1)))
        self._memory, self._cpu_seconds = memory, int(longest) + 2
        self._packages = packages
        self._egress = egress
        self._workspace_of = workspace_of
        self._workspaces: dict[str, str] = {}
        self._node = node or NodePool(memory, egress=egress)
        self._plain = Workers(self._plan)
        self._packed = Workers(self._plan_with_packages, kept=_KEPT_WITH_PACKAGES) if packages else None

    async def run(
        self, language: str, code: str, inputs: Mapping[str, Value], seconds: float, app: str = ""
    ) -> Mapping[str, Any]:
        """See `Sandbox.run`."""
        if language not in LANGUAGES:
            raise NodeError(f"The code is in '{language}'; it can be in python3 or javascript.", FAILED)
        arguments: dict[str, Any] = to_json(dict(inputs))
        if language == "javascript" and await self._node.missing() is None:
            return result_of(await self._in_node(code, arguments, seconds, app))
        job = {"language": language, "code": code, "inputs": arguments}
        try:
            return result_of(await self._confined(job, seconds, app))
        except NodeError as error:
            if language == "python3" or quickjs.NEEDS_NODE not in str(error):
                raise
            raise NodeError(f"{error}\n{await self._node.missing()}", FAILED) from None

    async def render(self, template: str, inputs: Mapping[str, Value], seconds: float, app: str = "") -> str:
        """See `Sandbox.render`."""
        arguments: dict[str, Any] = to_json(dict(inputs))
        if (text := await render_here(template, arguments)) is not None:
            return text
        job = {"language": "jinja2", "code": template, "inputs": arguments, "most": MOST_RENDERED}
        return mend_text(await self._confined(job, seconds, app))

    def missing(self, language: str, code: str) -> str | None:
        """See `Sandbox.missing`: imported packages that are not installed, features of Node.js if there is none, and
        the use of a network that is not allowed."""
        if language == "javascript":
            return self._missing_of_javascript(code)
        if language != "python3":
            return None
        names = imports(code)
        absent = [name for name in names.needed if not self._has(name)]
        problems: list[str] = []
        if absent:
            listed = " and ".join(f"'{name}'" for name in absent)
            if self._packages is not None and not self._packages.installed:
                elsewhere = f"{_NOT_INSTALLED}."
            else:
                elsewhere = _ELSEWHERE
            problems.append(f"the code imports {listed}, which the built-in sandbox does not have. {elsewhere}")
        network = [name for name in names.modules if self._is_without_network(name)]
        if network:
            listed = " and ".join(f"'{name}'" for name in network)
            if self._egress is None:
                problems.append(
                    f"the code imports {listed} for the network, which is only available with HEADRACE_CODE_EGRESS, "
                    "or in a sandbox service (HEADRACE_SANDBOX_URL)."
                )
            else:
                problems.append(f"the code imports {listed}, but HEADRACE_CODE_EGRESS permits HTTP requests only.")
        return " And ".join(problems) or None

    def _missing_of_javascript(self, code: str) -> str | None:
        features = node_scan.node_features(code)
        if features and (reason := self._node.missing_now()) is not None:
            names = ", ".join(features[:6]) + (" ..." if len(features) > 6 else "")
            return f"the code uses {names}, which {quickjs.NEEDS_NODE}: {reason}"
        network = node_scan.network_features(code)
        if network and (reason := self._node.network_missing) is not None:
            return f"the code uses {', '.join(network)} for the network, {reason}"
        return None

    def _network_hint(self, code: str, error: str) -> str:
        """A hint for the error of a JavaScript program that has no network."""
        network = node_scan.network_features(code) if _NOT_CONNECTED.search(error) else ()
        why = self._node.network_missing if network else None
        return f"\nThe code uses {', '.join(network)} for the network, {why}" if why else ""

    def _has(self, module: str) -> bool:
        """Whether a confined process can import it: of the packages installed with Headrace, only Jinja."""
        if module in sys.stdlib_module_names or module in _BROUGHT:
            return True
        return self._packages is not None and module in self._packages.modules

    def _is_without_network(self, module: str) -> bool:
        if module in NETWORK_MODULES:
            return self._egress is None or module not in HTTP_MODULES | {"socket"}
        return module in NETWORK_PACKAGES and self._has(module) and self._egress is None

    async def start(self) -> None:
        """Starts the confined processes before they are needed. NodeError if they cannot be confined."""
        await self._confined({"language": "jinja2", "code": "", "inputs": {}}, 20, "")

    async def aclose(self) -> None:
        """Ends all processes."""
        await self._node.aclose()
        for workers in (self._plain, self._packed):
            if workers is not None:
                await workers.aclose()
        if self._egress is not None:
            await self._egress.aclose()

    async def _plan(self) -> Plan:
        packages = None
        if self._packages is not None:
            if not self._packages.installed:
                raise WorkerFailed(f"{_NOT_INSTALLED}, and code is not run without them.")
            packages = str(self._packages.folder)
        if self._egress is None:
            return Plan(self._memory, self._cpu_seconds, packages)
        guard = await self._egress.start()
        certificates = certificates_here()
        return Plan(
            self._memory, self._cpu_seconds, packages, guard=guard, proxy=PROXY, certificates=certificates or ""
        )

    async def _plan_with_packages(self) -> Plan:
        assert self._packages is not None
        return replace(await self._plan(), preloaded=self._packages.preloaded)

    async def _in_node(self, code: str, inputs: dict[str, Any], seconds: float, app: str) -> str:
        try:
            async with self._slots.slot(Owner(await self._workspace(app), app)):
                return await self._node.run(code, inputs, seconds)
        except WorkerFailed as error:
            raise NodeError(f"{error}{self._network_hint(code, str(error))}", FAILED) from None

    async def _confined(self, job: Mapping[str, Any], seconds: float, app: str) -> str:
        workers = self._workers(job)
        try:
            async with self._slots.slot(Owner(await self._workspace(app), app)):
                return (await workers.run(job, seconds)).decode("utf-8", "surrogatepass")
        except NoConfinement as error:
            raise NodeError(
                f"Code cannot be confined on this system ({error}), and Headrace does not run it unconfined. "
                "Run it on Linux, or set HEADRACE_SANDBOX_URL to a sandbox service.",
                FAILED,
            ) from None
        except WorkerFailed as error:
            hint = ""
            if _NO_MODULE.search(str(error)):
                hint = _ELSEWHERE
            elif not workers.reads and _NOT_OPENED.search(str(error)):
                hint = _NOT_AHEAD
            raise NodeError(f"{error}{hint}", FAILED) from None
        except UnicodeDecodeError:
            raise NodeError("The code's process did not write UTF-8.", FAILED) from None

    async def _workspace(self, app: str) -> str:
        if self._workspace_of is None or not app:
            return ""
        if app not in self._workspaces:
            if len(self._workspaces) > 100_000:
                self._workspaces.clear()
            self._workspaces[app] = await self._workspace_of(app)
        return self._workspaces[app]

    def _workers(self, job: Mapping[str, Any]) -> Workers:
        """The workers for a job. Both can import the same; one of them has imported the packages already."""
        if self._packed is None or job["language"] != "python3":
            return self._plain
        return self._packed if any(map(self._is_packed, imports(job["code"]).modules)) else self._plain

    def _is_packed(self, module: str) -> bool:
        top = module.partition(".")[0]
        return top not in sys.stdlib_module_names and self._packages is not None and top in self._packages.modules


async def render_here(template: str, inputs: dict[str, Any]) -> str | None:
    """Renders the template in this process; None if it is not known to be safe and fast."""
    if len(template) > _COMPILED_AT_ONCE:
        ready = await asyncio.to_thread(templates.plan, template)
    else:
        ready = templates.plan(template)
    if ready is None:
        return None
    most = int(templates.MOST_WORK / max(ready.cost, 0.1))
    weight = templates.weight(inputs, most)
    if weight > most or templates.was_slow(template, weight):
        return None
    try:
        return mend_text(templates.render(ready.template, inputs, MOST_RENDERED, templates.SECONDS))
    except templates.Slow:
        templates.remember_slow(template, weight)
        return None
    except Exception as error:  # a template may raise anything
        raise NodeError(templates.describe(error), FAILED) from None


def result_of(text: str) -> dict[str, Any]:
    """The object that `main` returned. NodeError if it is not an object."""
    try:
        result: object = load_json(text)
    except ValueError:
        raise NodeError("The code's result is not JSON, or nested too deep.", FAILED) from None
    if not isinstance(result, dict):
        what = {"NoneType": "nothing", "str": "a string", "bool": "a boolean", "list": "a list"}
        kind = what.get(type(result).__name__, "a number")
        raise NodeError(f"main must return an object (a dict); it returned {kind}.", NO_OBJECT)
    return result  # pyright: ignore[reportUnknownVariableType]
