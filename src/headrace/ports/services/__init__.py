"""The services that nodes use: protocols, and their requests and responses.

Adapters implement them; nodes reach them through `Context.resources`. Every failure is a `NodeError` whose `kind` is
Dify's name for it.
"""

from __future__ import annotations

from dataclasses import field

from headrace.frozen import frozen
from headrace.ports.mail import MailSetup
from headrace.ports.services.files import Files
from headrace.ports.services.http import Http, HttpRequest, HttpResponse, Part
from headrace.ports.services.knowledge import (
    DatasetDescription,
    Documents,
    History,
    Knowledge,
    Passage,
    Retrieval,
    Turn,
)
from headrace.ports.services.models import (
    MOST_TOKENS,
    ChatChunk,
    ChatRequest,
    FunctionTool,
    Message,
    Models,
    Speech,
    ToolCall,
    Usage,
    estimate_tokens,
)
from headrace.ports.services.sandbox import Sandbox
from headrace.ports.services.tools import (
    STRATEGY,
    BlobChunkMessage,
    BlobMessage,
    FileMessage,
    ImageMessage,
    JsonMessage,
    LinkMessage,
    LogMessage,
    McpEndpoint,
    ParameterType,
    SourcesMessage,
    TextMessage,
    Tool,
    ToolContext,
    ToolMessage,
    ToolParameter,
    ToolReference,
    Tools,
    ToolSpec,
    UsageMessage,
    VariableMessage,
)

__all__ = [
    "MOST_TOKENS",
    "STRATEGY",
    "BlobChunkMessage",
    "BlobMessage",
    "ChatChunk",
    "ChatRequest",
    "DatasetDescription",
    "Documents",
    "FileMessage",
    "Files",
    "FunctionTool",
    "History",
    "Http",
    "HttpRequest",
    "HttpResponse",
    "ImageMessage",
    "JsonMessage",
    "Knowledge",
    "Limits",
    "LinkMessage",
    "LogMessage",
    "McpEndpoint",
    "Message",
    "Models",
    "ParameterType",
    "Part",
    "Passage",
    "Resources",
    "Retrieval",
    "Sandbox",
    "SourcesMessage",
    "Speech",
    "TextMessage",
    "Tool",
    "ToolCall",
    "ToolContext",
    "ToolMessage",
    "ToolParameter",
    "ToolReference",
    "ToolSpec",
    "Tools",
    "Turn",
    "Usage",
    "UsageMessage",
    "VariableMessage",
    "estimate_tokens",
]


@frozen
class Resources:
    """The services of one installation."""

    models: Models
    http: Http
    sandbox: Sandbox
    files: Files
    documents: Documents
    knowledge: Knowledge
    history: History
    tools: Tools
    mail: MailSetup = field(default_factory=MailSetup)


@frozen
class Limits:
    """Limits of a run and its nodes; the defaults are Dify's."""

    max_steps: int = 500
    max_seconds: float = 1200
    max_text: int = 1_000_000  # characters of a text output
    max_form_seconds: float = 604_800  # that a form may wait, whatever its own time; 0: no limit
    code_max_string: int = 400_000
    code_max_number: float = 2**63 - 1
    code_min_number: float = -(2**63)
    code_max_depth: int = 5
    code_max_string_array: int = 30
    code_max_object_array: int = 30
    code_max_number_array: int = 1000
    code_seconds: float = 60
    template_max_output: int = 400_000
    http_max_text: int = 1024 * 1024
    http_max_binary: int = 10 * 1024 * 1024
    http_max_connect: float = 300
    http_max_read: float = 600
    http_max_write: float = 600
