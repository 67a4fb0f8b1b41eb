"""Chats and completions: messages, conversations, feedback, speech."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import httpx

from headrace_client._async.core import AsyncResource, encode_segment
from headrace_client._async.pages import AsyncPages
from headrace_client._async.recovery import AsyncChatRecovery
from headrace_client._async.streams import AsyncStream
from headrace_client._async.transport import Timeout
from headrace_client.event_reader import CHAT_ENDS, EventReader
from headrace_client.file_inputs import to_file
from headrace_client.models import (
    Conversation,
    ConversationVariable,
    Feedback,
    Message,
    PastMessage,
    Result,
    SuggestedQuestions,
    Transcript,
)
from headrace_client.response_model import Page, Payload
from headrace_client.wire import parse_model, parse_object

_BLOCKING_TIMEOUT = 300.0


class AsyncChats(AsyncResource):
    """Calls for chats and completions."""

    # ----------------------------------------------------------------------------------------------------- messages

    async def send_chat_message(
        self,
        query: str,
        *,
        inputs: Mapping[str, Any] | None = None,
        conversation_id: str | None = None,
        user: str | None = None,
        files: Sequence[Any] | None = None,
        timeout: Timeout = _BLOCKING_TIMEOUT,
        **options: Any,
    ) -> Message:
        """Sends a message and waits for the whole answer. RunFailedError if a chatflow fails. `options`: further fields
        of the request, such as auto_generate_name and workflow_id."""
        fields = {"query": query, "conversation_id": conversation_id, **options}
        return await self._send_blocking("/v1/chat-messages", fields, inputs, files, user, timeout)

    def stream_chat_message(
        self,
        query: str,
        *,
        inputs: Mapping[str, Any] | None = None,
        conversation_id: str | None = None,
        user: str | None = None,
        files: Sequence[Any] | None = None,
        timeout: Timeout = None,
        **options: Any,
    ) -> AsyncStream:
        """Sends a message and streams the answer; `stream.text` is the text so far."""
        fields = {"query": query, "conversation_id": conversation_id, **options}
        return self._send_streaming("/v1/chat-messages", fields, inputs, files, user, timeout)

    async def create_completion(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        query: str | None = None,
        user: str | None = None,
        files: Sequence[Any] | None = None,
        timeout: Timeout = _BLOCKING_TIMEOUT,
    ) -> Message:
        """Calls a completion app and waits for the whole text."""
        return await self._send_blocking("/v1/completion-messages", {"query": query}, inputs, files, user, timeout)

    def stream_completion(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        query: str | None = None,
        user: str | None = None,
        files: Sequence[Any] | None = None,
        timeout: Timeout = None,
    ) -> AsyncStream:
        """Calls a completion app and streams the text."""
        return self._send_streaming("/v1/completion-messages", {"query": query}, inputs, files, user, timeout)

    async def stop_chat_message(self, task_id: str, *, user: str | None = None, timeout: Timeout = None) -> Result:
        """Stops an answer while it is generated."""
        return await self._stop(f"/v1/chat-messages/{encode_segment(task_id)}/stop", user, timeout)

    async def stop_completion(self, task_id: str, *, user: str | None = None, timeout: Timeout = None) -> Result:
        """Stops a completion while it is generated."""
        return await self._stop(f"/v1/completion-messages/{encode_segment(task_id)}/stop", user, timeout)

    async def get_suggested_questions(
        self, message_id: str, *, user: str | None = None, timeout: Timeout = None
    ) -> SuggestedQuestions:
        """Suggestions for the next question."""
        path = f"/v1/messages/{encode_segment(message_id)}/suggested"
        return parse_model(SuggestedQuestions, await self._transport.get(path, self._user_param(user), timeout))

    async def send_feedback(
        self,
        message_id: str,
        rating: Literal["like", "dislike"] | None,
        *,
        content: str | None = None,
        user: str | None = None,
        timeout: Timeout = None,
    ) -> Result:
        """Rates a message; None removes the rating."""
        body: dict[str, Any] = {"rating": rating, **self._user_param(user)}
        if content is not None:
            body["content"] = content
        path = f"/v1/messages/{encode_segment(message_id)}/feedbacks"
        return parse_model(Result, await self._transport.post(path, body, timeout))

    def list_feedbacks(self, *, limit: int = 20, page: int = 1) -> AsyncPages[Feedback]:
        """All feedback about the app."""

        async def fetch(number: Any) -> Page[Feedback]:
            payload = await self._transport.get("/v1/app/feedbacks", {"page": number, "limit": limit})
            return parse_model(Page[Feedback], Payload({"page": number, **payload}, payload.response))

        def next_page(current: Page[Feedback]) -> int | None:
            # the response does not show whether there is more: a full page may be followed by another
            return (current.page or 1) + 1 if len(current.data) >= limit else None

        return AsyncPages(fetch, next_page, page)

    # ------------------------------------------------------------------------------------------------ conversations

    def list_conversations(
        self, *, user: str | None = None, limit: int = 20, sort_by: str | None = None
    ) -> AsyncPages[Conversation]:
        """The user's conversations, the most recent first."""

        async def fetch(last: Any) -> Page[Conversation]:
            params = {**self._user_param(user), "last_id": last, "limit": limit, "sort_by": sort_by}
            return parse_model(Page[Conversation], await self._transport.get("/v1/conversations", params))

        return AsyncPages(fetch, lambda page: page.data[-1].id if page.has_more else None)

    def list_messages(
        self, conversation_id: str, *, user: str | None = None, limit: int = 20
    ) -> AsyncPages[PastMessage]:
        """The messages of a conversation. Each page has older messages; within a page, the oldest is first."""

        async def fetch(first: Any) -> Page[PastMessage]:
            params = {"conversation_id": conversation_id, **self._user_param(user), "first_id": first, "limit": limit}
            return parse_model(Page[PastMessage], await self._transport.get("/v1/messages", params))

        return AsyncPages(fetch, lambda page: page.data[0].id if page.has_more else None)

    async def rename_conversation(
        self,
        conversation_id: str,
        name: str | None = None,
        *,
        auto_generate: bool = False,
        user: str | None = None,
        timeout: Timeout = None,
    ) -> Conversation:
        """Renames a conversation; with `auto_generate` the name is generated from its messages."""
        body: dict[str, Any] = {"auto_generate": auto_generate, **self._user_param(user)}
        if name is not None:
            body["name"] = name
        path = f"/v1/conversations/{encode_segment(conversation_id)}/name"
        return parse_model(Conversation, await self._transport.post(path, body, timeout))

    async def delete_conversation(
        self, conversation_id: str, *, user: str | None = None, timeout: Timeout = None
    ) -> None:
        """Deletes a conversation and its messages."""
        path = f"/v1/conversations/{encode_segment(conversation_id)}"
        await self._transport.request("DELETE", path, json=self._user_param(user), timeout=timeout)

    def list_conversation_variables(
        self, conversation_id: str, *, user: str | None = None, limit: int = 20, variable_name: str | None = None
    ) -> AsyncPages[ConversationVariable]:
        """The conversation's variables."""

        async def fetch(last: Any) -> Page[ConversationVariable]:
            params = {**self._user_param(user), "last_id": last, "limit": limit, "variable_name": variable_name}
            path = f"/v1/conversations/{encode_segment(conversation_id)}/variables"
            return parse_model(Page[ConversationVariable], await self._transport.get(path, params))

        return AsyncPages(fetch, lambda page: page.data[-1].id if page.has_more else None)

    async def update_conversation_variable(
        self, conversation_id: str, variable_id: str, value: Any, *, user: str | None = None, timeout: Timeout = None
    ) -> ConversationVariable:
        """Sets a conversation variable."""
        path = f"/v1/conversations/{encode_segment(conversation_id)}/variables/{encode_segment(variable_id)}"
        body = {"value": value, **self._user_param(user)}
        response = await self._transport.request("PUT", path, json=body, timeout=timeout)
        return parse_model(ConversationVariable, parse_object(response))

    # ------------------------------------------------------------------------------------------------------- speech

    async def audio_to_text(self, file: Any, *, user: str | None = None, timeout: Timeout = None) -> Transcript:
        """Transcribes a recording: a path, bytes, a file object or a `File`."""
        part = to_file(file).part()
        try:
            response = await self._transport.request(
                "POST",
                "/v1/audio-to-text",
                form=lambda: {"data": self._user_param(user), "files": {"file": part.rewind()}},
                timeout=timeout,
            )
        finally:
            part.close()
        return parse_model(Transcript, parse_object(response))

    async def text_to_audio(
        self,
        text: str | None = None,
        *,
        message_id: str | None = None,
        voice: str | None = None,
        user: str | None = None,
        timeout: Timeout = None,
    ) -> bytes:
        """Speech for a text or a message's answer: the bytes of the audio file."""
        fields = {"text": text, "message_id": message_id, "voice": voice, "streaming": False, **self._user_param(user)}
        body = {name: value for name, value in fields.items() if value is not None}
        return (await self._transport.request("POST", "/v1/text-to-audio", json=body, timeout=timeout)).content

    # ------------------------------------------------------------------------------------------------------ sending

    def _user_param(self, user: str | None) -> dict[str, Any]:
        return {"user": user or self._session.user}

    async def _stop(self, path: str, user: str | None, timeout: Timeout) -> Result:
        return parse_model(Result, await self._transport.post(path, self._user_param(user), timeout))

    async def _send(
        self,
        path: str,
        fields: Mapping[str, Any],
        inputs: Mapping[str, Any] | None,
        files: Sequence[Any] | None,
        user: str,
        timeout: Timeout,
        mode: str,
    ) -> httpx.Response:
        body = await self._session.build_body(inputs, files, user)
        body |= {name: value for name, value in fields.items() if value is not None}
        stream = mode == "streaming"
        return await self._transport.request(
            "POST",
            path,
            json={**body, "response_mode": mode},
            timeout=timeout,
            repeat=False,
            stream=stream,
        )

    async def _send_blocking(
        self,
        path: str,
        fields: Mapping[str, Any],
        inputs: Mapping[str, Any] | None,
        files: Sequence[Any] | None,
        user: str | None,
        timeout: Timeout,
    ) -> Message:
        name = user or self._session.user
        return parse_model(
            Message, parse_object(await self._send(path, fields, inputs, files, name, timeout, "blocking"))
        )

    def _send_streaming(
        self,
        path: str,
        fields: Mapping[str, Any],
        inputs: Mapping[str, Any] | None,
        files: Sequence[Any] | None,
        user: str | None,
        timeout: Timeout,
    ) -> AsyncStream:
        name, session = user or self._session.user, self._session

        async def start() -> httpx.Response:
            return await self._send(path, fields, inputs, files, name, timeout, "streaming")

        recovery = AsyncChatRecovery(session, name, session.polling)
        return AsyncStream(start, recovery, EventReader(CHAT_ENDS))
