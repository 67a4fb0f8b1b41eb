"""One example of each request and response, for `/openapi.json`."""

from __future__ import annotations

from headrace import ports
from headrace.api.dify.message_responses import MessageView
from headrace.api.dify.run_responses import workflow_log
from headrace.api.dify.schemas.app import AppInfo, AppParameters, AppSite, EndUser, UploadedFile
from headrace.api.dify.schemas.conversations import Annotation, Conversation, ConversationVariable
from headrace.api.dify.schemas.forms import FormRequest, FormResponse
from headrace.api.dify.schemas.messages import (
    ChatRequest,
    CompletionRequest,
    Feedback,
    Message,
    MessageMetadata,
)
from headrace.api.dify.schemas.runs import BlockingRun, WorkflowRequest, WorkflowRun

USER = "user-123"
RUN = "fb47b2e6-5e43-4f90-be01-d5c5a088d156"
TASK = "c3800678-a077-43df-a102-53f23ed20b88"
WORKFLOW = "7c3e33d4-2a8b-4e5f-9b1a-d3c6e8f12345"
APP = "b2c69214-ecc5-4196-99c4-c8fdf975a694"
FILE = "a1b2c3d4-5678-90ab-cdef-1234567890ab"
END_USER = "f1e2d3c4-b5a6-7890-abcd-ef1234567890"
MESSAGE_ID = "5ad4cb98-f0c7-4085-b384-88c403be6290"
CONVERSATION_ID = "45701982-8118-4bc5-8e9b-64562b4555f2"
JOB = "b6a3cd3e-1c4c-5f4a-8e0a-0a2c36b1c3b7"
_FEEDBACK_ID = "b7e2f8a1-3c4d-4e6f-8890-abcdef123456"
CREATED_AT = 1795226714
CREATED = "2026-11-21T02:05:14Z"

# ------------------------------------------------------------------------------------------------------------- runs

RUN_REQUEST: WorkflowRequest = {"inputs": {"query": "hello"}, "response_mode": "blocking", "user": USER}
BLOCKING_RUN: BlockingRun = {
    "task_id": TASK,
    "workflow_run_id": RUN,
    "data": {
        "id": RUN,
        "workflow_id": WORKFLOW,
        "status": "succeeded",
        "outputs": {"text": "Hello!"},
        "error": None,
        "elapsed_time": 1.23,
        "total_tokens": 150,
        "total_steps": 3,
        "created_at": CREATED_AT,
        "finished_at": CREATED_AT + 1,
    },
}
RUN_STREAM = (
    f'data: {{"event":"workflow_started","workflow_run_id":"{RUN}","task_id":"{TASK}",'
    f'"data":{{"id":"{RUN}","workflow_id":"{WORKFLOW}","inputs":{{"query":"hello"}},'
    f'"created_at":{CREATED_AT},"reason":"initial"}}}}\n\nevent: ping\n\n'
    f'data: {{"event":"text_chunk","workflow_run_id":"{RUN}","task_id":"{TASK}",'
    '"data":{"text":"Hello!","from_variable_selector":["llm","text"]}}\n\n'
)
FORM: FormResponse = {
    "form_content": "Please review the draft.\n\n{{#$output.comment#}}",
    "inputs": [
        {"type": "paragraph", "output_variable_name": "comment", "default": None},
        {
            "type": "select",
            "output_variable_name": "priority",
            "option_source": {"type": "constant", "selector": [], "value": ["low", "high"]},
        },
    ],
    "resolved_default_values": {},
    "user_actions": [{"id": "approve", "title": "Approve", "button_style": "primary"}],
    "expiration_time": 1795313114,
}
FORM_REQUEST: FormRequest = {
    "inputs": {"comment": "Good to go.", "priority": "low"},
    "action": "approve",
    "user": USER,
}
WORKFLOW_RUN: WorkflowRun = {
    "id": RUN,
    "workflow_id": WORKFLOW,
    "status": "succeeded",
    "inputs": '{"query": "hello"}',
    "outputs": '{"text": "Hello!"}',
    "error": None,
    "total_steps": 3,
    "total_tokens": 150,
    "created_at": CREATED_AT,
    "finished_at": CREATED_AT + 1,
    "elapsed_time": 1.23,
}
_LISTED = ports.ListedRun(
    RUN,
    APP,
    WORKFLOW,
    "succeeded",
    "service-api",
    END_USER,
    USER,
    None,
    1.23,
    tokens=150,
    steps=3,
    exceptions=0,
    created_at=CREATED_AT,
    finished_at=CREATED_AT + 1,
)
WORKFLOW_LOG = workflow_log(_LISTED, ports.Version(WORKFLOW, APP, 1, "", "", CREATED_AT - 29114))

# --------------------------------------------------------------------------------------------------------- messages

