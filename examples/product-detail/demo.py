"""Serves the workflow beside this file with a real `headrace serve`, and calls it once as any client would. Beside it
runs Product Studio, a web application that uses the workflow.

    python examples/product-detail/demo.py [PRODUCT NAME]

Both stay up until Ctrl-C. Environment: ONCE=1 ends after the call, with an error if the page failed, PORT and
STUDIO_PORT (default: free ones), MODEL (another model of the same provider), HEADRACE_DATA (default: .headrace/demo).
With a model key (OPENAI_API_KEY, DEEPSEEK_API_KEY ...) that model writes the text, else the demo model that is built
in.

Standard library only: this is also what a client of the API looks like.
"""

from __future__ import annotations

import io
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DATA = pathlib.Path(os.environ.get("HEADRACE_DATA") or ROOT / ".headrace" / "demo").absolute()
WORKFLOW = HERE / "product-detail.yml"
STUDIO = HERE.parent / "product-studio"
CONSOLE = ROOT / "src" / "headrace" / "api" / "console" / "static" / "index.html"  # where it is built
READY_SECONDS = 60.0
RUN_SECONDS = 300.0

# the environment variable of a provider's key, how a workflow names the provider, and a small model of it
MODELS = (
    ("OPENAI_API_KEY", "langgenius/openai/openai", "gpt-4o-mini"),
    ("ANTHROPIC_API_KEY", "langgenius/anthropic/anthropic", "claude-haiku-4-5"),
    ("GEMINI_API_KEY", "langgenius/gemini/google", "gemini-2.5-flash"),
    ("GOOGLE_API_KEY", "langgenius/gemini/google", "gemini-2.5-flash"),
    ("DEEPSEEK_API_KEY", "langgenius/deepseek/deepseek", "deepseek-chat"),
    ("DASHSCOPE_API_KEY", "langgenius/tongyi/tongyi", "qwen-plus"),
    ("TONGYI_API_KEY", "langgenius/tongyi/tongyi", "qwen-plus"),
    ("MOONSHOT_API_KEY", "langgenius/moonshot/moonshot", "moonshot-v1-8k"),
    ("ZHIPUAI_API_KEY", "langgenius/zhipuai/zhipuai", "glm-4-flash"),
    ("SILICONFLOW_API_KEY", "langgenius/siliconflow/siliconflow", "Qwen/Qwen2.5-7B-Instruct"),
    ("OPENROUTER_API_KEY", "langgenius/openrouter/openrouter", "openai/gpt-4o-mini"),
    ("GROQ_API_KEY", "langgenius/groq/groq", "llama-3.3-70b-versatile"),
    ("MISTRAL_API_KEY", "langgenius/mistralai/mistralai", "mistral-small-latest"),
    ("XAI_API_KEY", "langgenius/x/x", "grok-3-mini"),
)
COLOUR = (sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))) and not os.environ.get("NO_COLOR")


class DemoFailed(Exception):
    """What went wrong, for whoever watches."""


def main() -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that does not know Chinese is no reason to fail
    name = " ".join(sys.argv[1:]) or "宜蘭礁溪五日遊"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    DATA.mkdir(parents=True, exist_ok=True)
    workflow, flags, with_what = choose_model()
    say(bold("Headrace demo"), f"serves {os.path.relpath(WORKFLOW)} and calls it with {name}")
    say(dim(with_what))
    ready_file = DATA / "ready.json"
    ready_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "headrace", "serve", str(workflow), "--host", "127.0.0.1"]
    command += ["--port", os.environ.get("PORT") or "0", "--data", str(DATA), "--ready-file", str(ready_file)]
    command += ["--log-level", "error", *flags]
    log = DATA / "server.log"
    # in a session of its own: Ctrl-C is for us, and we then tell the server
    with (
        log.open("wb") as stderr,
        subprocess.Popen(command, cwd=ROOT, stderr=stderr, start_new_session=True) as server,
    ):
        try:
            ready = wait_until_ready(server, ready_file, log)
            app = ready["apps"][0]
            with studio(ready["url"], app["key"]) as page:
                show_run(call(ready["url"], app["key"], {"product_name": name}))
                show_address(ready["url"], app["key"], name)
                complete = show_studio(page)
                if os.environ.get("ONCE"):
                    return 0 if complete else 1
                say(dim("All of it stays up until Ctrl-C."))
                return server.wait()
        except DemoFailed as error:
            say(red("Failed:"), str(error))
            return 1
        except KeyboardInterrupt:
            say()
            return 0
        finally:
            server.terminate()


