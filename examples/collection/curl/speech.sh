#!/bin/sh
# Speech, with curl. Made by generate.py: change plan.py, and make it again.
. "$(dirname "$0")/common.sh"
: "${HEADRACE_CHAT_API_KEY:?is the key of the app, which headrace serve prints}"

call '200 400' 'Speech to text' \
  --request POST "${HEADRACE_URL}/v1/audio-to-text" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}" \
  --form 'file=@files/silence.wav;type=audio/wav' \
  --form 'user=user-123'

download '200 400' 'Text to speech' \
  --request POST "${HEADRACE_URL}/v1/text-to-audio" \
  --header "Authorization: Bearer ${HEADRACE_CHAT_API_KEY}" \
  --header 'Content-Type: application/json' \
  --data-binary '{
  "text": "Hello!",
  "user": "user-123",
  "voice": "alloy"
}'
