"""The provider `code`: runs a program in the sandbox, and answers with what it prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace.adapters.tools.builtin.builtin_tool import INVOKE_ERROR, BuiltinTool
from headrace.errors import NodeError
from headrace.ports.services import Sandbox, ToolContext, ToolParameter, ToolSpec
from headrace.values import Value

_SECONDS = 60.0
_PYTHON = """
import contextlib
import io


def main(code):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
    return {"output": output.getvalue()}
"""
_JAVASCRIPT = """
async function main({code}) {
  const lines = [];
  const shown = (value) => typeof value === 'string' ? value : JSON.stringify(value) ?? String(value);
  const format = typeof require === 'function' ? require('util').format : (...values) => values.map(shown).join(' ');
  const log = (...values) => { lines.push(format(...values) + '\\n'); };
  const console = { log, info: log, debug: log, warn() {}, error() {} };
  const AsyncFunction = (async () => {}).constructor;
  const given = typeof require === 'function' ? require : undefined;
  await new AsyncFunction('console', 'require', code)(console, given);
  return {output: lines.join('')};
}
"""
_PROGRAMS = {"python3": _PYTHON, "javascript": _JAVASCRIPT}
SIMPLE_CODE = ToolSpec(
    "simple_code",
    "Code Interpreter",
    "Runs a program and gets the result back. Only python3 and javascript are supported.",
    (
        ToolParameter("language", required=True, options=tuple(_PROGRAMS), description="The programming language"),
        ToolParameter("code", required=True, description="The program, which prints its result"),
    ),
)


def code_tools(sandbox: Sandbox) -> Sequence[BuiltinTool]:
    """The tools of the provider."""

    async def simple_code(parameters: Mapping[str, Value], context: ToolContext) -> str:
        language = parameters.get("language", "python3")
        if language not in _PROGRAMS:
            raise NodeError(f"Only python3 and javascript are supported, not {language}", INVOKE_ERROR)
        code = {"code": parameters.get("code", "")}
        result = await sandbox.run(language, _PROGRAMS[language], code, _SECONDS, context.app)
        return str(result["output"])

    return (BuiltinTool(SIMPLE_CODE, simple_code),)
