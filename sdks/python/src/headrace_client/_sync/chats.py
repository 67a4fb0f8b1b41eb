# Made by generate_sync.py from _async/chats.py: change that one.
"""Chats and completions: messages, conversations, feedback, speech."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import httpx

from headrace_client._sync.core import Calls, segment
from headrace_client._sync.pages import Pages
from headrace_client._sync.recovery import ChatRecovery
from headrace_client._sync.streams import Stream
from headrace_client._sync.transport import Timeout
from headrace_client.event_reader import CHAT_ENDS, Reader
from headrace_client.file_inputs import as_file
from headrace_client.models import (
    Conversation,
    ConversationVariable,
    Feedback,
    Message,
    Page,
    PastMessage,
    Payload,
    Result,
    SuggestedQuestions,
    Transcript,
)
from headrace_client.wire import object_of, typed

_LONG = 300.0


class Chats(Calls):
    """Calls about chats and completions."""

    # ----------------------------------------------------------------------------------------------------- messages

    def send_chat_message(
        self,
        query: str,
        *,
        inputs: Mapping[str, Any] | None = None,
        conversation_id: str | None = None,
        user: str | None = None,
        files: Sequence[Any] | None = None,
        timeout: Timeout = _LONG,
        **options: Any,
    ) -> Message:
        """Sends a message and waits for the whole answer. RunFailedError where a chatflow fails. `options`: further
        fields of the request, as auto_generate_name and workflow_id."""
        asked = {"query": query, "conversation_id": conversation_id, **options}
        return self._whole("/v1/chat-messages", asked, inputs, files, user, timeout)

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
    ) -> Stream:
        """Sends a message and tells the answer as it comes; `stream.text` is all of it so far."""
        asked = {"query": query, "conversation_id": conversation_id, **options}
        return self._streamed("/v1/chat-messages", asked, inputs, files, user, timeout)

    def create_completion(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        query: str | None = None,
        user: str | None = None,
        files: Sequence[Any] | None = None,
        timeout: Timeout = _LONG,
    ) -> Message:
        """Has a completion app write, and waits for the whole text."""
        return self._whole("/v1/completion-messages", {"query": query}, inputs, files, user, timeout)

    def stream_completion(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        query: str | None = None,
        user: str | None = None,
        files: Sequence[Any] | None = None,
        timeout: Timeout = None,
    ) -> Stream:
        """Has a completion app write, and tells the text as it comes."""
        return self._streamed("/v1/completion-messages", {"query": query}, inputs, files, user, timeout)

    def stop_chat_message(self, task_id: str, *, user: str | None = None, timeout: Timeout = None) -> Result:
        """Stops an answer that is being written."""
        return self._stop(f"/v1/chat-messages/{segment(task_id)}/stop", user, timeout)

    def stop_completion(self, task_id: str, *, user: str | None = None, timeout: Timeout = None) -> Result:
        """Stops a completion that is being written."""
        return self._stop(f"/v1/completion-messages/{segment(task_id)}/stop", user, timeout)

    def get_suggested_questions(
        self, message_id: str, *, user: str | None = None, timeout: Timeout = None
    ) -> SuggestedQuestions:
        """What could be asked next."""
        path = f"/v1/messages/{segment(message_id)}/suggested"
        return typed(SuggestedQuestions, self._transport.get(path, self._by(user), timeout))

    def send_feedback(
        self,
        message_id: str,
        rating: Literal["like", "dislike"] | None,
        *,
        content: str | None = None,
        user: str | None = None,
        timeout: Timeout = None,
    ) -> Result:
        """Rates a message; None takes the rating back."""
        body: dict[str, Any] = {"rating": rating, **self._by(user)}
        if content is not None:
            body["content"] = content
        path = f"/v1/messages/{segment(message_id)}/feedbacks"
        return typed(Result, self._transport.post(path, body, timeout))

    def list_feedbacks(self, *, limit: int = 20, page: int = 1) -> Pages[Feedback]:
        """All feedback that the app has been given."""

        def ask(number: Any) -> Page[Feedback]:
            told = self._transport.get("/v1/app/feedbacks", {"page": number, "limit": limit})
            return typed(Page[Feedback], Payload({"page": number, **told}, told.response))

        # the answer does not say whether there is more: a full page may be followed by another
        return Pages(ask, lambda told: (told.page or 1) + 1 if len(told.data) >= limit else None, page)

    # ------------------------------------------------------------------------------------------------ conversations

    def list_conversations(
        self, *, user: str | None = None, limit: int = 20, sort_by: str | None = None
    ) -> Pages[Conversation]:
        """The user's conversations, those of late first."""

        def ask(last: Any) -> Page[Conversation]:
            params = {**self._by(user), "last_id": last, "limit": limit, "sort_by": sort_by}
            return typed(Page[Conversation], self._transport.get("/v1/conversations", params))

        return Pages(ask, lambda page: page.data[-1].id if page.has_more else None)

    def list_messages(self, conversation_id: str, *, user: str | None = None, limit: int = 20) -> Pages[PastMessage]:
        """The messages of a conversation. Each page goes further back; within one, older ones come first."""

        def ask(first: Any) -> Page[PastMessage]:
            params = {"conversation_id": conversation_id, **self._by(user), "first_id": first, "limit": limit}
            return typed(Page[PastMessage], self._transport.get("/v1/messages", params))

        return Pages(ask, lambda page: page.data[0].id if page.has_more else None)

    def rename_conversation(
        self,
        conversation_id: str,
        name: str | None = None,
        *,
        auto_generate: bool = False,
        user: str | None = None,
        timeout: Timeout = None,
    ) -> Conversation:
        """Gives a conversation a name; with `auto_generate` one that is made up from what was said."""
        body: dict[str, Any] = {"auto_generate": auto_generate, **self._by(user)}
        if name is not None:
            body["name"] = name
        path = f"/v1/conversations/{segment(conversation_id)}/name"
        return typed(Conversation, self._transport.post(path, body, timeout))

    def delete_conversation(self, conversation_id: str, *, user: str | None = None, timeout: Timeout = None) -> None:
        """Deletes a conversation and its messages."""
        path = f"/v1/conversations/{segment(conversation_id)}"
        self._transport.request("DELETE", path, json=self._by(user), timeout=timeout)

    def list_conversation_variables(
        self, conversation_id: str, *, user: str | None = None, limit: int = 20, variable_name: str | None = None
    ) -> Pages[ConversationVariable]:
        """What a conversation remembers."""

        def ask(last: Any) -> Page[ConversationVariable]:
            params = {**self._by(user), "last_id": last, "limit": limit, "variable_name": variable_name}
            path = f"/v1/conversations/{segment(conversation_id)}/variables"
            return typed(Page[ConversationVariable], self._transport.get(path, params))

        return Pages(ask, lambda page: page.data[-1].id if page.has_more else None)

    def update_conversation_variable(
        self, conversation_id: str, variable_id: str, value: Any, *, user: str | None = None, timeout: Timeout = None
    ) -> ConversationVariable:
        """Sets what a conversation remembers."""
        path = f"/v1/conversations/{segment(conversation_id)}/variables/{segment(variable_id)}"
        body = {"value": value, **self._by(user)}
        answer = self._transport.request("PUT", path, json=body, timeout=timeout)
        return typed(ConversationVariable, object_of(answer))

    # ------------------------------------------------------------------------------------------------------- speech

    def audio_to_text(self, file: Any, *, user: str | None = None, timeout: Timeout = None) -> Transcript:
        """What is said in a recording: a path, bytes, a file object or a `File`."""
        part = as_file(file).part()
        try:
            answer = self._transport.request(
                "POST",
                "/v1/audio-to-text",
                form=lambda: {"data": self._by(user), "files": {"file": part.again()}},
                timeout=timeout,
            )
        finally:
            part.close()
        return typed(Transcript, object_of(answer))

    def text_to_audio(
        self,
        text: str | None = None,
        *,
        message_id: str | None = None,
        voice: str | None = None,
        user: str | None = None,
        timeout: Timeout = None,
    ) -> bytes:
        """A text, or a message's answer, spoken: the sound file's bytes."""
        told = {"text": text, "message_id": message_id, "voice": voice, "streaming": False, **self._by(user)}
        body = {name: value for name, value in told.items() if value is not None}
        return (self._transport.request("POST", "/v1/text-to-audio", json=body, timeout=timeout)).content

    # ------------------------------------------------------------------------------------------------------ sending

    def _by(self, user: str | None) -> dict[str, Any]:
        return {"user": user or self._session.user}

    def _stop(self, path: str, user: str | None, timeout: Timeout) -> Result:
        return typed(Result, self._transport.post(path, self._by(user), timeout))

    def _send(
        self,
        path: str,
        asked: Mapping[str, Any],
        inputs: Mapping[str, Any] | None,
        files: Sequence[Any] | None,
        user: str,
        timeout: Timeout,
        mode: str,
    ) -> httpx.Response:
        body = self._session.body(inputs, files, user)
        body |= {name: value for name, value in asked.items() if value is not None}
        stream = mode == "streaming"
        return self._transport.request(
            "POST",
            path,
            json={**body, "response_mode": mode},
            timeout=timeout,
            repeat=False,
            stream=stream,
        )

    def _whole(
        self,
        path: str,
        asked: Mapping[str, Any],
        inputs: Mapping[str, Any] | None,
        files: Sequence[Any] | None,
        user: str | None,
        timeout: Timeout,
    ) -> Message:
        name = user or self._session.user
        return typed(Message, object_of(self._send(path, asked, inputs, files, name, timeout, "blocking")))

    def _streamed(
        self,
        path: str,
        asked: Mapping[str, Any],
        inputs: Mapping[str, Any] | None,
        files: Sequence[Any] | None,
        user: str | None,
        timeout: Timeout,
    ) -> Stream:
        name, session = user or self._session.user, self._session

        def start() -> httpx.Response:
            return self._send(path, asked, inputs, files, name, timeout, "streaming")

        recovery = ChatRecovery(session, name, session.polling)
        return Stream(start, recovery, Reader(CHAT_ENDS))
