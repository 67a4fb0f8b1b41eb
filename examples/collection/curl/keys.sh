#!/bin/sh
# Keys, with curl. Made by generate.py: change plan.py, and make it again.
. "$(dirname "$0")/common.sh"
: "${HEADRACE_WORKSPACE_KEY:?is the key of the app, which headrace serve prints}"

call '201' 'Create a key' \
  --request POST "${HEADRACE_URL}/api/v1/keys" \
  --header "Authorization: Bearer ${HEADRACE_WORKSPACE_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "name": "nightly import",
  "permissions": [
    "run",
    "read"
  ],
  "apps": null
}'
key_id=$(field id)

call '200' 'List keys' \
  --request GET "${HEADRACE_URL}/api/v1/keys" \
  --header "Authorization: Bearer ${HEADRACE_WORKSPACE_KEY}"

call '200' 'Get a key' \
  --request GET "${HEADRACE_URL}/api/v1/keys/${key_id}" \
  --header "Authorization: Bearer ${HEADRACE_WORKSPACE_KEY}"

call '201' 'Rotate a key' \
  --request POST "${HEADRACE_URL}/api/v1/keys/${key_id}/rotate" \
  --header "Authorization: Bearer ${HEADRACE_WORKSPACE_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "overlap": 3600
}'
next_key_id=$(field id)

call '200' 'Revoke a key' \
  --request DELETE "${HEADRACE_URL}/api/v1/keys/${key_id}" \
  --header "Authorization: Bearer ${HEADRACE_WORKSPACE_KEY}"

call '200' 'Revoke its successor' \
  --request DELETE "${HEADRACE_URL}/api/v1/keys/${next_key_id}" \
  --header "Authorization: Bearer ${HEADRACE_WORKSPACE_KEY}"

call '200' 'List changes of keys' \
  --request GET "${HEADRACE_URL}/api/v1/keys/audit" \
  --header "Authorization: Bearer ${HEADRACE_WORKSPACE_KEY}"
