"""What nodes may use of the world: protocols and the requests and answers that cross them.

Adapters implement them; nodes get them through `Context.resources`. Every failure is a `NodeError` whose `kind` is
Dify's name for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol

from headrace.values import File, Value

# ---------------------------------------------------------------------------------------------------------- models


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to have a tool called. `arguments` is JSON text, as the model wrote it (it may be broken)."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may ask for; `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt. `files` are shown to the model with `detail` (low, high) where it can see.

    An assistant's message may hold `tool_calls`; a tool's answers the call that `tool_call` names.
    """

    role: Literal["system", "user", "assistant", "tool"]
    text: str
    files: Sequence[File] = ()
    detail: str = "high"
    tool_calls: Sequence[ToolCall] = ()
    tool_call: str | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a model is asked.

    `provider` is as the workflow writes it (`openai`, `langgenius/openai/openai`, ...): its last part names the
    provider. `parameters` are completion parameters (temperature, max_tokens, response_format ...); `schema` is a
    JSON schema the answer must meet; `mode` is chat or completion; `tools` are what the model may ask for.
    """

    provider: str
    model: str
    messages: Sequence[Message]
    parameters: Mapping[str, Value] = field(default_factory=dict[str, Value])
    stop: Sequence[str] = ()
    schema: Mapping[str, Value] | None = None
    user: str | None = None
    mode: str = "chat"
    tools: Sequence[Tool] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and money of one answer. Unit prices are for `price_unit` (0.001: a thousand tokens); times in seconds."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_unit_price: Decimal = Decimal(0)
    completion_unit_price: Decimal = Decimal(0)
    price_unit: Decimal = Decimal("0.001")
    currency: str = "USD"
    latency: float = 0.0
    time_to_first_token: float | None = None
    time_to_generate: float | None = None

    def wire(self) -> dict[str, Value]:
        """Dify's `usage` object: prices are strings, with seven decimals at most."""
        prompt = _price(self.prompt_tokens, self.prompt_unit_price, self.price_unit)
        completion = _price(self.completion_tokens, self.completion_unit_price, self.price_unit)
        return {
            "prompt_tokens": self.prompt_tokens,
            "prompt_unit_price": str(self.prompt_unit_price),
            "prompt_price_unit": str(self.price_unit),
            "prompt_price": str(prompt),
            "completion_tokens": self.completion_tokens,
            "completion_unit_price": str(self.completion_unit_price),
            "completion_price_unit": str(self.price_unit),
            "completion_price": str(completion),
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "total_price": str(prompt + completion),
            "currency": self.currency,
            "latency": round(self.latency, 3),
            "time_to_first_token": _rounded(self.time_to_first_token),
            "time_to_generate": _rounded(self.time_to_generate),
        }


def _price(tokens: int, unit_price: Decimal, price_unit: Decimal) -> Decimal:
    return (unit_price * tokens * price_unit).quantize(Decimal("0.0000001"))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


_WIDE = 0x2E80  # from here on (CJK and its neighbours) a character is about a token


def estimate_tokens(text: str) -> int:
    """About how many tokens a text is, where nobody counted: one for each CJK character, one for every four of the
    others."""
    if text.isascii():
        return (len(text) + 3) // 4
    wide = sum(1 for character in text if ord(character) >= _WIDE)
    return wide + (len(text) - wide + 3) // 4


@dataclass(frozen=True, slots=True)
class ChatChunk:
    """A piece of a model's answer: text, reasoning, or (last) why it ended, what it used and the tools it asks for."""

    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    tool_calls: Sequence[ToolCall] = ()


class Models(Protocol):
    """Language models of every provider."""

    def chat(self, request: ChatRequest) -> AsyncIterator[ChatChunk]:
        """Streams the answer; the last chunk has `usage`. NodeError: no credentials (`ProviderTokenNotInitError`),
        a refused or failed call (`InvokeBadRequestError`, `InvokeRateLimitError`, `InvokeServerUnavailableError`,
        `InvokeConnectionError`, `InvokeAuthorizationError`)."""
        ...

    def missing(self, provider: str) -> str | None:
        """What to set so that this provider can be called, in words; None where nothing lacks."""
        ...


class Speech(Protocol):
    """Speech of every provider, through its own API. `provider` and `model` may be empty: then the default ones."""

    async def transcribe(
        self, audio: bytes, *, filename: str, mime_type: str, provider: str = "", model: str = ""
    ) -> str:
        """The words spoken. NodeError as for `Models.chat`."""
        ...

    async def speak(self, text: str, *, voice: str = "", provider: str = "", model: str = "") -> tuple[bytes, str]:
        """(audio, its MIME type). NodeError as for `Models.chat`."""
        ...


