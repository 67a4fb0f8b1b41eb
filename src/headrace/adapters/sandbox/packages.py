"""The packages that programs may import: an environment that uv creates once from a requirements file.

It is a folder, named by a hash of the file (and those that it includes), the Python version and the machine. So a
changed file makes another environment, and one that is in use never changes. It has compiled bytecode, because programs
cannot write any.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import platform
import re
import shutil
import sys
import tempfile
from functools import cached_property
from importlib import metadata
from pathlib import Path

from headrace.adapters.uv import uv_command
from headrace.errors import HeadraceError

logger = logging.getLogger(__name__)

SETTING = "HEADRACE_CODE_PACKAGES"
_INSTALL_SECONDS = 1800
_INCLUDED = re.compile(r"^\s*(?:-r|-c|--requirements?|--constraints?)[ =]*(\S+)", re.MULTILINE)
_NAME = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)", re.MULTILINE)
_MODULE = re.compile(r"[^\W\d]\w*")


class Packages:
    """The environment of a requirements file, in the folder `environments`. HeadraceError if the file cannot be
    read."""

    def __init__(self, requirements: Path, environments: Path) -> None:
        self._requirements = requirements.absolute()
        self.folder = environments.absolute() / _key(self._requirements)

    @property
    def installed(self) -> bool:
        """Whether the environment exists."""
        return self.folder.is_dir()

    @cached_property
    def modules(self) -> frozenset[str]:
        """The modules that can be imported; empty if it does not exist yet."""
        return frozenset(_modules(self.folder, None))

    @cached_property
    def preloaded(self) -> tuple[str, ...]:
        """The modules of the packages that the file lists by name."""
        names = {_normal(name) for name in _NAME.findall(self._requirements.read_text("utf-8"))}
        return tuple(sorted(_modules(self.folder, names)))

    async def install(self) -> bool:
        """Creates the environment, if it does not exist. Returns whether it was created. HeadraceError, with uv's
        message, if uv is missing or cannot install the packages."""
        if self.installed:
            return False
        self.folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=self.folder.parent))
        try:
            await self._install(partial)
            await asyncio.to_thread(self._keep, partial)
        finally:
            await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
        self.__dict__.pop("modules", None)
        self.__dict__.pop("preloaded", None)
        return True

    def _keep(self, environment: Path) -> None:
        environment.chmod(0o755)
        try:
            environment.rename(self.folder)
        except OSError:
            if not self.installed:  # otherwise another process was faster
                raise

    async def _install(self, folder: Path) -> None:
        logger.info("installing the packages of %s for code nodes", self._requirements)
        uv_ = uv_command()
        if uv_ is None:
            raise HeadraceError(f"{SETTING} needs uv to install packages: `pip install uv`, or put it on the PATH.")
        command = [
            *uv_, "pip", "install", "--quiet", "--no-progress", "--target", str(folder), "--python", sys.executable,
            "--link-mode", "copy", "--compile-bytecode", "--requirements", str(self._requirements),
        ]  # fmt: skip
        uv = await asyncio.create_subprocess_exec(
            *command,
            cwd=self._requirements.parent,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_INSTALL_SECONDS):
                _, stderr = await uv.communicate()
        except TimeoutError:
            raise HeadraceError(f"{SETTING}: uv did not end within {_INSTALL_SECONDS} seconds.") from None
        finally:
            if uv.returncode is None:
                uv.kill()
                await uv.wait()
        if uv.returncode:
            why = stderr.decode("utf-8", "replace").strip()[-2000:]
            raise HeadraceError(f"{SETTING}: the packages of {self._requirements} cannot be installed: {why}")


def _key(requirements: Path) -> str:
    digest = hashlib.sha256(f"{sys.implementation.cache_tag} {platform.system()} {platform.machine()}\n".encode())
    waiting, files = [requirements], set[Path]()
    while waiting:
        file = waiting.pop()
        if file in files:
            continue
        files.add(file)
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise HeadraceError(f"{SETTING}: {file} cannot be read: {why}") from None
        digest.update(text.encode())
        waiting += [file.parent / name for name in _INCLUDED.findall(text) if "://" not in name]
    return f"{sys.implementation.cache_tag}-{digest.hexdigest()[:20]}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _modules(folder: Path, packages: set[str] | None) -> set[str]:
    """The modules of packages (by normalized names; None for all)."""
    modules: set[str] = set()
    if not folder.is_dir():
        return modules
    for distribution in metadata.distributions(path=[str(folder)]):
        if packages is not None and _normal(distribution.name) not in packages:
            continue
        for file in distribution.files or ():
            if file.suffix in (".py", ".so"):
                name = file.parts[0].partition(".")[0]
                if _MODULE.fullmatch(name) and name != "bin":
                    modules.add(name)
    return {name for name in modules if packages is None or not name.startswith("_")}
