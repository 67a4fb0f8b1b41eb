"""Information about an app: its name, form, features and appearance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api
from headrace.api.dify import examples
from headrace.api.dify.schemas.app import AppInfo, AppMeta, AppParameters, AppSite, Index, SystemParameters
from headrace.api.http.responses import encode
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import Media
from headrace.apps.catalog import Release
from headrace.node import Flow
from headrace.values import Value

_MB = 1024 * 1024
_FILES_A_RUN = 10
_OFF: Mapping[str, Value] = {"enabled": False}
_NO_FILES: Mapping[str, Value] = {
    "image": {"enabled": False, "number_limits": 3, "detail": "high", "transfer_methods": ["remote_url", "local_file"]}
}
_INDEX: Index = {"welcome": "Dify OpenAPI", "api_version": "v1", "server_version": "1.12.1"}


class AppRoutes(Routes):
    """`/v1/`, `/v1/info`, `/v1/parameters`, `/v1/meta`, `/v1/site`."""

    tag = "App"

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        limit_for = api.options.limit_for
        self._system: SystemParameters = {
            "image_file_size_limit": limit_for(".png") // _MB,
            "video_file_size_limit": limit_for(".mp4") // _MB,
            "audio_file_size_limit": limit_for(".mp3") // _MB,
            "file_size_limit": limit_for(".txt") // _MB,
            "workflow_file_upload_limit": _FILES_A_RUN,
        }

    @Operation("GET", "/v1/", Media(Index, _INDEX), public=True)
    async def get_index(self, request: Request) -> Response:
        """Get the API's name and version.

        Needs no key. `server_version` is the version of Dify whose API this is.
        """
        index: Index = {**_INDEX, "server_version": self.api.options.headers.get("X-Version", "")}
        return _json(index)

    @Operation("GET", "/info", Media(AppInfo, examples.APP_INFO))
    async def get_info(self, request: Request) -> Response:
        """Get the app's name and mode."""
        app = (await self.api.authenticate(request)).app
        info: AppInfo = {
            "name": app.name,
            "description": app.description,
            "tags": [],
            "mode": app.mode,
            "author_name": "",
        }
        return _json(info)

    @Operation("GET", "/parameters", Media(AppParameters, examples.APP_PARAMETERS))
    async def get_parameters(self, request: Request) -> Response:
        """Get the app's form and features.

        The start node's variables, the features that are on, and how large files may be.
        """
        return _json(await self.parameters_of(await self.api.authenticate(request)))

    async def parameters_of(self, release: Release) -> AppParameters:
        """The form and features of an app."""
        flow, annotation_reply = release.flow, await self.api.run_service.conversations.annotation_reply(release.app.id)
        features = flow.features
        return {
            "opening_statement": features.get("opening_statement"),
            "suggested_questions": features.get("suggested_questions", []),
            "suggested_questions_after_answer": features.get("suggested_questions_after_answer", _OFF),
            "speech_to_text": features.get("speech_to_text", _OFF),
            "text_to_speech": features.get("text_to_speech", _OFF),
            "retriever_resource": features.get("retriever_resource", _OFF),
            "annotation_reply": {"enabled": annotation_reply is not None},  # the app's file does not have it
            "more_like_this": features.get("more_like_this", _OFF),
            "user_input_form": _form(flow),
            "sensitive_word_avoidance": features.get("sensitive_word_avoidance", _OFF),
            "file_upload": features.get("file_upload", _NO_FILES),
            "system_parameters": self._system,
        }

    @Operation("GET", "/meta", Media(AppMeta, {"tool_icons": {}}))
    async def get_meta(self, request: Request) -> Response:
        """Get the icons of the app's tools.

        There are none here.
        """
        await self.api.authenticate(request)
        meta: AppMeta = {"tool_icons": {}}
        return _json(meta)

    @Operation("GET", "/site", Media(AppSite, examples.APP_SITE))
    async def get_site(self, request: Request) -> Response:
        """Get the app's appearance.

        Title and icon, as the file has them.
        """
        app = (await self.api.authenticate(request)).app
        settings = app.settings
        site: AppSite = {
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
        return _json(site)


def _form(flow: Flow) -> list[dict[str, Mapping[str, Value]]]:
    """The start node's variables as the file has them, each under its type."""
    start_variables = flow.graph.nodes[flow.graph.root].config.get("variables")
    variables = cast("list[Value]", start_variables) if isinstance(start_variables, list) else []
    fields = [cast("dict[str, Value]", variable) for variable in variables if isinstance(variable, dict)]
    return [{str(field.get("type", "text-input")): field} for field in fields]


def _json(value: Mapping[str, Value]) -> Response:
    return Response(encode(value, default=str), media_type="application/json")
