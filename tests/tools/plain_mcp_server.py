"""A server of the protocol without the official package, over stdin and stdout: it starts at once."""

import json
import os
import sys

TOOLS = ("die", "environment", "hang", "process")


def result_of(method: str, params: dict) -> dict | None:
    if method == "initialize":
        about = {"capabilities": {"tools": {}}, "serverInfo": {"name": "plain", "version": "1"}}
        return {"protocolVersion": "2025-06-18", **about}
    if method == "tools/list":
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
    if method != "tools/call" or params["name"] == "hang":
        return None
    if params["name"] == "die":
        os._exit(1)
    variable = params.get("arguments", {}).get("name", "")
    text = str(os.getpid()) if params["name"] == "process" else os.environ.get(variable, "not set")
    return {"content": [{"type": "text", "text": text}]}


for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if message["method"] == "server/discover":
        answer["error"] = {"code": -32601, "message": "Method not found"}
    elif (result := result_of(message["method"], message.get("params", {}))) is not None:
        answer["result"] = result
    else:
        continue
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
