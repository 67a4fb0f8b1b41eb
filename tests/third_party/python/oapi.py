"""dify-oapi2: requests from builders, answers as models, streams as bytes.

Its workflow requests put the inputs one level too deep, for any server, so only chats are sent.
"""

import json
import sys

from dify_oapi.api.chatflow.v1.model.get_conversation_messages_request import GetConversationMessagesRequest
from dify_oapi.api.chatflow.v1.model.send_chat_message_request import SendChatMessageRequest
from dify_oapi.api.chatflow.v1.model.send_chat_message_request_body import SendChatMessageRequestBody
from dify_oapi.client import Client
from dify_oapi.core.model.request_option import RequestOption

url, keys = sys.argv[1], json.loads(sys.argv[2])
client = Client.builder().domain(url).build()
option = RequestOption.builder().api_key(keys["chat"]).build()


def chat(mode):
    body = SendChatMessageRequestBody.builder().query("Hello").user("user-123").inputs({}).response_mode(mode).build()
    return SendChatMessageRequest.builder().request_body(body).build()


answer = client.chatflow.v1.chatflow.send(chat("blocking"), option)
stream = b"".join(client.chatflow.v1.chatflow.send(chat("streaming"), option, stream=True))
events = [json.loads(block.removeprefix("data: ")) for block in stream.decode().split("\n\n") if block]
messages = client.chatflow.v1.conversation.messages(
    GetConversationMessagesRequest.builder().conversation_id(answer.conversation_id).user("user-123").build(), option
)

print(
    json.dumps(
        {
            "chat": answer.answer,
            "chat stream": "".join(event["answer"] for event in events if event["event"] == "message"),
            "messages": [[message.query, message.answer] for message in messages.data],
        }
    )
)
