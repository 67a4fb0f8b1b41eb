#!/bin/sh
# Asynchronous runs, with curl. Made by generate.py: change plan.py, and make it again.
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

call '200 202' 'Run a workflow, or send a message to a chat' \
  --request POST "${HEADRACE_URL}/api/v1/workflows/${workflow_id}/run" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}" \
  --header "Idempotency-Key: order-${guid}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "inputs": {
    "product_name": "Thermos Bottle"
  },
  "user": "user-123"
}'
submitted_run_id=$(field workflow_run_id)

call '200' 'Get a run, or wait for its end' \
  --request GET "${HEADRACE_URL}/api/v1/workflow-runs/${submitted_run_id}?wait=30" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"
ended_run_id=$(field id)
app_id=$(field app_id)

call '200' 'See what each node did' \
  --request GET "${HEADRACE_URL}/api/v1/workflow-runs/${ended_run_id}/node-executions" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Follow a run' \
  --request GET "${HEADRACE_URL}/api/v1/workflow-runs/${ended_run_id}/events" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Stop a run' \
  --request POST "${HEADRACE_URL}/api/v1/workflow-runs/${submitted_run_id}/stop" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "user": "user-123"
}'

call '200 202' 'Run a workflow that fails' \
  --request POST "${HEADRACE_URL}/api/v1/workflows/${workflow_id}/run" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "inputs": {
    "product_name": "Tea"
  },
  "user": "user-123"
}'
failing_run_id=$(field workflow_run_id)

call '200' 'Wait until it has failed' \
  --request GET "${HEADRACE_URL}/api/v1/workflow-runs/${failing_run_id}?wait=30" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"
failed_run_id=$(field id)

call '202' 'Retry a run that failed or was stopped' \
  --request POST "${HEADRACE_URL}/api/v1/workflow-runs/${failed_run_id}/retry" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'List runs' \
  --request GET "${HEADRACE_URL}/api/v1/workflow-runs?user=user-123" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"
