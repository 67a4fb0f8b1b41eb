from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "examples" / "product-studio"
sys.path.insert(0, str(FOLDER))  # run from its folder, as the example is

from tests.cli.flows import code, environ, field, flow  # noqa: E402
from tests.product_studio.studio import Studio  # noqa: E402
from tests.sdk_contract.fault_server import Faults  # noqa: E402
from tests.sdk_contract.serving import Running  # noqa: E402
from tests.serve.process import Serve  # noqa: E402

WEB = FOLDER / "web"
WORKFLOW = FOLDER.parent / "product-detail" / "product-detail.yml"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _missing() -> str | None:
    """What the tests of the page lack here."""
    if CHROMIUM is None:
        return "there is no Chromium"
    if shutil.which("npm") is None:
        return "there is no Node with npm"
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was skipped is said where nobody can miss it."""
    skipped = [each for each in terminalreporter.getreports("skipped") if "product_studio" in each.nodeid]
    if skipped:
        why = _missing() or "the page could not be built"
        terminalreporter.section("NOT TESTED", sep="!", red=True, bold=True)
        terminalreporter.line(f"Product Studio's page was not driven in a browser: {why} ({len(skipped)} tests).")


@pytest.fixture(scope="session")
def chromium() -> str:
    missing = _missing()
    if missing is not None:
        pytest.skip(missing)
    assert CHROMIUM is not None
    return CHROMIUM


def _installed() -> bool:
    """Whether all that the lock names is there; `make page` leaves out what only the tests need."""
    modules = WEB / "node_modules"
    done = modules / ".package-lock.json"
    there = modules.joinpath("axe-core").exists() and done.exists()
    return there and done.stat().st_mtime >= WEB.joinpath("package-lock.json").stat().st_mtime


@pytest.fixture(scope="session")
def built(chromium: str) -> Path:
    """The built page. What it is tested with is installed once, what it is built from is built when it changed."""
    npm = ["npm", "ci", "--loglevel=error"]
    for command in (npm, ["npm", "run", "check"], ["npm", "run", "build"]):
        if command is npm and _installed():
            continue
        done = subprocess.run(command, cwd=WEB, capture_output=True, text=True, timeout=300, check=False)
        if command is npm and done.returncode:
            pytest.skip(f"npm ci does not work here: {done.stderr.strip()[-200:]}")
        assert done.returncode == 0, done.stdout + done.stderr
    return WEB / "dist"


def _changed(folder: Path, name: str, **changes: object) -> Path:
    """The example's workflow as `name`, with its writer's settings changed."""
    document = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    nodes = {each["id"]: each["data"] for each in document["workflow"]["graph"]["nodes"]}
    nodes["write"]["model"]["completion_params"] |= {"max_tokens": changes["words"]}
    nodes["write"]["prompt_template"][-1]["text"] += str(changes.get("prompt", ""))
    if "check" in changes:
        nodes["check"]["code"] = changes["check"]
    file = folder / f"{name}.yml"
    file.write_text(yaml.safe_dump(document, allow_unicode=True), "utf-8")
    return file


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A real server. `quick` and `slow` are the example, `failing` fails in its second step, `other` answers something
    else, `unseen` has no picture."""
    folder = tmp_path_factory.mktemp("served")
    name = field("product_name")
    outputs = {each: ("code", each) for each in ("description", "prompt_id", "image_url")}
    unseen = (
        "def main():\n    return {'description': 'Words.', 'prompt_id': 'p', 'image_url': 'http://127.0.0.1:9/x.png'}"
    )
    says = code(unseen, **dict.fromkeys(outputs, "string"))
    files = [
        _changed(folder, "quick", words=12),
        # the demo model writes a word in 20 ms, and quotes what it is asked: longer than any test looks on
        _changed(folder, "slow", words=3000, prompt="很長的提示。" * 1000),
        _changed(folder, "failing", words=1, check="def main(product_name):\n    raise ValueError('secret detail')"),
        flow(folder / "other.yml", variables=[name]),
        flow(folder / "unseen.yml", says, variables=[name], outputs=outputs),
    ]
    with Serve(folder, files, environ(HEADRACE_DEMO_MODEL="true")) as server:
        yield server


@pytest.fixture(scope="session")
def faults(served: Serve) -> Iterator[tuple[str, Faults]]:
    """(address, script) of a server that does wrong as the script says, and else passes on to the real one."""
    script = Faults(served.url)
    with Running(script.app()) as running:
        yield running.url, script


@contextmanager
def started(served: Serve, faults: tuple[str, Faults], data: Path) -> Iterator[dict[str, Studio]]:
    """The back end before each workflow, by its name; `faulty` is before the server that does wrong."""
    told = {name: (served.url, served.keys[name]) for name in ("quick", "slow", "failing", "other", "unseen")}
    told["faulty"] = (faults[0], served.keys["quick"])
    running = {name: Studio(url, key, data / f"{name}.db") for name, (url, key) in told.items()}
    for studio in running.values():
        studio.start()
    yield running
    for studio in running.values():
        studio.stop()


@pytest.fixture(scope="session")
def studios(
    served: Serve, faults: tuple[str, Faults], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Studio]]:
    """For the API; whether there is a page depends on what was built here before."""
    with started(served, faults, tmp_path_factory.mktemp("studios")) as running:
        yield running
