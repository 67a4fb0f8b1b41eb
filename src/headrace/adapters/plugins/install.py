"""Installs plugins: unpacks a package, and creates the environment that its lock describes.

Both happen in a folder of their own, `.partial`, which gets its name at the end: an interrupted installation leaves
nothing half done, and the next one removes what is left of it. One installation runs at a time, also of other
processes; the lock passes to uv, so that it is held until uv has ended too.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from headrace.adapters.plugins.declarations import Declarations
from headrace.adapters.plugins.identifiers import PluginId
from headrace.adapters.plugins.installed import ENVIRONMENT, SOURCE, InstalledPlugin, InstalledPlugins, Marker
from headrace.adapters.plugins.interpreter import Interpreter, find_interpreter
from headrace.adapters.plugins.package import unpack
from headrace.adapters.plugins.signature import verify
from headrace.adapters.uv import uv_command
from headrace.errors import HeadraceError

_LOCK, _PARTIAL = ".lock", ".partial"
_SECONDS = 1800
_MOST_LINES, _LONGEST_LINE = 8, 500  # of uv's message
_OLD_SDK = "dify-plugin>=0.7,<0.8"  # later ones need Python 3.12
_PASSED = re.compile(
    r"PATH|HOME|TMPDIR|LANG|XDG_CACHE_HOME|SSL_CERT_(FILE|DIR)|(HTTPS?|ALL|NO)_PROXY"
    r"|UV_((DEFAULT_|EXTRA_)?INDEX.*|NO_INDEX|FIND_LINKS|OFFLINE|CACHE_DIR|CONFIG_FILE|NATIVE_TLS|SYSTEM_CERTS"
    r"|INSECURE_HOST|KEYRING_PROVIDER|HTTP_.*|CONCURRENT_.*|LINK_MODE|NO_BUILD|EXCLUDE_NEWER)",
    re.IGNORECASE,
)


class PluginInstaller:
    """Installs into the folder of `plugins`. `keys` are PEM files of further public keys, `python` the configured
    interpreter, and `notify` takes what people are to know."""

    def __init__(
        self,
        plugins: InstalledPlugins,
        keys: Sequence[Path],
        python: str,
        environ: Mapping[str, str],
        notify: Callable[[str], None],
    ) -> None:
        self._plugins = plugins
        self._folder = plugins.folder.absolute()
        self.keys = keys
        self._python = python
        self._environ = environ
        self._notify = notify

    def add(
        self, source: Path | IO[bytes], *, name: str = "", expected: PluginId | None = None, unsigned: bool = False
    ) -> InstalledPlugin:
        """Installs a package, at a path or in an open file, if it is not installed yet. `name` is what errors call it.
        HeadraceError if it is not valid, not `expected`, or not signed and `unsigned` is not given, or if uv fails."""
        name = name or str(source)
        with self._exclusively() as lock, self._partial() as partial:
            (partial / SOURCE).mkdir()
            package = unpack(source, partial / SOURCE, name)
            if expected is not None and not _fits(package.id, expected):
                raise HeadraceError(f"{name} is {package.id}, not {expected}")
            signature = verify(package, partial / SOURCE, self.keys)
            if signature.problem and not unsigned:
                raise HeadraceError(f"{package.id} {signature.problem}. To install it all the same, use --unsigned.")
            existing = self._plugins.find(package.id)
            if existing is not None and existing.python.exists():
                self._notify(f"{package.id} is installed already.")
                return existing
            if package.manifest.language != "python":
                raise HeadraceError(f"{package.id} is written in {package.manifest.language[:100]!r}, not in Python")
            try:
                Declarations(partial / SOURCE, package.manifest).read()
            except HeadraceError as error:
                raise HeadraceError(f"{package.id}: {error}") from error
            interpreter = find_interpreter(self._python, self._environ)
            note = "" if interpreter.runs_locks else _below(interpreter)
            if note:
                self._notify(f"Note: {note}")
            try:
                self._create_environment(partial, interpreter, lock)
            except HeadraceError as error:
                raise HeadraceError(f"{package.id}: {error}") from error
            version = ".".join(map(str, interpreter.version))
            Marker(str(package.id), signature.signer, version, note).write(partial)
            target = self._folder / package.id.author / package.id.name / _directory(package.id)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._discard(target)
            partial.chmod(0o755)
            partial.rename(target)
            return InstalledPlugin(target)

    def remove(self, plugin: InstalledPlugin) -> None:
        """Removes a plugin. A process that runs it keeps what it has loaded."""
        with self._exclusively():
            self._discard(plugin.path)
            for folder in (plugin.path.parent, plugin.path.parent.parent):
                if not any(folder.iterdir()):
                    folder.rmdir()

    @contextmanager
    def _exclusively(self) -> Generator[int]:
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._notify("Waiting for another installation to end.")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            shutil.rmtree(self._folder / _PARTIAL, ignore_errors=True)
            (self._folder / _PARTIAL).mkdir(mode=0o700, exist_ok=True)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _partial(self) -> Generator[Path]:
        partial = Path(tempfile.mkdtemp(dir=self._folder / _PARTIAL))
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _discard(self, path: Path) -> None:
        """Removes a folder; it has another name first, so that none is ever half there."""
        if path.exists():
            waste = Path(tempfile.mkdtemp(dir=self._folder / _PARTIAL))
            path.rename(waste / path.name)
            shutil.rmtree(waste, ignore_errors=True)

    def _create_environment(self, folder: Path, interpreter: Interpreter, lock: int) -> None:
        uv = uv_command()
        if uv is None:
            raise HeadraceError('Plugins are installed by uv: pip install "headrace[plugins]", or put uv on the PATH.')
        source, environment = folder / SOURCE, folder / ENVIRONMENT
        environ = {name: value for name, value in self._environ.items() if _PASSED.fullmatch(name)}
        environ |= {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "UV_COLOR": "never"}

        def run(*command: str | Path, cwd: Path = folder, check: bool = True) -> None:
            try:
                done = subprocess.run(
                    command,
                    cwd=cwd,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    timeout=_SECONDS,
                    pass_fds=(lock,),
                )
            except subprocess.TimeoutExpired:
                raise HeadraceError(f"{command[0]} did not end within {_SECONDS} seconds") from None
            if done.returncode and check:
                raise HeadraceError(f"its packages cannot be installed:\n{_short(done.stderr)}")

        run(*uv, "venv", "--quiet", "--no-project", "--relocatable", "--python", interpreter.path, environment)
        python = environment / "bin" / "python"
        names = ("pyproject.toml", "requirements.txt")
        offline = _brings_its_packages(source / names[1])
        requirements = [source / name for name in (names[1:] if offline else names) if (source / name).is_file()]
        if not requirements:
            raise HeadraceError("the package has neither a pyproject.toml nor a requirements.txt")
        install = [*uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, "--requirements"]
        if offline:
            run(*install, requirements[0], cwd=source)
        elif not interpreter.runs_locks:
            overrides = folder / "overrides.txt"
            overrides.write_text(_overrides(source / "uv.lock"), "utf-8")
            run(*install, requirements[0], "--overrides", overrides, cwd=source)
            overrides.unlink()
        elif (source / "uv.lock").is_file():
            # not `uv sync`, which downloads from the addresses in the lock: this uses the configured index
            lock_file = folder / "locked.txt"
            export = [*uv, "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--no-header"]
            run(*export, "--python", interpreter.path, "--output-file", lock_file, cwd=source)
            run(*install, lock_file)
            lock_file.unlink()
        else:
            run(*install, requirements[0], cwd=source)
        run(python, "-m", "compileall", "-q", source, check=False)  # it may have files that are not for this Python


def _brings_its_packages(requirements: Path) -> bool:
    """Whether a package was made for networks without an index, with the wheels that its requirements need."""
    return requirements.is_file() and b"--no-index" in requirements.read_bytes()


def _overrides(lock: Path) -> str:
    """For a Python that is too old for the lock: an SDK for it, and the direct dependencies of the package in their
    locked versions, or the next older ones that fit."""
    lines = [_OLD_SDK]
    if lock.is_file():
        try:
            packages = tomllib.loads(lock.read_text("utf-8"))["package"]
            versions = {package["name"]: package["version"] for package in packages if "version" in package}
            own = next(package for package in packages if package["source"].get("virtual") == ".")
            names = [dependency["name"] for dependency in own["dependencies"] if dependency["name"] != "dify-plugin"]
            lines += [f"{name}<={versions[name]}" for name in names]
        except (ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
            raise HeadraceError(f"its {lock.name} cannot be read: {error}") from error
    return "\n".join([*lines, ""])


def _directory(plugin: PluginId) -> str:
    return f"{plugin.version}-{plugin.checksum[:12]}"


def _fits(package: PluginId, expected: PluginId) -> bool:
    """Whether a package is the expected one, as far as that is known."""
    pairs = ((package.version, expected.version), (package.checksum, expected.checksum))
    return package.plugin == expected.plugin and all(not other or other == own for own, other in pairs)


def _below(interpreter: Interpreter) -> str:
    return (
        f"plugins are written for Python 3.12. With {interpreter} few of the versions that an author locked are used, "
        "the SDK is an older one, and a few plugins do not start. `uv python install 3.12` installs a newer Python."
    )


def _short(stderr: bytes) -> str:
    """The beginning and the end of uv's message."""
    lines = [line.rstrip()[:_LONGEST_LINE] for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES // 2], "...", *lines[-_MOST_LINES // 2 :]]
    return "\n".join(lines) or "uv said nothing"
