#!/bin/sh
# Runs, with curl. Made by generate.py: change plan.py, and make it again.
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

call '200' 'Run the workflow, and follow it' \
  --request POST "${HEADRACE_URL}/v1/workflows/run" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "inputs": {
    "product_name": "Thermos Bottle"
  },
  "response_mode": "streaming",
  "user": "user-123"
}'

call '200' 'Run one version of the workflow' \
  --request POST "${HEADRACE_URL}/v1/workflows/${workflow_id}/run" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "inputs": {
    "product_name": "Thermos Bottle"
  },
  "response_mode": "blocking",
  "user": "user-123"
}'

call '200' 'Get a run' \
  --request GET "${HEADRACE_URL}/v1/workflows/run/${workflow_run_id}" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Follow a run' \
  --request GET "${HEADRACE_URL}/v1/workflow/${workflow_run_id}/events?user=user-123" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Follow a run from where it was cut off' \
  --request GET "${HEADRACE_URL}/v1/workflow/${workflow_run_id}/events?user=user-123" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}" \
  --header 'Last-Event-ID: 3'

call '200' 'Stop a run' \
  --request POST "${HEADRACE_URL}/v1/workflows/tasks/${task_id}/stop" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "user": "user-123"
}'

call '200' 'List runs' \
  --request GET "${HEADRACE_URL}/v1/workflows/logs" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"
