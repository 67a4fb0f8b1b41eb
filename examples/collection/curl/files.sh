#!/bin/sh
# Files, with curl. Made by generate.py: change plan.py, and make it again.
. "$(dirname "$0")/common.sh"
: "${HEADRACE_API_KEY:?is the key of the app, which headrace serve prints}"

call '201' 'Upload a file' \
  --request POST "${HEADRACE_URL}/v1/files/upload" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}" \
  --form 'file=@files/hello.txt;type=text/plain' \
  --form 'user=user-123'
file_id=$(field id)
end_user_id=$(field created_by)
source_url=$(field source_url)

download '200' 'Download a file' \
  --request GET "${HEADRACE_URL}/v1/files/${file_id}/preview?user=user-123" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

call '200' 'Get an end user' \
  --request GET "${HEADRACE_URL}/v1/end-users/${end_user_id}" \
  --header "Authorization: Bearer ${HEADRACE_API_KEY}"

download '200' 'Download a file by its signed URL' \
  --request GET "${source_url}"

download '200 403' 'Download a node'\''s file by its signed URL' \
  --request GET "${HEADRACE_URL}/files/tools/unsigned.png"
