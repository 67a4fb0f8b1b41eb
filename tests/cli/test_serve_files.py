"""What `headrace serve` publishes: files, folders, files under a name, and files that change."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from headrace.apps.catalog import Release
from headrace.cli.serve import _workflows
from headrace.errors import LoadError
from headrace.main import Service, service
from headrace.server.workflow_files import Watch, WorkflowFile, WorkflowFolder, publish_all
from headrace.settings import Settings
from tests.cli.conftest import Invoke
from tests.cli.flows import Server, field, flow, llm


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncGenerator[Service]:
    async with service(Settings(data=tmp_path / "data"), memory=True, work=False) as service_:
        yield service_


def echo(path: Path, name: str | None = None) -> Path:
    return flow(path, variables=[field("query")], name=name)


async def test_a_folder_is_served_by_name_and_a_broken_file_is_reported(
    tmp_path: Path, running: Service, caplog: pytest.LogCaptureFixture
):
    for name in ("b.yml", "a.yaml", ".hidden.yml"):
        echo(tmp_path / name)
    (tmp_path / "broken.yml").write_text("just words")
    (tmp_path / "notes.txt").write_text("no workflow")
    (tmp_path / "inside.yml").mkdir()
    named = WorkflowFile(tmp_path / "b.yml", "bee")
    releases = await publish_all(running, [named], [WorkflowFolder(tmp_path)])
    assert [(file.name, release.app.source) for file, release in releases] == [
        ("b.yml", "bee"),
        ("a.yaml", str(tmp_path / "a.yaml")),
    ]
    (record,) = [record for record in caplog.records if record.name == "headrace.server.workflow_files"]
    assert record.getMessage().startswith(f"{tmp_path / 'broken.yml'} is not published: ")


async def test_every_named_file_that_cannot_be_loaded_is_reported(tmp_path: Path, running: Service):
    (tmp_path / "broken.yml").write_text("just words")
    files = [WorkflowFile(tmp_path / "broken.yml", "shop"), WorkflowFile(tmp_path / "gone.yml")]
    with pytest.raises(LoadError) as error:
        await publish_all(running, files, [])
    broken, gone = (problem.message for problem in error.value.problems)
    assert broken.startswith(f"{tmp_path / 'broken.yml'}: ")
    assert gone.startswith(f"{tmp_path / 'gone.yml'}: cannot be read")


async def test_a_name_stays_when_the_file_moves(tmp_path: Path, running: Service):
    ((_, first),) = await publish_all(running, [WorkflowFile(echo(tmp_path / "v1.yml"), "shop")], [])
    (tmp_path / "v1.yml").rename(tmp_path / "v2.yml")
    ((_, second),) = await publish_all(running, [WorkflowFile(tmp_path / "v2.yml", "shop")], [])
    assert (second.app.id, second.app.source) == (first.app.id, "shop")


async def test_the_files_of_a_named_folder_stay_when_it_moves(tmp_path: Path, running: Service):
    releases: list[Release] = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        echo(folder / "a.yml")
        releases += [app for _, app in await publish_all(running, [], [WorkflowFolder(folder, "shop")])]
    first, second = releases
    assert (second.app.id, second.app.source) == (first.app.id, "shop/a.yml")
    files, folders = _workflows([tmp_path / "one"], ["shop"])
    assert (files, folders) == ([], [WorkflowFolder(tmp_path / "one", "shop")])


class Published:
    """What a `Watch` publishes."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[str, int, bool]] = asyncio.Queue()

    async def __call__(self, file: Path, release: Release, new: bool) -> None:
        await self.queue.put((file.name, release.version.number, new))

    async def next(self) -> tuple[str, int, bool]:
        async with asyncio.timeout(60):
            return await self.queue.get()


