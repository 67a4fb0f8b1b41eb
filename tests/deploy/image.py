"""The steps of deploy/Dockerfile, done by hand: there may be no container engine where the tests run.

What is not done: installing uv and tini, and making the user, which need root and a distribution of their own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
NOBODY = 65534


@dataclass
class Stage:
    """One FROM, and what comes after it: (instruction, arguments)."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def the(self, instruction: str) -> str:
        """The last of its kind."""
        return [argument for name, argument in self.steps if name == instruction][-1]

    @property
    def environment(self) -> dict[str, str]:
        argument = " ".join(argument for name, argument in self.steps if name == "ENV")
        return dict(word.split("=", 1) for word in shlex.split(argument))

    @property
    def health_check(self) -> list[str]:
        return json.loads(self.the("HEALTHCHECK").partition("CMD")[2])


def stages() -> list[Stage]:
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE)
    result: list[Stage] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        name, _, argument = line.strip().partition(" ")
        if name == "FROM":
            result.append(Stage(argument))
        elif name:
            result[-1].steps.append((name, argument.strip()))
    return result


@dataclass
class Image:
    """What the image would hold, below `root`, which everybody may read."""

    root: Path
    build: Stage
    final: Stage

    def here(self, text: str) -> str:
        """A command or path of the image, as it is here."""
        return re.sub(r"(?<![\w/.])/(opt/headrace|src|flows)\b", rf"{self.root}/\1", text)

    @property
    def bin(self) -> Path:
        return self.root / "opt" / "headrace" / "bin"

    def environment(self, data: Path, **more: str) -> dict[str, str]:
        """The container's, but for its data folder and its address."""
        own = {**self.final.environment, "PATH": f"{self.bin}:/usr/bin:/bin", "HEADRACE_DATA": str(data)}
        return {**own, "HEADRACE_HOST": "127.0.0.1", "HOME": str(data), **more}

    def run(self, command: Sequence[str], env: dict[str, str], **how: object) -> subprocess.CompletedProcess[str]:
        """As a user who owns nothing of the image, where we may become one."""
        return subprocess.run(
            command, env=env, user=user(), capture_output=True, text=True, timeout=60, check=False, **how
        )  # type: ignore[call-overload]


def user() -> int | None:
    return NOBODY if os.geteuid() == 0 else None


def interpreter() -> str:
    """A Python that everybody may start, as in the image."""
    system = Path("/usr/bin/python3")
    if os.geteuid() == 0 and system.exists():
        check = [str(system), "-c", "import sys, ensurepip; sys.exit(sys.version_info < (3, 11))"]
        if subprocess.run(check, capture_output=True, check=False).returncode == 0:
            return str(system)
    return sys.executable


def build(root: Path) -> Image:
    """Does what can be done of the build by hand."""
    first, final = stages()
    image = Image(root, first, final)
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv, "the steps of the image need uv"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "VIRTUAL_ENV", "PYTHON"))}
    env |= {"PATH": f"{Path(uv).parent}:{env['PATH']}", "UV_PYTHON": interpreter(), "UV_PYTHON_DOWNLOADS": "never"}
    (root / "opt").mkdir()
    folder = root / "src"
    for name, argument in first.steps:
        if name == "COPY":
            *sources, target = argument.split()
            _copy(sources, folder / target, many=len(sources) > 1)
        elif name == "RUN" and not argument.startswith("pip install"):
            # bytecode only makes the start quicker
            script = image.here(argument).replace(" --compile-bytecode", "")
            done = subprocess.run(
                ["bash", "-ec", script], cwd=folder, env=env, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    for name, argument in final.steps:
        if name == "COPY" and not argument.startswith("--from="):
            source, target = argument.split()
            _copy([source], Path(image.here(target)), many=False)
    return image


def _copy(sources: Sequence[str], target: Path, *, many: bool) -> None:
    target.mkdir(parents=True, exist_ok=True) if many else target.parent.mkdir(parents=True, exist_ok=True)
    for source in sources:
        whole = ROOT / source
        if whole.is_dir():
            shutil.copytree(whole, target, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        else:
            shutil.copy(whole, target)
