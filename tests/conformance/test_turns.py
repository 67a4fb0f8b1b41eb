"""A recorded conversation of three messages, had again with a served Headrace; then what its lists tell of it."""

from __future__ import annotations

import json
import pathlib
import urllib.request
from typing import Any

from tests.conformance import compare
from tests.server.process import Serve

TURNS = pathlib.Path(__file__).parent / "turns"


def recorded(name: str) -> Any:
    return json.loads((TURNS / name).read_text())


def differs(want: Any, got: Any) -> str | None:
    return compare.differs(compare.mask(want), compare.mask(got))


def test_the_recorded_conversation(tmp_path: pathlib.Path) -> None:
    with Serve(tmp_path, [TURNS / "dsl.yml"]) as serve:
        key = next(iter(serve.keys.values()))

        def say(turn: int, mode: str, conversation: str = "") -> tuple[int, str]:
            recorded_request = recorded(f"{turn}/request.json")
            body = {**recorded_request["body"], "response_mode": mode, "conversation_id": conversation}
            return compare.post(serve.url + recorded_request["path"], key, body)

        def look(path: str) -> Any:
            request = urllib.request.Request(f"{serve.url}{path}", headers={"Authorization": f"Bearer {key}"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())

        status, first = say(1, "blocking")
        assert status == 200, first
        assert differs(recorded("1/response.blocking.json"), json.loads(first)) is None
        conversation = json.loads(first)["conversation_id"]

        _, streamed = say(2, "streaming", conversation)
        received = (TURNS / "2/response.stream.txt").read_text()
        assert compare.compare_streams("turn 2", compare.events(received), compare.events(streamed)) is None

        _, third = say(2, "blocking", conversation)
        assert differs(recorded("2/response.blocking.json"), json.loads(third)) is None

        user = recorded("1/request.json")["body"]["user"]
        lists = {
            "conversations": look(f"/v1/conversations?user={user}"),
            "messages": look(f"/v1/messages?user={user}&conversation_id={conversation}"),
            "variables": look(f"/v1/conversations/{conversation}/variables?user={user}"),
        }
    for name, got in lists.items():
        want = recorded(f"2/{name}.json")
        assert got["data"], name
        want["data"] = want["data"][: len(got["data"])]  # the recorded user had had a conversation before
        assert differs(want, got) is None, name
