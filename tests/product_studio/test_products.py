from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from product_studio.models import NewProduct
from product_studio.pictures import LARGEST, PictureError, check_upload, fetch_picture
from product_studio.store import Store, UnknownProduct

from tests.product_studio.studio import Studio
from tests.sdk_contract.serving import Running

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cfc0f01f0005"
    "0001ff89993d1d0000000049454e44ae426082"
)


@pytest.fixture
def studio(tmp_path: Path):
    running = Studio("http://127.0.0.1:9", "app-key", tmp_path / "deep" / "products.db")
    running.start()
    yield running
    running.stop()


async def test_products_are_kept_and_listed_newest_first(studio: Studio):
    async with studio.client() as client:
        assert (await client.get("/api/products")).json() == {"products": [], "total": 0, "has_more": False}
        picture = (await client.post("/api/pictures", content=PNG, headers={"Content-Type": "image/png"})).json()
        first = await client.post(
            "/api/products",
            json={"title": " 第一  個 ", "description": " a\nb ", "picture_id": picture["picture_id"]},
        )
        second = await client.post("/api/products", json={"title": "<b>&'\";--"})
    assert first.status_code == second.status_code == 201
    studio.stop()
    studio.start()  # they are still there
    async with studio.client() as client:
        listed = (await client.get("/api/products")).json()["products"]
        downloaded_picture = await client.get(listed[1]["picture_url"])
    assert listed == [second.json(), first.json()]
    assert (listed[1]["title"], listed[1]["description"]) == ("第一 個", "a\nb")
    assert (listed[0]["title"], listed[0]["picture_url"]) == ("<b>&'\";--", None)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(listed[0]["created_at"])).total_seconds()) < 60
    assert (downloaded_picture.content, downloaded_picture.headers["content-type"]) == (PNG, "image/png")


async def test_the_list_comes_in_pages(studio: Studio):
    async with studio.client() as client:
        saved = await asyncio.gather(*(client.post("/api/products", json={"title": f"{n}"}) for n in range(25)))
        assert {response.status_code for response in saved} == {201}
        first = (await client.get("/api/products")).json()
        rest = (await client.get(f"/api/products?before={first['products'][-1]['id']}")).json()
        for query in ("limit=0", "limit=101", "before=0", "before=x", f"before={2**63}"):
            assert (await client.get(f"/api/products?{query}")).status_code == 422
    assert (len(first["products"]), first["total"], first["has_more"]) == (20, 25, True)
    assert (len(rest["products"]), rest["total"], rest["has_more"]) == (5, 25, False)
    assert len({product["title"] for product in first["products"] + rest["products"]}) == 25


async def test_a_product_is_changed_deleted_and_restored_where_it_was(studio: Studio):
    async with studio.client() as client:
        ids = [(await client.post("/api/products", json={"title": title})).json()["id"] for title in "abc"]
        path = f"/api/products/{ids[1]}"
        changed = await client.put(path, json={"title": "B", "description": "x"})
        assert (changed.status_code, changed.json()["title"], changed.json()["id"]) == (200, "B", ids[1])
        assert [(await client.delete(path)).status_code for _ in range(2)] == [204, 204]
        listed = (await client.get("/api/products")).json()
        assert ([product["title"] for product in listed["products"]], listed["total"]) == (["c", "a"], 2)
        assert (await client.put(path, json={"title": "B", "description": "x"})).json() == changed.json()
        assert [product["title"] for product in (await client.get("/api/products")).json()["products"]] == [
            "c",
            "B",
            "a",
        ]
        assert (await client.put(path, json={"title": "B", "picture_id": "nothing"})).status_code == 422
        for number in ("0", "x", str(2**63)):
            assert (await client.put(f"/api/products/{number}", json={"title": "b"})).status_code == 422
        unknown = f"/api/products/{ids[2] + 1}"
        assert (await client.put(unknown, json={"title": "b"})).status_code == 404
        assert (await client.delete(unknown)).status_code == 404


