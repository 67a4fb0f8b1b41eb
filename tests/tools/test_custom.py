"""Custom tools: descriptions of every kind, the requests that their operations send, and what answers become."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from headrace.adapters.tools import CustomTools, read_config
from headrace.errors import HeadraceError, NodeError
from headrace.ports.services import (
    Files,
    Http,
    HttpRequest,
    HttpResponse,
    JsonMessage,
    Part,
    TextMessage,
    ToolParameter,
    ToolReference,
)
from headrace.values import File, Value
from tests.tools.calling import CONTEXT

PETS = """
openapi: 3.0.3
info: {title: Pets, version: "1"}
servers: [{url: "https://{region}.pets.example/v1/", variables: {region: {default: eu}}}]
components:
  securitySchemes: {key: {type: apiKey, in: header, name: X-Api-Key}}
  schemas:
    Name: {type: string, description: What it is called}
    Pet:
      type: object
      required: [name]
      properties:
        name: {$ref: "#/components/schemas/Name"}
        age: {type: integer}
        weight: {anyOf: [{type: number}, {type: "null"}]}
        tame: {type: boolean, default: true}
        tags: {type: array, items: {type: string}}
        parent: {$ref: "#/components/schemas/Pet"}
paths:
  /pets/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: string}}]
    get:
      operationId: getPet
      summary: Gets a pet
      description: Gets one pet by its id
      parameters:
        - {name: fields, in: query, schema: {type: array, items: {type: string}}}
        - {name: limit, in: query, schema: {type: integer, default: 10}, description: How many}
        - {name: empty, in: query, schema: {type: string}}
        - {name: X-Trace, in: header, schema: {type: string}}
        - {name: session, in: cookie, schema: {type: string}}
        - {name: order, in: query, required: true, schema: {type: string, enum: [up, down]}}
    delete: {summary: Removes a pet, security: []}
  /pets:
    post:
      operationId: addPet
      requestBody: {content: {application/json: {schema: {$ref: "#/components/schemas/Pet"}}}}
    put:
      operationId: formPet
      requestBody:
        content:
          application/x-www-form-urlencoded:
            schema: {type: object, properties: {name: {type: string}, ages: {type: array}, ok: {type: boolean}}}
    patch:
      operationId: pictures
      requestBody:
        content:
          multipart/form-data:
            schema:
              type: object
              properties:
                cover: {type: string, format: binary}
                others: {type: array, items: {type: string, format: binary}}
                title: {type: string}
"""
SWAGGER = """
swagger: "2.0"
host: pets.example
basePath: /v2
schemes: [http, https]
securityDefinitions: {token: {type: apiKey, in: query, name: token}}
definitions: {Pet: {type: object, properties: {name: {type: string}}}}
paths:
  /pets:
    get:
      operationId: listPets
      parameters: [{name: limit, in: query, type: integer, default: 5, description: How many}]
    post:
      operationId: addPet
      parameters: [{name: pet, in: body, schema: {$ref: "#/definitions/Pet"}}]
    put:
      operationId: upload
      parameters: [{name: picture, in: formData, type: file}, {name: title, in: formData, type: string}]
