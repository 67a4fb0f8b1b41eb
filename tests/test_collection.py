"""examples/collection: made anew it is the same, has every call, and every call answers as it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.flows import environ, headrace
from tests.server.process import Serve

ROOT = Path(__file__).parents[1]
COLLECTION = ROOT / "examples" / "collection"
SCRIPTS = sorted(path for path in (COLLECTION / "curl").glob("*.sh") if path.stem != "common")
HTTP_FILES = sorted((COLLECTION / "http").glob("*.http"))
POSTMAN = json.loads((COLLECTION / "headrace.postman_collection.json").read_text("utf-8"))
VARIABLE = re.compile(r"\{\{([^}]+)\}\}")


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server of the example apps, as environment variables."""
    files = [
        ROOT / "examples" / "product-detail" / "product-detail.yml",
        COLLECTION / "chat.yml",
        COLLECTION / "completion.yml",
    ]
    folder = tmp_path_factory.mktemp("served")
    with Serve(folder, files, environ(HEADRACE_DEMO_MODEL="1")) as server:
        allowed = [word for name in ("run", "read", "manage") for word in ("--permission", name)]
        created = headrace("keys", "create", "--workspace", "default", *allowed, "--data", folder / "data", cwd=folder)
        assert created.returncode == 0, created.stderr
        opens = headrace("keys", "create", "--knowledge", "--data", folder / "data", cwd=folder)
        assert opens.returncode == 0, opens.stderr
        yield {
            "HEADRACE_URL": server.url,
            "HEADRACE_API_KEY": server.keys["product-detail"],
            "HEADRACE_CHAT_API_KEY": server.keys["chat"],
            "HEADRACE_COMPLETION_API_KEY": server.keys["completion"],
            "HEADRACE_WORKSPACE_KEY": created.stdout.strip(),
            "HEADRACE_KNOWLEDGE_KEY": opens.stdout.strip(),
            "HEADRACE_CALLBACK_URL": "http://127.0.0.1:9/hook",
        }


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60) as client:
        yield client


def test_it_is_up_to_date() -> None:
    command = [sys.executable, str(COLLECTION / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_key_is_in_it() -> None:
    for path in COLLECTION.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert not re.search(rb"(app|ws|dataset)-[\w-]{16}|whsec_|sk-\w{8}", path.read_bytes()), path.name


# --------------------------------------------------------------------------------------------------------- completeness


def postman_requests() -> list[dict[str, Any]]:
    return [item for folder in POSTMAN["item"] for item in folder["item"]]


def requested() -> dict[str, set[tuple[str, str]]]:
    """(method, address) of every request, by form."""
    curl = "\n".join(path.read_text("utf-8") for path in SCRIPTS)
    http = "\n".join(path.read_text("utf-8") for path in HTTP_FILES)
    verbs = "GET|POST|PUT|DELETE|PATCH"
    return {
        "postman": {(request["request"]["method"], request["request"]["url"]["raw"]) for request in postman_requests()},
        "http": set(re.findall(rf"^({verbs}) (\S+)$", http, re.MULTILINE)),
        "curl": set(re.findall(r"--request (\w+) [\"'](\S+?)[\"'](?:$| )", curl, re.MULTILINE)),
    }


@pytest.mark.parametrize("form", ["postman", "http", "curl"])
def test_every_operation_is_there(form: str, variables: Mapping[str, str], client: httpx.Client) -> None:
    described = client.get(f"{variables['HEADRACE_URL']}/openapi.json").json()["paths"]
    calls = {(method, plain(address)) for method, address in requested()[form]}
    signed = {("GET", "/files/{file_id}/file-preview")}  # called by the URL that an upload was answered with
    for path, methods in described.items():
        for method in {item.upper() for item in methods}:
            wanted = re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)))
            there = any(verb == method and wanted.fullmatch(address) for verb, address in calls)
            assert there or (method, path) in signed, f"{method} {path}"


