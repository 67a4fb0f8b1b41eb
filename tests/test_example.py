"""The example that a newcomer runs first: offline, with an image service, with a name that will not do."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import jinja2
import pytest
import yaml

from tests.background import child, serving
from tests.cli.flows import environ, headrace

FOLDER = Path(__file__).parents[1] / "examples" / "product-detail"
WORKFLOW = FOLDER / "product-detail.yml"
NAME = "宜蘭礁溪五日遊"


def node(name: str) -> dict[str, Any]:
    document = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    return next(item["data"] for item in document["workflow"]["graph"]["nodes"] if item["id"] == name)


def program(name: str) -> Any:
    """The `main` of a code node."""
    namespace: dict[str, Any] = {}
    exec(node(name)["code"], namespace)
    return namespace["main"]


def card(name: str, description: str) -> str:
    """The picture that is drawn where there is no image service."""
    return jinja2.Environment().from_string(node("card")["template"]).render(**program("layout")(name, description))


@contextmanager
def image_service(status: int, answer: Any) -> Iterator[tuple[str, list[Any]]]:
    """(its URL, the bodies it was sent)."""
    bodies: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}/images", bodies


def with_service(folder: Path, url: str) -> Path:
    """The workflow with its environment variable set."""
    document = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    (variable,) = document["workflow"]["environment_variables"]
    assert (variable["name"], variable["value"]) == ("IMAGE_API_URL", "")
    variable["value"] = url
    file = folder / "with-service.yml"
    file.write_text(yaml.safe_dump(document, allow_unicode=True), "utf-8")
    return file


def test_offline_it_describes_the_product_and_draws_a_card(tmp_path: Path):
    done = headrace("run", WORKFLOW, "-i", f"product_name={NAME}", "--demo-model", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    outputs = json.loads(done.stdout)
    assert sorted(outputs) == ["description", "image_url", "prompt_id"]
    assert NAME in outputs["description"]
    assert len(outputs["prompt_id"]) == 36
    kind, _, picture = outputs["image_url"].partition(",")
    assert kind == "data:image/svg+xml"
    texts = [item.text for item in ElementTree.fromstring(unquote(picture)).iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == NAME
    assert len(texts) > 1


def test_with_an_image_service_it_asks_that(tmp_path: Path):
    with image_service(200, {"data": [{"url": "https://images.example/1.png"}]}) as (url, bodies):
        file = with_service(tmp_path, url)
        allow = url.removeprefix("http://").partition("/")[0]
        arguments = ["-i", f'product_name=5 "quoted" {NAME}', "--demo-model", "--egress-allow", allow]
        done = headrace("run", file, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["image_url"] == "https://images.example/1.png"
    (body,) = bodies
    assert f'5 "quoted" {NAME}' in body["prompt"]


@pytest.mark.parametrize(
    ("answer", "url"),
    [
        ({"url": "https://a/1.png"}, "https://a/1.png"),
        ({"image_url": "https://a/2.png"}, "https://a/2.png"),
        ({"data": [{"b64_json": "aGk="}]}, "data:image/png;base64,aGk="),
    ],
)
def test_the_shapes_of_an_image_service_s_answer(answer: Any, url: str):
    assert program("read")(200, json.dumps(answer)) == {"image_url": url}


@pytest.mark.parametrize(
    ("status", "answer"), [(500, {"url": "x"}), (200, {"error": "no"}), (200, []), (200, {"data": []})]
)
def test_an_image_service_that_has_no_picture(status: int, answer: Any):
    with pytest.raises(ValueError, match="image service"):
        program("read")(status, json.dumps(answer))


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("宜蘭礁溪", 1, "product_name must have 5 to 30 characters; '宜蘭礁溪' has 4"),
        ("  a   b  ", 1, "product_name must have 5 to 30 characters; 'a b' has 3"),
        ("字" * 31, 2, "product_name in input form must be less than 30 characters"),
    ],
)
def test_a_name_that_will_not_do(tmp_path: Path, name: str, code: int, message: str):
    done = headrace("run", WORKFLOW, "-i", f"product_name={name}", "--demo-model", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "name", ["<script>&\"'</svg>", "字" * 30, "W" * 30, "an ordinary english name here", "x   \t y z"]
)
@pytest.mark.parametrize("description", ["", "a < b & c", "很長的介紹。" * 100, "one\n\ntwo"])
def test_a_card_can_be_drawn_of_any_text(name: str, description: str):
    svg = ElementTree.fromstring(card(name, description))
    texts = list(svg.iter("{http://www.w3.org/2000/svg}text"))
    assert "".join((text.text or "") for text in texts)
    assert all(0 < float(text.get("y", "0")) < 630 for text in texts)


def load_demo(monkeypatch: pytest.MonkeyPatch, data: Path, **keys: str) -> ModuleType:
    """demo.py as a module, in an environment with these keys."""
    clean = environ(HEADRACE_DATA=str(data), **keys)
    for name in os.environ.keys() - clean.keys():
        monkeypatch.delenv(name)
    for name, value in clean.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("demo", FOLDER / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_demo_runs_once(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, str(FOLDER / "demo.py")],
        cwd=tmp_path,
        env=environ(ONCE="1", HEADRACE_DATA=str(tmp_path / "data")),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    page, api = "Product Studio a page that uses the workflow: http://", "there is its API alone, at http://"
    assert page in done.stdout or api in done.stdout
    assert done.returncode == (1 if api in done.stdout and shutil.which("npm") else 0), done.stdout + done.stderr
    for line in (
        "No model key is set",
        "✓ 撰寫介紹",
        "description  ",
        "prompt_id  ",
        "image_url  ",
        "key  app-",
        "curl -N ",
    ):
        assert line in done.stdout
    assert "<svg" in (tmp_path / "data" / "picture.svg").read_text("utf-8")


def test_the_demo_serves_the_workflow_and_the_page_until_it_is_told_to_end(tmp_path: Path):
    with child(
        [sys.executable, FOLDER / "demo.py"],
        cwd=tmp_path,
        env=environ(HEADRACE_DATA=str(tmp_path / "data")),
        stdout=subprocess.PIPE,
    ) as demo:
        assert demo.stdout is not None
        output = ""
        for line in demo.stdout:
            output += line
            if "until Ctrl-C" in line:
                break
        addresses = re.findall(r"(?:Served at|the workflow:|API alone, at) (http://\S+)", output)
        try:
            assert len(addresses) == 2, output
            body = json.dumps({"product_name": NAME}).encode()
            request = urllib.request.Request(
                f"{addresses[1]}/api/Dify/CreateProductDetail", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert json.load(answer)["isSuccess"]
        finally:
            demo.terminate()
    assert demo.returncode == 143
    for address in addresses:
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(address, timeout=60)


AT = "Product Studio is at http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("line", "built", "npm", "complete", "message"),
    [
        (AT, True, True, True, "Product Studio a page that uses the workflow: http://127.0.0.1:1"),
        (AT, False, True, False, "is not built: that needs Node 20.19"),
        (AT, False, False, True, "is not built: that needs Node 20.19"),
        ("", True, True, False, "did not start: no such module"),
    ],
)
def test_a_page_that_is_not_there_is_told_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
    built: bool,
    npm: bool,
    complete: bool,
    message: str,
):
    demo = load_demo(monkeypatch, tmp_path)
    monkeypatch.setattr(demo.shutil, "which", lambda name: f"/bin/{name}" if npm else None)
    monkeypatch.setattr(demo, "STUDIO", tmp_path)
    (tmp_path / "studio.log").write_text("no such module", "utf-8")
    if built:
        (tmp_path / "web" / "dist").mkdir(parents=True)
        (tmp_path / "web" / "dist" / "index.html").touch()
    with subprocess.Popen(["echo", line], stdout=subprocess.PIPE, text=True) as process:
        assert demo.show_studio(process) is complete
    assert message in capsys.readouterr().out


@pytest.mark.parametrize("is_built", [True, False])
def test_a_console_that_is_built_is_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_built: bool
):
    demo = load_demo(monkeypatch, tmp_path)
    monkeypatch.setattr(demo, "CONSOLE", WORKFLOW if is_built else tmp_path / "index.html")
    demo.show_address("http://127.0.0.1:1", "app-k", NAME)
    assert ("console http://127.0.0.1:1/console#token=" in capsys.readouterr().out) is is_built


def test_a_model_key_in_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    openai = load_demo(monkeypatch, tmp_path, OPENAI_API_KEY="k")
    workflow, flags, message = openai.choose_model()
    assert (workflow, flags) == (WORKFLOW, [])
    assert "gpt-4o-mini of openai" in message


def test_the_key_of_another_provider_is_used_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    workflow, flags, message = load_demo(monkeypatch, tmp_path, DEEPSEEK_API_KEY="k").choose_model()
    assert flags == []
    assert "deepseek-chat of deepseek" in message
    (write,) = (
        item["data"]
        for item in yaml.safe_load(workflow.read_text("utf-8"))["workflow"]["graph"]["nodes"]
        if item["id"] == "write"
    )
    assert (write["model"]["provider"], write["model"]["name"]) == ("langgenius/deepseek/deepseek", "deepseek-chat")
