"""dify-python-sdk, a fork of the official client that is kept up: httpx, async, workflows, typed errors."""

import asyncio
import json
import sys

from dify_client import AsyncChatClient, ChatClient, WorkflowClient
from dify_client.exceptions import APIError, ValidationError

url, keys = sys.argv[1], json.loads(sys.argv[2])
base = f"{url}/v1"


def lines(response):
    for line in response.iter_lines():
        line = line.split("data:", 1)[-1]
        if line.strip():
            yield json.loads(line.strip())


async def async_answers():
    async with AsyncChatClient(keys["chat"], base_url=base) as client:
        response = await client.create_chat_message({}, "Hello", "user-1", response_mode="blocking")
        return response.json()["answer"]


with WorkflowClient(keys["workflow"], base_url=base) as client:
    run = client.run({"query": "Hello"}, response_mode="blocking", user="user-1").json()
    events = list(lines(client.run({"query": "Hello"}, response_mode="streaming", user="user-1")))
    result = client.get_result(run["workflow_run_id"]).json()
    logs = client.get_workflow_logs().json()
    try:
        client.run({}, response_mode="blocking", user="user-1")
        error = None
    except (APIError, ValidationError) as refused:
        error = refused.status_code
with ChatClient(keys["chat"], base_url=base) as client:
    chat = list(lines(client.create_chat_message({}, "Hello", "user-1", response_mode="streaming")))
    variables = client.get_conversation_variables(chat[-1]["conversation_id"], "user-1").json()
    client.delete_conversation(chat[-1]["conversation_id"], "user-1")

print(
    json.dumps(
        {
            "workflow": [run["data"]["status"], run["data"]["outputs"]],
            "workflow stream": [event["event"] for event in events],
            "result": [result["status"], json.loads(result["outputs"])],
            "logs": logs["total"],
            "error": error,
            "chat stream": "".join(event["answer"] for event in chat if event["event"] == "message"),
            "variables": variables["data"],
            "async chat": asyncio.run(async_answers()),
        }
    )
)
