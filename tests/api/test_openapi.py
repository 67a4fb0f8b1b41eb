"""The documentation of the API, held against its routes and its answers."""

from __future__ import annotations

from typing import Any

from tests.api.serving import Serving, workflow

ENDPOINTS = {
    "/v1/info": ["get"],
    "/v1/parameters": ["get"],
    "/v1/meta": ["get"],
    "/v1/site": ["get"],
    "/v1/workflows/run": ["post"],
    "/v1/workflows/{workflow_id}/run": ["post"],
    "/v1/workflows/run/{workflow_run_id}": ["get"],
    "/v1/workflows/tasks/{task_id}/stop": ["post"],
    "/v1/workflows/logs": ["get"],
    "/v1/workflow/{workflow_run_id}/events": ["get"],
    "/v1/files/upload": ["post"],
    "/v1/files/{file_id}/preview": ["get"],
    "/v1/end-users/{end_user_id}": ["get"],
    "/v1/chat-messages": ["post"],
    "/v1/chat-messages/{task_id}/stop": ["post"],
    "/v1/completion-messages": ["post"],
    "/v1/completion-messages/{task_id}/stop": ["post"],
    "/v1/openai/chat/completions": ["post"],
    "/v1/openai/models": ["get"],
    "/v1/openai/responses": ["post"],
    "/v1/openai/responses/{response_id}": ["get"],
    "/v1/openai/responses/{response_id}/cancel": ["post"],
    "/v1/openai/models/{model}": ["get"],
}


async def documented(server: Serving) -> Any:
    async with server.session.get(f"{server.url}/openapi.json") as answer:
        assert answer.status == 200
        return await answer.json()


async def test_every_endpoint_is_documented_with_examples(server: Serving) -> None:
    paths = (await documented(server))["paths"]
    for path, methods in ENDPOINTS.items():
        for method in methods:
            operation = paths[path][method]
            assert operation["summary"]
            assert operation["security"], path
            good = operation["responses"]["201" if "upload" in path else "200"]["content"]
            assert all("example" in item for item in good.values()), path
            assert any(
                "examples" in r["content"]["application/json"] for s, r in operation["responses"].items() if s > "399"
            )
            named = {item["name"] for item in operation.get("parameters", ()) if item["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}
    ids = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(set(ids)) == len(ids)


async def test_the_pages_are_there(server: Serving) -> None:
    async with server.session.get(f"{server.url}/docs") as answer:
        assert answer.status == 200
        assert "submitRun" in await answer.text()


async def test_examples_have_the_fields_of_real_answers(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow())
    paths = (await documented(server))["paths"]

    def example(path: str, method: str = "get") -> Any:
        return paths[path][method]["responses"]["200"]["content"]["application/json"]["example"]

    _, ran = await app.run()
    path = f"/v1/workflows/run/{ran['workflow_run_id']}"
    pairs = (
        (example("/v1/workflows/run", "post"), ran),
        (example("/v1/workflows/run", "post")["data"], ran["data"]),
        (example("/v1/workflows/run/{workflow_run_id}"), (await app.call("GET", path))[1]),
        *[(example(path), (await app.call("GET", path))[1]) for path in ("/v1/info", "/v1/meta", "/v1/workflows/logs")],
    )
    for declared, real in pairs:
        assert set(declared) == set(real)
    for path in ("/v1/site", "/v1/parameters"):
        assert set(example(path)) <= set((await app.call("GET", path))[1])
