#!/bin/sh
# Annotations, with curl. Made by generate.py: change plan.py, and make it again.
. "$(dirname "$0")/common.sh"
: "${HEADRACE_CHAT_API_KEY:?is the key of the app, which headrace serve prints}"

call '201' 'Add an annotation' \
  --request POST "${HEADRACE_URL}/v1/apps/annotations" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "question": "What is Headrace?",
  "answer": "It runs workflows exported from Dify."
}'
annotation_id=$(field id)

call '200' 'List annotations' \
  --request GET "${HEADRACE_URL}/v1/apps/annotations" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}"

call '200' 'Change an annotation' \
  --request PUT "${HEADRACE_URL}/v1/apps/annotations/${annotation_id}" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "question": "What is Headrace?",
  "answer": "It runs workflows exported from Dify."
}'

call '200' 'Switch annotation reply on or off' \
  --request POST "${HEADRACE_URL}/v1/apps/annotation-reply/enable" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "score_threshold": 0.9,
  "embedding_provider_name": "openai",
  "embedding_model_name": "text-embedding-3-small"
}'
job_id=$(field job_id)

call '200' 'Get the status of switching' \
  --request GET "${HEADRACE_URL}/v1/apps/annotation-reply/enable/status/${job_id}" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}"

call '200' 'Switch annotation reply off' \
  --request POST "${HEADRACE_URL}/v1/apps/annotation-reply/disable" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "score_threshold": 0.9,
  "embedding_provider_name": "openai",
  "embedding_model_name": "text-embedding-3-small"
}'

call '204' 'Remove an annotation' \
  --request DELETE "${HEADRACE_URL}/v1/apps/annotations/${annotation_id}" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}"