"""


class Server:
    """Answers every request alike, and keeps it."""

    def __init__(self, body: bytes = b"{}", status: int = 200, content_type: str = "application/json") -> None:
        self._answer = HttpResponse(status, [("Content-Type", content_type)], body, "")
        self.requests: list[HttpRequest] = []

    async def send(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        return self._answer

    async def read(self, file: File, max_size: int = 0) -> bytes:
        return f"<{file.filename}>".encode()


def tools(path: Path, server: Server | None = None, environ: Mapping[str, str] | None = None) -> CustomTools:
    apis = read_config(path).apis
    environ = {"PETS_API_KEY": "s3cret"} if environ is None else environ
    return CustomTools(apis, cast("Http", server), cast("Files", server), environ)


def reference(name: str, provider: str = "pets", provider_id: str = "0c5f") -> ToolReference:
    return ToolReference("api", provider_id, provider, name)


async def call(source: CustomTools, name: str, /, **parameters: Value) -> list[Any]:
    tool = await source.find(reference(name))
    return [message async for message in tool.call(parameters, CONTEXT)]


async def requested(
    path: Path, name: str, /, environ: Mapping[str, str] | None = None, **parameters: Value
) -> HttpRequest:
    server = Server()
    await call(tools(path, server, environ), name, **parameters)
    return server.requests[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pets.yaml").write_text(PETS)
    return tmp_path


# ----------------------------------------------------------------------------------------------------- descriptions


async def test_operations_are_tools(folder: Path):
    specs = {spec.name: spec for spec in (await tools(folder).specs())["pets"]}
    assert list(specs) == ["getPet", "pets_id_delete", "addPet", "formPet", "pictures"]
    assert (specs["getPet"].label, specs["getPet"].description) == ("Gets a pet", "Gets one pet by its id")
    assert specs["getPet"].parameters[2] == ToolParameter(
        "limit", "number", default=10, label="limit", description="How many"
    )
    assert specs["getPet"].parameters[-1].options == ("up", "down")
    assert [(parameter.name, parameter.type, parameter.required) for parameter in specs["addPet"].parameters] == [
        ("name", "string", True),
        ("age", "number", False),
        ("weight", "any", False),
        ("tame", "boolean", False),
        ("tags", "array", False),
        ("parent", "object", False),
    ]
    assert specs["addPet"].parameters[0].description == "What it is called"
    assert [parameter.type for parameter in specs["pictures"].parameters] == ["file", "files", "string"]


async def test_a_schema_that_contains_itself_ends_somewhere(folder: Path):
    parent: Any = (await tools(folder).find(reference("addPet"))).spec.parameters[-1].input_schema
    depth = 0
    while parent := parent.get("properties", {}).get("parent"):
        depth += 1
    assert 0 < depth < 10


async def test_a_schema_that_contains_itself_many_times_is_cut_off_early(tmp_path: Path):
    fields = ", ".join(f'f{n}: {{$ref: "#/components/schemas/Tree"}}' for n in range(20))
    (tmp_path / "pets.yaml").write_text(f"""
openapi: 3.0.0
servers: [{{url: "https://pets.example"}}]
paths:
  /trees:
    post:
      operationId: addTree
      requestBody: {{content: {{application/json: {{schema: {{$ref: "#/components/schemas/Tree"}}}}}}}}
components: {{schemas: {{Tree: {{type: object, properties: {{{fields}}}}}}}}}
""")
    parameters = (await tools(tmp_path).find(reference("addTree"))).spec.parameters
    assert [parameter.type for parameter in parameters] == ["object"] * 20
    assert len(json.dumps([parameter.input_schema for parameter in parameters])) < 200_000


async def test_an_operation_that_is_malformed_is_named(tmp_path: Path):
    (tmp_path / "pets.yaml").write_text("""
openapi: 3.0.0
servers: [{url: "https://pets.example"}]
paths:
  /empty: {get: {operationId: empty, parameters: }}
  /nameless: {get: {operationId: nameless, parameters: [{in: query}]}}
  /required: {post: {operationId: required, requestBody: {content: {application/json: {schema: {
    required: true, properties: {name: {type: string, enum: }}}}}}}}
  404: {get: {}}
