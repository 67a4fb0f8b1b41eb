"""The contract's `retry` and `errors`."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from headrace_client import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    ConflictError,
    HeadraceError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RetryPolicy,
    RunFailedError,
    ServerError,
    ValidationError,
)

from tests.sdk_contract.dify_server import key_of
from tests.sdk_python.clients import Fault, Maker, collect

OK: dict[str, Any] = {"status": 200, "body": {"name": "x"}}
BUSY: dict[str, Any] = {"status": 503, "body": {"code": "service_unavailable", "message": "busy", "status": 503}}


async def test_retry_get_5xx_three_times(make: Maker, fault: Fault) -> None:
    fault.script(BUSY, {"status": 500, "body": ""}, {"status": 504, "body": "<html>"}, OK)
    assert (await make("app-x", fault.url).get_info()).name == "x"
    assert make.time.delays == [1, 2, 4]
    make.time.delays.clear()
    fault.script(BUSY, OK)
    await make("app-x", fault.url, chance=lambda: 1.0).get_info()
    assert make.time.delays == [1.25], "a quarter more at most"


async def test_retry_gives_up_after_three(make: Maker, fault: Fault) -> None:
    fault.script(*[BUSY] * 5)
    with pytest.raises(ServerError, match="busy"):
        await make("app-x", fault.url).get_info()
    assert len(fault.requests) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 415, 422])
async def test_retry_never_another_4xx(make: Maker, fault: Fault, status: int) -> None:
    fault.script({"status": status, "body": {"code": "c", "message": "m"}}, OK)
    with pytest.raises(HeadraceError) as raised:
        await make("app-x", fault.url).get_info()
    assert raised.value.status == status
    assert len(fault.requests) == 1


async def test_retry_429_waits_retry_after(make: Maker, fault: Fault) -> None:
    client = make("app-x", fault.url)
    in_ten = format_datetime(datetime.now(UTC) + timedelta(seconds=10), usegmt=True)
    limited = [{"status": 429, "headers": {"Retry-After": value}, "body": {}} for value in ("7", in_ten, "soon")]
    fault.script(*limited, OK)
    await client.get_info()
    assert make.time.delays[0] == 7
    assert make.time.delays[1] == pytest.approx(10, abs=1.5)
    assert make.time.delays[2] == 4, "one that cannot be read is as none"
    make.time.delays.clear()
    fault.script({"status": 429, "headers": {"Retry-After": "61"}, "body": {}}, OK)
    with pytest.raises(RateLimitError) as raised:
        await client.get_info()
    assert raised.value.retry_after == 61
    assert make.time.delays == []
    fault.script({"status": 429, "headers": {"Retry-After": "61"}, "body": {}}, OK)
    await make("app-x", fault.url, retry=RetryPolicy(max_retry_after=100)).get_info()
    assert make.time.delays == [61]


async def test_retry_connection_errors(make: Maker, fault: Fault) -> None:
    fault.script({"reset": True}, {"status": 200, "body": {"name": "x"}, "cut": 3}, OK)
    assert (await make("app-x", fault.url).get_info()).name == "x"
    assert make.time.delays == [1, 2]


@pytest.mark.parametrize("step", [{"reset": True}, BUSY])
@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.run_workflow({}),
        lambda client: client.stream_workflow({}).until_done(),
        lambda client: client.create_workflow_run(None, {}),
        lambda client: client.send_chat_message("x"),
        lambda client: client.create_completion({}),
        lambda client: client.submit_human_input_form("x", action="a"),
    ],
)
async def test_retry_run_is_not_repeated(make: Maker, fault: Fault, step: Any, call: Any) -> None:
    fault.script(step, step, step, step)
    with pytest.raises((ServerError, APIConnectionError)):
        await call(make("app-x", fault.url))
    assert len(fault.requests) == 1


async def test_retry_run_that_did_not_arrive_is_repeated(make: Maker, fault: Fault) -> None:
    limited = {"status": 429, "body": {"code": "too_many_requests", "message": "m"}}
    fault.script(limited, {"status": 200, "body": {"workflow_run_id": "r", "data": {"id": "r", "status": "succeeded"}}})
    assert (await make("app-x", fault.url).run_workflow({})).status == "succeeded"
    with pytest.raises(APIConnectionError):
        await make("app-x", _closed_port()).run_workflow({})
    assert make.time.delays == [1, 1, 2, 4]


async def test_retry_options(make: Maker, fault: Fault) -> None:
    fault.script(BUSY, OK)
    with pytest.raises(ServerError):
        await make("app-x", fault.url, max_retries=0).get_info()
    assert len(fault.requests) == 1
    fault.script(BUSY, BUSY, OK)
    await make("app-x", fault.url, retry=RetryPolicy(max_retries=2, delay=0.5, factor=3)).get_info()
    assert make.time.delays == [0.5, 1.5]


async def test_retry_ends_with_the_time_of_the_call(make: Maker, fault: Fault) -> None:
    fault.script(*[BUSY] * 5)
    with pytest.raises(APITimeoutError, match=r"busy.*2 s"):
        await make("app-x", fault.url).get_info(timeout=2)
    assert make.time.delays == [1]


# --------------------------------------------------------------------------------------------------------------- errors

KINDS = {
    400: ValidationError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    429: RateLimitError,
    500: ServerError,
}


async def _error(make: Maker, fault: Fault, step: dict[str, Any]) -> HeadraceError:
    fault.script(step)
    with pytest.raises(HeadraceError) as raised:
        await make("app-x", fault.url, max_retries=0).get_info()
    return raised.value


async def _of_status(make: Maker, fault: Fault, status: int) -> HeadraceError:
    error = await _error(
        make, fault, {"status": status, "body": {"code": "some_code", "message": "said", "status": status}}
    )
    assert type(error) is KINDS[status]
    assert (error.status, error.code, error.message) == (status, "some_code", "said")
    return error


async def test_errors_401_is_authentication(make: Maker, fault: Fault, dify: str) -> None:
    await _of_status(make, fault, 401)
    with pytest.raises(AuthenticationError, match="Access token is invalid"):
        await make("app-nope", dify).run_workflow({})


async def test_errors_403_is_permission(make: Maker, fault: Fault) -> None:
    await _of_status(make, fault, 403)


async def test_errors_404_is_not_found(make: Maker, fault: Fault) -> None:
    await _of_status(make, fault, 404)


async def test_errors_400_is_validation(make: Maker, fault: Fault) -> None:
    await _of_status(make, fault, 400)


async def test_errors_409_is_conflict(make: Maker, fault: Fault) -> None:
    await _of_status(make, fault, 409)


async def test_errors_429_is_rate_limit(make: Maker, fault: Fault) -> None:
    assert isinstance(await _of_status(make, fault, 429), RateLimitError)
    step = {"status": 429, "headers": {"Retry-After": "5"}, "body": {}}
    error = await _error(make, fault, step)
    assert isinstance(error, RateLimitError)
    assert error.retry_after == 5
    body = {"code": "invalid_param", "message": "Too many requests. Please try again later.", "status": 400}
    assert isinstance(await _error(make, fault, {"status": 400, "body": body}), RateLimitError), "as Dify reports it"


async def test_errors_500_is_server(make: Maker, fault: Fault) -> None:
    await _of_status(make, fault, 500)


def _closed_port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


async def test_errors_refused_is_connection(make: Maker) -> None:
    with pytest.raises(APIConnectionError) as raised:
        await make("app-x", _closed_port()).get_info()
    assert not isinstance(raised.value, APITimeoutError)
    assert make.time.delays == [1, 2, 4]


async def test_errors_silence_is_timeout(make: Maker, fault: Fault) -> None:
    fault.script({"hang": 0.5})
    with pytest.raises(APITimeoutError):
        await make("app-x", fault.url, timeout=0.05, max_retries=0).get_info()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<!doctype html><html><title>502 Bad Gateway</title></html>", "502 Bad Gateway"),
        ("", "Bad Gateway"),
        ("upstream is\ndown", "upstream is down"),
        ("[1, 2]", "[1, 2]"),
        ('{"detail": "of another kind"}', "of another kind"),
        ('{"error": {"message": "of a gateway"}}', "of a gateway"),
        ("x" * 10_000, "xxx..."),
        ("null", "null"),
    ],
)
async def test_errors_html_has_a_message(make: Maker, fault: Fault, body: str, words: str) -> None:
    error = await _error(make, fault, {"status": 502, "body": body, "headers": {"Content-Type": "text/html"}})
    assert error.status == 502
    assert words in str(error)
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", "null", "{", '"text"', "\udcff".encode("utf-8", "replace").decode()]
)
async def test_errors_not_json_is_server(make: Maker, fault: Fault, body: str) -> None:
    error = await _error(make, fault, {"status": 200, "body": body})
    assert isinstance(error, ServerError)
    assert "not a JSON object" in error.message


async def test_errors_answer_of_another_form_is_server(make: Maker, fault: Fault) -> None:
    fault.script({"status": 200, "body": {"data": {"id": "r", "status": 7}}})
    with pytest.raises(ServerError, match="status: Input should be a valid string"):
        await make("app-x", fault.url).run_workflow({})


async def test_errors_redirect_says_where(make: Maker, fault: Fault) -> None:
    error = await _error(make, fault, {"status": 301, "headers": {"Location": "https://example.org/"}, "body": ""})
    assert "https://example.org/" in error.message


async def test_errors_request_id(make: Maker, fault: Fault) -> None:
    for header in ("X-Request-Id", "X-Trace-Id"):
        error = await _error(make, fault, {"status": 500, "headers": {header: "abc"}, "body": {"message": "m"}})
        assert error.request_id == "abc"
        assert "request abc" in str(error)


async def test_errors_chat_run_failed(make: Maker, dify: str) -> None:
    with pytest.raises(RunFailedError, match="Run failed") as raised:
        await make(key_of("32_chat_fail"), dify).send_chat_message("hi")
    assert raised.value.status == 400


async def test_a_run_is_not_begun_twice_where_a_proxy_takes_headers_off(make: Maker, fault: Fault) -> None:
    """The header that would say whose stream it is, is one of them."""
    event = '{"event": "workflow_finished", "workflow_run_id": "r", "data": {"id": "r", "status": "succeeded"}}'
    stream = {"status": 200, "headers": {"Content-Type": "text/event-stream"}, "body": f"data: {event}\n\n"}
    fault.script(stream, stream)
    events = await collect(make("app-x", fault.url).stream_workflow({}, workflow_id="flow"))
    assert [event.event for event in events] == ["workflow_finished"]
    assert fault.calls() == ["POST /api/v1/workflows/flow/run"]
