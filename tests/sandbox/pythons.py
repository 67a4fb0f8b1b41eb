"""The Pythons of this machine that Headrace supports, and the sandbox's own modules for one of them."""

import importlib.util
import os
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

SUPPORTED = ("3.11", "3.12", "3.13")


@lru_cache
def python(version: str) -> str | None:
    """Its program; None where there is none here."""
    if f"{sys.version_info.major}.{sys.version_info.minor}" == version:
        return sys.executable
    folders = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin"), reverse=True)
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")])
    program = shutil.which(f"python{version}", path=path)
    if program is None:
        return None
    says = [program, "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
    done = subprocess.run(says, capture_output=True, text=True, check=False)
    return program if done.stdout.strip() == version else None


def install(folder: Path) -> None:
    """What a zygote needs, for any Python: `headrace`, and Jinja without what was compiled for this one."""
    for name in ("headrace", "jinja2", "markupsafe"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        (source,) = spec.submodule_search_locations
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
