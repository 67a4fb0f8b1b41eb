"""A key that can access several apps, in the hands of OpenAI's own Python client: each of them is a model."""

from __future__ import annotations

import openai
import pytest
from openai import AsyncOpenAI

from headrace.access.keys import PERMISSIONS, Rights
from headrace.apps.catalog import Release
from tests.api.chats import chatflow
from tests.api.serving import Serving

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def apps(server: Serving) -> list[Release]:
    names = ("tea", "coffee", "milk", "milk")
    files = [(f"{at}.yml", chatflow(f"{at} {name}", name=name)) for at, name in enumerate(names)]
    await server.apps.publish("elsewhere.yml", chatflow(name="wine"), "others")
    return [await server.apps.publish(*file, "ours") for file in files]


async def client_of(server: Serving, permissions: tuple[str, ...] = PERMISSIONS, *apps: Release) -> AsyncOpenAI:
    rights = Rights("ours", frozenset(permissions), frozenset(app.app.id for app in apps) if apps else None)
    key = (await server.apps.access.create(rights, "test"))[1]
    return AsyncOpenAI(base_url=f"{server.url}/v1/openai", api_key=key, max_retries=0)


async def test_every_app_of_the_workspace_is_a_model(server: Serving, apps: list[Release]) -> None:
    async with await client_of(server) as client:
        models = [item.id async for item in client.models.list()]
        # two apps of one name are told apart by their ids
        assert sorted(models) == sorted(["tea", "coffee", apps[2].app.id, apps[3].app.id])
        named = {"tea": "0 tea", "coffee": "1 coffee", apps[3].app.id: "3 milk", apps[0].app.id: "0 tea"}
        for model, answer in named.items():
            assert (await client.models.retrieve(model)).id in models
            said = await client.chat.completions.create(model=model, messages=HELLO)
            assert (said.model, said.choices[0].message.content) == (model, answer)
        stream = await client.chat.completions.create(model="coffee", messages=HELLO, stream=True)
        assert "".join([item.choices[0].delta.content or "" async for item in stream]) == "1 coffee"


async def test_a_name_that_says_not_which(server: Serving, apps: list[Release]) -> None:
    async with await client_of(server) as client:
        with pytest.raises(openai.BadRequestError, match="2 apps are called 'milk'"):
            await client.chat.completions.create(model="milk", messages=HELLO)
        for unknown in ("wine", "gpt-4o"):
            with pytest.raises(openai.NotFoundError, match="This key cannot access such an app") as refused:
                await client.chat.completions.create(model=unknown, messages=HELLO)
            assert refused.value.code == "model_not_found"


async def test_a_key_for_some_apps_knows_no_others(server: Serving, apps: list[Release]) -> None:
    async with await client_of(server, PERMISSIONS, *apps[1:3]) as client:
        assert {item.id async for item in client.models.list()} == {"coffee", "milk"}
        said = await client.chat.completions.create(model="milk", messages=HELLO)
        assert said.choices[0].message.content == "2 milk"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("tea")
    async with await client_of(server, PERMISSIONS, apps[0]) as client:
        with pytest.raises(openai.NotFoundError, match="This key can access only 'tea'"):
            await client.chat.completions.create(model="coffee", messages=HELLO)


async def test_the_header_leaves_no_choice(server: Serving, apps: list[Release]) -> None:
    async with (await client_of(server)).with_options(default_headers={"Headrace-App": apps[3].app.id}) as client:
        assert [item.id async for item in client.models.list()] == ["milk"]
        said = await client.chat.completions.create(model="milk", messages=HELLO)
        assert said.choices[0].message.content == "3 milk"


async def test_a_permission_that_lacks_is_told_before_anything_else(server: Serving, apps: list[Release]) -> None:
    async with await client_of(server, ("read",)) as client:
        assert len([item async for item in client.models.list()]) == 4
        with pytest.raises(openai.PermissionDeniedError, match="lacks the permission 'run'") as refused:
            await client.chat.completions.create(model="nope", messages=HELLO)
    assert refused.value.type == "permission_error"
