"""Does what its parameter says, through the SDK."""

import time
from collections.abc import Generator

from dify_plugin import Tool
from dify_plugin.entities.tool import ToolInvokeMessage, ToolProviderType
from dify_plugin.entities.workflow_node import ClassConfig, ModelConfig


class Act(Tool):
    def _invoke(self, tool_parameters: dict) -> Generator[ToolInvokeMessage, None, None]:
        match tool_parameters["do"]:
            case "messages":
                log = self.create_log_message("step", {"a": 1}, ToolInvokeMessage.LogMessage.LogStatus.START)
                yield log
                yield self.create_text_message("text é")
                yield self.create_json_message({"a": [1, None]})
                yield self.create_link_message("https://link.example")
                yield self.create_image_message("https://image.example")
                yield self.create_blob_message(b"\x00\x01" * 10_000, meta={"mime_type": "image/png"})
                yield self.create_variable_message("v", {"b": 2})
                yield self.create_stream_variable_message("s", "piece")
                yield self.finish_log_message(log)
            case "file":
                file = tool_parameters["file"]
                yield self.create_text_message(f"{file.filename} {file.type} {len(file.blob)}")
            case "storage":
                for number in range(50):
                    self.session.storage.set("k", str(number).encode())
                    assert self.session.storage.get("k") == str(number).encode()
                self.session.storage.delete("k")
                yield self.create_text_message(str(self.session.storage.exist("k")))
            case "upload":
                file = self.session.file.upload("a.txt", b"content", "text/plain")
                yield self.create_json_message(file.model_dump(mode="json"))
            case "tool":
                parameters = {"do": "messages"}
                yield from self.session.tool.invoke(ToolProviderType.BUILT_IN, "tests/sdk/sdk", "act", parameters)
            case "classify":
                classes, model = [ClassConfig(id="1", name="a")], ModelConfig(provider="p", name="m")
                answer = self.session.workflow_node.question_classifier.invoke(classes, model, "q", "i")
                yield self.create_json_message(answer.model_dump())
            case "summary":
                self.session.model.summary.invoke("a long text " * 100, "instruction")
            case "fail":
                raise ValueError("no luck")
            case "wait":
                time.sleep(0.2)
                yield self.create_text_message("waited")