@pytest.mark.parametrize("form", ["postman", "http", "curl"])
def test_every_call_of_the_readme_is_there(form: str) -> None:
    paths = re.findall(r"curl (?:-N )?\"?http://127.0.0.1:8040(/[^\s\"?]*)", (ROOT / "README.md").read_text("utf-8"))
    assert len(paths) >= 6
    addresses = {plain(address) for _, address in requested()[form]}
    for path in paths:
        wanted = re.compile(re.sub(r"\\\$\w+", "[^/]+", re.escape(path)))
        assert any(wanted.fullmatch(address) for address in addresses), path


def plain(address: str) -> str:
    """An address without its server and its query, and each variable as one word."""
    address = re.sub(r"\$\{(?!HEADRACE_URL)\w+\}|\{\{(?!base_url)[^}]+\}\}", "x", address)
    return re.sub(r"^\$\{HEADRACE_URL\}|^\{\{base_url\}\}", "", address).partition("?")[0]


# --------------------------------------------------------------------------------------------------------------- curl


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_curl(script: Path, variables: Mapping[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", str(script)], cwd=tmp_path, env=environ(**variables), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    statuses = re.findall(r"^--- (\d+)$", done.stderr, re.MULTILINE)
    assert len(statuses) == len(re.findall(r"^(?:call|download) '", script.read_text("utf-8"), re.MULTILINE)) > 0
    assert script.stem == "health" or variables["HEADRACE_URL"] not in done.stderr


def test_curl_scripts_may_be_run_as_they_are() -> None:
    assert all(os.access(script, os.X_OK) for script in SCRIPTS)


def test_curl_ends_at_an_answer_that_is_not_documented(variables: Mapping[str, str], tmp_path: Path) -> None:
    wrong = environ(**{**variables, "HEADRACE_API_KEY": "app-wrong"})
    done = subprocess.run(["sh", str(COLLECTION / "curl" / "runs.sh")], env=wrong, capture_output=True, text=True)
    assert done.returncode == 1
    assert "expected 200" in done.stderr
    assert done.stderr.count("===") == 1
    none = {name: value for name, value in environ().items() if not name.startswith("HEADRACE")}
    done = subprocess.run(["sh", str(COLLECTION / "curl" / "runs.sh")], env=none, capture_output=True, text=True)
    assert done.returncode != 0
    assert "HEADRACE_API_KEY" in done.stderr


# --------------------------------------------------------------------------------------------------------- .http files


class HttpFile:
    """Sends the requests of an .http file one after another, as the editors that know such files do."""

    def __init__(self, path: Path, variables: Mapping[str, str], client: httpx.Client) -> None:
        self._folder = path.parent
        self._environment = variables
        self._client = client
        self._variables: dict[str, str] = {}
        self._answers: dict[str, httpx.Response] = {}
        head, *blocks = re.split(r"^### ", path.read_text("utf-8"), flags=re.MULTILINE)
        self.blocks = [block.rstrip("\n") for block in blocks]
        for name, value in re.findall(r"^@(\w+) = (.*)$", head, re.MULTILINE):
            self._variables[name] = self._filled(value)

    def send(self, block: str) -> tuple[httpx.Response, set[int]]:
        """(answer, the statuses that it may have)."""
        top, _, body = block.partition("\n\n")
        _, *lines = top.split("\n")
        notes = "\n".join(line for line in lines if line.startswith("#"))
        line, *headers = (line for line in lines if not line.startswith("#"))
        method, address = self._filled(line).split(" ", 1)
        sent = dict(self._filled(header).split(": ", 1) for header in headers)
        if sent.get("Content-Type", "").startswith("multipart/"):
            content = b"\r\n".join(self._line(line) for line in body.rstrip("\n").split("\n"))
        else:
            content = self._filled(body.rstrip("\n")).encode()
        answer = self._client.request(method, address, headers=sent, content=content)
        (name,) = re.findall(r"# @name (\w+)", notes)
        self._answers[name] = answer
        (statuses,) = re.findall(r"# Answers (.*)", notes)
        return answer, {int(word) for word in statuses.split(" or ")}

    def _line(self, line: str) -> bytes:
        if line.startswith("< "):
            return (self._folder / line[2:]).read_bytes()
        return self._filled(line).encode()

    def _filled(self, text: str) -> str:
        return VARIABLE.sub(lambda match: self._value(match[1]), text)

    def _value(self, name: str) -> str:
        if name == "$guid":
            return str(uuid.uuid4())
        if name.startswith("$processEnv "):
            return self._environment[name.partition(" ")[2]]
        if ".response.body.$." in name:
            request, _, path = name.partition(".response.body.$.")
            return at(self._answers[request].json(), path)
        return self._variables[name]


@pytest.mark.parametrize("path", HTTP_FILES, ids=lambda path: path.stem)
def test_http(path: Path, variables: Mapping[str, str], client: httpx.Client) -> None:
    file = HttpFile(path, variables, client)
    assert file.blocks
    for block in file.blocks:
        answer, statuses = file.send(block)
        assert answer.status_code in statuses, f"{block}\n{answer.text[:1000]}"


# ------------------------------------------------------------------------------------------------------------- Postman


def test_postman(variables: Mapping[str, str], client: httpx.Client) -> None:
    environment = json.loads((COLLECTION / "headrace.postman_environment.json").read_text("utf-8"))
    known = {entry["key"]: entry["value"] for entry in environment["values"]}
    assert not any(value for name, value in known.items() if name.endswith("key"))
    known = {name: variables["HEADRACE_URL" if name == "base_url" else f"HEADRACE_{name.upper()}"] for name in known}
    assert len(known) == len(variables)
    declared = {entry["key"] for entry in POSTMAN["variable"]}
    assert len(declared) == len(POSTMAN["variable"])
    for item in postman_requests():
        answer = sent(item["request"], known, client)
        script = "\n".join(item["event"][0]["script"]["exec"])
        (statuses,) = re.findall(r"oneOf\(\[([\d, ]+)\]\)", script)
        report = f"{item['name']}: {answer.status_code} {answer.text[:1000]}"
        assert answer.status_code in {int(word) for word in statuses.split(", ")}, report
        for name, path in re.findall(r'set\("(\w+)", pm\.response\.json\(\)\.?(.*)\);', script):
            assert name in declared
            known[name] = at(answer.json(), path)


def sent(request: Mapping[str, Any], known: Mapping[str, str], client: httpx.Client) -> httpx.Response:
    def filled(text: str) -> str:
        return VARIABLE.sub(lambda match: str(uuid.uuid4()) if match[1] == "$guid" else known[match[1]], text)

    url = request["url"]
    query = [item for item in url.get("query", ()) if not item.get("disabled")]
    address = "/".join([*url["host"], *url.get("path", ())])
    query_text = "&".join(f"{item['key']}={item['value']}" for item in query)
    assert url["raw"] == (f"{address}?{query_text}" if query_text else address)
    headers = {item["key"]: filled(item["value"]) for item in request["header"]}
    if request["auth"]["type"] == "bearer":
        headers["Authorization"] = f"Bearer {filled(request['auth']['bearer'][0]['value'])}"
    body = request.get("body", {"mode": "none"})
    if body["mode"] == "formdata":
        parts = {item["key"]: item for item in body["formdata"]}
        files = {
            name: (Path(part["src"]).name, (COLLECTION / part["src"]).read_bytes(), part["contentType"])
            for name, part in parts.items()
            if part["type"] == "file"
        }
        data = {name: part["value"] for name, part in parts.items() if part["type"] == "text"}
        return client.request(request["method"], filled(url["raw"]), headers=headers, data=data, files=files)
    content = filled(body["raw"]).encode() if body["mode"] == "raw" else None
    return client.request(request["method"], filled(url["raw"]), headers=headers, content=content)


def at(value: Any, path: str) -> str:
    """What is at a path such as `data[0].id`."""
    for part in re.findall(r"\w+", path):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return str(value)
