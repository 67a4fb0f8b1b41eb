"""A run as the answer to the call of a tool: its progress, then its result."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from headrace.api.auth import FileStore
from headrace.api.dify.chat_responses import AnswerText, Reply, failure, in_conversation
from headrace.api.http.responses import encode
from headrace.conversations.messages import MESSAGES
from headrace.errors import NodeError
from headrace.kernel.events import NodeStarted, Record, RoundStarted, RunEnded, RunId, RunPaused
from headrace.kernel.graph import is_top_level
from headrace.kernel.summary import FAILED, STOPPED
from headrace.node import Flow
from headrace.values import File, Value, files_in

_LARGEST_EMBEDDED = 256 * 1024  # bytes of an image or sound that is sent in the result, for the model to see or hear
_WITHOUT_LINKS = ("2025-03-26",)  # versions whose results cannot have links to files
_ROUND_SECONDS = 0.5  # between two notifications about a container's rounds, which may be thousands
_RUN = "headrace/workflow_run_id"


class ToolCall:
    """Folds a run's records into the progress and the result of a call."""

    def __init__(self, run: RunId, flow: Flow) -> None:
        self.run = run
        self.is_done = False  # the run has ended, or waits for a person
        self._flow = flow
        self._end: RunEnded | None = None
        self._reply = Reply(flow)
        self._text = AnswerText(flow)
        self._round_at = 0.0

    def feed(self, record: Record) -> str | None:
        """What to report of a record as progress, if anything: which node starts, or which round of a container."""
        self._reply.apply(record)
        self._text.feed(record)
        match record.event:
            case RunEnded() as event:
                self._end, self.is_done = event, True
                self._text.add(self._reply.annotated(event.outputs))
            case RunPaused():
                self.is_done = True
            case NodeStarted(path) if is_top_level(path):
                return self._flow.graph.nodes[path].title
            case RoundStarted(path, index) if is_top_level(path) and record.at - self._round_at >= _ROUND_SECONDS:
                self._round_at = record.at
                return f"{self._flow.graph.nodes[path].title}, round {index + 1}"
            case _:
                pass
        return None

    async def result(self, files: FileStore, version: str) -> Mapping[str, Value]:
        """The result, once the call is done."""
        meta = {_RUN: self.run}
        end = self._end
        if end is None:
            return error_result("The run waits for a person, so this call has no result.", meta)
        if end.status == STOPPED:
            return error_result("The run was stopped.", meta)
        if end.status == FAILED:
            if self._flow.mode in MESSAGES:
                return error_result(failure(self._flow, end, self._reply.summary.failure).message, meta)
            return error_result(end.error or "The run failed.", meta)
        return {**await self._success(end, files, version), "_meta": meta}

    async def _success(self, end: RunEnded, files: FileStore, version: str) -> Mapping[str, Value]:
        if self._flow.mode not in MESSAGES:
            links = [await _file(file, files, version) for file in files_in(end.outputs)]
            text = encode(end.outputs).decode()
            return {"content": [_text(text), *links], "structuredContent": end.outputs}
        answer, conversation = str(self._text), in_conversation(self._reply.summary.request)
        links = [await _file(file, files, version) for file in self._reply.files]
        # a model sees the content alone in many clients, and needs the id to continue the conversation
        texts = [_text(f"conversation_id: {id_}") for id_ in conversation.values()]
        structured_content = {"answer": answer, "message_id": self.run, **conversation}
        return {"content": [_text(answer), *links, *texts], "structuredContent": structured_content}


def error_result(message: str, meta: Mapping[str, Value] | None = None) -> Mapping[str, Value]:
    """The result of a call that failed, for the model to read."""
    return {"content": [_text(message)], "isError": True, **({"_meta": meta} if meta else {})}


def _text(text: str) -> Mapping[str, Value]:
    return {"type": "text", "text": text}


async def _file(file: File, files: FileStore, version: str) -> Mapping[str, Value]:
    """A file as content: a small image or sound itself, anything else a link."""
    mime_type = file.mime_type or ""
    kind = mime_type.partition("/")[0]
    if kind in ("image", "audio") and file.related_id and 0 <= file.size <= _LARGEST_EMBEDDED:
        try:
            data = await files.read(file, _LARGEST_EMBEDDED)
        except NodeError:
            pass  # it was deleted meanwhile: the link to it remains
        else:
            return {"type": kind, "data": base64.b64encode(data).decode(), "mimeType": mime_type}
    url = file.url or file.remote_url or ""
    if version in _WITHOUT_LINKS:
        return _text(f"{file.filename}: {url}")
    link: dict[str, Value] = {"type": "resource_link", "uri": url, "name": file.filename or "file"}
    if mime_type:
        link["mimeType"] = mime_type
    if file.size >= 0:
        link["size"] = file.size
    return link
