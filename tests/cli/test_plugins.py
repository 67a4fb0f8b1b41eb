"""`headrace plugins`: packages, a marketplace, and what workflow files lack."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from cryptography.hazmat.primitives.asymmetric import rsa

from headrace.adapters.models.providers import FOREIGN
from headrace.adapters.plugins.package import Package
from headrace.adapters.plugins.package import unpack as unpack_package
from tests.cli.conftest import Invoke
from tests.cli.flows import flow
from tests.cli.test_tools import tool
from tests.plugins.building import PROVIDER, checksum, files, package
from tests.plugins.conftest import key, public_key  # noqa: F401
from tests.plugins.marketplace import described, marketplace

SUM = checksum(files())
ID = f"acme/weather:0.1.2@{SUM}"
OTHER = f"acme/weather:0.2.0@{'0' * 64}"
CITY = {"city": {"type": "mixed", "value": "Oslo"}}
OPENAI = f"langgenius/openai:0.3.0@{'1' * 64}"


@pytest.fixture
def plugins(invoke: Invoke, public_key: Path) -> Callable[..., Result]:  # noqa: F811
    def call(*arguments: str | Path, **environ: str) -> Result:
        python = {"HEADRACE_PLUGIN_PYTHON": sys.executable}
        return invoke("plugins", *arguments, HEADRACE_PLUGIN_KEYS=str(public_key), **python, **environ)

    return call


@pytest.fixture
def signed(tmp_path: Path, key: rsa.RSAPrivateKey) -> Path:  # noqa: F811
    return package(tmp_path / "weather.difypkg", files(), key)


@pytest.fixture
def shop(signed: Path) -> Iterator[str]:
    """A marketplace with one plugin, which also has a package under a name that is not its own."""
    body = signed.read_bytes()
    answers = {
        "/api/v1/plugins/acme/weather": described(ID),
        "/api/v1/plugins/acme/weather/0.1.2/download": (200, body),
        "/api/v1/plugins/acme/other/1.0.0/download": (200, body),
        "/api/v1/plugins/acme/other": described(None),
        "/api/v1/plugins/acme/broken": (200, b"<html>"),
        "/api/v1/plugins/acme/failing": (500, b""),
        "/weather.difypkg": (200, body),
    }
    with marketplace(answers) as url:
        yield url


def workflow(path: Path, *dependencies: str, nodes: tuple[Mapping[str, Any], ...] = ()) -> Path:
    """A file with these dependencies and nodes."""
    content = {
        "app": {"mode": "workflow", "name": "x"},
        "kind": "app",
        "version": "0.3.0",
        "dependencies": [
            {"type": "marketplace", "value": {"marketplace_plugin_unique_identifier": identifier}}
            for identifier in dependencies
        ],
        "workflow": {"graph": {"nodes": [{"id": node["id"], "data": node} for node in nodes], "edges": []}},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def today(provider: str = "acme/weather/weather", name: str = "today", **more: Any) -> Mapping[str, Any]:
    return tool("t", provider, name, **more)


def test_add_list_describe_and_remove(plugins: Callable[..., Result], signed: Path, tmp_path: Path):
    added = plugins("add", signed)
    assert added.exit_code == 0
    assert added.stdout.splitlines() == [
        f"Installed {ID}, by acme, signed by acme.pem.",
        "  It may use: model.llm, storage (4096 bytes).",
        "  It needs credentials: WEATHER_API_KEY.",
    ]
    listed = [line.split() for line in plugins("list").stdout.splitlines()]
    assert listed[0] == ["PLUGIN", "VERSION", "SIGNED", "BY", "PYTHON", "CHECKSUM"]
    assert listed[1][:3] == ["acme/weather", "0.1.2", "acme.pem"]
    assert listed[1][4] == SUM[:12]

    info = plugins("info", "acme/weather", WEATHER_UNITS="metric").stdout
    rows = [line.split(maxsplit=2) for line in info.splitlines() if line]
    assert ["tools:", "weather", "today"] in rows
    assert ["permissions", "model.llm,", "storage (4096 bytes)"] in rows
    assert ["WEATHER_API_KEY", "required", "Key         https://x.test"] in rows
    assert ["WEATHER_UNITS", "set"] in rows

    credentials = tmp_path / "credentials.yaml"
    credentials.write_text("acme/weather/weather: {first: {weather_api_key: k, units: '${UNSET}'}, second: {note: n}}")
    info = plugins("info", "acme/weather", HEADRACE_CREDENTIALS=str(credentials)).stdout
    states = [line.split()[:2] for line in info.splitlines() if line.startswith("WEATHER_")]
    assert states == [["WEATHER_API_KEY", "set"], ["WEATHER_UNITS"]]

    assert plugins("remove", "acme/weather").stdout == f"Removed {ID}.\n"
    assert plugins("list").stderr == "No plugins are installed.\n"
    gone = plugins("remove", "acme/weather")
    assert (gone.exit_code, gone.stderr) == (1, "Error: acme/weather is not installed\n")


def test_a_package_is_described_before_it_is_installed(plugins: Callable[..., Result], signed: Path):
    info = plugins("info", signed)
    assert info.exit_code == 0
    rows = dict(line.split(maxsplit=1) for line in info.stdout.splitlines()[:8] if line)
    assert (rows["plugin"], rows["installed"], rows["description"]) == (ID, "no", "The weather of today")
    assert plugins("list").stdout == ""


def test_what_is_neither_a_package_nor_a_plugin(plugins: Callable[..., Result], tmp_path: Path):
    (tmp_path / "x.difypkg").write_text("no")
    for name, message in (
        ("acme/none", "Error: acme/none is neither a package nor an installed plugin\n"),
        ("x.difypkg", "Error: x.difypkg is not a valid package: File is not a zip file\n"),
        (
            "y.difypkg",
            "Error: 'y.difypkg' is neither a file nor the name of a plugin (AUTHOR/NAME[:VERSION[@CHECKSUM]])\n",
        ),
    ):
        done = plugins("info", name)
        assert (done.exit_code, done.stderr) == (1, message)


def test_an_unsigned_package(plugins: Callable[..., Result], tmp_path: Path):
    file = package(tmp_path / "x.difypkg", files())
    refused = plugins("add", file)
    assert refused.exit_code == 1
    assert refused.stderr == f"Error: {ID} is not signed. To install it all the same, use --unsigned.\n"
    assert plugins("add", "--unsigned", file, file.with_name("y")).exit_code == 2
    added = plugins("add", "--unsigned", file)
    assert added.stdout.splitlines()[0] == f"Installed {ID}, by acme, not signed."


def test_a_package_cannot_forge_lines_of_its_description(plugins: Callable[..., Result], tmp_path: Path):
    forged = "x\nsigned by  Dify (langgenius)\r\x1b[2J"
    permission = {"model": {"enabled": True, forged: True}}
    content = files({"label": forged, "resource": {"permission": permission}})
    file = package(tmp_path / "x.difypkg", content)
    for done in plugins("info", file), plugins("add", "--unsigned", file), plugins("info", "acme/weather"):
        assert done.exit_code == 0
        assert "\\x0asigned by  Dify (langgenius)" in done.stdout
        assert not any(line.startswith("signed by  Dify") for line in done.stdout.splitlines())
        assert "\x1b" not in done.stdout


def test_errors_in_declarations_name_the_package(plugins: Callable[..., Result], tmp_path: Path):
    content = files(**{"tools/today.yaml": None})
    file = package(tmp_path / "x.difypkg", content)
    for done, name in (
        (plugins("info", file), file),
        (plugins("add", "--unsigned", file), f"acme/weather:0.1.2@{checksum(content)}"),
    ):
        assert done.exit_code == 1
        assert done.stderr.startswith(f"Error: {name}: ")
        assert "today.yaml cannot be read: No such file" in done.stderr


def test_several_of_which_one_fails(plugins: Callable[..., Result], signed: Path, tmp_path: Path):
    (tmp_path / "broken.difypkg").write_bytes(b"")
    done = plugins("add", "broken.difypkg", signed)
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: broken.difypkg is not a valid package")
    assert done.stdout.startswith(f"Installed {ID}")


@pytest.mark.parametrize("source", ["acme/weather", "acme/weather@0.1.2", ID, "URL/weather.difypkg"])
def test_from_a_marketplace(plugins: Callable[..., Result], shop: str, source: str):
    added = plugins("add", source.replace("URL", shop), HEADRACE_MARKETPLACE_URL=f"{shop}/")
    assert (added.exit_code, added.stdout.splitlines()[0]) == (0, f"Installed {ID}, by acme, signed by acme.pem.")
    assert plugins("add", ID, HEADRACE_MARKETPLACE_URL="http://127.0.0.1:1").exit_code == 0  # it is installed already


def test_a_download_has_no_name(
    plugins: Callable[..., Result], shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A process that is killed leaves nothing of it."""
    temporary, names = tmp_path / "tmp", list[list[Path]]()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def unpack(*arguments: Any) -> Package:
        names.append(list(temporary.iterdir()))
        return unpack_package(*arguments)

    monkeypatch.setattr("headrace.adapters.plugins.install.unpack", unpack)
    assert plugins("add", f"{shop}/weather.difypkg").exit_code == 0
    assert names == [[]]


