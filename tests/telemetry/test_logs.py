"""What is logged, and what is not: no key and no secret, whoever logs it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from headrace.access.keys import new_key
from headrace.kernel.secrets import STARS
from headrace.telemetry.logs import LineFormatter, write_logs
from headrace.telemetry.scrubbing import Scrubber, secrets_in
from tests import logged
from tests.server.process import Serve
from tests.telemetry import flows
from tests.telemetry.peers import Peers
from tests.telemetry.test_traces import KEY, environ, run

Lines = Callable[[], list[dict[str, Any]]]


pytestmark = pytest.mark.logs_secrets


@pytest.fixture
def peers() -> Generator[Peers]:
    with Peers() as running:
        yield running


@pytest.fixture
def lines() -> Generator[Lines]:
    """What has been logged as JSON since, by all of this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("uvicorn", "python_multipart")}
    stream = io.StringIO()
    write_logs("DEBUG", "json", Scrubber(["hush-hush"]), stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def test_a_line_says_when_how_bad_who_and_what(lines: Lines):
    logging.getLogger("headrace.somebody").warning("it is %s", "so", extra={"worker": 3})
    (line,) = lines()
    assert list(line)[:4] == ["time", "level", "logger", "event"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("time"))
    assert line == {"level": "warning", "logger": "headrace.somebody", "event": "it is so", "worker": 3}


async def test_a_line_says_which_run_and_node(lines: Lines):
    run, logger = str(uuid4()), logging.getLogger("headrace")

    async def speak() -> None:
        logger.info("something")

    await asyncio.create_task(speak(), name=f"{run}/it[0]/call")
    logger.info("run %s is driven elsewhere now", run)
    node, named = lines()[-2:]
    assert (node["run"], node["node"]) == (run, "it[0]/call")
    assert named["run"] == run
    assert "node" not in named


def test_an_exception_is_one_line_and_shows_no_variables(lines: Lines):
    secret_of_mine = "hush-hush"
    try:
        raise ValueError(f"it was {secret_of_mine}")
    except ValueError:
        logging.getLogger("headrace").exception("went wrong")
    (line,) = lines()
    assert "ValueError: it was ****" in line["exception"]
    assert "hush-hush" not in str(line)


def test_a_terminal_gets_columns():
    record = logging.LogRecord("headrace", logging.INFO, "", 0, "%s", ("hush-hush, said she",), None)
    line = LineFormatter("console", Scrubber(["hush-hush"])).format(record)
    assert re.fullmatch(r"\S+Z \[info *\] \*{20}, said she +\[headrace\]", line), line


def test_entries_of_a_record_are_lines_of_their_own():
    entries = [("one\nhush-hush", {"run": "a", "error": "hush-hush"}), ("two", {"run": "b"})]
    record = logging.makeLogRecord({"name": "somebody", "levelno": logging.INFO, "entries": entries})
    formatters = [LineFormatter(form, Scrubber(["hush-hush"])) for form in ("json", "console")]
    as_json, console = (formatter.format(record).splitlines() for formatter in formatters)
    first, second = map(json.loads, as_json)
    assert (first["event"], first["run"], first["error"]) == (f"one\n{STARS}", "a", STARS)
    assert (second["event"], second["run"], "error" in second) == ("two", "b", False)
    assert console[0].endswith(f"one\\n{STARS}  [somebody]")
    assert console[1].endswith("two  [somebody]")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("value", "colored"), [(None, True), ("", True), ("1", False)])
