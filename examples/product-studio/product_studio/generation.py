"""A run of the workflow as the page follows it."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Self

from headrace_client import (
    APIConnectionError,
    AsyncStream,
    HeadraceError,
    NotFoundError,
    RateLimitError,
    ServerError,
    ValidationError,
    WaitTimeoutError,
)
from headrace_client.events import (
    ErrorEvent,
    Event,
    HumanInputFormFilled,
    HumanInputFormTimeout,
    HumanInputRequired,
    NodeData,
    NodeFinished,
    NodeStarted,
    TextChunk,
    WorkflowFinished,
    WorkflowPaused,
    WorkflowStarted,
)
from headrace_client.human_input import HumanInputRequiredData

from product_studio.models import (
    Failed,
    Finished,
    Interrupted,
    Progress,
    Reason,
    Started,
    Step,
    StepName,
    Text,
    Waiting,
)
from product_studio.service import ProductDetailService, to_failed

_log = logging.getLogger(__name__)

_PASSING = (APIConnectionError, RateLimitError, ServerError, WaitTimeoutError)  # the run itself has not failed
_ERROR_TYPES: dict[str, Reason] = {
    "InvokeAuthorizationError": "credentials",
    "InvokeRateLimitError": "limit",
    "InvokeConnectionError": "model",
    "InvokeServerUnavailableError": "model",
}
# Dify sends no type, but its messages have these words
_ERROR_WORDS: tuple[tuple[re.Pattern[str], Reason], ...] = (
    (re.compile(r"credentials|api.?key|authoriz|authentic", re.IGNORECASE), "credentials"),
    (re.compile(r"rate.?limit|quota|too many requests", re.IGNORECASE), "limit"),
    (re.compile(r"server unavailable|connection error|overloaded|timed? ?out", re.IGNORECASE), "model"),
)


class _Steps:
    """Folds the workflow's nodes into three steps: before its first language model, while one writes, and after."""

    def __init__(self) -> None:
        self.current: StepName | None = None
        self.failed: StepName | None = None
        self._writers: set[str] = set()
        self._seconds = 0.0

    def is_writer(self, node_id: str) -> bool:
        return node_id in self._writers

    def start(self, node: NodeData) -> list[Progress]:
        if node.iteration_id or node.loop_id or node.node_type == "human-input":
            return []
        is_model = node.node_type == "llm"
        if is_model:
            self._writers.add(node.node_id)
        if self.current is None:
            return self._enter("write" if is_model else "check", node)
        if self.current == "check" and is_model:
            return self._enter("write", node)
        if self.current == "write" and not is_model:
            return self._enter("picture", node)
        return []

    def finish(self, node: NodeData) -> list[Progress]:
        if not (node.iteration_id or node.loop_id):
            self._seconds += node.elapsed_time or 0.0
        if node.status != "failed" or self.current is None:
            return []
        self.failed = "write" if self.is_writer(node.node_id) else self.current
        return [Step(step=self.failed, state="failed", seconds=self._seconds)]

    def end(self) -> list[Progress]:
        """The current step is done."""
        return [] if self.current is None else [Step(step=self.current, state="done", seconds=self._seconds)]

    def _enter(self, step: StepName, node: NodeData) -> list[Progress]:
        ended = self.end()
        self.current, self._seconds = step, 0.0
        # a run that is followed again has been in this step for a while
        since = max(0.0, time.time() - node.created_at) if node.created_at else 0.0
        return [*ended, Step(step=step, state="running", seconds=since)]


