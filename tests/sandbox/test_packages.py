"""Packages that the operator lists: installed once, read-only, imported in confined processes."""

import asyncio
import importlib.util
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from headrace.adapters.sandbox import LocalSandbox, Packages
from headrace.errors import HeadraceError, NodeError
from tests.cli.conftest import Invoke, invoke  # noqa: F401
from tests.sandbox.wheels import wheel

pytestmark = pytest.mark.asyncio(loop_scope="module")


def uv() -> str | None:
    """uv's program: on the PATH, or where the Makefile puts it."""
    here = Path(__file__).parents[2] / "build" / "uv" / "bin"
    return shutil.which("uv", path=os.pathsep.join([os.environ.get("PATH", ""), str(here)]))


def write(folder: Path) -> Path:
    """A requirements file, and the wheels that it lists."""
    spec = importlib.util.find_spec("markupsafe._speedups")
    assert spec is not None
    assert spec.origin is not None
    compiled = Path(spec.origin)
    greetings = wheel(
        folder,
        "greetings",
        {
            "greetings/__init__.py": (
                "import os, subprocess\n"
                "from pathlib import Path\n"
                "DATA = Path(__file__).with_name('data.txt').read_text()\n"
                "HERE = os.path.dirname(__file__)\n"
                "KNOWN = [os.path.exists(os.path.join(HERE, name)) for name in ('data.txt', 'none.txt')]\n"
                "TRIED = []\n"
                "for attempt in (lambda: subprocess.run(['true']), lambda: open('/tmp/greetings', 'w'),\n"
                "                lambda: Path(__file__).write_text('')):\n"
                "    try:\n"
                "        attempt()\n"
                "    except OSError as error:\n"
                "        TRIED.append(type(error).__name__)\n"
                "def greet(name):\n"
                "    return f'Hello {name}'\n"
            ),
            "greetings/data.txt": "some data",
            "greetings/late.py": "LATE = True\n",
        },
    )
    fast = wheel(
        folder, "fast_escape", {f"fast_escape/{compiled.name}": compiled.read_bytes(), "fast_escape/__init__.py": ""}
    )
    requirements = folder / "requirements.txt"
    requirements.write_text(f"greetings @ {greetings.as_uri()}\n-r more.txt\n")
    (folder / "more.txt").write_text(f"# an extension module\nfast_escape @ {fast.as_uri()}\n")
    return requirements


