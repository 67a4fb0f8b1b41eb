#!/bin/sh
# OpenAI, with curl. Made by generate.py: change plan.py, and make it again.
. "$(dirname "$0")/common.sh"
: "${HEADRACE_CHAT_API_KEY:?is the key of the app, which headrace serve prints}"

call '200' 'List the models' \
  --request GET "${HEADRACE_URL}/v1/openai/models" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}"
model=$(field id)

call '200' 'Get a model' \
  --request GET "${HEADRACE_URL}/v1/openai/models/${model}" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}"

call '200' 'Call the app as a model' \
  --request POST "${HEADRACE_URL}/v1/openai/chat/completions" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "model": "'"${model}"'",
  "messages": [
    {
      "role": "user",
      "content": "hello"
    }
  ]
}'

call '200' 'Call the app as a model, and follow it' \
  --request POST "${HEADRACE_URL}/v1/openai/chat/completions" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "model": "'"${model}"'",
  "messages": [
    {
      "role": "user",
      "content": "hello"
    }
  ],
  "stream": true
}'
