"""Events of a stream, however its bytes are cut."""

import json

import pytest

from headrace.adapters.models import sse
from headrace.adapters.models.failures import Failure

SPELLINGS = {
    "as the standard has it": b'data: {"a":1}\n\ndata: {"b":"\xe4\xbd\xa0"}\n\ndata: [DONE]\n\n',
    "carriage returns": b'data: {"a":1}\r\n\r\ndata: {"b":"\xe4\xbd\xa0"}\r\n\r\ndata: [DONE]\r\n\r\n',
    "carriage returns alone": b'data: {"a":1}\r\rdata: {"b":"\xe4\xbd\xa0"}\r\rdata: [DONE]\r\r',
    "no space": b'data:{"a":1}\n\ndata:{"b":"\xe4\xbd\xa0"}\n\ndata:[DONE]\n\n',
    "comments and fields": b': ping\n\nevent: x\nid: 7\nretry: 5\ndata: {"a":1}\n\n:\ndata: {"b":"\xe4\xbd\xa0"}\n\n'
    b"data: [DONE]\n\n",
    "single newlines": b'data: {"a":1}\ndata: {"b":"\xe4\xbd\xa0"}\ndata: [DONE]\n',
    "an object over several lines": b'data: {\ndata: "a":\ndata: 1\ndata: }\n\n'
    b'data: {"b":"\xe4\xbd\xa0"}\n\ndata: [DONE]\n\n',
    "several lines and carriage returns": b'data: {"a":\r\ndata: 1}\r\n\r\n'
    b'data: {"b":"\xe4\xbd\xa0"}\r\n\r\ndata: [DONE]\r\n',
    "byte order mark": b'\xef\xbb\xbfdata: {"a":1}\n\ndata: {"b":"\xe4\xbd\xa0"}\n\ndata: [DONE]\n\n',
    "objects without data": b'{"a":1}\n{"b":"\xe4\xbd\xa0"}\ndata: [DONE]\n',
    "no newline at the end": b'data: {"a":1}\n\ndata: {"b":"\xe4\xbd\xa0"}\n\ndata: [DONE]',
}


@pytest.mark.parametrize("stream", SPELLINGS.values(), ids=SPELLINGS)
def test_any_spelling_cut_into_any_two_or_into_bytes(stream: bytes):
    cuts = [[stream[:at], stream[at:]] for at in range(len(stream) + 1)]
    cuts.append([stream[at : at + 1] for at in range(len(stream))])
    for parts in cuts:
        events = sse.Events()
        parsed = [event for part in parts for event in events.feed(part)] + events.end()
        assert parsed == [{"a": 1}, {"b": "你"}], parts
        assert events.done


def test_an_event_is_reported_as_soon_as_its_line_ends():
    events = sse.Events()
    assert events.feed(b'data: {"a":1}\n') == [{"a": 1}]


@pytest.mark.parametrize("stream", [b"data: {oops\n\n", b'data: {"a":1\n\n', b"data: <html>\n\n", b"data: {"])
def test_an_event_that_is_no_json_is_reported_with_its_text(stream: bytes):
    events = sse.Events()
    with pytest.raises(Failure, match="not valid JSON"):
        events.feed(stream) or events.end()


def test_what_is_json_but_no_object_is_passed_over():
    assert sse.Events().feed(b'data: 1\n\ndata: "x"\n\ndata: []\n\ndata: null\n\ndata: {}\n\n') == [{}]


@pytest.mark.parametrize("endless", [b"x" * 1000, b'data: {"a":\n'], ids=["a line", "data lines"])
def test_an_endless_event_is_refused(endless: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sse, "MAX_EVENT", 10_000)
    events = sse.Events()

    def feed_for_ever() -> None:
        for _ in range(10_000):
            events.feed(endless)

    with pytest.raises(Failure, match="more than 10000 bytes"):
        feed_for_ever()


def test_a_large_event_in_small_pieces():
    big = b"data: " + json.dumps({"a": "x" * 1_000_000}).encode() + b"\n\n"
    events = sse.Events()
    parsed = [event for at in range(0, len(big), 100) for event in events.feed(big[at : at + 100])]
    assert len(parsed[0]["a"]) == 1_000_000
