# What the scripts beside this one share. Made by generate.py: change plan.py, and make it again.
set -eu
cd "$(dirname "$0")/.."
: "${HEADRACE_URL:=http://127.0.0.1:8040}"
: "${HEADRACE_API_KEY:=}"
: "${HEADRACE_CHAT_API_KEY:=}"
: "${HEADRACE_COMPLETION_API_KEY:=}"
: "${HEADRACE_WORKSPACE_KEY:=}"
: "${HEADRACE_CALLBACK_URL:=http://127.0.0.1:8041/hook}"
guid="$(date +%s)-$$" # unlike that of any other run of the script
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# call "STATUS ..." TITLE CURL-ARGUMENT...: makes a call, shows the answer, and ends the script if it has another status
call() {
  expected=$1
  printf '\n=== %s\n' "$2" >&2
  shift 2
  curl --silent --show-error --no-buffer --max-time 120 --dump-header "$work/head" "$@" | tee "$work/body"
  check
}

# download ...: as call, for what is not to be shown
download() {
  expected=$1
  printf '\n=== %s\n' "$2" >&2
  shift 2
  curl --silent --show-error --max-time 120 --dump-header "$work/head" --output "$work/body" "$@"
  printf '%s bytes' "$(wc -c < "$work/body" | tr -d ' ')"
  check
}

check() {
  status=$(sed -n 's/^HTTP[^ ]* \([0-9]*\).*/\1/p' "$work/head" | tail -n 1)
  printf '\n--- %s\n' "$status" >&2
  case " $expected " in
    *" $status "*) ;;
    *) printf 'expected %s\n' "$expected" >&2; exit 1 ;;
  esac
}

# field NAME: the first text of that name in the last answer
field() {
  found=$(grep -o "\"$1\": *\"[^\"]*\"" "$work/body" | head -n 1 | sed 's/^[^:]*: *"//; s/"$//')
  [ -n "$found" ] || { printf 'the answer has no %s\n' "$1" >&2; exit 1; }
  printf '%s' "$found"
}
