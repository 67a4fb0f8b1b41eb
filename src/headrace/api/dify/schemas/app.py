"""Information about apps, and uploaded files."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from headrace.api.dify.schemas.common import Object


class Index(TypedDict):
    """The API's name, and the version of Dify whose API it is."""

    welcome: str
    api_version: str
    server_version: str


class AppInfo(TypedDict):
    name: str
    description: str
    tags: list[str]
    mode: str
    author_name: str


class SystemParameters(TypedDict):
    """Limits of uploads: sizes in MB, and files a run."""

    image_file_size_limit: int
    video_file_size_limit: int
    audio_file_size_limit: int
    file_size_limit: int
    workflow_file_upload_limit: int


class AppParameters(TypedDict):
    """The app's form and features, as its file has them. `user_input_form`: each variable under its type."""

    opening_statement: str | None
    suggested_questions: list[str]
    suggested_questions_after_answer: Object
    speech_to_text: Object
    text_to_speech: Object
    retriever_resource: Object
    annotation_reply: Object
    more_like_this: Object
    user_input_form: list[dict[str, Object]]
    sensitive_word_avoidance: Object
    file_upload: Object
    system_parameters: SystemParameters


class AppMeta(TypedDict):
    tool_icons: dict[str, Any]


class AppSite(TypedDict):
    """How the app presents itself."""

    title: str
    chat_color_theme: None
    chat_color_theme_inverted: bool
    icon_type: str
    icon: str | None
    icon_background: str | None
    description: str | None
    copyright: None
    privacy_policy: None
    custom_disclaimer: str
    default_language: str
    show_workflow_steps: bool
    use_icon_as_answer_icon: bool
    icon_url: None
    input_placeholder: None


class UploadedFile(TypedDict):
    """A stored file, whose `id` a run takes as `upload_file_id`."""

    id: str
    name: str
    size: int
    extension: str
    mime_type: str
    created_by: str
    created_at: int
    preview_url: None
    source_url: str | None
    original_url: None
    user_id: None
    tenant_id: None
    conversation_id: None
    file_key: None
    reference: None


class EndUser(TypedDict):
    """An end user of an app; `session_id` is the `user` that its requests named."""

    id: str
    tenant_id: None
    app_id: str
    type: str
    external_user_id: str
    name: None
    is_anonymous: bool
    session_id: str
    created_at: str
    updated_at: str
