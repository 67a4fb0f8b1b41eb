"""What pages are tested in, and with. Where Node or Chromium is missing, the tests of pages say so and are skipped."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

PATIENCE = 120_000  # milliseconds: the machine may be busy, and nothing here is about speed
# The shell has no windows to draw: a page costs it a third of the CPU time.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)


def require_browser() -> str:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    if shutil.which("npm") is None:
        pytest.skip("there is no Node with npm")
    return CHROMIUM


def build(web: Path, output: Path, *shared: Path) -> None:
    """Checks and builds pages, once for all processes of the tests, where one of their sources has changed."""
    lock_file = Path(__file__).parents[1] / "build" / f"{web.parent.name}-{web.name}.lock"
    lock_file.parent.mkdir(exist_ok=True)
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _installed(web):
            done = _npm(web, "ci", "--loglevel=error")
            if done.returncode:
                pytest.skip(f"npm ci does not work here: {done.stderr.strip()[-200:]}")
        if _current(output / "index.html", web, *shared):
            return
        for script in ("check", "build"):
            done = _npm(web, "run", script)
            assert done.returncode == 0, done.stdout + done.stderr


def _npm(web: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["npm", *arguments], cwd=web, capture_output=True, text=True, timeout=300, check=False)


def _installed(web: Path) -> bool:
    """Whether all that the lock names is there; `make` leaves out what only the tests need."""
    done = web / "node_modules" / ".package-lock.json"
    there = (web / "node_modules" / "axe-core").exists() and done.exists()
    return there and done.stat().st_mtime >= (web / "package-lock.json").stat().st_mtime


def _current(built: Path, *folders: Path) -> bool:
    sources = (file for folder in folders for file in folder.rglob("*") if "node_modules" not in file.parts)
    return built.exists() and built.stat().st_mtime >= max(file.stat().st_mtime for file in sources if file.is_file())


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments, timeout=PATIENCE)
        yield browser
        await browser.close()


async def no_fault(page: Page, web: Path) -> None:
    """What axe finds amiss on the page as it stands."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(web.joinpath("node_modules", "axe-core", "axe.min.js").read_text("utf-8"))
    result = await page.evaluate("axe.run()")
    faults = [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in result["violations"]]
    assert faults == [], faults
    assert len(result["passes"]) > 15
