#!/bin/sh
# Conversations, with curl. Made by generate.py: change plan.py, and make it again.
. "$(dirname "$0")/common.sh"
: "${HEADRACE_CHAT_API_KEY:?is the key of the app, which headrace serve prints}"

call '200' 'List an end user'\''s conversations' \
  --request GET "${HEADRACE_URL}/v1/conversations?user=user-123" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}"

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

call '200' 'List the messages of a conversation' \
  --request GET "${HEADRACE_URL}/v1/messages?conversation_id=${conversation_id}&user=user-123" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}"

call '200' 'Suggest questions' \
  --request GET "${HEADRACE_URL}/v1/messages/${message_id}/suggested?user=user-123" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}"

call '200' 'List a conversation'\''s variables' \
  --request GET "${HEADRACE_URL}/v1/conversations/${conversation_id}/variables?user=user-123" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}"
variable_id=$(field id)

call '200' 'Change a conversation'\''s variable' \
  --request PUT "${HEADRACE_URL}/v1/conversations/${conversation_id}/variables/${variable_id}" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "value": "tea",
  "user": "user-123"
}'

call '200' 'Rename a conversation' \
  --request POST "${HEADRACE_URL}/v1/conversations/${conversation_id}/name" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "name": "hello",
  "user": "user-123"
}'

call '204' 'Delete a conversation' \
  --request DELETE "${HEADRACE_URL}/v1/conversations/${conversation_id}" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "user": "user-123"
}'
