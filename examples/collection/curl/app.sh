#!/bin/sh
# App, with curl. Made by generate.py: change plan.py, and make it again.
. "$(dirname "$0")/common.sh"
: "${HEADRACE_API_KEY:?is the key of the app, which headrace serve prints}"

call '200' 'Get the API'\''s name and version' \
  --request GET "${HEADRACE_URL}/v1/"

call '200' 'Get the app'\''s name and mode' \
  --request GET "${HEADRACE_URL}/v1/info" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Get the app'\''s form and features' \
  --request GET "${HEADRACE_URL}/v1/parameters" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Get the icons of the app'\''s tools' \
  --request GET "${HEADRACE_URL}/v1/meta" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Get the app'\''s appearance' \
  --request GET "${HEADRACE_URL}/v1/site" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"
