"""What an app says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api
from headrace.api.dify import run_docs
from headrace.api.http.json import encode
from headrace.api.http.routing import OperationList
from headrace.node import Flow
from headrace.values import Value

_MB = 1024 * 1024
_FILES_A_RUN = 10
_OFF: Mapping[str, Value] = {"enabled": False}
_NO_FILES: Mapping[str, Value] = {
    "image": {"enabled": False, "number_limits": 3, "detail": "high", "transfer_methods": ["remote_url", "local_file"]}
}
_USUAL: Mapping[str, Value] = {
    "opening_statement": None,
    "suggested_questions": [],
    "suggested_questions_after_answer": _OFF,
    "speech_to_text": _OFF,
    "text_to_speech": _OFF,
    "retriever_resource": _OFF,
    "annotation_reply": _OFF,
    "more_like_this": _OFF,
}


class AppRoutes:
    """`/v1/`, `/v1/info`, `/v1/parameters`, `/v1/meta`, `/v1/site`."""

    def __init__(self, api: Api) -> None:
        self.api = api
        limit_for = api.options.limit_for
        self._system: Mapping[str, Value] = {
            "image_file_size_limit": limit_for(".png") // _MB,
            "video_file_size_limit": limit_for(".mp4") // _MB,
            "audio_file_size_limit": limit_for(".mp3") // _MB,
            "file_size_limit": limit_for(".txt") // _MB,
            "workflow_file_upload_limit": _FILES_A_RUN,
        }

    def add_to(self, router: OperationList) -> None:
        router.add_api_route("/info", self.info, methods=["GET"], **run_docs.INFO)
        router.add_api_route("/parameters", self.parameters, methods=["GET"], **run_docs.PARAMETERS)
        router.add_api_route("/meta", self.meta, methods=["GET"], **run_docs.META)
        router.add_api_route("/site", self.site, methods=["GET"], **run_docs.SITE)

    def add_open_to(self, router: OperationList) -> None:
        """What needs no key."""
        router.add_api_route("/v1/", self.index, methods=["GET"], **run_docs.INDEX)

    async def index(self, request: Request) -> Response:
        version = self.api.options.headers.get("X-Version", "")
        return _json({"welcome": "Dify OpenAPI", "api_version": "v1", "server_version": version})

    async def info(self, request: Request) -> Response:
        app = (await self.api.authenticate(request)).app
        return _json(
            {"name": app.name, "description": app.description, "tags": [], "mode": app.mode, "author_name": ""}
        )

    async def parameters(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        flow, annotated = served.flow, await self.api.run_service.conversations.annotation_reply(served.app.id)
        features = flow.features
        told = {name: features.get(name, usual) for name, usual in _USUAL.items()}
        told |= {
            "user_input_form": _form(flow),
            "annotation_reply": {"enabled": annotated is not None},  # whatever the file says: it is no part of it
            "sensitive_word_avoidance": features.get("sensitive_word_avoidance", _OFF),
            "file_upload": features.get("file_upload", _NO_FILES),
            "system_parameters": self._system,
        }
        return _json(told)

    async def meta(self, request: Request) -> Response:
        await self.api.authenticate(request)
        return _json({"tool_icons": {}})

    async def site(self, request: Request) -> Response:
        app = (await self.api.authenticate(request)).app
        settings = app.settings
        return _json(
            {
                "title": app.name,
                "chat_color_theme": None,
                "chat_color_theme_inverted": False,
                "icon_type": settings.get("icon_type") or "emoji",
                "icon": settings.get("icon"),
                "icon_background": settings.get("icon_background"),
                "description": app.description or None,
                "copyright": None,
                "privacy_policy": None,
                "custom_disclaimer": "",
                "default_language": "en-US",
                "show_workflow_steps": True,
                "use_icon_as_answer_icon": bool(settings.get("use_icon_as_answer_icon")),
                "icon_url": None,
                "input_placeholder": None,  # a setting of the web app, which no app file has
            }
        )


def _form(flow: Flow) -> list[dict[str, Value]]:
    """The start node's variables as the file has them, each under its type."""
    declared = flow.graph.nodes[flow.graph.root].config.get("variables")
    variables = cast("list[Value]", declared) if isinstance(declared, list) else []
    objects = [cast("dict[str, Value]", each) for each in variables if isinstance(each, dict)]
    return [{str(each.get("type", "text-input")): each} for each in objects]


def _json(value: Mapping[str, Value]) -> Response:
    return Response(encode(value, default=str), media_type="application/json")