def choose_model() -> tuple[pathlib.Path, list[str], str]:
    """(the workflow to serve, flags for the server, what to say about it), after the keys in the environment."""
    provider, model = MODELS[0][1:]
    own = WORKFLOW.read_text("utf-8")
    choice = next(((key, *rest) for key, *rest in MODELS if os.environ.get(key)), None)
    if choice is None:
        keys = ", ".join(key for key, *_ in MODELS[:3])
        return (
            WORKFLOW,
            ["--demo-model"],
            f"No model key is set ({keys} ...): the built-in demo model answers, offline.",
        )
    key, model_name, small = choice
    small = os.environ.get("MODEL") or small
    note = f"{key} is set: {small} of {model_name.rpartition('/')[2]} writes the text."
    if (model_name, small) == (provider, model):
        return WORKFLOW, [], note
    copy = DATA / WORKFLOW.name
    content = own.replace(f"provider: {provider}\n", f"provider: {model_name}\n").replace(
        f"name: {model}\n", f"name: {small}\n"
    )
    copy.write_text(content, "utf-8")
    return copy, [], note


def wait_until_ready(server: subprocess.Popen[bytes], ready_file: pathlib.Path, log: pathlib.Path) -> dict[str, Any]:
    """What the server tells once it takes requests. DemoFailed if it ends instead."""
    until = time.monotonic() + READY_SECONDS
    while not ready_file.exists():
        if server.poll() is not None:
            raise DemoFailed(log.read_text("utf-8", "replace").strip() or "the server ended")
        if time.monotonic() > until:
            raise DemoFailed(f"the server did not get ready within {READY_SECONDS:g} s")
        time.sleep(0.05)
    return json.loads(ready_file.read_text("utf-8"))