def test_from_a_mirror_that_is_a_folder(plugins: Callable[..., Result], signed: Path, tmp_path: Path):
    file = tmp_path / "mirror" / "api" / "v1" / "plugins" / "acme" / "weather" / "0.1.2" / "download"
    file.parent.mkdir(parents=True)
    signed.rename(file)
    assert plugins("add", ID, HEADRACE_MARKETPLACE_URL=(tmp_path / "mirror").as_uri()).exit_code == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            f"acme/weather:0.1.2@{'0' * 64}",
            f"Error: URL/api/v1/plugins/acme/weather/0.1.2/download is {ID}, not acme/weather:0.1.2@{'0' * 64}",
        ),
        ("acme/other@1.0.0", f"Error: URL/api/v1/plugins/acme/other/1.0.0/download is {ID}, not acme/other:1.0.0"),
        ("URL/api/v1/plugins/acme/weather", "Error: URL/api/v1/plugins/acme/weather is not a valid package: "),
        ("acme/other", "URL/api/v1/plugins/acme/other does not name the newest version of acme/other"),
        ("acme/none", "URL/api/v1/plugins/acme/none answered with the status 404"),
        ("acme/broken", "URL/api/v1/plugins/acme/broken did not answer with JSON"),
        ("acme/failing", "URL/api/v1/plugins/acme/failing answered with the status 500"),
        ("http://127.0.0.1:1/x", "http://127.0.0.1:1/x cannot be downloaded: "),
        ("http://", "http:// cannot be downloaded: "),
    ],
)
def test_what_a_marketplace_does_not_have(plugins: Callable[..., Result], shop: str, source: str, message: str):
    done = plugins("add", source.replace("URL", shop), HEADRACE_MARKETPLACE_URL=shop)
    assert done.exit_code == 1
    assert message.replace("URL", shop) in done.stderr
    assert plugins("list").stdout == ""


