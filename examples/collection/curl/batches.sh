#!/bin/sh
# Batches, with curl. Made by generate.py: change plan.py, and make it again.
. "$(dirname "$0")/common.sh"
: "${HEADRACE_API_KEY:?is the key of the app, which headrace serve prints}"

call '200' 'Run the workflow' \
  --request POST "${HEADRACE_URL}/v1/workflows/run" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "inputs": {
    "product_name": "Thermos Bottle"
  },
  "response_mode": "blocking",
  "user": "user-123"
}'
task_id=$(field task_id)
workflow_run_id=$(field workflow_run_id)
workflow_id=$(field workflow_id)

call '202' 'Run a workflow, or a chat, for many inputs' \
  --request POST "${HEADRACE_URL}/api/v1/workflows/${workflow_id}/batch?user=user-123" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}" \
  --header 'Content-Type: application/jsonl' \
  --data-binary '{"inputs": {"product_name": "Thermos Bottle"}}
{"inputs": {"product_name": "Green Tea Set"}}
'
batch_id=$(field batch_id)

call '200' 'Get a batch' \
  --request GET "${HEADRACE_URL}/api/v1/batches/${batch_id}" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'List the app'\''s batches' \
  --request GET "${HEADRACE_URL}/api/v1/batches" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Get the results of a batch' \
  --request GET "${HEADRACE_URL}/api/v1/batches/${batch_id}/results" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Stop a batch' \
  --request POST "${HEADRACE_URL}/api/v1/batches/${batch_id}/stop" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"
