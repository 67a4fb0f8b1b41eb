#!/bin/sh
# Callbacks, with curl. Made by generate.py: change plan.py, and make it again.
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

call '200 202' 'Run a workflow, and be called when it has ended' \
  --request POST "${HEADRACE_URL}/api/v1/workflows/${workflow_id}/run" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "inputs": {
    "product_name": "Thermos Bottle"
  },
  "user": "user-123",
  "callback_url": "'"${HEADRACE_CALLBACK_URL}"'"
}'
calling_run_id=$(field workflow_run_id)

call '200' 'Wait for its end' \
  --request GET "${HEADRACE_URL}/api/v1/workflow-runs/${calling_run_id}?wait=30" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"
called_run_id=$(field id)

call '200' 'List a run'\''s callbacks' \
  --request GET "${HEADRACE_URL}/api/v1/workflow-runs/${called_run_id}/callbacks" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"
callback_id=$(field id)

call '202' 'Send a callback again' \
  --request POST "${HEADRACE_URL}/api/v1/callbacks/${callback_id}/resend" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Get the signing secret' \
  --request GET "${HEADRACE_URL}/api/v1/callbacks/secret" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"