async def test_changes_are_published(tmp_path: Path, running: Service, caplog: pytest.LogCaptureFixture):
    file = echo(tmp_path / "a.yml")
    text = file.read_text()
    await publish_all(running, [], [WorkflowFolder(tmp_path)])
    published = Published()
    broken, deleted = asyncio.Event(), asyncio.Event()

    class Events(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "what was served before stays" in record.getMessage():
                broken.set()
            if "was deleted; its app stays served" in record.getMessage():
                deleted.set()

    handler = Events()
    logging.getLogger("headrace.server.workflow_files").addHandler(handler)
    watching = asyncio.create_task(Watch(running, [], [WorkflowFolder(tmp_path)]).run(published))
    try:
        (tmp_path / "next").write_text(text.replace("name: a", "name: renamed"))
        os.replace(tmp_path / "next", file)  # as editors do
        assert await published.next() == ("a.yml", 2, False)

        file.write_text("just words")
        async with asyncio.timeout(60):
            await broken.wait()
        (app,) = await running.apps.catalog.apps()
        assert (app.name, app.version) == ("renamed", (await running.apps.catalog.versions(app.id))[0].id)

        echo(tmp_path / "b.yml")
        assert await published.next() == ("b.yml", 1, True)
        file.unlink()
        file.write_text(text)
        assert await published.next() == ("a.yml", 1, False)
        assert published.queue.empty()

        file.unlink()
        async with asyncio.timeout(60):
            await deleted.wait()
        assert [app.name for app in await running.apps.catalog.apps()] == ["a", "b"]
        file.write_text(text.replace("name: a", "name: again"))
        assert await published.next() == ("a.yml", 3, False)
    finally:
        watching.cancel()
        logging.getLogger("headrace.server.workflow_files").removeHandler(handler)
        await asyncio.gather(watching, return_exceptions=True)


async def test_a_file_is_served_once_however_its_path_is_written(
    tmp_path: Path, running: Service, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    echo(tmp_path / "a.yml")
    ((_, release),) = await publish_all(running, [WorkflowFile(Path("../a.yml"), "shop")], [WorkflowFolder(tmp_path)])
    assert release.app.source == "shop"


async def test_a_folder_that_is_gone_does_not_stop_the_others(tmp_path: Path, running: Service):
    file, folder, published = echo(tmp_path / "a.yml"), tmp_path / "folder", Published()
    folder.mkdir()
    await publish_all(running, [WorkflowFile(file)], [WorkflowFolder(folder)])
    watching = asyncio.create_task(Watch(running, [WorkflowFile(file)], [WorkflowFolder(folder)]).run(published))
    try:
        folder.rmdir()
        file.write_text(file.read_text().replace("name: a", "name: renamed"))
        assert await published.next() == ("a.yml", 2, False)
        folder.mkdir()
        echo(folder / "b.yml")
        assert await published.next() == ("b.yml", 1, True)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--name", "shop"], "--name shop: must be NAME=FILE, unless there is one FILE"),
        (["a.yml", "b.yml", "--name", "shop"], "--name shop: must be NAME=FILE, unless there is one FILE"),
        (["a.yml", "--name", "a/b"], "--name a/b: must be letters, digits, . _ - (100 at most)"),
        (["--name", "=a.yml"], "--name : must be letters, digits, . _ - (100 at most)"),
        (["--name", "x=a.yml", "--name", "x=b.yml"], "--name x: is given more than once"),
        (["--name", "x=gone.yml"], "gone.yml: cannot be read: No such file or directory"),
    ],
)
def test_bad_names(arguments: list[str], problem: str, tmp_path: Path, invoke: Invoke):
    echo(tmp_path / "a.yml")
    echo(tmp_path / "b.yml")
    done = invoke("serve", *arguments, "--port", "0")
    assert (done.exit_code, done.stderr) == (2, f"Error: {problem}\n")


def test_a_server_that_watches(tmp_path: Path):
    folder = tmp_path / "flows"
    folder.mkdir()
    server = Server("flows", "--watch", cwd=tmp_path)
    try:
        assert server.ready["apps"] == []
        echo(folder / "later.yml")
        assert server.process.stderr is not None
        for line in server.process.stderr:
            server.said += line
            if "curl" in line:
                break
        assert "version 1 of later is served" in server.said
        key = server.said.partition("    key   ")[2].partition("\n")[0]
        assert server.call(key, {"query": "hi"})[1]["data"]["outputs"] == {"query": "hi"}
    finally:
        assert server.stop() == 0
    assert "No workflows are served yet. There are no workflow files in flows" in server.said
    lines = server.said.splitlines()
    assert any("of later: succeeded in " in line for line in lines)


def test_names_of_apps_on_the_command_line(tmp_path: Path, invoke: Invoke):
    assert invoke("apps", "add", echo(tmp_path / "a.yml"), "--name", "shop").exit_code == 0
    assert invoke("apps", "add", echo(tmp_path / "a.yml"), "--name", "a/b").exit_code == 2
    assert invoke("keys", "create", "shop").exit_code == 0


def test_what_an_added_app_lacks_is_said(tmp_path: Path, invoke: Invoke):
    added = invoke("apps", "add", flow(tmp_path / "ask.yml", llm("deepseek"), variables=[field("query")]))
    assert added.exit_code == 0
    assert added.stderr.startswith("note: node 'Write': model provider 'deepseek' is not configured.")
