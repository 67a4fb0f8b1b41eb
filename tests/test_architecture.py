"""The picture of the floors in docs/architecture.md is the contract that import-linter holds, and nothing imports in a
circle: not the runtime, and neither SDK."""

from __future__ import annotations

import graphlib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]


def floors_of_the_contract() -> list[set[str]]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [set(re.split(r"\s*[|:]\s*", layer)) for layer in layers]


def floors_of_the_picture() -> list[set[str]]:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    picture = re.search(r"## Floors\n.*?```\n(.*?)```", page, re.DOTALL)
    assert picture is not None
    # what a floor holds, two spaces or more, what it is for
    rows = [re.split(r"\s{2,}", line.strip())[0] for line in picture[1].splitlines()]
    return [set(re.split(r"\s*[|:]\s*", row)) for row in rows]


def test_the_picture_of_the_floors_is_the_contract() -> None:
    assert floors_of_the_picture() == floors_of_the_contract()


def test_every_package_stands_on_a_floor() -> None:
    names = {
        path.stem for path in (ROOT / "src" / "headrace").iterdir() if path.stem not in ("__init__", "__pycache__")
    }
    assert names == set[str]().union(*floors_of_the_contract())


def cycle_in(imports: Mapping[str, set[str]]) -> list[str] | None:
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return None


@pytest.mark.parametrize("package", ["headrace", "headrace_client"])
def test_no_module_of_python_imports_itself_through_others(package: str) -> None:
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 10
    assert cycle_in(imports) is None


def test_no_module_of_the_node_sdk_imports_itself_through_others() -> None:
    statement = re.compile(r"""^(?:import|export)\s(?:[^;"']*?\sfrom\s+)?["']\./([\w-]+)\.js["']""", re.MULTILINE)
    files = (ROOT / "sdks" / "node" / "src").glob("*.ts")
    imports = {path.stem: set(statement.findall(path.read_text("utf-8"))) for path in files}
    assert imports["client"]
    assert cycle_in(imports) is None


def test_a_cycle_is_noticed() -> None:
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}}) is not None
