"""The calls as a Postman collection, as .http files and as shell scripts that use curl."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from calls import Call, chapters, file_type
from plan import ENVIRONMENT

_MADE = "Made by generate.py: change plan.py, and make it again."
_VARIABLE = re.compile(r"\{\{([^}]+)\}\}")
_BOUNDARY = "part-of-a-form"


def file_name(tag: str) -> str:
    return tag.lower().replace(" ", "-")


# ------------------------------------------------------------------------------------------------------------- Postman


def postman(calls: Sequence[Call]) -> dict[str, str]:
    """The collection and its environment."""
    folders = [
        {"name": tag, "item": [_item(call) for call in calls if call.tag == tag]}
        for tag in dict.fromkeys(call.tag for call in calls)
    ]
    collection = {
        "info": {
            "name": "Headrace",
            "description": "Every call of the API, in an order in which each finds the ids that it needs. " + _MADE,
            "schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json",
        },
        "item": folders,
        "variable": [{"key": name, "value": ""} for call in calls for name in call.saves],
    }
    values = [
        {"key": name, "value": usual, "type": "secret" if name.endswith("key") else "default", "enabled": True}
        for name, (_, usual) in ENVIRONMENT.items()
    ]
    environment = {"name": "Headrace", "values": values, "_postman_variable_scope": "environment"}
    return {
        "headrace.postman_collection.json": _json(collection),
        "headrace.postman_environment.json": _json(environment),
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def _item(call: Call) -> dict[str, Any]:
    statuses = ", ".join(map(str, call.statuses))
    script = [
        f'pm.test("answers {statuses}", () => pm.expect(pm.response.code).to.be.oneOf([{statuses}]));',
        *(f'pm.collectionVariables.set("{name}", pm.response.json(){_path(at)});' for name, at in call.saves.items()),
    ]
    request: dict[str, Any] = {
        "method": call.method,
        "description": call.about,
        "header": [{"key": name, "value": value} for name, value in call.headers],
        "auth": {"type": "bearer", "bearer": [_string("token", f"{{{{{call.key}}}}}")]}
        if call.key
        else {"type": "noauth"},
        "url": _url(call),
    }
    if call.parts:
        request["body"] = {"mode": "formdata", "formdata": [_part(*part) for part in call.parts]}
    elif call.text is not None:
        request["body"] = {"mode": "raw", "raw": call.text, "options": {"raw": {"language": "json"}}}
        if not any(value == "application/json" for _, value in call.headers):
            request["body"]["options"]["raw"]["language"] = "text"
    event = {"listen": "test", "script": {"type": "text/javascript", "exec": script}}
    return {"name": call.title, "event": [event], "request": request, "response": []}


def _string(key: str, value: str) -> dict[str, str]:
    return {"key": key, "value": value, "type": "string"}


def _part(name: str, value: str, is_file: bool) -> dict[str, str]:
    if is_file:
        return {"key": name, "type": "file", "src": value, "contentType": file_type(value)}
    return {"key": name, "type": "text", "value": value}


def _path(at: str) -> str:
    return "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in at.split("."))


def _url(call: Call) -> dict[str, Any]:
    host, _, path = call.url.partition("/")
    query: list[dict[str, Any]] = [{"key": name, "value": value} for name, value in call.query]
    query += [{"key": name, "value": "", "description": about, "disabled": True} for name, about in call.optional]
    told: dict[str, Any] = {"raw": call.address, "host": [host]}
    if path:
        told["path"] = path.split("/")
    return {**told, "query": query} if query else told


# --------------------------------------------------------------------------------------------------------- .http files


def http_files(calls: Sequence[Call]) -> dict[str, str]:
    """A file for each tag. An id of another call's answer is read from there: each file is whole in itself."""
    files: dict[str, str] = {}
    for tag, chapter in chapters(calls):
        saved = {
            name: f"{call.name}.response.body.$.{_json_path(at)}" for call in chapter for name, at in call.saves.items()
        }
        blocks = [_request(call, saved) for call in chapter]
        used = [name for name in ENVIRONMENT if any(f"{{{{{name}}}}}" in block for block in blocks)]
        head = [f"# {tag}: for the REST Client of Visual Studio Code, httpYac, and Visual Studio. {_MADE}"]
        head += [f"@{name} = {{{{$processEnv {ENVIRONMENT[name][0]}}}}}" for name in used]
        files[f"http/{file_name(tag)}.http"] = "\n".join(head) + "\n\n" + "\n".join(blocks)
    return files


def _json_path(at: str) -> str:
    return re.sub(r"\.(\d+)", r"[\1]", at)


