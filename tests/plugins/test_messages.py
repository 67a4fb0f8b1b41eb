"""The messages of plugins' tools, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.adapters.tools.plugin_messages import file_id, sent_message, tool_message
from headrace.errors import NodeError
from headrace.ports.services import (
    BlobChunkMessage,
    BlobMessage,
    FileMessage,
    ImageMessage,
    JsonMessage,
    LinkMessage,
    LogMessage,
    SourcesMessage,
    TextMessage,
    ToolMessage,
    UsageMessage,
    VariableMessage,
)
from headrace.values import File


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"type": "text", "message": {"text": "t"}, "meta": None}, TextMessage("t")),
        ({"type": "json", "message": {"json_object": [1]}}, JsonMessage([1])),
        ({"type": "link", "message": {"text": "https://l"}}, LinkMessage("https://l")),
        ({"type": "image", "message": {"text": "https://i"}}, ImageMessage("https://i")),
        ({"type": "image_link", "message": {"text": "https://i"}}, ImageMessage("https://i")),
        (
            {"type": "blob", "message": {"blob": "AAE="}, "meta": {"mime_type": "image/png"}},
            BlobMessage(b"\x00\x01", "image/png"),
        ),
        (
            {"type": "variable", "message": {"variable_name": "n", "variable_value": {"a": 1}}},
            VariableMessage("n", {"a": 1}),
        ),
        (
            {
                "type": "log",
                "message": {
                    "id": "1",
                    "label": "step",
                    "parent_id": None,
                    "error": None,
                    "status": "start",
                    "data": {"a": 1},
                    "metadata": None,
                },
            },
            LogMessage("1", "step", "start", data={"a": 1}),
        ),
        ({"type": "file", "message": None, "meta": {}}, None),
        (
            {"type": "retriever_resources", "message": {"retriever_resources": [{"content": "c", "score": None}, 3]}},
            SourcesMessage([{"content": "c"}, {}]),
        ),
    ],
)
def test_each_kind_of_message(sent: dict[str, Any], message: ToolMessage | None) -> None:
    assert tool_message(sent) == message
    if message is not None and sent["type"] != "image_link":
        again = sent_message(message)
        assert again is not None
        assert tool_message(again) == message


def test_messages_that_plugins_get_of_other_tools() -> None:
    stored = File("image", "tool_file", "a.png", ".png", "image/png", 3, None, "1", "https://f")
    meta = {"tool_file_id": "1", "mime_type": "image/png", "filename": "a.png"}
    assert sent_message(FileMessage(stored)) == {"type": "image_link", "message": {"text": "https://f"}, "meta": meta}
    assert [file_id(sent_message(message) or {}) for message in (FileMessage(stored), LinkMessage("l"))] == ["1", ""]
    elsewhere = File("document", "remote_url", "a.txt", remote_url="https://f")
    assert sent_message(FileMessage(elsewhere)) == {"type": "link", "message": {"text": "https://f"}, "meta": None}
    assert sent_message(UsageMessage({})) is None
    chunk = BlobChunkMessage("b", b"x", 1, end=True)
    assert tool_message(sent_message(chunk) or {}) == chunk
    assert sent_message(JsonMessage(3)) == {"type": "json", "message": {"json_object": {"data": 3}}, "meta": None}


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"type": 3},
        {"type": "text"},
        {"type": "text", "message": "t"},
        {"type": "blob", "message": {"blob": "a"}},
        {"type": "blob", "message": {"blob": "\N{SNOWMAN}"}},
        {"type": "blob_chunk", "message": {"id": "b", "blob": "", "total_length": "1"}},
        {"type": "variable", "message": {"variable_name": None}},
        {"type": "log", "message": {"id": "1", "label": "l", "status": "odd"}},
    ],
)
def test_malformed_messages(sent: dict[str, Any]) -> None:
    with pytest.raises(NodeError):
        tool_message(sent)