CHAT_REQUEST: ChatRequest = {"inputs": {}, "query": "hello", "response_mode": "blocking", "user": USER}
COMPLETION_REQUEST: CompletionRequest = {"inputs": {"query": "hello"}, "response_mode": "blocking", "user": USER}
_METADATA: MessageMetadata = {
    "annotation_reply": None,
    "retriever_resources": [],
    "usage": {
        "prompt_tokens": 6,
        "prompt_unit_price": "0.001",
        "prompt_price_unit": "0.001",
        "prompt_price": "0.0000060",
        "completion_tokens": 4,
        "completion_unit_price": "0.002",
        "completion_price_unit": "0.001",
        "completion_price": "0.0000080",
        "total_tokens": 10,
        "total_price": "0.0000140",
        "currency": "USD",
        "latency": 0.124,
        "time_to_first_token": 0.03,
        "time_to_generate": 0.1,
    },
}
COMPLETION: Message = {
    "event": "message",
    "task_id": TASK,
    "id": MESSAGE_ID,
    "message_id": MESSAGE_ID,
    "mode": "completion",
    "answer": "Hello!",
    "metadata": _METADATA,
    "created_at": CREATED_AT,
}
MESSAGE: Message = {**COMPLETION, "conversation_id": CONVERSATION_ID, "mode": "advanced-chat"}
_ENVELOPE = f'"message_id":"{MESSAGE_ID}","created_at":{CREATED_AT},"task_id":"{TASK}","id":"{MESSAGE_ID}"'
MESSAGE_STREAM = (
    f'data: {{"event":"message","conversation_id":"{CONVERSATION_ID}",{_ENVELOPE},"answer":"Hello!",'
    '"from_variable_selector":["llm","text"]}\n\nevent: ping\n\n'
)
_MESSAGE = ports.Message(
    MESSAGE_ID, APP, CONVERSATION_ID, END_USER, {}, "hello", (), 1, CREATED_AT, status="succeeded", answer="Hello!"
)
_RATING = ports.Feedback(_FEEDBACK_ID, APP, MESSAGE_ID, "like", "Just what I needed.", END_USER, CREATED_AT, CREATED_AT)
PAST_MESSAGE = MessageView(_MESSAGE, (), None, _METADATA["usage"], 1.234567).response(_RATING)
FEEDBACK: Feedback = {
    "id": _FEEDBACK_ID,
    "app_id": APP,
    "conversation_id": CONVERSATION_ID,
    "message_id": MESSAGE_ID,
    "rating": "like",
    "content": "Just what I needed.",
    "from_source": "user",
    "from_end_user_id": END_USER,
    "from_account_id": None,
    "created_at": CREATED,
    "updated_at": CREATED,
}

# ---------------------------------------------------------------------------------------------------- conversations

CONVERSATION: Conversation = {
    "id": CONVERSATION_ID,
    "name": "hello",
    "inputs": {},
    "status": "normal",
    "introduction": "Hi there!",
    "created_at": CREATED_AT,
    "updated_at": CREATED_AT,
}
VARIABLE: ConversationVariable = {
    "id": "3f0c1f9e-6f0f-4a7f-9e3e-5c9a3c2d1b0a",
    "name": "count",
    "value_type": "number",
    "value": "1",
    "description": "",
    "created_at": CREATED_AT,
    "updated_at": CREATED_AT,
}
ANNOTATION: Annotation = {
    "id": "7dbd3a36-7c3d-45dc-b1b2-9dd9ccb12d0e",
    "question": "What is Headrace?",
    "answer": "It runs workflows exported from Dify.",
    "hit_count": 0,
    "created_at": CREATED_AT,
}

# -------------------------------------------------------------------------------------------------------- app, files

APP_INFO: AppInfo = {"name": "echo", "description": "", "tags": [], "mode": "workflow", "author_name": ""}
_FIELD = {"label": "query", "variable": "query", "required": True, "type": "text-input"}
_OFF = {"enabled": False}
APP_PARAMETERS: AppParameters = {
    "opening_statement": None,
    "suggested_questions": [],
    "suggested_questions_after_answer": _OFF,
    "speech_to_text": _OFF,
    "text_to_speech": _OFF,
    "retriever_resource": _OFF,
    "annotation_reply": _OFF,
    "more_like_this": _OFF,
    "user_input_form": [{"text-input": _FIELD}],
    "sensitive_word_avoidance": _OFF,
    "file_upload": {"image": _OFF},
    "system_parameters": {
        "image_file_size_limit": 15,
        "video_file_size_limit": 15,
        "audio_file_size_limit": 15,
        "file_size_limit": 15,
        "workflow_file_upload_limit": 10,
    },
}
APP_SITE: AppSite = {
    "title": "echo",
    "chat_color_theme": None,
    "chat_color_theme_inverted": False,
    "icon_type": "emoji",
    "icon": "🤖",
    "icon_background": "#FFEAD5",
    "description": None,
    "copyright": None,
    "privacy_policy": None,
    "custom_disclaimer": "",
    "default_language": "en-US",
    "show_workflow_steps": True,
    "use_icon_as_answer_icon": False,
    "icon_url": None,
    "input_placeholder": None,
}
UPLOADED_FILE: UploadedFile = {
    "id": FILE,
    "name": "notes.txt",
    "size": 11,
    "extension": "txt",
    "mime_type": "text/plain",
    "created_by": END_USER,
    "created_at": CREATED_AT,
    "preview_url": None,
    "source_url": f"http://127.0.0.1:8040/files/{FILE}/file-preview?timestamp=...&nonce=...&sign=...",
    "original_url": None,
    "user_id": None,
    "tenant_id": None,
    "conversation_id": None,
    "file_key": None,
    "reference": None,
}
END_USER_DETAIL: EndUser = {
    "id": END_USER,
    "tenant_id": None,
    "app_id": APP,
    "type": "service-api",
    "external_user_id": USER,
    "name": None,
    "is_anonymous": False,
    "session_id": USER,
    "created_at": CREATED,
    "updated_at": CREATED,
}
