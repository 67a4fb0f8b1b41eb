#!/bin/sh
# Health, with curl. Made by generate.py: change plan.py, and make it again.
. "$(dirname "$0")/common.sh"

call '200' 'Is the process alive?' \
  --request GET "${HEADRACE_URL}/healthz"

call '200' 'Is the process ready for requests?' \
  --request GET "${HEADRACE_URL}/readyz"