# ------------------------------------------------------------------------------------------------------------ http


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body."""

    name: str
    content: bytes
    filename: str | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to any server. Times in seconds, sizes in bytes; `parts` makes a multipart body, else `content`."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]] = ()
    content: bytes | None = None
    parts: Sequence[Part] = ()
    connect_timeout: float = 10
    read_timeout: float = 60
    write_timeout: float = 20
    verify: bool = True
    max_size: int = 10 * 1024 * 1024
    follow_redirects: bool = True
    cut_off: bool = False  # only the status counts: a body that is larger, slow or broken is cut off, not refused


@dataclass(frozen=True, slots=True)
class HttpResponse:
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    url: str  # after redirects


class Http(Protocol):
    """HTTP to the outside, guarded: private, loopback and link-local addresses are refused, after name resolution and
    after every redirect, unless the egress setting allows them."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """NodeError with kind `HttpRequestNodeError` (could not connect, timed out), `ResponseSizeError` (larger than
        `max_size`) or `EgressRefused`."""
        ...


# --------------------------------------------------------------------------------------------------------- sandbox


class Sandbox(Protocol):
    """Runs what users wrote, confined: no file, environment, process or network of the host's."""

    async def run(self, language: str, code: str, inputs: Mapping[str, Value], seconds: float) -> Mapping[str, Any]:
        """Calls the code's `main` with the inputs (Python: as keywords; JavaScript: as one object) and returns the
        object it returns. `language` is python3 or javascript; `seconds`: how long it may take. NodeError with kind
        `CodeExecutionError`: it raised, ran too long, used too much, or returned no object."""
        ...

    async def render(self, template: str, inputs: Mapping[str, Value], seconds: float) -> str:
        """Renders a Jinja2 template. NodeError with kind `CodeExecutionError` where it cannot be."""
        ...

    def missing(self, language: str, code: str) -> str | None:
        """What lacks before this code can run here, and what to set, in words; None if nothing does, as far as can be
        told without running it."""
        ...


# ----------------------------------------------------------------------------------------------------------- files


class Files(Protocol):
    """Stored files, of uploads and of nodes' answers."""

    async def save(
        self,
        data: bytes,
        *,
        filename: str,
        mime_type: str,
        transfer_method: str = "tool_file",
        app: str | None = None,
        owner: str | None = None,
    ) -> File:
        """Stores bytes and returns the file by reference (`related_id`), with a signed url. `owner` is an end user's
        id. The file's `type` follows from its extension and MIME type, as Dify's does."""
        ...

    async def resolve(self, mapping: Mapping[str, Value], app: str | None = None) -> File:
        """The file that a caller means by `{type, transfer_method, url | upload_file_id}`. InvalidParam where it is
        malformed, unknown, or of another type than it says. The size and type of a remote file are asked of its
        server, as far as the egress guard allows."""
        ...

    async def read(self, file: File, max_size: int = 100 * 1024 * 1024) -> bytes:
        """The bytes of a stored file, or of a remote one (guarded like every request). NodeError where it is gone."""
        ...


# ------------------------------------------------------------------------------------- documents, knowledge, history


class Documents(Protocol):
    """Reads the text of documents."""

    async def text(self, data: bytes, *, extension: str, mime_type: str | None) -> str:
        """The document's text; `extension` begins with a dot (`.pdf`) or is empty. NodeError with kind
        `UnsupportedFileTypeError` or `TextExtractionError`."""
        ...


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What is asked of a knowledge base. `settings` are Dify's `retrieval_model`; `conditions` its metadata filter
    (`{logical_operator, conditions: [{name, comparison_operator, value}]}`)."""

    dataset: str
    query: str
    top_k: int = 4
    score_threshold: float | None = None
    settings: Mapping[str, Value] = field(default_factory=dict[str, Value])
    conditions: Mapping[str, Value] | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a knowledge base that fits a query; `metadata` is what Dify's `result` items carry. `files` are
    attached to it, as objects."""

    content: str
    title: str
    score: float | None
    metadata: Mapping[str, Value] = field(default_factory=dict[str, Value])
    summary: str | None = None
    files: Sequence[Mapping[str, Value]] = ()


class Knowledge(Protocol):
    """Knowledge bases elsewhere: a real Dify's, or any that speaks Dify's external knowledge API."""

    async def retrieve(self, retrieval: Retrieval) -> Sequence[Passage]:
        """The passages that fit, best first. NodeError with kind `KnowledgeRetrievalNodeError`."""
        ...

    async def fields(self, dataset: str) -> Sequence[str]:
        """The names of the metadata fields that its documents have, as far as it says. NodeError as `retrieve`."""
        ...

    def missing(self, dataset: str) -> str | None:
        """What to set so that this knowledge base can be asked, in words; None where nothing lacks."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange of a conversation; `files` came with the question."""

    query: str
    answer: str
    files: Sequence[File] = ()


class History(Protocol):
    """What was said before in a conversation."""

    async def turns(self, conversation: str, before: str, limit: int) -> Sequence[Turn]:
        """The newest `limit` exchanges that came before a run and got an answer, oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class Resources:
    """All that a node may use."""

    models: Models
    http: Http
    sandbox: Sandbox
    files: Files
    documents: Documents
    knowledge: Knowledge
    history: History


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a run and its nodes may go; the defaults are Dify's."""

    max_steps: int = 500
    max_seconds: float = 1200
    max_text: int = 1_000_000  # characters of a text output
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
