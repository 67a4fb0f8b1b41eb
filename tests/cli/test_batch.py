"""`headrace batch`: JSON Lines in, JSON Lines out, and on from where it was cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import forking
from tests.api.chats import chatflow
from tests.background import child, running
from tests.cli.conftest import Invoke
from tests.cli.flows import HEADRACE, code, environ, field, flow, headrace, llm
from tests.native.counting import Counting, counting

HALVES = "def main(n):\n    return {'y': 100 // n}\n"


def lines(path: Path, *inputs: Any) -> Path:
    path.write_text("".join(json.dumps({"inputs": item}) + "\n" for item in inputs))
    return path


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    return flow(tmp_path / "echo.yml", variables=[field("q", required=True)])


def test_results_go_to_a_file_in_the_order_of_the_lines(tmp_path: Path):
    file = flow(
        tmp_path / "f.yml",
        code(HALVES, {"n": ("start", "n")}, y="number"),
        variables=[field("n", "number")],
        outputs={"y": ("code", "y")},
    )
    batch_input = lines(tmp_path / "in.jsonl", {"n": 1}, {"n": 0}, {"n": 4}, {"n": "many"})
    done = headrace("batch", file, batch_input, "-o", "out.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "4 lines: 2 succeeded, 2 failed.\n"
    results = read(tmp_path / "out.jsonl")
    assert [item["index"] for item in results] == [0, 1, 2, 3]
    assert [item["status"] for item in results] == ["succeeded", "failed", "succeeded", "failed"]
    assert [item["outputs"] for item in results[::2]] == [{"y": 100}, {"y": 25}]
    assert "ZeroDivisionError" in results[1]["error"]
    assert (results[3]["workflow_run_id"], results[3]["error"]) == (None, "n in input form must be a valid number")
    assert not (tmp_path / "out.jsonl.partial").exists()


def test_stdin_to_stdout(tmp_path: Path, echo: Path):
    lines = '{"inputs": {"q": "礁溪"}}\n{"inputs": {"q": "b"}}\n'
    done = headrace("batch", echo, "-", cwd=tmp_path, stdin=lines)
    assert (done.returncode, done.stderr) == (0, "2 lines: 2 succeeded, 0 failed.\n")
    assert [json.loads(line)["outputs"]["q"] for line in done.stdout.splitlines()] == ["礁溪", "b"]


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path, echo: Path, invoke: Invoke):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    assert invoke("batch", echo, lines(tmp_path / "in", {"q": "a"}), "-o", pipe).exit_code == 0
    assert json.loads(reader.communicate(timeout=60)[0])["outputs"] == {"q": "a"}
    assert pipe.is_fifo()


def test_the_demo_model_and_the_user(tmp_path: Path, invoke: Invoke):
    outputs = {"text": ("llm", "text"), "who": ("sys", "user_id")}
    file = flow(tmp_path / "ask.yml", llm(), variables=[field("query")], outputs=outputs)
    batch_input = lines(tmp_path / "in", {"query": "hi"})
    done = invoke("batch", file, batch_input, "-o", "out", "--demo-model", "--user", "ada", "--rpm", "600")
    assert done.exit_code == 0, done.stderr
    (result,) = read(tmp_path / "out")
    assert result["outputs"]["who"] == "ada"
    assert result["outputs"]["text"]
    assert result["total_tokens"] > 0


def test_what_is_done_is_not_done_again_unless_asked(tmp_path: Path, invoke: Invoke):
    with counting() as peer:
        file = peer.workflow(tmp_path / "flow.yml")
        batch_input = lines(tmp_path / "in", {"n": 1}, {"n": 2})
        egress = ("--egress-allow", peer.address)
        assert invoke("batch", file, batch_input, "-o", "out", *egress).exit_code == 0
        first = (tmp_path / "out").read_bytes()
        (tmp_path / "out").unlink()
        again = invoke("batch", file, batch_input, "-o", "out", *egress, "--concurrency", "1")
        assert again.exit_code == 0
        assert again.stderr.startswith("The batch is complete: 2 of 2 lines are done.")
        assert (tmp_path / "out").read_bytes() == first
        assert peer.hits == {"1": 1, "2": 1}
        assert invoke("batch", file, batch_input, "-o", "out", *egress, "--restart").exit_code == 0
        assert peer.hits == {"1": 2, "2": 2}
        for other in (("-o", "other"), ("-o", "out", "--user", "eve"), ("-o", "out", "--data", "elsewhere")):
            assert invoke("batch", file, batch_input, *other, *egress).exit_code == 0
        assert peer.hits == {"1": 5, "2": 5}
        batch_input.write_bytes(batch_input.read_bytes() + b"\n")
        assert invoke("batch", file, batch_input, "-o", "out", *egress).exit_code == 0
        assert peer.hits == {"1": 6, "2": 6}


def test_killed_in_the_middle_and_gone_on_with(tmp_path: Path):
    total, before = 300, 120
    batch_input = lines(tmp_path / "in.jsonl", *({"n": n} for n in range(total)))
    with counting(before) as peer:
        file = peer.workflow(tmp_path / "flow.yml")
        command = ("batch", str(file), str(batch_input), "-o", "out.jsonl", "--egress-allow", peer.address)
        with running(forking.start(command, cwd=tmp_path, env=environ())) as process:
            assert peer.call_waiting.wait(60)
            partial = tmp_path / "out.jsonl.partial"
            deadline = time.monotonic() + 60
            while partial.read_bytes().count(b"\n") < before - 10:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.kill()
        ended = [json.loads(line)["index"] for line in partial.read_bytes().split(b"\n")[:-1]]
        assert before - 10 <= len(ended) < total
        assert not (tmp_path / "out.jsonl").exists()
        peer.gate.set()
        done = headrace(*command, "--concurrency", "20", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("The batch continues: ")
    assert done.stderr.endswith("300 lines: 300 succeeded, 0 failed.\n")
    results = read(tmp_path / "out.jsonl")
    assert [item["index"] for item in results] == list(range(total))
    assert [item["outputs"] for item in results] == [{"n": str(n)} for n in range(total)]
    assert not partial.exists()
    assert all(peer.hits[str(index)] == 1 for index in ended), "a line that had ended is not run again"
    assert sum(peer.hits.values()) <= total + 10, "only what was under way is done again"


IN_THE_BACKGROUND = "import os, signal, sys; signal.signal(2, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.mark.parametrize(
    ("how", "before"),
    [
        (signal.SIGINT, ()),
        (signal.SIGTERM, ()),
        (signal.SIGINT, (sys.executable, "-c", IN_THE_BACKGROUND)),  # as a script's job that has SIGINT ignored
    ],
)
def test_interrupted_it_says_how_to_go_on_and_nobody_else_works_at_it(
    tmp_path: Path, how: signal.Signals, before: tuple[str, ...]
):
    batch_input = lines(tmp_path / "in.jsonl", *({"n": n} for n in range(5)))
    with counting(2) as peer:
        file = peer.workflow(tmp_path / "flow.yml")
        command = ("batch", file, batch_input, "-o", "out.jsonl", "--egress-allow", peer.address, "--concurrency", "1")
        with child([*before, *HEADRACE, *command], cwd=tmp_path, env=environ(), stderr=subprocess.PIPE) as process:
            assert peer.call_waiting.wait(60)
            second = headrace(*command, cwd=tmp_path)
            assert (second.returncode, second.stderr) == (2, "Error: another process is running this batch\n")
            process.send_signal(how)
            errors = process.communicate(timeout=60)[1]
        assert process.returncode == 130
        assert errors.endswith("of 5 results; the same command continues from there.\nInterrupted.\n")
        peer.gate.set()
        assert headrace(*command, cwd=tmp_path).returncode == 0
    assert [item["outputs"]["n"] for item in read(tmp_path / "out.jsonl")] == list("01234")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["gone.yml", "in"], "gone.yml: cannot be read: No such file or directory"),
        (["echo.yml", "empty"], "empty: has no lines."),
        (["echo.yml", "in", "-o", "./in"], "is the input file"),
        (["echo.yml", "in", "--concurrency", "0"], "concurrency"),
        (["echo.yml", "in", "--rpm", "x"], "rpm"),
    ],
)
def test_bad_usage(tmp_path: Path, invoke: Invoke, echo: Path, arguments: list[str], says: str):
    lines(tmp_path / "in", {"q": "a"})
    lines(tmp_path / "empty")
    done = invoke("batch", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr


def test_messages_to_a_chat(tmp_path: Path, invoke: Invoke):
    (tmp_path / "chat.yml").write_text(chatflow("{{#start.q#}}: {{#sys.query#}}", variables=[field("q")]))
    batch_input = [{"inputs": {"q": "a"}, "query": "hi"}, {"inputs": {"q": "b"}}]
    (tmp_path / "in").write_text("\n".join(json.dumps(item) for item in batch_input))
    done = invoke("batch", "chat.yml", "in", "-o", "out.jsonl")
    assert done.exit_code == 1, done.stderr
    first, second = read(tmp_path / "out.jsonl")
    assert (first["answer"], first["message_id"]) == ("a: hi", first["workflow_run_id"])
    assert second["error"] == "query: Field required"


@pytest.mark.parametrize("arguments", [["gone"], ["in", "-o", "no/such/folder"]])
def test_files_that_cannot_be_had(tmp_path: Path, invoke: Invoke, echo: Path, arguments: list[str]):
    lines(tmp_path / "in", {"q": "a"})
    done = invoke("batch", echo, *arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "No such file or directory" in done.stderr


def strict(path: Path, peer: Counting) -> Path:
    """The peer's workflow, which fails here if the answer is not a number."""
    call = yaml.safe_load(peer.workflow(path).read_text())["workflow"]["graph"]["nodes"][1]
    number = code("def main(text):\n    return {'y': int(text)}\n", {"text": ("call", "body")}, y="number")
    nodes = ({"id": "call", **call["data"]}, number)
    return flow(path, *nodes, variables=[field("n", "number")], outputs={"y": ("code", "y")})


