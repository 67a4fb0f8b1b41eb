"""Installing plugins with uv, without a network: whole or not at all, once, and with the versions that are locked."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from headrace.adapters.plugins.identifiers import PluginId
from headrace.adapters.plugins.installed import InstalledPlugin, InstalledPlugins
from headrace.adapters.plugins.interpreter import Interpreter, find_interpreter
from headrace.errors import HeadraceError
from headrace.ports.services import ToolReference
from tests.background import child
from tests.plugins.building import checksum, files, package
from tests.plugins.conftest import NewInstaller
from tests.sandbox.wheels import wheel

PYPROJECT = b"""
[project]
name = "weather"
version = "0.1.2"
requires-python = ">=3.11"
dependencies = ["greetings>=1"]
"""
LOCK = """
version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "greetings"
version = "1.0"
source = { registry = "https://unreachable.test/simple" }
wheels = [{ url = "https://unreachable.test/greetings-1.0-py3-none-any.whl", hash = "sha256:HASH" }]

[[package]]
name = "weather"
version = "0.1.2"
source = { virtual = "." }
dependencies = [{ name = "greetings" }]

[package.metadata]
requires-dist = [{ name = "greetings", specifier = ">=1" }]
"""


def partial(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "plugins" / ".partial").iterdir())


def imports(plugin: InstalledPlugin, module: str) -> bool:
    return subprocess.run([plugin.python, "-c", f"import {module}"], capture_output=True, timeout=60).returncode == 0


def test_a_signed_package(tmp_path: Path, key: rsa.RSAPrivateKey, new_installer: NewInstaller):
    file, notes = package(tmp_path / "x.difypkg", files(), key), list[str]()
    plugin = new_installer(notes).add(file)
    assert plugin.id == PluginId("acme", "weather", "0.1.2", checksum(files()))
    assert (plugin.marker.signature, plugin.manifest.label) == ("acme.pem", "Weather")
    assert plugin.path == tmp_path / "plugins" / "acme" / "weather" / f"0.1.2-{checksum(files())[:12]}"
    assert imports(plugin, "json")
    assert list((plugin.folder / "__pycache__").iterdir())  # nothing is written when it runs
    assert partial(tmp_path) == []

    again = new_installer(notes).add(file)
    assert again.path == plugin.path
    assert notes[-1] == f"{plugin.id} is installed already."


def test_an_unsigned_package(tmp_path: Path, new_installer: NewInstaller):
    file = package(tmp_path / "x.difypkg", files())
    with pytest.raises(HeadraceError, match=r"is not signed\. To install it all the same, use --unsigned\."):
        new_installer().add(file)
    assert InstalledPlugins(tmp_path / "plugins").all() == []
    assert new_installer().add(file, unsigned=True).marker.signature == ""


def test_a_package_that_is_not_the_expected_one(tmp_path: Path, new_installer: NewInstaller):
    file = package(tmp_path / "x.difypkg", files())
    for expected in (
        PluginId("acme", "weather", "0.1.2", "0" * 64),
        PluginId("acme", "other"),
        PluginId("acme", "weather", "1.0.0"),
    ):
        with pytest.raises(HeadraceError, match=f"x.difypkg is acme/weather:0.1.2@.*, not {expected}"):
            new_installer().add(file, expected=expected, unsigned=True)
    assert new_installer().add(file, expected=PluginId("acme", "weather", "0.1.2"), unsigned=True).id.checksum


@pytest.fixture
def wheels(tmp_path: Path) -> dict[str, str]:
    """The settings of uv with which the package `greetings` comes from a folder, in two versions."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel(folder, "greetings", {"greetings.py": "LOCKED = True\n"})
    return {"UV_FIND_LINKS": str(folder), "UV_NO_INDEX": "1", "UV_CACHE_DIR": str(tmp_path / "cache")}


def locked(wheels: dict[str, str], digest: str = "") -> dict[str, bytes]:
    [file] = Path(wheels["UV_FIND_LINKS"]).iterdir()
    lock = LOCK.replace("HASH", digest or hashlib.sha256(file.read_bytes()).hexdigest())
    return files(**{"requirements.txt": None, "pyproject.toml": PYPROJECT, "uv.lock": lock.encode()})


