"""difypy and dify-api-python: small clients, one of them on sseclient."""

import json
import sys

from dify_api_python import DifyClient
from difypy import Dify, ResponseMode

url, keys = sys.argv[1], json.loads(sys.argv[2])
dify = Dify(keys["workflow"], f"{url}/v1")
run = dify.run_workflow({"query": "Hello"}, "user-1", ResponseMode.BLOCKING)
status = dify.get_workflow_status(run.workflow_run_id)
logs = dify.get_workflow_logs()

client = DifyClient(api_key=keys["chat"], base_url=f"{url}/v1")
events = [json.loads(event.data) for event in client.chat_message("Hello", "user-1", {}, None, None, stream=True)]

print(
    json.dumps(
        {
            "workflow": [run.data["status"], run.data["outputs"]],
            "status": status["status"],
            "logs": logs["total"],
            "info": dify.get_app_info()["name"],
            "chat stream": "".join(event["answer"] for event in events if event["event"] == "message"),
        }
    )
)
