"""The package as users get it: packed, installed where there is no network, required, imported and type-checked."""

from __future__ import annotations

import ast
import json
import pathlib
import re
import shutil
import tarfile
from typing import Any

import pytest

from tests.sdk_node.package import ROOT, SDK, check_run
from tests.server.process import Serve

_USER_CODE = pathlib.Path(__file__).parent / "user_code"
_BIN = SDK / "node_modules" / ".bin"
_DEV = {"esbuild", "typescript", "@types/node", "@arethetypeswrong/cli", "prettier"}


def _run_snippet(project: pathlib.Path, name: str, key: str, url: str) -> Any:
    """What the issue's snippet tells, run as it stands but for its key."""
    text = (_USER_CODE / name).read_text()
    assert text.count("'your-api-key'") == 1
    (project / name).write_text(text.replace("your-api-key", key))
    return json.loads(check_run("node", name, cwd=project, environ={"API_BASE_URL": url}))


@pytest.mark.parametrize("name", ["snippet.cjs", "snippet.mjs"])
def test_snippet_runs_against_headrace(project: pathlib.Path, headrace: Serve, name: str) -> None:
    output = _run_snippet(project, name, headrace.keys["hello"], headrace.url)
    assert output["ended"]["status"] == "succeeded"
    assert output["ended"]["outputs"] == {"text": "You said: Hello World"}
    assert output["status"]["id"] == output["ended"]["id"]


@pytest.mark.parametrize("name", ["snippet.cjs", "snippet.mjs"])
def test_snippet_runs_against_a_server_that_speaks_only_v1(project: pathlib.Path, dify: str, name: str) -> None:
    output = _run_snippet(project, name, "app-02_template", f"{dify}/v1")
    assert output["ended"] == output["status"]
    assert output["status"]["outputs"] == {"text": "Hello hi! 12"}


def test_the_snippet_of_the_guide_runs_unchanged(
    tarball: pathlib.Path, tmp_path: pathlib.Path, headrace: Serve
) -> None:
    """With the package installed under the name that the README's command gives it."""
    command = f"`npm install dify-client@file:headrace/sdks/node/{tarball.name}`"
    assert command in (SDK / "README.md").read_text("utf-8")
    (tmp_path / "package.json").write_text('{"name": "shop", "private": true}')
    check_run("npm", "install", "--offline", "--no-audit", "--no-fund", f"dify-client@file:{tarball}", cwd=tmp_path)
    text = (_USER_CODE / "snippet.cjs").read_text().replace("require('headrace-client')", "require('dify-client')")
    assert "headrace" not in text
    (tmp_path / "snippet.cjs").write_text(text.replace("your-api-key", headrace.keys["hello"]))
    output = json.loads(check_run("node", "snippet.cjs", cwd=tmp_path, environ={"API_BASE_URL": headrace.url}))
    assert output["ended"]["outputs"] == {"text": "You said: Hello World"}


@pytest.mark.parametrize(
    ("module", "resolution", "kind"),
    [("node16", "node16", "module"), ("node16", "node16", "commonjs"), ("esnext", "bundler", "module")],
)
def test_user_code_passes_strict_type_checks(project: pathlib.Path, module: str, resolution: str, kind: str) -> None:
    folder = project / f"{module}-{resolution}-{kind}"
    folder.mkdir()
    shutil.copy(_USER_CODE / "sample.ts", folder)
    (folder / "package.json").write_text(json.dumps({"type": kind}))
    options = {"strict": True, "noEmit": True, "target": "es2022", "module": module, "moduleResolution": resolution}
    options |= {"exactOptionalPropertyTypes": True, "noUncheckedIndexedAccess": True, "skipLibCheck": False}
    for libraries in ({"lib": ["es2022", "dom", "dom.iterable"], "types": []}, _node_types()):
        (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options | libraries}))
        check_run(_BIN / "tsc", "-p", ".", cwd=folder)


def _node_types() -> dict[str, Any]:
    return {"lib": ["es2022"], "types": ["node"], "typeRoots": [str(SDK / "node_modules" / "@types")]}


