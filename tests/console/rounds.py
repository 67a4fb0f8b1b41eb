"""Files with containers: one whose rounds take their time, and one in another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cli.flows import code, flow

_ROUND = """import time
def main(x):
    time.sleep(0.2)
    if x == 3:
        raise ValueError('row 3 is empty')
    return {'r': str(x)}
"""
_PAIR = "def main(x):\n    return {'cells': [10 * x, 10 * x + 1]}"
_CELL = """def main(x):
    if x == 21:
        raise ValueError('cell 21 is empty')
    return {'r': str(x)}
"""


def rounds(file: Path) -> Path:
    """30 rounds of 0.2 s; the fourth one fails, and the others go on."""
    rows = {**code("def main():\n    return {'rows': list(range(30))}", rows="array[number]"), "id": "rows"}
    row = {**code(_ROUND, {"x": ("each", "item")}, r="string"), "id": "row", "title": "Check the row"}
    checked_rows = _iteration("each", "Each row", ("rows", "rows"), ("row", "r"))
    return flow(file, rows, *checked_rows, {**row, "parentId": "each"}, outputs={"checked": ("each", "output")})


def nested(file: Path) -> Path:
    """Two cells in each of three rows; the second cell of the second row fails."""
    rows = {**code("def main():\n    return {'rows': [1, 2, 3]}", rows="array[number]"), "id": "rows"}
    pair = code(
        "def main(x):\n    return {'cells': [10 * x, 10 * x + 1]}", {"x": ("each", "item")}, cells="array[number]"
    )
    cell = {**code(_CELL, {"x": ("cells", "item")}, r="string"), "id": "cell", "title": "Check the cell"}
    inner = _iteration("cells", "Each cell", ("pair", "cells"), ("cell", "r"))
    return flow(
        file,
        rows,
        *_iteration("each", "Each row", ("rows", "rows"), ("cells", "output")),
        {**pair, "id": "pair", "title": "Pair", "parentId": "each"},
        *({"parentId": "each", **node} for node in inner),
        {**cell, "parentId": "cells"},
        outputs={"checked": ("each", "output")},
    )


def _iteration(id_: str, title: str, over: Sequence[str], output: Sequence[str]) -> list[dict[str, Any]]:
    """A container that goes on after a failure, and the node that its rounds begin with."""
    container = {
        "id": id_,
        "type": "iteration",
        "title": title,
        "iterator_selector": list(over),
        "output_selector": list(output),
        "start_node_id": f"{id_}-start",
        "error_handle_mode": "continue-on-error",
    }
    return [container, {"id": f"{id_}-start", "type": "iteration-start", "title": "", "parentId": id_}]
