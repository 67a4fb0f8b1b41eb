#!/bin/sh
# Versions, with curl. Made by generate.py: change plan.py, and make it again.
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

call '200' 'List versions' \
  --request GET "${HEADRACE_URL}/api/v1/workflows/${app_id}/versions" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200 201' 'Publish a version that calls do not run yet' \
  --request POST "${HEADRACE_URL}/api/v1/workflows/${app_id}/versions?current=false" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}" \
  --header 'Content-Type: application/yaml' \
  --data-binary 'app: {mode: workflow, name: support}
kind: app
version: 0.5.0
workflow:
  graph:
    nodes:
    - {id: start, data: {type: start, title: Start, variables: []}}
    - {id: end, data: {type: end, title: End, outputs: []}}
    edges:
    - {source: start, sourceHandle: source, target: end}
'
version_id=$(field id)

call '200' 'Get a version' \
  --request GET "${HEADRACE_URL}/api/v1/workflows/${app_id}/versions/${version_id}" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Compare two versions' \
  --request GET "${HEADRACE_URL}/api/v1/workflows/${app_id}/diff?from=${version_id}" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Make a version the current one' \
  --request POST "${HEADRACE_URL}/api/v1/workflows/${app_id}/versions/${version_id}/pin" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Go back one version' \
  --request POST "${HEADRACE_URL}/api/v1/workflows/${app_id}/rollback" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Make the version from before the current one' \
  --request POST "${HEADRACE_URL}/api/v1/workflows/${app_id}/versions/${workflow_id}/pin" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"