def _request(call: Call, saved: Mapping[str, str]) -> str:
    lines = [f"### {call.title}", f"# Answers {' or '.join(map(str, call.statuses))}", f"# @name {call.name}"]
    lines.append(f"{call.method} {call.address}")
    if call.key:
        lines.append(f"Authorization: Bearer {{{{{call.key}}}}}")
    lines += [f"{name}: {value}" for name, value in call.headers]
    if call.parts:
        lines += [f"Content-Type: multipart/form-data; boundary={_BOUNDARY}", ""]
        for name, value, is_file in call.parts:
            more = f'; filename="{PurePosixPath(value).name}"' if is_file else ""
            lines += [f"--{_BOUNDARY}", f'Content-Disposition: form-data; name="{name}"{more}']
            lines += [f"Content-Type: {file_type(value)}", "", f"< ../{value}"] if is_file else ["", value]
        lines.append(f"--{_BOUNDARY}--")
    elif call.text is not None:
        lines += ["", call.text.rstrip("\n")]
    text = "\n".join(lines) + "\n"
    return _VARIABLE.sub(lambda match: f"{{{{{saved.get(match[1], match[1])}}}}}", text)


# ---------------------------------------------------------------------------------------------------------------- curl

_COMMON = """\
# What the scripts beside this one share. {made}
set -eu
cd "$(dirname "$0")/.."
{environment}
guid="$(date +%s)-$$" # unlike that of any other run of the script
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# call "STATUS ..." TITLE CURL-ARGUMENT...: makes a call, shows the answer, and ends the script if it has another status
call() {{
  expected=$1
  printf '\\n=== %s\\n' "$2" >&2
  shift 2
  curl --silent --show-error --no-buffer --max-time 120 --dump-header "$work/head" "$@" | tee "$work/body"
  check
}}

# download ...: as call, for what is not to be shown
download() {{
  expected=$1
  printf '\\n=== %s\\n' "$2" >&2
  shift 2
  curl --silent --show-error --max-time 120 --dump-header "$work/head" --output "$work/body" "$@"
  printf '%s bytes' "$(wc -c < "$work/body" | tr -d ' ')"
  check
}}

check() {{
  status=$(sed -n 's/^HTTP[^ ]* \\([0-9]*\\).*/\\1/p' "$work/head" | tail -n 1)
  printf '\\n--- %s\\n' "$status" >&2
  case " $expected " in
    *" $status "*) ;;
    *) printf 'expected %s\\n' "$expected" >&2; exit 1 ;;
  esac
}}

# field NAME: the first text of that name in the last answer
field() {{
  found=$(grep -o "\\"$1\\": *\\"[^\\"]*\\"" "$work/body" | head -n 1 | sed 's/^[^:]*: *"//; s/"$//')
  [ -n "$found" ] || {{ printf 'the answer has no %s\\n' "$1" >&2; exit 1; }}
  printf '%s' "$found"
}}
"""


def curl_files(calls: Sequence[Call]) -> dict[str, str]:
    """A script for each tag, and what they share."""
    lines = [
        f': "${{{variable}:={usual}}}"' if usual else f': "${{{variable}:=}}"'
        for variable, usual in ENVIRONMENT.values()
    ]
    files = {"curl/common.sh": _COMMON.format(made=_MADE, environment="\n".join(lines))}
    for tag, chapter in chapters(calls):
        keys = dict.fromkeys(ENVIRONMENT[call.key][0] for call in chapter if call.key)
        needs = [f': "${{{key}:?is the key of the app, which headrace serve prints}}"' for key in keys]
        head = ["#!/bin/sh", f"# {tag}, with curl. {_MADE}", '. "$(dirname "$0")/common.sh"', *needs]
        files[f"curl/{file_name(tag)}.sh"] = "\n".join(head) + "\n\n" + "\n".join(_command(call) for call in chapter)
    return files


def _command(call: Call) -> str:
    words = [f"--request {call.method} {_quoted(call.address)}"]
    if call.key:
        words.append(f"--header {_quoted(f'Authorization: Bearer {{{{{call.key}}}}}')}")
    words += [f"--header {_quoted(f'{name}: {value}')}" for name, value in call.headers]
    for name, value, is_file in call.parts:
        words.append(f"--form {_quoted(f'{name}=@{value};type={file_type(value)}' if is_file else f'{name}={value}')}")
    if call.text is not None:
        words.append(f"--data-binary {_quoted(call.text)}")
    how = "call" if call.shown else "download"
    first = f"{how} '{' '.join(map(str, call.statuses))}' {_quoted(call.title)}"
    lines = [" \\\n  ".join([first, *words])]
    lines += [f"{name}=$(field {at.rpartition('.')[2]})" for name, at in call.saves.items()]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """The text as a word of a shell; variables are filled in."""
    parts = _VARIABLE.split(text)  # every second one is the name of a variable
    if len(parts) > 1 and not any(letter in part for part in parts[::2] for letter in '"\\`$\n'):
        return '"' + _VARIABLE.sub(lambda match: _shell(match[1]), text) + '"'
    return "".join(f'"{_shell(part)}"' if index % 2 else _plain(part) for index, part in enumerate(parts))


def _plain(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'" if text else ""


def _shell(name: str) -> str:
    known = ENVIRONMENT.get(name)
    return f"${{{known[0] if known else name.removeprefix('$')}}}"
