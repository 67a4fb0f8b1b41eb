"""Draws docs/images/product-studio-*.png from a page that is running (`make demo`).

python examples/product-studio/screenshots.py http://127.0.0.1:8050
"""

from __future__ import annotations

import pathlib
import re
import sys
from typing import Literal

from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

IMAGES = pathlib.Path(__file__).resolve().parents[2] / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
SHOTS: tuple[tuple[str, int, int, Literal["light", "dark"], str], ...] = (
    ("light", 1100, 1000, "light", "zh-TW"),
    ("dark", 1100, 1000, "dark", "en-US"),
    ("phone", 390, 844, "light", "zh-TW"),
)
TITLES = {"zh-TW": "宜蘭礁溪溫泉五日遊", "en-US": "Five days of hot springs"}


def main(address: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name, width, height, scheme, locale in SHOTS:
            viewport: ViewportSize = {"width": width, "height": height}
            page = browser.new_page(viewport=viewport, color_scheme=scheme, locale=locale)
            page.goto(address)
            generate(page, TITLES[locale], save=name == "light", is_writing=name == "phone")
            page.screenshot(path=IMAGES / f"product-studio-{name}.png")
            page.close()
        browser.close()


def generate(page: Page, title: str, *, save: bool, is_writing: bool) -> None:
    """Fills the form. `save`: after saving a product, which is then listed; `is_writing`: only until text comes."""
    picture = page.locator("form img")
    for is_last in (False, True) if save else (True,):
        page.locator("#title").fill(title)
        page.locator("#title").press("Enter")
        if is_writing:
            expect(page.locator("#description")).to_have_value(re.compile("離線產生"))
            return
        expect(picture).to_be_visible()
        if not is_last:
            page.locator(".acts .main-b").click()
            expect(picture).to_be_hidden()
            expect(page.locator(".toast")).to_be_hidden(timeout=15_000)
    picture.evaluate("image => image.decode()")
    page.mouse.click(5, 5)  # the focus ring belongs to the keyboard


if __name__ == "__main__":
    main(sys.argv[1])
