"""Custom tools: the operations of APIs. Their descriptions come from the operator: workflow files have none.

What reads descriptions is loaded when there are any.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from headrace.adapters.tools.configuration import Api, Auth
from headrace.adapters.tools.registry import NOT_FOUND
from headrace.content.encodings import decode
from headrace.content.filetypes import essence
from headrace.content.python_json import load_json
from headrace.errors import HeadraceError, NodeError
from headrace.frozen import frozen
from headrace.ports.services import (
    Files,
    Http,
    JsonMessage,
    TextMessage,
    Tool,
    ToolContext,
    ToolMessage,
    ToolReference,
    ToolSpec,
)
from headrace.values import Value

if TYPE_CHECKING:
    from headrace.adapters.tools.custom.description import Description, Operation

INVOKE_ERROR = "ToolInvokeError"
_EMPTY = "Empty response from the tool, please check your parameters and try again."


class CustomTools:
    """Implements `ToolSource` for the provider type `api`. `apis` are the APIs by the name of their provider; their
    keys are in `environ`. HeadraceError if a description cannot be read."""

    def __init__(
        self, apis: Mapping[str, Api], http: Http, files: Files, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._http = http
        self._files = files
        self._apis = {name: _Api.read(name, api, environ) for name, api in apis.items()}

    async def find(self, reference: ToolReference) -> Tool:
        """See `Tools.find`."""
        api, operation = self._find(reference)
        return CustomTool(operation, api.auth, api.key, self._http, self._files)

    def missing(self, reference: ToolReference) -> str | None:
        """See `Tools.missing`."""
        try:
            self._find(reference)
        except NodeError as error:
            return str(error)
        return None

    async def specs(self) -> Mapping[str, Sequence[ToolSpec]]:
        """See `ToolSource.specs`."""
        return {name: [operation.spec for operation in api.description] for name, api in self._apis.items()}

    async def aclose(self) -> None:
        """Nothing is open: the HTTP client is not its own."""

    def _find(self, reference: ToolReference) -> tuple[_Api, Operation]:
        name = reference.provider_name
        api = self._apis.get(name) or self._apis.get(reference.provider_id)
        if api is None:
            message = (
                f"The description of the API '{name}' is needed: put its OpenAPI or Swagger file into the folder of "
                f"HEADRACE_TOOLS, as {name}.yaml or {name}.json."
            )
            raise NodeError(message, NOT_FOUND)
        try:
            operation = api.description.operation(reference.tool_name)
        except HeadraceError as error:
            raise NodeError(str(error), NOT_FOUND) from error
        if operation is None:
            raise NodeError(f"The API '{api.name}' has no operation '{reference.tool_name}'.", NOT_FOUND)
        if api.auth and api.auth.type != "none" and not api.key and not operation.public:
            raise NodeError(f"The API '{api.name}' needs a key: set {api.variable}.", NOT_FOUND)
        return api, operation


@frozen
class _Api:
    """An API that is ready to be called. `variable` is the environment variable of its key."""

    name: str
    description: Description
    auth: Auth | None
    variable: str
    key: str

    @classmethod
    def read(cls, name: str, api: Api, environ: Mapping[str, str]) -> _Api:
        from headrace.adapters.tools.custom.description import Description

        description = Description(api.description, api.server)
        auth = api.auth or description.auth
        own = "_".join([*re.findall("[A-Z0-9]+", name.upper()), "API_KEY"])
        variable = (auth and auth.variable) or own
        return cls(name, description, auth, variable, environ.get(variable, "").strip())


@frozen
class CustomTool:
    """Implements `Tool`: sends a request."""

    operation: Operation
    auth: Auth | None
    key: str
    http: Http
    files: Files

    @property
    def spec(self) -> ToolSpec:
        return self.operation.spec

    async def call(self, parameters: Mapping[str, Value], context: ToolContext) -> AsyncGenerator[ToolMessage]:
        """See `Tool.call`. The answer is text, and if it is a JSON object that as well."""
        from headrace.adapters.tools.custom.request import request_of

        request = await request_of(self.operation, parameters, self.auth, self.key, self.files, context.key)
        try:
            response = await self.http.send(request)
        except NodeError as error:
            raise NodeError(self._without_key(str(error)), error.kind) from None
        headers = {name.lower(): value for name, value in response.headers}
        content_type = headers.get("content-type", "")
        text = decode(response.body, content_type.partition("charset=")[2].strip("\"' "))
        if response.status >= 400:
            message = f"Request failed with status code {response.status} and {text}"
            raise NodeError(self._without_key(message), INVOKE_ERROR)
        if not response.body:
            yield TextMessage(_EMPTY)
            return
        if essence(content_type) == "application/json" and (value := _object(text)) is not None:
            yield JsonMessage(value)
        yield TextMessage(text)

    def _without_key(self, text: str) -> str:
        """The text without the key, also as it is in a header or a URL: some servers repeat the request."""
        from headrace.adapters.tools.custom.request import basic_credentials

        for secret in filter(None, (basic_credentials(self.key), quote_plus(self.key), self.key)):
            text = text.replace(secret, "***")
        return text


def _object(text: str) -> dict[str, Any] | None:
    try:
        value: Any = load_json(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType]