@contextmanager
def studio(url: str, key: str) -> Iterator[subprocess.Popen[str]]:
    """Product Studio, using the workflow that is served at `url`. The first line that it prints has its address."""
    answers = {
        "DIFY_WORKFLOW_API_ENDPOINT": url,
        "DIFY_CREATE_PRODUCT_DETAIL_API_KEY": key,
        "ENVIRONMENT": "demo",
        "LOG_LEVEL": "WARNING",
        "STUDIO_PORT": os.environ.get("STUDIO_PORT") or "0",
        "STUDIO_DATABASE": str(DATA / "products.db"),
    }
    command = [sys.executable, "-m", "product_studio"]
    with (
        (DATA / "studio.log").open("wb") as stderr,
        subprocess.Popen(
            command,
            cwd=STUDIO,
            env=os.environ | answers,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def call(url: str, key: str, inputs: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The events of one streaming run."""
    body = {"inputs": inputs, "response_mode": "streaming", "user": "demo"}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/workflows/run", json.dumps(body).encode(), headers)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy cannot reach this machine
    try:
        with direct.open(request, timeout=RUN_SECONDS) as answer:
            for line in answer:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
    except urllib.error.HTTPError as error:
        raise DemoFailed(f"HTTP {error.code}: {json.loads(error.read())['message']}") from error
    except OSError as error:
        raise DemoFailed(f"the server cannot be reached: {error}") from error


def show_run(events: Iterator[dict[str, Any]]) -> None:
    """Shows how the run goes on, and what came of it. DemoFailed if it failed."""
    text = Paragraph()
    for event in events:
        data = event.get("data", {})
        match event["event"]:
            case "text_chunk" if data["from_variable_selector"][-1] == "text":
                text.write(data["text"])
            case "node_finished":
                text.end()
                show_node(data)
            case "workflow_finished":
                if data["status"] != "succeeded":
                    raise DemoFailed(data["error"])
                show_outputs(data)
            case "error":
                raise DemoFailed(event["message"])
            case _:
                pass


def show_node(data: dict[str, Any]) -> None:
    tokens = (data["execution_metadata"] or {}).get("total_tokens")
    usage = f"{data['elapsed_time']:6.2f} s" + (f"  {tokens} tokens" if tokens else "")
    mark = green("✓") if data["status"] == "succeeded" else red("✗")
    say(f"  {mark} {data['title']}{' ' * max(1, 22 - columns(data['title']))}{dim(usage)}")


def show_outputs(data: dict[str, Any]) -> None:
    say()
    say(bold("Outputs"), dim(f"after {data['elapsed_time']:.2f} s"))
    for name, value in data["outputs"].items():
        text = str(value)
        if name == "image_url" and text.startswith("data:image/svg+xml,"):
            picture = DATA / "picture.svg"
            picture.write_text(urllib.parse.unquote(text.partition(",")[2]), "utf-8")
            text = f"{text[:30]}… ({len(text)} characters)\nsaved as {os.path.relpath(picture)}"
        elif len(text) > 300:
            text = f"{text[:200]}… ({len(text)} characters)"
        paragraph = Paragraph(first=f"  {name:<13}", rest=" " * 15, style=str)
        paragraph.write(text)
        paragraph.end()


def show_address(url: str, key: str, name: str) -> None:
    body = json.dumps(
        {"inputs": {"product_name": name}, "response_mode": "streaming", "user": "me"}, ensure_ascii=False
    )
    say()
    say(bold("Served at"), url)
    say("  key ", key)
    headers = f"-H 'Authorization: Bearer {key}' -H 'Content-Type: application/json'"
    say("  call", f"curl -N {url}/v1/workflows/run {headers} -d {shlex.quote(body)}")
    if CONSOLE.exists():
        command = [sys.executable, "-m", "headrace", "console", "--data", str(DATA), "--url", url]
        say("  console", subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip())
    say()


def show_studio(process: subprocess.Popen[str]) -> bool:
    """Where the page is; or, loudly, that there is none. The workflow is served in any case. False if something failed:
    without npm there is just the API."""
    assert process.stdout is not None
    address = process.stdout.readline().strip().rpartition(" ")[2]
    complete = bool(address)
    if not address:
        say(red("Product Studio did not start:"), (DATA / "studio.log").read_text("utf-8", "replace").strip())
    elif not (STUDIO / "web" / "dist" / "index.html").exists():
        say(red("The page of Product Studio is not built: that needs Node 20.19 or later, with npm and its packages."))
        say("  Without it there is its API alone, at", address)
        complete = shutil.which("npm") is None
    else:
        say(bold("Product Studio"), dim("a page that uses the workflow:"), bold(address))
    say()
    return complete


class Paragraph:
    """Text that is shown as it comes, indented and broken where the line is full."""

    def __init__(self, first: str = "    ", rest: str = "    ", width: int = 88, style: Any = None) -> None:
        self.first, self.rest, self.width = first, rest, width
        self.style = style or dim
        self.used = 0

    def write(self, text: str) -> None:
        for char in text:
            if char == "\n" or self.used + columns(char) > self.width:
                sys.stdout.write("\n" + self.rest)
                self.used = len(self.rest)
                if char.isspace():
                    continue
            elif not self.used:
                sys.stdout.write(self.first)
                self.used = len(self.first)
            sys.stdout.write(self.style(char))
            self.used += columns(char)
        sys.stdout.flush()

    def end(self) -> None:
        if self.used:
            say()
        self.used = 0


def columns(text: str) -> int:
    """How wide a text is on a terminal."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def say(*parts: str) -> None:
    print(*parts, flush=True)


def paint(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def bold(text: str) -> str:
    return paint("1", text)


def dim(text: str) -> str:
    return paint("2", text)


def green(text: str) -> str:
    return paint("32", text)


def red(text: str) -> str:
    return paint("31", text)


if __name__ == "__main__":
    sys.exit(main())
