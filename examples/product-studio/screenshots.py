"""Draws docs/images/product-studio-*.png from a page that is running (`make demo`).

python examples/product-studio/screenshots.py http://127.0.0.1:8050
"""

from __future__ import annotations

import pathlib
import re
import sys
from typing import Literal

from playwright.sync_api import Page, expect, sync_playwright

IMAGES = pathlib.Path(__file__).resolve().parents[2] / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
SHOTS: tuple[tuple[str, int, int, Literal["light", "dark"], str], ...] = (
    ("light", 1000, 840, "light", "zh-Hant"),
    ("dark", 1000, 840, "dark", "en"),
    ("phone", 390, 844, "light", "zh-Hant"),
)
TITLES = {"zh-Hant": "宜蘭礁溪溫泉五日遊", "en": "Five days of hot springs"}


def main(address: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name, width, height, scheme, language in SHOTS:
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(address)
            page.locator("select").first.select_option(language)
            generate(page, TITLES[language], save=name == "light", writing=name == "phone")
            page.screenshot(path=IMAGES / f"product-studio-{name}.png")
            page.close()
        browser.close()


def generate(page: Page, title: str, *, save: bool, writing: bool) -> None:
    """Fills the form; `save`: first with a product that is then listed; `writing`: leaves while the text is written."""
    description = page.locator("#description")
    preview = page.locator("form img")
    for again in (True, False) if save else (False,):
        page.locator("#title").fill(title)
        page.locator("form button").first.click()
        if writing:
            expect(description).to_have_value(re.compile("離線產生"))
            return
        expect(preview).to_be_visible()
        expect(page.locator("#title")).to_be_editable()
        if again:
            page.locator("form button[type=submit]").click()
            expect(preview).to_be_hidden()
    preview.evaluate("image => image.decode()")


if __name__ == "__main__":
    main(sys.argv[1])
