"""Workflows of these tests, as files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

SECRET = "s3cr3t-of-the-workflow"
MODEL = {
    "provider": "langgenius/openai/openai",
    "name": "gpt-4o-mini",
    "mode": "chat",
    "completion_params": {"temperature": 0.5},
}


def node(id_: str, kind: str, inside: str | None = None, **data: Any) -> dict[str, Any]:
    placed = {"parentId": inside} if inside else {}
    mark = {"isInIteration": True, "iteration_id": inside} if inside else {}
    return {"id": id_, **placed, "data": {"type": kind, "title": id_.title(), **mark, **data}}


def start(*names: str) -> dict[str, Any]:
    variables = [{"variable": name, "label": name, "type": "text-input", "required": False} for name in names]
    return node("start", "start", variables=variables)


def end(*selector: str) -> dict[str, Any]:
    return node("end", "end", outputs=[{"variable": "out", "value_selector": list(selector)}] if selector else [])


def llm(id_: str, text: str, inside: str | None = None, **data: Any) -> dict[str, Any]:
    prompt = [{"id": "p", "role": "user", "text": text}]
    context: dict[str, Any] = {"enabled": False, "variable_selector": []}
    vision = {"enabled": False}
    return node(id_, "llm", inside, model=MODEL, prompt_template=prompt, context=context, vision=vision, **data)


def http(id_: str, url: str, headers: str = "", **data: Any) -> dict[str, Any]:
    request = {"method": "post", "url": url, "headers": headers, "params": "", "authorization": {"type": "no-auth"}}
    return node(id_, "http-request", **request, body={"type": "none", "data": []}, **data)


def rounds(items: list[str], output: list[str]) -> list[dict[str, Any]]:
    """An iteration; what is inside is to be added after it."""
    return [
        node("it", "iteration", start_node_id="it-start", iterator_selector=items, output_selector=output),
        node("it-start", "iteration-start", "it"),
    ]


def write(folder: Path, name: str, *chains: list[dict[str, Any]]) -> Path:
    """A file with these nodes, those of each chain in a row; what is in the first chain's containers is a chain of its
    own."""
    edges = [
        {
            "id": f"{a['id']}-{b['id']}",
            "source": a["id"],
            "target": b["id"],
            "sourceHandle": "source",
            "targetHandle": "target",
        }
        for chain in chains
        for a, b in pairwise(chain)
    ]
    environment = [{"id": "e", "name": "token", "value": SECRET, "value_type": "secret", "selector": ["env", "token"]}]
    file = folder / f"{name}.yml"
    file.write_text(
        yaml.safe_dump(
            {
                "app": {"name": name, "mode": "workflow", "description": "", "icon": "x", "icon_background": "#FFF"},
                "kind": "app",
                "version": "0.5.0",
                "workflow": {
                    "environment_variables": environment,
                    "features": {},
                    "graph": {"nodes": [item for chain in chains for item in chain], "edges": edges},
                },
            }
        )
    )
    return file