def test_types_are_right_for_every_way_to_import(tarball: pathlib.Path) -> None:
    assert "No problems found" in check_run(_BIN / "attw", tarball)


def test_sources_are_formatted() -> None:
    check_run(_BIN / "prettier", "--check", "src", "test", "scripts")


def test_tarball_has_what_is_needed_and_no_more(tarball: pathlib.Path) -> None:
    with tarfile.open(tarball) as packed:
        names = {name.removeprefix("package/") for name in packed.getnames()}
    assert {"package.json", "README.md", "dist/esm/index.js", "dist/cjs/index.js", "dist/cjs/index.d.ts"} <= names
    assert not [name for name in names if not re.fullmatch(r"package\.json|README\.md|dist/(esm|cjs)/.+", name)]


def test_nothing_is_needed_at_run_time() -> None:
    package = json.loads((SDK / "package.json").read_text())
    assert "dependencies" not in package
    assert set(package["devDependencies"]) == _DEV
    assert package["engines"] == {"node": ">=18"}
    locked = (SDK / "package-lock.json").read_text()
    assert '"resolved"' not in locked
    assert "://registry" not in locked


_DATASETS = ("datasets", "documents", "segments", "dataset_metadata", "pipelines")


def _python_names() -> set[str]:
    """The public methods and properties of the Python client, in camel case."""
    names: set[str] = set()
    folder = ROOT / "sdks" / "python" / "src" / "headrace_client" / "_async"
    for module in ("apps", "chats", "client", "existing_runs", "runs", *_DATASETS):
        for node in ast.walk(ast.parse((folder / f"{module}.py").read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                methods = (node for node in node.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
                names |= {method.name for method in methods if not method.name.startswith("_")}
    camel = {re.sub(r"_([a-z])", lambda letter: letter[1].upper(), name) for name in names}
    return camel - {"aclose"}  # there is nothing to close: Node's own pool is used


def _node_names() -> set[str]:
    names: set[str] = set()
    for module in ("client", "chats", "runs", "core", *_DATASETS):
        declarations = (SDK / "dist" / "esm" / f"{module.replace('_', '-')}.d.ts").read_text()
        names |= set(re.findall(r"^    (?:get )?(\w+)(?:<.*>)?\(", declarations, re.MULTILINE))
    return names - {"constructor", "toJSON"}


def test_methods_have_the_names_of_python(tarball: pathlib.Path) -> None:
    assert _node_names() == _python_names()


def test_examples_of_the_readme_run_unchanged(project: pathlib.Path, headrace: Serve, dify: str) -> None:
    blocks = re.findall(r"^```ts\n(.*?)^```", (SDK / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    folder = project / "readme"
    folder.mkdir()
    for number, block in enumerate(blocks):
        (folder / f"block{number}.ts").write_text(block)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "contract.pdf").write_bytes(b"%PDF-")
    (folder / "pump.md").write_text("The pump starts.")
    options = {"strict": True, "target": "es2022", "module": "node16", "moduleResolution": "node16"}
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options | _node_types()}))
    check_run(_BIN / "tsc", "-p", ".", cwd=folder)
    hello = (headrace.keys["hello"], headrace.url)
    peers = [(f"app-{case}", dify) for case in ("18_inputs_all", "38_chat_convvar_turn2")]
    knowledge = (headrace.keys["knowledge"], headrace.url)
    options_of_a_call, runs, streams, pauses, _, chats, datasets = (
        check_run("node", f"block{number}.js", cwd=folder, environ={"API_KEY": key, "API_BASE_URL": url})
        for number, (key, url) in enumerate([hello, hello, hello, hello, *peers, knowledge])
    )
    assert len(blocks) == 7
    assert options_of_a_call.startswith("200 ")
    assert runs.count("You said: Hello World") == 2
    assert runs.endswith("succeeded\n")
    assert streams.endswith("End succeeded\n{ text: 'You said: Hello World' }\n")
    assert pauses == "workflow_finished\n"
    assert len(chats.splitlines()) > 2
    assert datasets == "null The pump starts.\npump.md completed\n"
