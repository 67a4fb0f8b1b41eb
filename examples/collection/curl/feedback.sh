#!/bin/sh
# Feedback, with curl. Made by generate.py: change plan.py, and make it again.
. "$(dirname "$0")/common.sh"
: "${HEADRACE_CHAT_API_KEY:?is the key of the app, which headrace serve prints}"

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

call '200' 'Rate an answer' \
  --request POST "${HEADRACE_URL}/v1/messages/${message_id}/feedbacks" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "rating": "like",
  "user": "user-123",
  "content": "Just what I needed."
}'

call '200' 'List feedback' \
  --request GET "${HEADRACE_URL}/v1/app/feedbacks" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}"
