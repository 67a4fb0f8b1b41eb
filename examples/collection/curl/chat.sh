#!/bin/sh
# Chat, with curl. Made by generate.py: change plan.py, and make it again.
. "$(dirname "$0")/common.sh"
: "${HEADRACE_CHAT_API_KEY:?is the key of the app, which headrace serve prints}"
: "${HEADRACE_COMPLETION_API_KEY:?is the key of the app, which headrace serve prints}"

call '200' 'Send a message' \
  --request POST "${HEADRACE_URL}/v1/chat-messages" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "inputs": {},
  "query": "How do I make good tea?",
  "response_mode": "blocking",
  "user": "user-123"
}'
chat_task_id=$(field task_id)
message_id=$(field message_id)
conversation_id=$(field conversation_id)

call '200' 'Go on with a conversation' \
  --request POST "${HEADRACE_URL}/v1/chat-messages" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "inputs": {},
  "query": "?",
  "response_mode": "blocking",
  "user": "user-123",
  "conversation_id": "'"${conversation_id}"'"
}'

call '200' 'Send a message, and follow the answer' \
  --request POST "${HEADRACE_URL}/v1/chat-messages" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "inputs": {},
  "query": "hello",
  "response_mode": "streaming",
  "user": "user-123"
}'

call '200' 'Stop an answer' \
  --request POST "${HEADRACE_URL}/v1/chat-messages/${chat_task_id}/stop" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "user": "user-123"
}'

call '200' 'Complete a text' \
  --request POST "${HEADRACE_URL}/v1/completion-messages" \
  --header "Authorization: Bearer ${HEADRACE_COMPLETION_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "inputs": {
    "product": "green tea"
  },
  "response_mode": "blocking",
  "user": "user-123"
}'
completion_task_id=$(field task_id)

call '200' 'Complete a text, and follow it' \
  --request POST "${HEADRACE_URL}/v1/completion-messages" \
  --header "Authorization: Bearer ${HEADRACE_COMPLETION_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "inputs": {
    "product": "green tea"
  },
  "response_mode": "streaming",
  "user": "user-123"
}'

call '200' 'Stop a completion' \
  --request POST "${HEADRACE_URL}/v1/completion-messages/${completion_task_id}/stop" \
  --header "Authorization: Bearer ${HEADRACE_COMPLETION_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "user": "user-123"
}'