def test_a_package_that_is_too_large(plugins: Callable[..., Result], shop: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("headrace.adapters.plugins.marketplace.MAX_PACKED", 1000)
    done = plugins("add", f"{shop}/weather.difypkg")
    assert (done.exit_code, done.stderr) == (1, f"Error: {shop}/weather.difypkg is too large\n")


def test_for_a_workflow(plugins: Callable[..., Result], shop: str, tmp_path: Path):
    model = {"id": "m", "type": "llm", "model": {"provider": "langgenius/openai/openai", "name": "gpt-4o"}}
    file = workflow(tmp_path / "flow.yml", ID, OPENAI, nodes=(today(plugin_unique_identifier=ID), model))
    before = plugins("check", file)
    assert before.exit_code == 1
    assert before.stdout.splitlines() == [
        f"{file}: {ID} is missing",
        f"{file}: {OPENAI} is not needed: Headrace calls its models itself",
    ]
    added = plugins("add", "--for", file, HEADRACE_MARKETPLACE_URL=shop)
    assert (added.exit_code, added.stdout.count("Installed")) == (0, 1)
    after = plugins("check", file)
    assert (after.exit_code, after.stdout.splitlines()[0]) == (0, f"{file}: {ID} is installed")
    again = plugins("add", "--for", file, HEADRACE_MARKETPLACE_URL="http://127.0.0.1:1")
    assert (again.exit_code, again.stderr) == (0, "Nothing is missing.\n")
    (python,) = tmp_path.glob(".headrace/plugins/acme/weather/*/environment/bin/python")
    python.unlink()
    assert plugins("check", file).stdout.splitlines()[0] == f"{file}: {ID} is missing"
    assert plugins("add", "--for", file, HEADRACE_MARKETPLACE_URL=shop).stdout.startswith(f"Installed {ID}")
    assert python.exists()


def test_another_version_than_the_one_in_the_file(plugins: Callable[..., Result], signed: Path, tmp_path: Path):
    plugins("add", signed)
    file = workflow(tmp_path / "flow.yml", OTHER, nodes=(today(),))
    fine, strict = plugins("check", file), plugins("check", "--strict", file)
    assert (fine.exit_code, fine.stdout) == (0, f"{file}: {OTHER} is replaced by {ID}\n")
    assert (strict.exit_code, strict.stdout) == (1, f"{file}: {OTHER} is missing: {ID} is another version\n")
    lacking = workflow(tmp_path / "flow.yml", OTHER, nodes=(today(name="tomorrow"),))
    done = plugins("check", lacking)
    assert (done.exit_code, done.stdout) == (1, f"{file}: {OTHER} is missing: {ID} is installed, but lacks tomorrow\n")


def test_files_that_name_no_dependencies(plugins: Callable[..., Result], tmp_path: Path):
    strategy = {"id": "a", "type": "agent", "agent_strategy_provider_name": "langgenius/agent/agent"}
    other = {"id": "b", "type": "agent", "agent_strategy_provider_name": "acme/brain/brain"}
    nodes = (
        today("tavily", "search"),
        today("time", "current_time"),
        today("langgenius/jina/x"),
        today("jina"),
        today("builtin"),
    )
    file = workflow(tmp_path / "flow.yml", nodes=(*nodes, strategy, other))
    assert sorted(plugins("check", file).stdout.splitlines()) == [
        f"{file}: acme/brain is missing",
        f"{file}: langgenius/agent is not needed: Headrace has its strategies itself",
        f"{file}: langgenius/jina is missing",
        f"{file}: langgenius/jina_tool is missing",
        f"{file}: langgenius/tavily is missing",
    ]
    model = {"id": "m", "type": "llm", "model": {"provider": "NAME", "name": "x"}}
    foreign = workflow(tmp_path / "foreign.yml", nodes=(model,))
    foreign.write_text(foreign.read_text().replace("NAME", next(iter(FOREIGN))))
    assert plugins("check", foreign).stdout.endswith(" is missing\n")
    model = {"id": "m", "type": "llm", "model": {"provider": "google", "name": "gemini-pro"}}
    gemini = workflow(tmp_path / "gemini.yml", nodes=(model,))
    assert plugins("check", gemini).stdout.startswith(f"{gemini}: langgenius/gemini is not needed")
    none = workflow(tmp_path / "none.yml", nodes=(today("time", "current_time"),))
    assert (plugins("check", none).exit_code, plugins("check", none).stdout) == (0, f"{none}: needs no plugins\n")


def test_files_that_cannot_be_read(plugins: Callable[..., Result], tmp_path: Path):
    (tmp_path / "flow.yml").write_text("a: [")
    for command in (("check", "flow.yml"), ("add", "--for", "flow.yml"), ("check", "none.yml")):
        assert plugins(*command).exit_code == 2
    odd = tmp_path / "odd.yml"
    odd.write_text("dependencies: [1, {value: x}, {value: {plugin_unique_identifier: [1]}}]\ntool_name: {}\n")
    assert plugins("check", odd).stdout == f"{odd}: needs no plugins\n"


def test_add_without_anything(plugins: Callable[..., Result]):
    done = plugins("add")
    assert (done.exit_code, done.stderr) == (2, "Error: name a package, a plugin, or a workflow file with --for\n")


def test_a_plugin_whose_declarations_are_broken(plugins: Callable[..., Result], tmp_path: Path):
    content = files(**{"provider/weather.yaml": {**PROVIDER, "tools": ["../../secret.yaml"]}})
    done = plugins("add", "--unsigned", package(tmp_path / "x.difypkg", content))
    assert done.exit_code == 1
    assert "'../../secret.yaml' is outside of the plugin's folder" in done.stderr
    assert plugins("list").stdout == ""


def test_lint_knows_the_tools_and_credentials_of_plugins(
    plugins: Callable[..., Result], invoke: Invoke, signed: Path, tmp_path: Path
):
    """From their declarations: the plugin of these tests cannot start."""
    file = flow(tmp_path / "flow.yml", today(plugin_unique_identifier=ID, tool_parameters=CITY))
    needed = f"{file}: node 'Node t': The plugin {ID} is needed: run `headrace plugins add {ID}`.\n"
    assert invoke("lint", file).stdout == needed
    plugins("add", signed)
    without_key = f"{file}: node 'Node t': The plugin's provider 'weather' needs credentials: set WEATHER_API_KEY.\n"
    assert invoke("lint", file).stdout == without_key
    assert invoke("lint", file, WEATHER_API_KEY="x").stdout == f"{file}: no problems\n"
    unknown = flow(tmp_path / "unknown.yml", today(name="tomorrow"))
    problem = f"The plugin {ID} has no tool 'tomorrow'; its tools are: today."
    assert invoke("lint", unknown).stdout == f"{unknown}: node 'Node t': {problem}\n"
    rows = [line.split() for line in invoke("tools", "list").stdout.splitlines()]
    assert ["acme/weather/weather/today", "plugin", "city*", "day", "days", "odd"] in rows