@pytest.fixture(scope="module")
def requirements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = uv()
    if program is None:
        pytest.skip("NOT CHECKED: packages of code nodes, because there is no uv here")
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(program), os.environ["PATH"]])
    return write(tmp_path_factory.mktemp("wheels"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def packages(requirements: Path, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    created = Packages(requirements, tmp_path_factory.mktemp("environments"))
    assert not created.installed
    assert await created.install()
    return created


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def packed(packages: Packages) -> AsyncIterator[LocalSandbox]:
    sandbox = LocalSandbox(packages=packages)
    yield sandbox
    await sandbox.aclose()


async def test_they_are_installed_once_with_bytecode(packages: Packages, requirements: Path) -> None:
    assert packages.installed
    assert not await packages.install()
    assert list((packages.folder / "greetings").glob("__pycache__/*.pyc"))
    assert packages.modules == {"greetings", "fast_escape"}
    assert packages.preloaded == ("greetings",)
    assert [path for path in packages.folder.parent.iterdir() if path != packages.folder] == []
    others = [Packages(requirements, packages.folder.parent) for _ in range(2)]
    assert {other.folder for other in others} == {packages.folder}
    more = requirements.with_name("more.txt")
    text = more.read_text()
    more.write_text(text + "# changed\n")
    assert Packages(requirements, packages.folder.parent).folder != packages.folder
    more.write_text(text)


async def test_two_processes_that_install_at_once_both_have_them(requirements: Path, tmp_path: Path) -> None:
    first, second = (Packages(requirements, tmp_path) for _ in range(2))
    assert await asyncio.gather(first.install(), second.install()) == [True, True]
    assert os.listdir(tmp_path) == [first.folder.name]


IMPORTS = {
    "listed": ("import greetings", "greetings.greet('you')", "Hello you"),
    "its data": ("import greetings", "greetings.DATA", "some data"),
    "what it knows of its files": ("import greetings", "greetings.KNOWN", [True, False]),
    "late": ("def f():\n    from greetings.late import LATE\n    return LATE", "f()", True),
    "by its name only": ("import importlib", "importlib.import_module('greetings').greet('me')", "Hello me"),
    "an extension module": ("from fast_escape import _speedups", "len(dir(_speedups)) > 5", True),
    "together with the standard library": ("import greetings, wave, sqlite3", "wave.__name__", "wave"),
}  # fmt: skip


@pytest.mark.parametrize("name", IMPORTS)
async def test_programs_import_them(packed: LocalSandbox, name: str) -> None:
    imports, expression, value = IMPORTS[name]
    code = f"{imports}\ndef main():\n    return {{'r': {expression}}}\n"
    assert await packed.run("python3", code, {}, 10) == {"r": value}
    assert packed.missing("python3", code) is None


async def test_what_they_do_when_they_are_imported_comes_to_nothing(packed: LocalSandbox, packages: Packages) -> None:
    code = "import greetings\ndef main():\n    return {'r': greetings.TRIED}\n"
    for program in (code, code.replace("import greetings", "greetings = __import__('gree' + 'tings')")):
        assert await packed.run("python3", program, {}, 10) == {"r": ["PermissionError"] * 3}
    assert "greetings" not in os.listdir("/tmp")
    assert (packages.folder / "greetings" / "data.txt").read_text() == "some data"


async def test_programs_cannot_change_them(packed: LocalSandbox, packages: Packages) -> None:
    code = "import greetings\ndef main():\n    open(greetings.__file__, 'a').write('x')\n"
    with pytest.raises(NodeError, match="PermissionError"):
        await packed.run("python3", code, {}, 10)
    mapped = (
        "import mmap, greetings\n"
        "def main():\n"
        "    with open(greetings.__file__, 'rb') as file:\n"
        "        m = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
        "    return {'got': len(m)}\n"
    )
    with pytest.raises(NodeError, match="PermissionError"):
        await packed.run("python3", mapped, {}, 10)


async def test_lint_tells_those_that_are_listed_from_others(packages: Packages, packed: LocalSandbox) -> None:
    code = "import greetings, nothing_here\ndef main(): return {}"
    problem = packed.missing("python3", code)
    assert problem is not None
    assert problem.startswith("the code imports 'nothing_here', which")
    problem = LocalSandbox().missing("python3", code)
    assert problem is not None
    assert problem.startswith("the code imports 'greetings' and 'nothing_here', which")
    not_yet = Packages(packages._requirements, packages.folder.parent / "elsewhere")
    problem = LocalSandbox(packages=not_yet).missing("python3", code)
    assert problem is not None
    assert "`headrace packages`" in problem


async def test_nothing_is_installed_at_a_call(requirements: Path, tmp_path: Path) -> None:
    sandbox = LocalSandbox(packages=Packages(requirements, tmp_path))
    with pytest.raises(NodeError, match=r"not installed.*`headrace packages`"):
        await sandbox.run("python3", "def main():\n    return {}\n", {}, 10)
    assert os.listdir(tmp_path) == []
    await sandbox.aclose()


# -------------------------------------------------------------------------------------------------------------- errors


async def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeadraceError, match=r"HEADRACE_CODE_PACKAGES: .*nowhere\.txt cannot be read: No such file"):
        Packages(tmp_path / "nowhere.txt", tmp_path)
    file = tmp_path / "requirements.txt"
    file.write_text("-r inner.txt\n")
    with pytest.raises(HeadraceError, match=r"inner\.txt cannot be read"):
        Packages(file, tmp_path)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(HeadraceError, match="it is not UTF-8 text"):
        Packages(file, tmp_path)


async def test_without_uv_the_error_says_what_to_do(
    requirements: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(HeadraceError, match=r"needs uv.*pip install uv"):
        await Packages(requirements, tmp_path).install()
    assert os.listdir(tmp_path) == []


async def test_what_uv_says_is_reported(requirements: Path, tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("greetings @ file:///nowhere/greetings-1.0-py3-none-any.whl\n")
    with pytest.raises(HeadraceError, match=r"(?s)requirements\.txt cannot be installed: .*nowhere"):
        await Packages(file, tmp_path / "made").install()
    assert list((tmp_path / "made").iterdir()) == []


async def test_the_command_installs_them(
    requirements: Path,
    tmp_path: Path,
    invoke: Invoke,  # noqa: F811
) -> None:
    result = await asyncio.to_thread(invoke, "packages", "--data", tmp_path)
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: HEADRACE_CODE_PACKAGES is not set; it must be a requirements file.\n",
    )
    environ = {"HEADRACE_CODE_PACKAGES": str(requirements), "PATH": os.environ["PATH"]}
    for output in ("Installed.\n", "Already installed.\n"):
        result = await asyncio.to_thread(invoke, "packages", "--data", tmp_path, **environ)
        assert (result.exit_code, result.stderr) == (0, output)
        folder = Path(result.stdout.strip())
        assert (folder / "greetings" / "__init__.py").is_file()
        assert folder.is_relative_to(tmp_path)
