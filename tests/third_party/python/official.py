"""dify-client, the official client for Python, used as its README uses it."""

import json
import sys

from dify_client import ChatClient, CompletionClient, DifyClient

url, keys = sys.argv[1], json.loads(sys.argv[2])


def at(client):
    client.base_url = f"{url}/v1"
    return client


completion_client = at(CompletionClient(keys["completion"]))
completion_response = completion_client.create_completion_message(
    inputs={"query": "What's the weather like today?"}, response_mode="blocking", user="user_id"
)
completion_response.raise_for_status()

chat_client = at(ChatClient(keys["chat"]))
chat_response = chat_client.create_chat_message(inputs={}, query="Hello", user="user_id", response_mode="streaming")
chat_response.raise_for_status()
answers, conversation = [], None
for line in chat_response.iter_lines(decode_unicode=True):
    line = line.split("data:", 1)[-1]
    if line.strip():
        line = json.loads(line.strip())
        answers.append(line.get("answer"))
        conversation = line.get("conversation_id")

client = at(DifyClient(keys["chat"]))
uploaded = client.file_upload("user_id", {"file": ("panda.jpeg", b"\xff\xd8\xff\xe0", "image/jpeg")}).json()
parameters = client.get_application_parameters("user_id").json()

message = chat_client.get_conversation_messages("user_id", conversation).json()["data"][0]
feedback = chat_client.message_feedback(message["id"], "like", "user_id").json()
renamed = chat_client.rename_conversation(conversation, "New name", "user_id").json()
conversations = chat_client.get_conversations("user_id").json()

print(
    json.dumps(
        {
            "completion": completion_response.json().get("answer"),
            "chat stream": "".join(answer for answer in answers if answer),
            "file": uploaded["name"],
            "opening": parameters["opening_statement"],
            "message": [message["query"], message["answer"]],
            "feedback": feedback,
            "renamed": renamed["name"],
            "conversations": [conversation["name"] for conversation in conversations["data"]],
        }
    )
)