def test_only_failed_lines_are_run_again(tmp_path: Path, invoke: Invoke):
    with counting() as peer:
        file = strict(tmp_path / "flow.yml", peer)
        batch_input = lines(tmp_path / "in", *({"n": n} for n in (1, 2, 3, 4, "many")))
        command = ("batch", file, batch_input, "-o", "out", "--egress-allow", peer.address)

        early = invoke(*command, "--retry-failed")
        assert (early.exit_code, "this batch was not run before" in early.stderr) == (2, True)
        assert invoke(*command, "--restart", "--retry-failed").exit_code == 2

        peer.failing = {"2", "4"}
        assert invoke(*command).exit_code == 1
        first = read(tmp_path / "out")
        peer.failing = {"4"}
        second = invoke(*command, "--retry-failed")
        assert second.stderr.splitlines() == ["2 lines that failed are run again.", "5 lines: 3 succeeded, 2 failed."]
        peer.failing = set()
        third = invoke(*command, "--retry-failed")
        assert third.stderr.splitlines() == ["1 line that failed is run again.", "5 lines: 4 succeeded, 1 failed."]
        assert third.exit_code == 1  # one line is invalid
        assert peer.hits == {"1": 1, "2": 2, "3": 1, "4": 3}
        last = read(tmp_path / "out")
        assert [result["index"] for result in last] == [0, 1, 2, 3, 4]
        assert [result["status"] for result in last] == [*["succeeded"] * 4, "failed"]
        assert [result["outputs"] for result in last[:4]] == [{"y": n} for n in (1, 2, 3, 4)]
        assert (last[0], last[2], last[4]) == (first[0], first[2], first[4])

        nothing = invoke(*command, "--retry-failed")
        assert "No line failed that can be run again." in nothing.stderr
        assert read(tmp_path / "out") == last
        assert invoke(*command).exit_code == 1
        assert read(tmp_path / "out") == last
        assert peer.hits.total() == 7


def test_a_retry_that_is_interrupted_continues(tmp_path: Path, invoke: Invoke):
    with counting() as peer:
        file = strict(tmp_path / "flow.yml", peer)
        batch_input = lines(tmp_path / "in", *({"n": n} for n in range(4)))
        command = ("batch", str(file), str(batch_input), "-o", "out", "--egress-allow", peer.address)
        peer.failing = {"1", "3"}
        assert invoke(*command).exit_code == 1
        peer.failing = set()
        peer.hold()
        with running(forking.start([*command, "--retry-failed"], cwd=tmp_path, env=environ())) as process:
            assert peer.call_waiting.wait(60)
            process.kill()
        peer.gate.set()
        done = invoke(*command)
        assert done.exit_code == 0, done.stderr
        assert done.stderr.startswith("The batch continues: ")
        assert [result["outputs"] for result in read(tmp_path / "out")] == [{"y": n} for n in range(4)]
        assert (peer.hits["0"], peer.hits["2"]) == (1, 1)
