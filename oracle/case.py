"""A case: a workflow, its inputs, and how it is kept in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ECHO = "http://echo.invalid"
"""Stands for the echo server's address in a workflow, until it runs."""

SYSTEM: Mapping[str, Any] = {
    "user_id": "user",
    "app_id": "app",
    "workflow_id": "workflow",
    "workflow_run_id": "run",
}
CHAT: Mapping[str, Any] = {"query": "What about 咖啡?", "conversation_id": "conversation", "dialogue_count": 1}


@dataclass(frozen=True)
class Case:
    """`document` is an exported app; `inputs` are the start node's values, as it accepts them."""

    document: Mapping[str, Any]
    inputs: Mapping[str, Any]

    @property
    def chat(self) -> bool:
        return self.document["app"]["mode"] == "advanced-chat"

    @property
    def system(self) -> dict[str, Any]:
        return {**SYSTEM, **(CHAT if self.chat else {})}

    @property
    def nodes(self) -> list[dict[str, Any]]:
        return self.document["workflow"]["graph"]["nodes"]

    @property
    def types(self) -> dict[str, str]:
        """The types of the nodes by id."""
        return {node["id"]: node["data"]["type"] for node in self.nodes}

    def dsl(self, echo: str) -> str:
        return yaml.safe_dump(self.document, allow_unicode=True, sort_keys=False).replace(ECHO, echo)

    def write(self, folder: Path, outputs: Mapping[str, Any]) -> None:
        """`outputs`: what each of the engines put out, by its name."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dsl.yml").write_text(yaml.safe_dump(self.document, allow_unicode=True, sort_keys=False), "utf-8")
        for name, value in {"inputs": self.inputs, **outputs}.items():
            (folder / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", "utf-8")

    @classmethod
    def read(cls, folder: Path) -> Case:
        document = yaml.safe_load((folder / "dsl.yml").read_text("utf-8"))
        return cls(document, json.loads((folder / "inputs.json").read_text("utf-8")))