""")
    source = tools(tmp_path)
    assert (await source.find(reference("empty"))).spec.parameters == ()
    assert [parameter.required for parameter in (await source.find(reference("required"))).spec.parameters] == [False]
    assert "pets.yaml: the operation 'nameless' is malformed" in str(source.missing(reference("nameless")))
    assert source.missing(reference("404_get")) is None
    assert [spec.name for spec in (await source.specs())["pets"]] == ["empty", "required", "404_get"]


async def test_of_two_operations_with_one_name_the_second_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "pets.yaml").write_text("""
openapi: 3.0.0
servers: [{url: "https://pets.example"}]
paths: {/a: {get: {operationId: twice}}, /b: {post: {operationId: twice}}}
""")
    assert (await requested(tmp_path, "twice")).url == "https://pets.example/a"
    assert "pets.yaml: post /b has the name of another operation: twice" in caplog.text


async def test_swagger_is_read(tmp_path: Path):
    (tmp_path / "pets.json").write_text(json.dumps(yaml.safe_load(SWAGGER)))
    request = await requested(tmp_path, "listPets")
    assert (request.method, request.url) == ("GET", "https://pets.example/v2/pets?token=s3cret&limit=5")
    request = await requested(tmp_path, "addPet", name="Rex")
    assert request.content == b'{"name": "Rex"}'
    request = await requested(tmp_path, "upload", picture=File("image", "local_file", "a.png"), title="T")
    assert request.parts == [Part("title", b"T"), Part("picture", b"<a.png>", "a.png")]


async def test_json_is_read_that_yaml_does_not_take(tmp_path: Path):
    operation = {"operationId": "get", "summary": "Send \U0001f40c"}
    content = {"openapi": "3.0.0", "servers": [{"url": "https://a.example"}], "paths": {"/a": {"get": operation}}}
    (tmp_path / "a.json").write_text(json.dumps(content, indent="\t"))  # with \ud83d\udc0c, and tabs
    (spec,) = (await tools(tmp_path).specs())["a"]
    assert spec.description == "Send \U0001f40c"


async def test_a_plugin_manifest_leads_to_the_description_next_to_it(tmp_path: Path):
    manifest = {"schema_version": "v1", "api": {"type": "openapi", "url": "https://pets.example/files/api.yaml"}}
    (tmp_path / "tools.yaml").write_text("apis: {pets: {description: manifest.json}}")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(HeadraceError, match=r"save the description of the API \(https://.*\) as api.yaml next to it"):
        tools(tmp_path / "tools.yaml")
    (tmp_path / "api.yaml").write_text(PETS)
    assert tools(tmp_path / "tools.yaml").missing(reference("getPet")) is None


async def test_references_lead_into_other_files_but_not_elsewhere(tmp_path: Path):
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "pet.yaml").write_text(
        'Pet: {type: object, properties: {tag: {$ref: "#/Tag"}}}\nTag: {type: boolean}'
    )
    text = PETS.replace('schema: {$ref: "#/components/schemas/Pet"}', 'schema: {$ref: "schemas/pet.yaml#/Pet"}')
    (tmp_path / "pets.yaml").write_text(text)
    source = tools(tmp_path / "pets.yaml")
    assert [
        (parameter.name, parameter.type) for parameter in (await source.find(reference("addPet"))).spec.parameters
    ] == [("tag", "boolean")]
    (tmp_path / "pets.yaml").write_text(text.replace("schemas/pet.yaml", "https://pets.example/pet.yaml"))
    assert "leads to nothing" in str(tools(tmp_path / "pets.yaml").missing(reference("addPet")))
    (tmp_path / "pets.yaml").write_text(text.replace("schemas/pet.yaml#/Pet", "#/components/schemas/Gone"))
    assert "leads to nothing" in str(tools(tmp_path / "pets.yaml").missing(reference("addPet")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("openapi: 3.0.0", "has no `paths`"),
        ("openapi: 3.0.0\npaths: {}", "does not say on which server"),
        ("[1]", "does not contain an object"),
        ("a: [", "is not valid YAML or JSON"),
        ("apis: {pets: {url: x}}", "apis.pets.url: Extra inputs are not permitted"),
        ("apis: {pets: {description: gone.yaml}}", "gone.yaml cannot be read"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, message: str):
    (tmp_path / "api.yaml").write_text(text)
    with pytest.raises(HeadraceError, match=message):
        tools(tmp_path / "api.yaml")


# --------------------------------------------------------------------------------------------------------- requests


async def test_parameters_are_put_into_their_places(folder: Path):
    request = await requested(
        folder,
        "getPet",
        **{"id": "a/b c", "fields": ["x", "y&z"], "empty": "", "X-Trace": 7, "session": "s=1", "order": "up"},
    )
    assert request.url == "https://eu.pets.example/v1/pets/a%2Fb%20c?fields=x&fields=y%26z&limit=10&order=up"
    assert dict(request.headers) == {"X-Api-Key": "s3cret", "X-Trace": "7", "Cookie": "session=s%3D1"}
    assert (request.content, request.connect_timeout, request.read_timeout) == (None, 10, 60)


async def test_a_declared_idempotency_key_is_the_calls(folder: Path):
    (folder / "pets.yaml").write_text(PETS.replace("name: X-Trace", "name: Idempotency-Key"))
    request = await requested(folder, "getPet", id="1", order="up")
    assert dict(request.headers)["Idempotency-Key"] == CONTEXT.key
    request = await requested(folder, "getPet", **{"id": "1", "order": "up", "Idempotency-Key": "mine"})
    assert dict(request.headers)["Idempotency-Key"] == "mine"


async def test_a_required_parameter_must_be_given(folder: Path):
    with pytest.raises(NodeError, match="Missing required parameter order") as raised:
        await requested(folder, "getPet", id="1")
    assert raised.value.kind == "ToolParameterError"
    with pytest.raises(NodeError, match="Missing required parameter name in operation addPet"):
        await requested(folder, "addPet", age=1)


@pytest.mark.parametrize("value", [".", ".."])
async def test_a_path_parameter_does_not_lead_to_another_path(folder: Path, value: str):
    with pytest.raises(NodeError, match="The path parameter id must not be") as raised:
        await requested(folder, "pets_id_delete", id=value)
    assert raised.value.kind == "ToolParameterError"


async def test_a_json_body_has_the_types_of_its_schema(folder: Path):
    parameters = {"name": 5, "age": "3", "weight": "1.5", "tags": '["a"]', "other": "not declared"}
    request = await requested(folder, "addPet", **parameters)
    assert json.loads(request.content or b"") == {"name": "5", "age": 3, "weight": 1.5, "tame": True, "tags": ["a"]}
    assert dict(request.headers)["Content-Type"] == "application/json"
    request = await requested(folder, "addPet", name="x", age=float("inf"), tame=True)
    assert json.loads(request.content or b"")["age"] == float("inf")
    request = await requested(folder, "addPet", name="x", age="old", weight="", tame="no idea")
    assert json.loads(request.content or b"") == {"name": "x", "age": "old", "weight": "", "tame": "no idea"}


async def test_forms(folder: Path):
    request = await requested(folder, "formPet", name="a b", ages=[1, 2], ok=True)
    assert request.content == b"name=a+b&ages=1&ages=2&ok=true"
    assert dict(request.headers)["Content-Type"] == "application/x-www-form-urlencoded"


async def test_files_are_sent_in_parts(folder: Path):
    image = File("image", "local_file", "a.png", mime_type="image/png")
    request = await requested(folder, "pictures", cover=image, others=[image, image], title="T")
    part = Part("others", b"<a.png>", "a.png", "image/png")
    assert request.parts == [Part("title", b"T"), Part("cover", b"<a.png>", "a.png", "image/png"), part, part]
    assert "Content-Type" not in dict(request.headers)


# -------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("auth", "headers", "query"),
    [
        ("{type: header}", {"Authorization": "k:1"}, ""),
        ("{type: header, prefix: bearer}", {"Authorization": "Bearer k:1"}, ""),
        ("{type: header, prefix: basic}", {"Authorization": "Basic azox"}, ""),
        ("{type: header, name: X-Key, prefix: custom}", {"X-Key": "k:1"}, ""),
        ("{type: query}", {}, "?key=k%3A1"),
        ("{type: query, name: token}", {}, "?token=k%3A1"),
        ("{type: none}", {}, ""),
    ],
)
async def test_how_a_key_is_sent(folder: Path, auth: str, headers: Mapping[str, str], query: str):
    config = f"apis: {{pets: {{description: pets.yaml, server: 'http://test', auth: {auth}}}}}"
    (folder / "tools.yaml").write_text(config)
    request = await requested(folder, "pets_id_delete", {"PETS_API_KEY": "k:1"}, id="1")
    assert (request.url, dict(request.headers)) == (f"http://test/pets/1{query}", headers)


def test_a_missing_key_is_named_unless_the_operation_needs_none(folder: Path):
    source = tools(folder, environ={})
    assert source.missing(reference("getPet")) == "The API 'pets' needs a key: set PETS_API_KEY."
    assert source.missing(reference("pets_id_delete")) is None
    (folder / "tools.yaml").write_text("apis: {pets: {description: pets.yaml, auth: {type: query, variable: OWN}}}")
    assert source.missing(reference("getPet")) == "The API 'pets' needs a key: set PETS_API_KEY."
    assert tools(folder, environ={}).missing(reference("getPet")) == "The API 'pets' needs a key: set OWN."
    assert tools(folder, environ={"OWN": "x"}).missing(reference("getPet")) is None


async def test_a_key_is_not_part_of_an_error(folder: Path):
    with pytest.raises(NodeError, match="status code 403 and denied for \\*\\*\\*"):
        await call(tools(folder, Server(b"denied for s3cret", 403)), "pets_id_delete", id="1")


async def test_a_key_is_not_part_of_an_error_in_the_form_in_which_it_is_sent(folder: Path):
    (folder / "tools.yaml").write_text("apis: {pets: {description: pets.yaml, auth: {type: header, prefix: basic}}}")
    echo = b'{"Authorization": "Basic dXNlcjpwYXNz", "path": "/?key=user%3Apass"}'
    source = tools(folder, Server(echo, 401), {"PETS_API_KEY": "user:pass"})
    with pytest.raises(NodeError) as raised:
        await call(source, "pets_id_delete", id="1")
    assert str(raised.value).endswith('{"Authorization": "Basic ***", "path": "/?key=***"}')


# ----------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("body", "content_type", "messages"),
    [
        (b'{"a": 1}', "application/json; charset=utf-8", [JsonMessage({"a": 1}), TextMessage('{"a": 1}')]),
        (b'{"a": 1}', "text/plain", [TextMessage('{"a": 1}')]),
        (b"[1]", "application/json", [TextMessage("[1]")]),
        (b'{"a": "\\ud800"}', "application/json", [JsonMessage({"a": "\ufffd"}), TextMessage('{"a": "\\ud800"}')]),
        (b"{", "application/json", [TextMessage("{")]),
        (b"gr\xfcn", "text/plain; charset=iso-8859-1", [TextMessage("grün")]),
        (b"", "", [TextMessage("Empty response from the tool, please check your parameters and try again.")]),
    ],
)
async def test_answers(folder: Path, body: bytes, content_type: str, messages: list[Any]):
    server = Server(body, content_type=content_type)
    assert await call(tools(folder, server), "pets_id_delete", id="1") == messages


async def test_a_status_of_an_error_fails(folder: Path):
    with pytest.raises(NodeError) as raised:
        await call(tools(folder, Server(b"no such pet", 404)), "pets_id_delete", id="1")
    assert (str(raised.value), raised.value.kind) == (
        "Request failed with status code 404 and no such pet",
        "ToolInvokeError",
    )


# --------------------------------------------------------------------------------------------------------- providers


def test_a_provider_is_found_by_its_name_or_id(folder: Path):
    source = tools(folder)
    assert source.missing(reference("getPet", "pets", "any")) is None
    assert source.missing(reference("getPet", "Haustiere", "pets")) is None
    message = source.missing(reference("getPet", "Haustiere"))
    assert message is not None
    assert "as Haustiere.yaml or Haustiere.json" in message
    assert source.missing(reference("sing")) == "The API 'pets' has no operation 'sing'."


def test_without_configuration_there_are_no_apis():
    assert read_config(None).apis == {}
