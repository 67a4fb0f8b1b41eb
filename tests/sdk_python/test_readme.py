"""The README's examples, executed unchanged and in order."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest
from headrace_client import Client, WorkflowRun

from tests.certificates import Authority
from tests.sdk_contract.dify_datasets import KNOWLEDGE_KEY
from tests.sdk_contract.dify_server import key_of

_README = pathlib.Path(__file__).parents[2] / "sdks" / "python" / "README.md"


def test_examples_run(
    dify: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", _README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 9
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_BASE_URL", dify)
    (tmp_path / "cat.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "a.pdf").write_bytes(b"%PDF-")
    (tmp_path / "pump.md").write_text("The pump starts.")
    authority = Authority(tmp_path)
    client = authority.issue("client")
    client.key.rename("client.key")
    names: dict[str, Any] = {}
    clients: list[Client] = []
    for block in blocks:
        text = block.replace("your-api-key", key_of("02_template")).replace("your-knowledge-key", KNOWLEDGE_KEY)
        exec(text.replace("/etc/ssl/our-ca.pem", str(authority.certificate)), names)
        if names["client"] not in clients:
            clients.append(names["client"])
    assert isinstance(names["result"], WorkflowRun)
    assert names["result"].outputs == {"text": "Hello hi! 12"}
    output = capsys.readouterr().out
    assert "text_chunk Hello hi! 12\n" in output
    assert "{'text': 'Hello hi! 12'}\n" in output
    assert "0.71 The pump starts when the valve is open.\npump.md completed\n" in output
    for other in (*clients, names["knowledge"]):
        other.close()
