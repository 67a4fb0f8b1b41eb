"""dify-client-python and dify-api-client, which share their shape: typed models and events, sync and async."""

import asyncio
import json
import sys

import dify_client
from dify_client import models

url, keys = sys.argv[1], json.loads(sys.argv[2])
Sync = getattr(dify_client, "Client", None) or dify_client.DifyClient
Async = getattr(dify_client, "AsyncClient", None) or dify_client.AsyncDifyClient


def options(app):
    return {"api_key": keys[app], "api_base": f"{url}/v1"}


def chat(mode, conversation_id=""):
    return models.ChatRequest(
        query="Hello", inputs={}, user="user-1", response_mode=mode, conversation_id=conversation_id
    )


def names(events):
    """An event that a client does not know has its name in the one, and none in the other."""
    return [event.event.value if hasattr(event.event, "value") else event.event for event in events]


def workflow(mode):
    return models.WorkflowsRunRequest(inputs={"query": "Hello"}, user="user-1", response_mode=mode)


BLOCKING, STREAMING = models.ResponseMode.BLOCKING, models.ResponseMode.STREAMING
with_chat, with_workflow = Sync(**options("chat")), Sync(**options("workflow"))

blocking = with_chat.chat_messages(chat(BLOCKING), timeout=30.0)
first = list(with_chat.chat_messages(chat(STREAMING), timeout=30.0))
events = list(with_chat.chat_messages(chat(STREAMING, first[-1].conversation_id), timeout=30.0))
run = with_workflow.run_workflows(workflow(BLOCKING), timeout=30.0)
run_events = list(with_workflow.run_workflows(workflow(STREAMING), timeout=30.0))
completion = Sync(**options("completion")).completion_messages(
    models.CompletionRequest(inputs={"query": "Hi"}, user="user-1", response_mode=BLOCKING),
    timeout=30.0,
)
feedback = with_chat.feedback_messages(
    blocking.message_id, models.FeedbackRequest(rating=models.Rating.LIKE, user="user-1"), timeout=30.0
)
try:
    with_workflow.run_workflows(models.WorkflowsRunRequest(inputs={}, user="user-1", response_mode=BLOCKING))
    error = None
except dify_client.errors.DifyAPIError as refused:
    error = [refused.status, refused.code]


async def concurrently():
    client = Async(**options("workflow"))
    return [event async for event in await client.arun_workflows(workflow(STREAMING), timeout=30.0)]


def text(events):
    return "".join(event.answer for event in events if event.event == "message")


print(
    json.dumps(
        {
            "chat": blocking.answer,
            "chat stream": text(events),
            "same conversation": {event.conversation_id for event in events} == {first[-1].conversation_id},
            "ends with": names(events)[-1],
            "workflow": [getattr(run.data.status, "value", run.data.status), run.data.outputs],
            "workflow stream": names(run_events),
            "async workflow stream": names(asyncio.run(concurrently())),
            "completion": completion.answer,
            "feedback": feedback.result,
            "error": error,
        }
    )
)
