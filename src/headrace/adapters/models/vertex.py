"""Vertex AI: Gemini and Anthropic's models on Google Cloud, in their own protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from headrace.adapters.models import google_cloud
from headrace.adapters.models.anthropic import AnthropicCall
from headrace.adapters.models.blocks import Block, BlockCall
from headrace.adapters.models.endpoint import Endpoint
from headrace.adapters.models.failures import Failure
from headrace.adapters.models.gemini import GeminiCall
from headrace.adapters.models.google_cloud import AccessTokens
from headrace.errors import NodeError
from headrace.ports.services import ChatRequest, FunctionTool


def vertex_call(
    endpoint: Endpoint, request: ChatRequest, environ: Mapping[str, str], tokens: AccessTokens
) -> BlockCall:
    """The call of a model, in its publisher's protocol. NodeError if that is not implemented."""
    if "claude" in request.model:
        return _ClaudeCall(endpoint, request, environ, tokens)
    if not request.model.startswith("gemini"):
        raise NodeError(
            f"vertex_ai: {request.model!r} is neither one of Google's Gemini models nor one of Anthropic's. For others "
            "use a gateway that implements OpenAI's protocol, and set VERTEX_AI_BASE_URL.",
            "InvokeBadRequestError",
        )
    return _GeminiCall(endpoint, request, environ, tokens)


class _OnVertex(BlockCall):
    """The address of a model, and an access token."""

    _version: str
    _publisher: str
    _method: str

    def __init__(
        self, endpoint: Endpoint, request: ChatRequest, environ: Mapping[str, str], tokens: AccessTokens
    ) -> None:
        super().__init__(endpoint, request)
        self._tokens = tokens
        self._token = ""
        self._renewed = False
        location = google_cloud.location_of(environ, self.model)
        project = quote(google_cloud.project_of(environ), safe=":")
        self.url = (
            f"{google_cloud.address_of(endpoint, location)}/{self._version}/projects/{project}/locations/{location}"
            f"/publishers/{self._publisher}/models/{quote(self.model, safe='@')}:{self._method}"
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        return (*super().secrets, *([self._token] if self._token else []))

    async def headers(self, body: bytes) -> Mapping[str, str]:
        self._token = await self._tokens.current()
        return {**await super().headers(body), "Authorization": f"Bearer {self._token}"}

    def simplified(self, body: Block, failure: Failure) -> bool:
        """Also takes a token out of use that is refused, once: it may have been revoked."""
        if failure.status != 401 or self._renewed:
            return super().simplified(body, failure)
        self._tokens.discard(self._token)
        self._renewed = True
        return True


class _GeminiCall(_OnVertex, GeminiCall):
    _version, _publisher, _method = "v1beta1", "google", "streamGenerateContent?alt=sse"


class _ClaudeCall(_OnVertex, AnthropicCall):
    _version, _publisher, _method = "v1", "anthropic", "streamRawPredict"

    def assemble(self, system: list[str], turns: list[Block], tools: Sequence[FunctionTool]) -> Block:
        body = super().assemble(system, turns, tools)
        del body["model"]  # the URL names it
        return {"anthropic_version": "vertex-2023-10-16"} | body
