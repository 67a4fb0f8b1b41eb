"""Files of chat apps: a chatflow that can take its time, and an agent with one tool."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from tests.cli.flows import code, field, llm

_SLOW = """import time
def main(query):
    if 'slowly' in query:
        time.sleep(8)
    return {'query': query}
"""
_UPLOADS = {
    "enabled": True,
    "allowed_file_types": ["document"],
    "allowed_file_extensions": [],
    "allowed_file_upload_methods": ["local_file"],
    "number_limits": 2,
}


def talk(file: Path) -> Path:
    """Answers `[tone] [model's text]`; a query with "slowly" takes 8 s before the model is called."""
    prompt = {"prompt_template": [{"role": "user", "text": "<think>Let me see.</think>{{#sys.query#}}"}]}
    nodes: list[dict[str, Any]] = [
        {"id": "start", "type": "start", "title": "Start", "variables": [field("tone", required=True)]},
        {**code(_SLOW, {"query": ("sys", "query")}, query="string"), "title": "Look it up"},
        {**llm(), **prompt},
        {"id": "answer", "type": "answer", "title": "Answer", "answer": "{{#start.tone#}}: {{#llm.text#}}"},
    ]
    graph = {
        "nodes": [{"id": node["id"], "data": {k: v for k, v in node.items() if k != "id"}} for node in nodes],
        "edges": [
            {"id": f"{a['id']}-{b['id']}", "source": a["id"], "sourceHandle": "source", "target": b["id"]}
            for a, b in pairwise(nodes)
        ],
    }
    features = {
        "opening_statement": "What shall we talk about?",
        "suggested_questions": ["How do I make good tea?"],
        "file_upload": _UPLOADS,
    }
    workflow = {"graph": graph, "features": features, "environment_variables": [], "conversation_variables": []}
    return _write(file, "advanced-chat", workflow=workflow)


def agent(file: Path) -> Path:
    """Calls its tool, which says what time it is, and answers."""
    tool = {
        "enabled": True,
        "provider_type": "builtin",
        "provider_id": "time",
        "provider_name": "time",
        "tool_name": "current_time",
        "tool_label": "Current time",
        "tool_parameters": {"format": "%Y", "timezone": "UTC"},
    }
    settings = {
        "model": llm()["model"],
        "pre_prompt": "Be brief.",
        "user_input_form": [],
        "agent_mode": {"enabled": True, "strategy": "function_call", "max_iteration": 5, "tools": [tool]},
    }
    return _write(file, "agent-chat", model_config=settings)


def _write(file: Path, mode: str, **more: Any) -> Path:
    app = {"name": file.stem, "mode": mode, "description": "", "icon": "💬"}
    file.write_text(yaml.safe_dump({"app": app, "kind": "app", "version": "0.5.0", **more}), "utf-8")
    return file