def test_no_color(value: str | None, colored: bool, lines: Lines, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    if value is not None:
        monkeypatch.setenv("NO_COLOR", value)
    terminal = Terminal()
    write_logs("INFO", "console", Scrubber(), terminal)
    logging.getLogger("headrace.somebody").warning("it is yellow")
    assert ("\x1b[" in terminal.getvalue()) is colored


@pytest.mark.usefixtures("lines")
def test_forms_that_are_malformed_are_not_logged():
    stream = io.StringIO()
    write_logs("INFO", "json", Scrubber(), stream)
    with pytest.raises(MultipartParseError):
        MultipartParser(b"B").write(b"not a form")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("form", ["console", "json"])
def test_what_a_caller_sends_makes_no_line_of_its_own(form: str):
    record = logging.LogRecord("headrace", logging.INFO, "", 0, "GET %s", ("/a\n2026 [error] b\x1b[2J漢",), None)
    line = LineFormatter(form, Scrubber()).format(record)
    assert line.isprintable()
    assert "/a\\n2026 [error] b" in line
    assert "漢" in line


@pytest.mark.parametrize(
    "secret",
    [
        "app-0MsB4y90HWpG4M-8zYPOWBWaShsmB-cF",
        "ws-0MsB4y90HWpG4M-8zYPOWBWaShsmB-cF",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl",
        "known-to-the-scrubber",
        'has "quotes" and\nlines',
    ],
)
@pytest.mark.parametrize(
    "around", ["{}", "Authorization: Bearer {}", "GET /files?sign={}&x=1", "postgresql://ada:{}@host/db", "[{}]"]
)
def test_whatever_looks_like_a_secret_is_not_logged(secret: str, around: str, lines: Lines):
    write = logging.getLogger("headrace")
    scrubber = Scrubber(["known-to-the-scrubber", 'has "quotes" and\nlines'])
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter("json", scrubber))
    write.addHandler(handler)
    try:
        write.info(around.format(secret), extra={"deep": {"er": [around.format(secret)]}})
    finally:
        write.removeHandler(handler)
    assert secret not in str(json.loads(stream.getvalue()))


@pytest.mark.parametrize("kind", ["webhook", "plugin"])
def test_the_id_in_the_url_of_a_trigger_is_not_logged(kind: str):
    path = f"/triggers/{kind}/"
    scrubbed = Scrubber().text(f"POST https://h.example/base{path}Vn3kQm2xT9a?page=2 failed")
    assert scrubbed == f"POST https://h.example/base{path}***?page=2 failed"


def test_what_is_no_secret_stays():
    scrubber = Scrubber(["abc", ""])  # too short to be told from other words
    for text in ("app-support is served from /srv/app-support/dsl.yml", "token budget: 3", "abc", "run 12 of app-x"):
        assert scrubber.text(text) == text


def test_the_environments_secrets_are_known_by_their_names():
    environ = {
        "OPENAI_API_KEY": "sk-12345678",
        "HEADRACE_DATABASE_URL": "postgresql://ada:lovelace1@db/x",
        "MONKEY": "long enough",
        "DEBUG_TOKEN": "1",
        "PATH": "/usr/bin:/usr/local/bin",
    }
    assert secrets_in(environ) >= {"sk-12345678", "lovelace1"}
    assert not {"1", "/usr/bin:/usr/local/bin"} & secrets_in(environ)
    assert "a-shared-secret" in secrets_in({"HEADRACE_WEBHOOK_SECRET_1736400000000": "github:a-shared-secret"})


