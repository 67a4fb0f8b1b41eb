"""A new run with the inputs of an old one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from headrace.api.auth import Api, as_uuid
from headrace.api.dify.message_requests import app_submission
from headrace.api.middleware.request_context import CALLER, TRACE
from headrace.api.native.run_watch import RunStatus
from headrace.api.native.schemas.runs import ReplayRequest
from headrace.apps.catalog import Release
from headrace.errors import NotFound
from headrace.kernel.events import RunId, RunQueued
from headrace.runs.service import Submission
from headrace.values import File, Value


async def replay(
    api: Api, release: Release, status: RunStatus, options: ReplayRequest, run: RunId | None
) -> Submission:
    """The new run (`run` is its id, see `RunService.submit`). InvalidParam where the version does not accept the
    inputs, NotFound where the app has no such version."""
    old = (await api.run_service.environment.journal.read(status.run, limit=1))[0].event  # secrets as they are
    assert isinstance(old, RunQueued)
    if version := options.get("version"):
        unknown = NotFound(f"Workflow not found with id: {version[:50]}")
        release = await api.apps.version(release.app, as_uuid(version, unknown))
    new_inputs = options.get("inputs")
    if old.start in release.flow.triggers:
        return Submission(
            release,
            old.user,
            old.inputs if new_inputs is None else new_inputs,
            end_user=await api.apps.end_user(release.app, old.user),
            trace=TRACE.get(),
            key=CALLER.get(),
            replay_of=status.run,
            start=old.start,
        )
    fields: dict[str, Value] = {
        "inputs": _request_of(old.inputs) if new_inputs is None else dict(new_inputs),
        "files": _request_of({"files": old.system.get("files") or []})["files"],
        "query": old.system.get("query"),
    }
    submission = await app_submission(api, release, old.user, fields, run=run)
    return replace(submission, replay_of=status.run)


def _request_of(values: Mapping[str, Value]) -> dict[str, Value]:
    """Values of a run as a request has them: without those that were left out, and with files by reference."""
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Value) -> Value:
    match value:
        case File():
            reference: dict[str, Value] = {"type": value.type, "transfer_method": value.transfer_method}
            if value.transfer_method == "remote_url":
                return {**reference, "url": value.remote_url}
            name = "tool_file_id" if value.transfer_method == "tool_file" else "upload_file_id"
            return {**reference, name: value.related_id}
        case list():
            return [_plain(item) for item in cast("list[Value]", value)]
        case dict():
            return {key: _plain(item) for key, item in cast("dict[str, Value]", value).items()}
        case _:
            return value