class Generation:
    """The events of one run, from its start. Leaving it does not stop the run: a page that was closed or lost its
    connection comes back for the result. Only a run that the page never learned about is stopped.

    async with Generation(service, service.client.stream_workflow({"product_name": name})) as generation:
        async for progress in generation:
            ...
    """

    def __init__(
        self, service: ProductDetailService, stream: AsyncStream, run_id: str | None = None, *, is_known: bool = False
    ) -> None:
        """`run_id`: of a run that exists, and is followed; `is_known`: the page knows about it."""
        self._service = service
        self._stream = stream
        self._followed = run_id
        self._is_announced = is_known
        self._is_continued = False  # after a pause
        self._unapproved: Reason | None = None  # what a run without outputs has ended for
        self._due = math.inf  # when a form expires that is not known to be answered, in seconds since the epoch
        self._has_text = False
        self._first: Event | HeadraceError | None = None
        self._steps = _Steps()

    async def __aenter__(self) -> Self:
        """Waits for the first event: it names the task, without which the run could not be stopped."""
        try:
            self._first = await anext(self._stream, None)
        except HeadraceError as error:
            self._first = error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stream.aclose()
        task_id = self._stream.task_id
        if task_id is not None and not self._is_announced:
            try:
                await self._service.stop(task_id)
            except HeadraceError as failure:
                _log.warning("an abandoned run could not be stopped: %s", failure, extra={"task_id": task_id})

    async def __aiter__(self) -> AsyncIterator[Progress]:
        """What happens, as it happens; the last one is Finished, Failed or Interrupted."""
        try:
            async for progress in self._read():
                yield progress
        except _PASSING as error:
            if self._run_id is None:
                yield to_failed(error)
                return
            _log.warning("the connection to a run was lost: %s", error, extra={"run_id": self._run_id})
            yield Interrupted()
        except HeadraceError as error:
            yield to_failed(error)

    @property
    def is_unavailable(self) -> bool:
        """The server cannot be reached for now."""
        return isinstance(self._first, _PASSING)

    @property
    def _run_id(self) -> str | None:
        return self._followed or self._stream.run_id

    async def _read(self) -> AsyncGenerator[Progress]:
        if self._followed is not None and isinstance(self._first, NotFoundError | ValidationError):
            async for progress in self._wait(self._followed):
                yield progress
            return
        if isinstance(self._first, HeadraceError):
            raise self._first
        event = self._first
        while event is not None:
            for progress in await self._to_progress(event):
                yield progress
                self._is_announced = True
                if isinstance(progress, Finished | Failed):
                    return
            event = await anext(self._stream, None)
        yield Interrupted()

    async def _wait(self, run_id: str) -> AsyncGenerator[Progress]:
        """The end of a run whose stream the server cannot repeat."""
        yield Started(run_id=run_id, task_id=None)
        try:
            run = await self._service.wait(run_id)
        except NotFoundError:
            yield Failed(reason="gone")
            return
        if run.succeeded:
            yield await self._service.finish(run.outputs)
        else:
            yield self._failure(run_id, run.status, run.error, run.error_node.error_type if run.error_node else None)

    async def _to_progress(self, event: Event) -> list[Progress]:
        match event:
            case WorkflowStarted() if self._is_continued:
                return []
            case WorkflowStarted(workflow_run_id=str(run_id)):
                return [Started(run_id=run_id, task_id=event.task_id)]
            case NodeStarted(data=node):
                return self._steps.start(node)
            case NodeFinished(data=node):
                return self._steps.finish(node)
            case TextChunk(data=chunk):
                selector = chunk.from_variable_selector
                is_description = not selector or self._steps.is_writer(selector[0])
                self._has_text = self._has_text or is_description
                return [Text(text=chunk.text)] if is_description else []
            case HumanInputRequired(data=form):
                return [*self._steps.end(), *self._draft(form), await self._wait_for(form)]
            case HumanInputFormFilled():
                self._due = math.inf
                return []
            case HumanInputFormTimeout():
                self._due = 0.0
                return []
            case WorkflowFinished(data=outcome) if (
                self._unapproved and outcome.status == "succeeded" and not outcome.outputs
            ):
                return [Failed(reason="expired" if self._due <= time.time() else self._unapproved)]
            case WorkflowFinished(data=outcome) if outcome.status in ("succeeded", "partial-succeeded"):
                result = await self._service.finish(outcome.outputs)
                return [*(self._steps.end() if isinstance(result, Finished) else []), result]
            case WorkflowFinished(data=outcome):
                run_id = self._run_id or ""
                is_model = outcome.status == "failed" and self._steps.failed == "write"
                error_type = await self._service.error_type(run_id) if is_model else None
                return [self._failure(run_id, outcome.status, outcome.error, error_type)]
            case ErrorEvent():
                raise ServerError(event.message or "the stream ended with an error", run_id=self._run_id)
            case WorkflowPaused():
                await self._continue_after_pause()
                return []
            case _:
                return []

    def _draft(self, form: HumanInputRequiredData) -> list[Progress]:
        """The text that is to be approved, unless it was streamed: it is the default of the form's first input."""
        drafts = [str(value) for value in (form.resolved_default_values or {}).values()]
        return [Text(text=drafts[0])] if drafts and not self._has_text else []

    async def _wait_for(self, form: HumanInputRequiredData) -> Waiting:
        # of a run that has ended when it is followed again, only its end is sent
        self._unapproved, self._due = "rejected", form.expiration_time or math.inf
        return Waiting(form_url=await self._service.form_url(form.form_token) if form.form_token else None)

    async def _continue_after_pause(self) -> None:
        """The run waits until somebody has answered a form; the stream ends here, and another one continues it."""
        run_id = self._run_id or ""
        _log.info("the run waits for a person", extra={"run_id": run_id})
        await self._stream.aclose()
        self._stream = self._service.client.stream_workflow_events(run_id, continue_on_pause=True)
        self._followed, self._is_continued = run_id, True

    def _failure(self, run_id: str, status: str, error: str | None, error_type: str | None) -> Failed:
        _log.warning("the run %s", status, extra={"run_id": run_id, "error": error, "error_type": error_type})
        if status == "stopped":
            return Failed(reason="stopped")
        match self._steps.failed:
            case "check":
                return Failed(reason="title")
            case "picture":
                return Failed(reason="picture")
            case _:
                words = (reason for pattern, reason in _ERROR_WORDS if pattern.search(error or ""))
                return Failed(reason=_ERROR_TYPES.get(error_type or "") or next(words, "run"))
