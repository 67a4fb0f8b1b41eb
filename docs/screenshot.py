"""Draws docs/images/demo.svg: what `make demo ONCE=1` really prints, coloured as on a terminal.

uv run python docs/screenshot.py
"""

from __future__ import annotations

import io
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from rich.console import Console
from rich.text import Text

ROOT = pathlib.Path(__file__).resolve().parents[1]
WIDTH = 96

environ = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
with tempfile.TemporaryDirectory() as data:  # so that the key in the picture opens nothing
    made = subprocess.run(
        [sys.executable, "examples/product-detail/demo.py"],
        cwd=ROOT,
        env={**environ, "ONCE": "1", "FORCE_COLOR": "1", "HEADRACE_DATA": data},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    # a style that ends and begins again at once need not
    shown = made.stdout.rstrip().replace("\x1b[0m\x1b[2m", "").replace(os.path.relpath(data, ROOT), ".headrace/demo")
console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
console.print(Text.from_ansi(f"$ make demo\n{shown}"), soft_wrap=False)
svg = console.export_svg(title="headrace", unique_id="demo")
# fonts are the reader's own: no request to anybody else's server
svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
svg = svg.replace(
    "font-family: Fira Code, monospace",
    "font-family: ui-monospace, Menlo, Consolas, 'Noto Sans Mono CJK TC', monospace",
)
target = ROOT / "docs" / "images" / "demo.svg"
target.parent.mkdir(exist_ok=True)
target.write_text(svg, "utf-8")