@pytest.mark.parametrize("days", [1, -1])
def test_a_deleted_product_is_gone_for_good_a_day_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int):
    store = Store(tmp_path / "p.db")
    kept_id, deleted = (store.add_product(NewProduct(title=title)).id for title in "ab")
    store.delete_product(deleted)
    monkeypatch.setattr("product_studio.store._KEPT", timedelta(days=days))
    store = Store(tmp_path / "p.db")
    assert store.put_product(kept_id, NewProduct(title="a")).id == kept_id
    if days > 0:
        assert store.put_product(deleted, NewProduct(title="b")).id == deleted
    else:
        with pytest.raises(UnknownProduct):
            store.put_product(deleted, NewProduct(title="b"))


def test_a_database_of_an_earlier_version_is_upgraded(tmp_path: Path):
    with closing(sqlite3.connect(tmp_path / "p.db")) as database, database:
        database.executescript(
            "CREATE TABLE pictures (id TEXT PRIMARY KEY, media_type TEXT, data BLOB, created_at TEXT);"
            "CREATE TABLE products (id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT, description TEXT,"
            " picture_id TEXT, created_at TEXT);"
            "INSERT INTO products VALUES (1, 'old', '', NULL, '2026-01-01T00:00:00+00:00')"
        )
    store = Store(tmp_path / "p.db")
    store.delete_product(1)
    assert store.put_product(1, NewProduct(title="old")).title == "old"


@pytest.mark.parametrize(
    "product",
    [
        {},
        {"title": "   "},
        {"title": "字" * 101},
        {"title": "a", "description": "字" * 5001},
        {"title": "a", "picture_id": "nothing"},
        {"title": "a", "picture_id": ""},
        {"title": 1},
    ],
)
async def test_a_product_that_cannot_be_saved(studio: Studio, product: dict[str, Any]):
    async with studio.client() as client:
        assert (await client.post("/api/products", json=product)).status_code == 422
        assert (await client.get("/api/products")).json()["products"] == []


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"<svg onload='alert(1)'/>", "image/svg+xml", 415),
        (b"<script>", "image/png", 415),
        (b"", "image/png", 415),
        (PNG, "text/html", 415),
        (PNG + b"0" * LARGEST, "image/png", 413),
    ],
)
async def test_what_is_no_picture_is_refused(studio: Studio, body: bytes, kind: str, status: int):
    async with studio.client() as client:
        answer = await client.post("/api/pictures", content=body, headers={"Content-Type": kind})
        assert (await client.get("/api/pictures/nothing")).status_code == 404
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBP", "image/webp"),
    ],
)
def test_a_picture_is_known_by_its_bytes(data: bytes, kind: str):
    assert check_upload(data).media_type == kind


@pytest.fixture
def pictures():
    async def large(request: web.Request) -> web.Response:
        return web.Response(body=b"0" * (LARGEST + 1), content_type="image/png")

    async def plain(request: web.Request) -> web.Response:
        return web.Response(body=PNG, content_type="image/png")

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>", content_type="text/html")

    async def moved(request: web.Request) -> web.Response:
        raise web.HTTPFound("/plain")

    async def round_and_round(request: web.Request) -> web.Response:
        raise web.HTTPFound("/round_and_round")

    app = web.Application()
    for handler in (large, plain, page, moved, round_and_round):
        app.router.add_get(f"/{handler.__name__}", handler)
    with Running(app) as running:
        yield running.url


@pytest.mark.parametrize(
    "url", ["{}/plain", "/plain", "{}/moved", "data:image/png;base64,iVBORw0KGgo=", "data:IMAGE/PNG,%89PNG%0D%0A%1A%0A"]
)
async def test_where_a_workflow_s_picture_may_be(pictures: str, url: str):
    async with httpx.AsyncClient() as http:
        picture = await fetch_picture(http, pictures, url.format(pictures))
    assert picture.media_type == "image/png"
    assert picture.data.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "url",
    [
        "{}/large",
        "{}/page",
        "{}/nothing",
        "{}/round_and_round",
        "http://127.0.0.1:9/refused",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://[",
        "",
        "data:text/html,<script>",
        "data:image/png;base64,???",
        "data:image/png",
        "data:image/png," + "0" * (LARGEST + 1),
    ],
)
async def test_a_workflow_s_picture_that_will_not_do(pictures: str, url: str):
    async with httpx.AsyncClient() as http:
        with pytest.raises(PictureError):
            await fetch_picture(http, pictures, url.format(pictures))
