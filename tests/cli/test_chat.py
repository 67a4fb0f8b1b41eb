"""`headrace chat`: a message a line, with a memory of those before."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests import forking
from tests.api.chats import chatflow
from tests.background import running
from tests.cli.conftest import Invoke
from tests.cli.flows import environ, field, flow

COUNTING = "{{#sys.dialogue_count#}} {{#sys.query#}} {{#start.tone#}}"
UPLOADS = {"file_upload": {"enabled": True, "allowed_file_types": ["document"], "number_limits": 1}}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    file = tmp_path / "chat.yml"
    file.write_text(chatflow(COUNTING, variables=[field("tone")], features={"opening_statement": "Hi {{tone}}"}))
    return file


def test_messages_of_a_conversation(app: Path, invoke: Invoke):
    done = invoke("chat", app, "-i", "tone=kind", input="one\n\n  二 \n/new\nthree\n")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "1 one kind\n2 二 kind\n1 three kind\n", "")


def test_bytes_that_are_not_text(app: Path, invoke: Invoke):
    done = invoke("chat", app, input=b"a\xff\n/file b\0\ntwo\n")
    assert (done.exit_code, done.stdout) == (1, "1 a\ufffd \n2 two \n")


def test_an_unknown_input(tmp_path: Path, invoke: Invoke):
    file = tmp_path / "chat.yml"
    file.write_text(chatflow())
    done = invoke("chat", file, "-i", "unknown=x", input="one\n")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "Error: the workflow has no input 'unknown': it has none\n"


def test_an_answer_that_fails_is_reported(tmp_path: Path, invoke: Invoke):
    file = Path(__file__).parents[2] / "examples" / "collection" / "chat.yml"
    done = invoke("chat", file, input="one\ntwo\n")
    assert (done.exit_code, done.stdout) == (1, "\n\n")
    assert done.stderr.count("OPENAI_API_KEY") == 2


def test_files(tmp_path: Path, app: Path, invoke: Invoke):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    refused = invoke("chat", app, input="/file notes.txt\none\n")
    assert (refused.exit_code, refused.stdout) == (1, "1 one \n")
    assert refused.stderr == "Error: /file: the app accepts no files\n"

    with_files = tmp_path / "files.yml"
    with_files.write_text(chatflow("{{#sys.query#}}", features=UPLOADS))
    lines = "/file notes.txt\nread\n/file gone.txt\n/file a\0b\n/file picture.png\nlook\nthen\n"
    done = invoke("chat", with_files, input=lines)
    assert (done.exit_code, done.stdout) == (1, "read\nthen\n")
    gone, null, rejected = done.stderr.splitlines()
    assert null == "Error: /file: a\\x00b cannot be read: embedded null byte"
    assert gone == "Error: /file: gone.txt cannot be read: No such file or directory"
    assert rejected.startswith("Error: ")


def test_a_workflow_is_run(tmp_path: Path, invoke: Invoke):
    file = flow(tmp_path / "f.yml", variables=[field("q")])
    done = invoke("chat", file, input="one\n")
    assert (done.exit_code, done.stderr) == (
        2,
        f"Error: {file}: is of mode 'workflow': run it with `headrace run {file}`\n",
    )


def test_a_chat_app_is_not_run(app: Path, invoke: Invoke):
    done = invoke("run", app)
    assert (done.exit_code, f"talk to it with `headrace chat {app}`" in done.stderr) == (2, True)


def test_ctrl_c_stops_an_answer_and_the_conversation_continues():
    file = Path(__file__).parents[2] / "examples" / "collection" / "chat.yml"
    command = ["chat", str(file), "--demo-model"]
    pipe = subprocess.PIPE
    with running(forking.start(command, env=environ(), stdin=pipe, stdout=pipe, stderr=pipe)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("word " * 200 + "\n")
        process.stdin.flush()
        assert process.stdout.read(5)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.readline() == "Stopped.\n"
        rest, errors = process.communicate("short\n", timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert rest.rstrip().endswith('The prompt was: "short"')