@pytest.fixture
def new_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the Python of the tests for one that plugins are written for."""
    interpreter = Interpreter(sys.executable, (3, 12, 0))
    monkeypatch.setattr("headrace.adapters.plugins.install.find_interpreter", lambda *_: interpreter)


@pytest.mark.usefixtures("new_enough")
def test_the_lock_is_installed_from_the_configured_index(
    tmp_path: Path, new_installer: NewInstaller, wheels: dict[str, str]
):
    file = package(tmp_path / "x.difypkg", locked(wheels))
    plugin = new_installer(**wheels).add(file, unsigned=True)
    assert imports(plugin, "greetings")
    assert (plugin.marker.note, sorted(path.name for path in plugin.path.iterdir())) == (
        "",
        ["environment", "installed.json", "source"],
    )


@pytest.mark.usefixtures("new_enough")
def test_a_package_of_the_index_that_is_not_the_locked_one(
    tmp_path: Path, new_installer: NewInstaller, wheels: dict[str, str]
):
    file = package(tmp_path / "x.difypkg", locked(wheels, "0" * 64))
    with pytest.raises(HeadraceError, match=r"(?s)acme/weather:0\.1\.2@\w+: its packages cannot .*Hash mismatch"):
        new_installer(**wheels).add(file, unsigned=True)
    assert partial(tmp_path) == []
    assert not (tmp_path / "plugins" / "acme").exists()


def test_a_package_that_brings_its_wheels(tmp_path: Path, new_installer: NewInstaller, wheels: dict[str, str]):
    """They are installed from it, whatever else it locks."""
    [file] = Path(wheels["UV_FIND_LINKS"]).iterdir()
    content = {
        **locked(wheels, "0" * 64),
        "requirements.txt": b"--no-index --find-links=./wheels/\ngreetings==1.0\n",
        f"wheels/{file.name}": file.read_bytes(),
    }
    plugin = new_installer().add(package(tmp_path / "x.difypkg", content), unsigned=True)
    assert imports(plugin, "greetings")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python is not older than 3.12")
def test_an_older_python_takes_an_older_sdk_and_says_so(
    tmp_path: Path, new_installer: NewInstaller, wheels: dict[str, str]
):
    """What the package itself requires is not newer than in the lock, whatever the SDK requires of it."""
    notes: list[str] = []
    content = locked(wheels, "0" * 64)
    content["pyproject.toml"] = PYPROJECT.replace(b'["greetings>=1"]', b'["greetings>=1", "dify_plugin>=0.9"]')
    content["uv.lock"] = content["uv.lock"].replace(b'[{ name = "greetings" }]', b'[{ name = "greetings" }, SDK]')
    content["uv.lock"] = content["uv.lock"].replace(b"SDK", b'{ name = "dify-plugin" }')
    folder = Path(wheels["UV_FIND_LINKS"])
    wheel(folder, "greetings", {"greetings.py": ""}, "2.0")
    for version in ("0.6.9", "0.7.4", "0.8.0"):
        metadata = f"Metadata-Version: 2.1\nName: dify_plugin\nVersion: {version}\nRequires-Dist: greetings>=2\n"
        files_ = {f"sdk_{version.replace('.', '_')}.py": "", f"dify_plugin-{version}.dist-info/METADATA": metadata}
        wheel(folder, "dify_plugin", files_, version)
    plugin = new_installer(notes, **wheels).add(package(tmp_path / "x.difypkg", content), unsigned=True)
    assert imports(plugin, "sdk_0_7_4; from greetings import LOCKED")
    assert notes == [f"Note: {plugin.marker.note}"]
    assert "plugins are written for Python 3.12" in plugin.marker.note


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python is not older than 3.12")
@pytest.mark.parametrize("lock", ["[", "", "package = 1", "package = []", '[[package]]\nname = "x"\nsource = {}'])
def test_an_older_python_and_a_malformed_lock(tmp_path: Path, new_installer: NewInstaller, lock: str):
    content = files(**{"requirements.txt": None, "pyproject.toml": PYPROJECT, "uv.lock": lock.encode()})
    with pytest.raises(HeadraceError, match=r"its uv\.lock cannot be read: "):
        new_installer(UV_NO_INDEX="1").add(package(tmp_path / "x.difypkg", content), unsigned=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (files(**{"requirements.txt": b"not_there_at_all==1"}), "not-there-at-all was not found"),
        (files(**{"requirements.txt": b"]["}), "requirements.txt"),
        (files(**{"requirements.txt": None}), "has neither a pyproject.toml nor a requirements.txt"),
        (files({"meta": {"runner": {"language": "go"}}}), "is written in 'go', not in Python"),
    ],
)
def test_what_cannot_be_installed(tmp_path: Path, new_installer: NewInstaller, content: dict[str, bytes], message: str):
    installer = new_installer(UV_NO_INDEX="1")
    with pytest.raises(HeadraceError) as raised:
        installer.add(package(tmp_path / "x.difypkg", content), unsigned=True)
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) <= 10
    assert (partial(tmp_path), InstalledPlugins(tmp_path / "plugins").all()) == ([], [])


def test_two_at_once(tmp_path: Path, new_installer: NewInstaller):
    file, notes, installed = package(tmp_path / "x.difypkg", files()), list[str](), list[InstalledPlugin]()

    def add() -> None:
        installed.append(new_installer(notes).add(file, unsigned=True))

    threads = [threading.Thread(target=add, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(installed) == 3
    assert len({plugin.path for plugin in installed}) == 1
    assert sum(note.endswith("is installed already.") for note in notes) == 2
    assert partial(tmp_path) == []


def test_an_installation_that_is_killed(tmp_path: Path, new_installer: NewInstaller):
    """What it leaves is not used and goes with the next one, which waits until the uv of the killed one has ended."""
    file = package(tmp_path / "x.difypkg", files())
    fake, fifo = tmp_path / "bin" / "uv", tmp_path / "started"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\necho $$ > {fifo}\nexec sleep 600\n")
    fake.chmod(0o755)
    os.mkfifo(fifo)
    program = (
        "import os, sys; from pathlib import Path; from headrace.adapters.plugins.install import PluginInstaller\n"
        "from headrace.adapters.plugins.installed import InstalledPlugins\n"
        "plugins = InstalledPlugins(Path(sys.argv[1]))\n"
        "PluginInstaller(plugins, [], sys.executable, os.environ, print).add(Path(sys.argv[2]), unsigned=True)\n"
    )
    environ = {**os.environ, "PATH": f"{fake.parent}{os.pathsep}{os.environ['PATH']}"}
    with child([sys.executable, "-c", program, tmp_path / "plugins", file], env=environ) as process:
        uv = int(fifo.read_text())
        process.send_signal(signal.SIGKILL)
    assert len(partial(tmp_path)) == 1
    assert InstalledPlugins(tmp_path / "plugins").all() == []

    class Notes(list[str]):
        def append(self, note: str) -> None:
            super().append(note)
            if note.startswith("Waiting"):
                os.kill(uv, signal.SIGKILL)

    notes = Notes()
    plugin = new_installer(notes).add(file, unsigned=True)
    assert notes[0] == "Waiting for another installation to end."
    assert (partial(tmp_path), imports(plugin, "json")) == ([], True)


def test_an_environment_whose_python_is_gone_is_made_again(tmp_path: Path, new_installer: NewInstaller):
    file = package(tmp_path / "x.difypkg", files())
    plugin = new_installer().add(file, unsigned=True)
    plugin.python.unlink()
    assert new_installer().add(file, unsigned=True).python.exists()
    assert partial(tmp_path) == []


def test_versions_and_what_references_mean(tmp_path: Path, new_installer: NewInstaller):
    installer = new_installer()
    old = installer.add(package(tmp_path / "1.difypkg", files()), unsigned=True)
    new = installer.add(package(tmp_path / "2.difypkg", files({"version": "0.1.10"})), unsigned=True)
    plugins = InstalledPlugins(tmp_path / "plugins")
    assert [plugin.id for plugin in plugins.all()] == [new.id, old.id]

    def find(provider: str, identifier: str = "") -> PluginId | None:
        path = plugins.provider_of(ToolReference("builtin", provider, provider, "today", identifier))
        return path and path.plugin.id

    assert find("acme/weather/weather") == new.id
    assert find("Acme/Weather/weather", str(old.id)) == old.id
    assert find("acme/weather/weather", f"acme/weather:0.1.2@{'0' * 64}") == old.id
    assert find("acme/weather/weather", f"acme/weather:0.1.1@{'0' * 64}") == new.id
    assert find("acme/weather/weather", "garbage") == new.id
    assert [find(name) for name in ("weather", "*/*/weather", "../acme/weather", "acme/weather/other", "")] == [
        None
    ] * 5

    installer.remove(new)
    assert [plugin.id for plugin in plugins.all()] == [old.id]
    installer.remove(old)
    assert plugins.all() == []
    assert not (tmp_path / "plugins" / "acme").exists()


def fake_python(path: Path, answer: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{answer}\n")
    path.chmod(0o755)
    return str(path)


def test_the_order_of_interpreters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("headrace.adapters.plugins.interpreter.uv_command", lambda: None)
    environ = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}
    assert find_interpreter("", environ).path == sys.executable
    own = fake_python(tmp_path / ".pyenv" / "versions" / "3.12.9" / "bin" / "python", "echo cpython 3 12 9")
    assert find_interpreter("", environ) == Interpreter(own, (3, 12, 9))
    fake_python(tmp_path / "bin" / "python3.12", "echo pyenv: not here; exit 127")
    newer = fake_python(tmp_path / "bin" / "python3.13", "echo cpython 3 13 0")
    assert find_interpreter("", environ).path == newer
    known = fake_python(tmp_path / "uv", f"echo {fake_python(tmp_path / 'managed', 'echo cpython 3 12 1')}")
    monkeypatch.setattr("headrace.adapters.plugins.interpreter.uv_command", lambda: [known])
    assert find_interpreter("", environ).path == newer
    Path(newer).unlink()
    assert find_interpreter("", environ).path == str(tmp_path / "managed")
    assert find_interpreter(own, environ).path == own
    with pytest.raises(HeadraceError, match="HEADRACE_PLUGIN_PYTHON: python9 is not a Python that works"):
        find_interpreter("python9", environ)
