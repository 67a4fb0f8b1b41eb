"""A user's program, for the type checkers: all of it must be clean under mypy and pyright, both strict."""

from __future__ import annotations

from pathlib import Path

from headrace_client import (
    APIConnectionError,
    AsyncClient,
    Client,
    File,
    HeadraceError,
    PollingPlan,
    RateLimitError,
    RetryPolicy,
    RunFailedError,
    StreamInterruptedError,
    UsageError,
    WorkflowRun,
)
from headrace_client.events import NodeFinished, TextChunk, UnknownEvent, WorkflowFinished


def main() -> str:
    with Client(
        "app-x", "http://localhost:8000", retry=RetryPolicy(max_retries=2), polling=PollingPlan(first=0.5)
    ) as client:
        response = client.create_workflow_run(workflow_id="wf", inputs={"text": "Hello World"}, timeout=300)
        run_id: str = response.workflow_run_id
        result: WorkflowRun = client.get_workflow_run_status(response["workflow_run_id"])
        result = client.wait(response)
        took: float | None = result.elapsed_time
        text = ""
        with client.stream_workflow({"photo": Path("a.png"), "other": File(b"x", "x.txt")}) as stream:
            for event in stream:
                if isinstance(event, TextChunk):
                    text += event.data.text
                elif isinstance(event, NodeFinished):
                    title: str = event.data.title
                    text += title
                elif isinstance(event, WorkflowFinished):
                    status: str = event.data.status
                    text += status
        for event in client.with_options(headers={"X-Trace": "1"}, timeout=30).stream_workflow():
            if event.event == "text_chunk":
                text += event.data.text
            elif event.event == "node_finished":
                text += event.data.node_id + event.data.title + event.workflow_run_id
            elif event.event == "loop_next" or event.event == "loop_completed":
                text += event.data.id
            elif event.event == "message":
                text += event.answer + event.message_id
            elif event.event == "reasoning_chunk":
                text += event.data.reasoning
            elif event.event == "error":
                text += event.message or ""
            elif isinstance(event, UnknownEvent):
                text += str(event["event"])
        for log in client.list_workflow_logs(limit=5):
            if log.workflow_run is not None:
                text += log.workflow_run.status
        try:
            client.run_and_wait({"text": "x"}, raise_on_failure=True)
        except RunFailedError as error:
            text += error.run.error or "" if error.run is not None else ""
        except RateLimitError as error:
            seconds: float | None = error.retry_after
            text += str(seconds)
        except StreamInterruptedError as error:
            text += error.text
        except APIConnectionError as error:
            text += error.message
        except UsageError as error:
            text += error.message
        except HeadraceError as error:
            text += error.code or ""
        for dataset in client.datasets.list_datasets(keyword="manual"):
            text += dataset.name
        written = client.datasets.create_document_by_text("d", "pump", "text", process_rule={"mode": "automatic"})
        for progress in client.datasets.wait_until_indexed("d", written):
            text += progress.indexing_status
        for record in client.datasets.retrieve("d", "pump", retrieval_model={"top_k": 3}).records:
            text += record.segment.content + record.segment["content"]
        request: str | None = result.request_id
        return f"{run_id} {took} {text} {request}"


async def main_async() -> int:
    async with AsyncClient("app-x") as client:
        run = await client.run_workflow({"text": "x"}, workflow_id="wf")
        count = run.total_tokens or 0
        async for event in client.stream_chat_message("hello", conversation_id="c"):
            count += len(event.text)
        async for conversation in client.list_conversations():
            count += len(conversation.name)
        answer = await client.send_chat_message("hello", files=["https://example.org/a.png"])
        return count + len(answer.answer)
