"""Draws where the processor time of a served run, or of a streamed token, goes:

    uv run python benchmarks/flames.py run|stream FILE.svg [--source CHECKOUT/src] [--seconds N]

`headrace serve` runs under load while py-spy, which uv installs by itself, samples its threads. `--source` is the code
of another version, so that two can be compared with the same tools.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.peers import UV  # noqa: E402 - needs the line above
from benchmarks.service import call, helper, load, serving  # noqa: E402

SAMPLER = "py-spy==0.4.3"
RATE = 500  # samples a second
WIDTH, HEIGHT, PADDING = 1200, 17, 4
SMALLEST = 0.004  # share of all samples that a frame must have to be drawn
BEGINNINGS = {"Runner.run (asyncio/runners.py)", "Thread.run (threading.py)"}  # callers up to these say nothing
OURS, LIBRARY, STANDARD = "#f2a65a", "#8fb8de", "#c9c9c9"


@dataclass
class Frame:
    """A function that was called by another, and how many samples it was in."""

    name: str
    samples: int = 0
    called: dict[str, Frame] = field(default_factory=dict[str, "Frame"])

    def add(self, stack: list[str], samples: int) -> None:
        self.samples += samples
        if stack:
            self.called.setdefault(stack[0], Frame(stack[0])).add(stack[1:], samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["run", "stream"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--seconds", type=int, default=15)
    options = parser.parse_args()
    environ = {"PYTHONPATH": str(options.source.resolve())} if options.source else {}
    root = tree(sampled(options.what, environ, options.seconds))
    options.file.write_text(drawn(root), "utf-8")
    print(f"{options.file}: {root.samples} samples", file=sys.stderr)


def sampled(what: str, environ: dict[str, str], seconds: int) -> str:
    """The stacks of the server's threads under load: a line each, with how often it was seen."""
    with ExitStack() as stack:
        ask = stack.enter_context(load())
        if what == "run":
            server = stack.enter_context(serving("start_end.yml", environ))
            job: dict[str, Any] = {"expect": '"status":"succeeded"', "connections": 64}
            turn, mode = 4_000, "blocking"
        else:
            model = stack.enter_context(helper("others.py"))
            environ = {**environ, "OPENAI_API_COMPATIBLE_BASE_URL": f"http://127.0.0.1:{model}/v1"}
            server = stack.enter_context(serving("model.yml", environ, MODEL_NAME="400-0"))
            job = {"expect": '"event":"workflow_finished"', "connections": 100}
            turn, mode = 200, "streaming"
        job = {**call(server, {"query": "hello"}, mode), **job, "seconds": 120}
        ask(**job, requests=turn)
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "stacks"
        record = [UV, "tool", "run", "--from", SAMPLER, "py-spy", "record", "--pid", str(server.pid)]
        record += ["--format", "raw", "--output", str(file), "--rate", str(RATE), "--duration", str(seconds)]
        with subprocess.Popen([*record, "--nonblocking"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as sampler:
            while sampler.poll() is None:
                ask(**job, requests=turn)
            assert sampler.stderr is not None
            if sampler.returncode:
                raise RuntimeError(sampler.stderr.read().decode())
        return file.read_text()


def tree(stacks: str) -> Frame:
    root = Frame("all threads")
    for line in filter(None, stacks.splitlines()):
        stack, _, samples = line.rpartition(" ")
        names = [re.sub(r":\d+\)$", ")", name) for name in stack.split(";")]
        begin = max((at for at, name in enumerate(names) if name in BEGINNINGS), default=-1)
        root.add(names[begin + 1 :] if begin >= 0 else names, int(samples))
    return root


def drawn(root: Frame) -> str:
    """The tree as SVG: callers at the top, the width of a frame is its share of the samples."""
    boxes = list(_boxes(root, 0.0, 0, root.samples))
    height = (max(depth for *_, depth in boxes) + 1) * HEIGHT + 2 * PADDING
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" '
        f'font-size="11"><rect width="100%" height="100%" fill="#fff"/>'
    )
    return "\n".join([head, *(_box(*box, root.samples) for box in boxes), "</svg>", ""])


def _boxes(frame: Frame, left: float, depth: int, total: int) -> Iterator[tuple[Frame, float, int]]:
    yield frame, left, depth
    for child in sorted(frame.called.values(), key=lambda called: called.name):
        if child.samples >= SMALLEST * total:
            yield from _boxes(child, left, depth + 1, total)
            left += child.samples / total


def _box(frame: Frame, left: float, depth: int, total: int) -> str:
    share = frame.samples / total
    x, width = PADDING + left * (WIDTH - 2 * PADDING), share * (WIDTH - 2 * PADDING)
    y = PADDING + depth * HEIGHT
    color = OURS if "(headrace/" in frame.name else LIBRARY if "/" in frame.name else STANDARD
    rectangle = f'<rect x="{x:.1f}" y="{y}" width="{max(0.5, width - 0.5):.1f}" height="{HEIGHT - 1}" fill="{color}"/>'
    fits = int(width / 6.7)
    label = frame.name if len(frame.name) <= fits else frame.name[: fits - 1] + "…" if fits > 4 else ""
    text = f'<text x="{x + 2:.1f}" y="{y + 12}">{escape(label)}</text>' if label else ""
    return f"<g><title>{escape(frame.name)}: {100 * share:.1f} %</title>{rectangle}{text}</g>"


if __name__ == "__main__":
    main()
