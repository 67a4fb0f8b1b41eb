#!/bin/sh
# App, with curl. Made by generate.py: change plan.py, and make it again.
. "$(dirname "$0")/common.sh"
: "${HEADRACE_API_KEY:?is the key of the app, which headrace serve prints}"

call '200' 'Name and mode of the app' \
  --request GET "${HEADRACE_URL}/v1/info" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'What the app takes' \
  --request GET "${HEADRACE_URL}/v1/parameters" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Icons of the app'\''s tools' \
  --request GET "${HEADRACE_URL}/v1/meta" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'How the app is presented' \
  --request GET "${HEADRACE_URL}/v1/site" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Which API this is' \
  --request GET "${HEADRACE_URL}/v1/"