def test_a_server_at_debug_logs_no_key_and_no_secret(peers: Peers, tmp_path: Path):
    """The main flows of the API, good and bad, with all that is said on the way; and each line of it is JSON."""
    retry = {"retry_config": {"retry_enabled": True, "max_retries": 1, "retry_interval": 1}}
    token = "Authorization:Bearer {{#env.token#}}"
    files = [
        flows.write(
            tmp_path,
            "all",
            [
                flows.start("q"),
                flows.http("call", f"{peers.url}/flaky?token={{{{#env.token#}}}}", token, **retry),
                flows.llm("model", "{{#env.token#}} {{#start.q#}}"),
                flows.end("model", "text"),
            ],
        ),
    ]
    settings = environ(
        peers,
        HEADRACE_LOG_LEVEL="DEBUG",
        HEADRACE_LOG_FORMAT="json",
        HEADRACE_ACCESS_LOG="1",
        HEADRACE_METRICS="the-token-of-metrics",
        HEADRACE_DIFY_DATASET_KEY="dataset-0123456789",
    )
    wrong = "app-thisKeyWasRevokedLongAgo0123456789"
    with Serve(tmp_path, files, settings) as serve:
        key = serve.keys["all"]
        headers = {"Authorization": f"Bearer {key}", "X-Request-Id": "asked-by-ada"}
        peers.failures = 1
        assert run(serve, "all", headers, q="x")["status"] != "failed"
        assert run(serve, "all", headers, q="FAIL")["status"] == "failed"
        with httpx.Client(base_url=serve.url, headers=headers, verify=False) as client:
            body = {"inputs": {"q": "FAIL"}, "user": "ada", "response_mode": "streaming"}
            assert "workflow_finished" in client.post("/v1/workflows/run", json=body).text
            assert client.post("/v1/workflows/run", content=b"{").status_code == 415
            uploaded = client.post("/v1/files/upload", files={"file": ("a.txt", b"hello")}, data={"user": "ada"})
            assert uploaded.status_code == 201
            signed = httpx.URL(uploaded.json().get("source_url") or f"{serve.url}/files/x?sign=abcdefgh")
            client.get(str(signed))
            for path in ("/v1/info", "/v1/parameters", "/v1/workflows/logs", f"/v1/info?api_key={key}", "/metrics"):
                client.get(path)
            for bearer in (wrong, f"{key}x", "the-token-of-metrics"):
                refused = client.get("/v1/info", headers={"Authorization": f"Bearer {bearer}"})
                assert refused.status_code == 401
            app = serve.apps["all"]["app_id"]
            response = client.post(f"/api/v1/workflows/{app}/run", json={"inputs": {"q": "x"}, "user": "ada"})
            assert response.status_code == 202
    said = serve.said
    entries = [json.loads(line) for line in said]
    ready = next(line for line in entries if line["event"] == f"Headrace is ready at {serve.url}")
    assert [app["name"] for app in ready["apps"]] == ["all"]
    assert {"debug", "info"} <= {line["level"] for line in entries}
    assert any(
        line.get("request_id") == "asked-by-ada" and line["status"] == 200 for line in entries if "status" in line
    )
    for secret in (key, wrong, flows.SECRET, KEY, "the-token-of-metrics", "dataset-0123456789"):
        assert not [line for line in said if secret in line]


def test_the_suite_notices_a_key_wherever_one_is_logged(tmp_path: Path):
    """What `tests/conftest.py` does after every test, and what is done with the output of servers."""
    logger, key = logging.getLogger("somebody"), new_key("app-")
    logged.take_lines()
    logger.warning("it is %s", key)
    logger.warning("it is here", extra={"deep": {"er": [key]}})
    try:
        raise ValueError(key)
    except ValueError:
        logger.exception("went wrong")
    logger.warning("app-support, run 12")
    assert len(logged.revealing(logged.take_lines())) == 3
    assert logged.take_lines() == []
    file = flows.write(tmp_path, "plain", [flows.start(), flows.end()])
    secrets = logged.secrets_of({"OPENAI_API_KEY": KEY, "PATH": "/usr/bin:/bin"}, [file])
    lines = [f"asked with {KEY}", f"sent {flows.SECRET}", f"    key   {key}", "from /usr/bin:/bin"]
    assert logged.revealing(lines, secrets) == lines[:2]


def test_a_request_has_an_id(tmp_path: Path):
    with Serve(tmp_path, []) as serve, httpx.Client(base_url=serve.url, verify=False) as client:
        request_ids = [client.get("/healthz").headers["x-request-id"] for _ in range(2)]
        assert len({*request_ids}) == 2
        assert all(re.fullmatch(r"[0-9a-f-]{36}", request_id) for request_id in request_ids)
        for sent_id, is_used in (("abc-1/2", True), ("x" * 129, False), ("two words", False), ("", False)):
            for path in ("/healthz", "/no/such"):
                returned_ids = client.get(path, headers={"X-Request-Id": sent_id}).headers.get_list("x-request-id")
                assert len(returned_ids) == 1
                assert (returned_ids[0] == sent_id) is is_used
        headers = {"Origin": "http://a", "Access-Control-Request-Method": "GET", "X-Request-Id": "pre"}
        assert client.options("/v1/info", headers=headers).headers["x-request-id"] == "pre"
