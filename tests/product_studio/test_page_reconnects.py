"""The page while the workflow's server is killed and started again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.cli.flows import environ
from tests.product_studio.conftest import changed_workflow
from tests.product_studio.page import OpenPage, button, description, finished, generate, news, step, title, writing
from tests.product_studio.slow_model import PROVIDER, SlowModel, slow_model
from tests.product_studio.studio import Studio
from tests.sdk_contract.fault_server import Faults
from tests.sdk_contract.serving import Running
from tests.server.process import Serve

UNREACHABLE = "Failed to load resource|could not be stopped"
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_killed_server_costs_neither_run_nor_result(open_page: OpenPage, built: Path, tmp_path: Path):
    """One page waits, one is loaded again in the meantime, and a third one is told to stop."""
    workflow = changed_workflow(tmp_path, "slow", words=1_000_000, provider=PROVIDER)
    with slow_model() as model, Serve(tmp_path, [workflow], environ(**model.environ)) as server:
        script = Faults(server.url)  # it passes everything on, and has an address that stays
        with Running(script.app()) as proxy:
            studio = Studio(proxy.url, server.keys["slow"], tmp_path / "products.db")
            studio.start()
            try:
                await _outlives_the_server(open_page, studio, server, script, model)
            finally:
                studio.stop()


async def _outlives_the_server(
    open_page: OpenPage, studio: Studio, server: Serve, script: Faults, model: SlowModel
) -> None:
    async with (
        open_page(studio.url, UNREACHABLE) as waiting,
        open_page(studio.url, UNREACHABLE) as reloaded,
        open_page(studio.url, UNREACHABLE) as stopped,
    ):
        names = {waiting: "等著的產品", reloaded: "重新載入的產品", stopped: "不要的產品"}
        for page, name in names.items():
            await generate(page, name)
        await asyncio.gather(*map(writing, names))
        server.kill()
        await asyncio.gather(*map(is_reconnecting, names))
        await button(stopped, "停止").click()
        await expect(news(stopped)).to_contain_text("這次生成可能還會在伺服器上跑完")
        await reloaded.reload()
        await expect(title(reloaded)).to_have_value(names[reloaded])
        await expect(title(reloaded)).not_to_be_editable()
        model.finish.set()
        await asyncio.to_thread(server.__enter__)
        script.upstream = server.url
        for page in (waiting, reloaded):
            await finished(page)
            await expect(description(page)).to_have_value("【示範模型】沒有呼叫任何模型：")
            await expect(page.get_by_role("img", name=f"「{names[page]}」的圖片")).to_be_visible()
            await expect(step(page, "製作圖片")).to_contain_text("完成")
    async with studio.client() as client:
        url = f"{server.url}/api/v1/workflow-runs"
        headers = {"Authorization": f"Bearer {studio.key}"}
        runs = (await client.get(url, headers=headers)).json()["data"]
    assert len(runs) == 3  # none was started twice


async def is_reconnecting(page: Page) -> None:
    await expect(news(page)).to_contain_text("正在重新連線。生成沒有停，不會重複收費。")
    await expect(title(page)).not_to_be_editable()
    await writing(page)
