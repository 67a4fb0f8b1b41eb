"""What files of later versions of Dify hold: it is named for what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.dsl.load import inspect
from headrace.nodes import registry
from tests.cli.conftest import Invoke, invoke
from tests.cli.flows import field, flow

__all__ = ["invoke"]

AGENT_APP = """
app: {mode: agent, name: Helper, icon: x, icon_type: emoji}
kind: app
version: 0.7.0
agent: {package_ref: agent_1}
agent_packages:
  agent_1:
    schema_version: 1
    metadata: {name: Helper, description: '', role: Research Assistant}
    soul: {schema_version: 1}
    omitted_assets: []
dependencies: []
"""
NAMED = "the app is of mode 'agent' (an agent of Dify 1.16 and later, with its own prompt, tools and skills)"


def agent(**more: Any) -> dict[str, Any]:
    return {"id": "agent", "type": "agent", "title": "Researcher", **more}


def test_an_app_of_mode_agent(tmp_path: Path, invoke: Invoke):
    file = tmp_path / "agent.yml"
    file.write_text(AGENT_APP)
    done = invoke("lint", file)
    assert (done.exit_code, done.stdout) == (
        2,
        f"{file}: line 2, field 'app.mode': {NAMED}, which Headrace does not run\n",
    )
    assert NAMED in invoke("run", file).stderr


def test_the_two_agent_nodes(tmp_path: Path, invoke: Invoke):
    binding = {"binding_type": "inline_agent", "package_ref": "agent_1"}
    second = agent(version="2", agent_node_kind="dify_agent", agent_binding=binding, agent_job={"schema_version": 1})
    first = agent(version="2", agent_strategy_name="function_calling", agent_parameters={})
    file = flow(tmp_path / "flow.yml", second, variables=[field("q")], outputs={"t": ("agent", "text")})
    done = invoke("lint", file)
    assert (done.exit_code, done.stderr) == (1, "1 problem in 1 of 1 file.\n")
    assert "node 'Researcher', field 'type': nodes of type 'agent (version 2)' are not run here" in done.stdout
    ended = invoke("run", file, "-i", "q=x")
    assert "is of type 'agent (version 2)', which Headrace does not run" in ended.stderr
    file = flow(tmp_path / "flow.yml", first, variables=[field("q")], outputs={"t": ("agent", "text")})
    assert inspect(file.read_text(), registry())[1] == []


def test_a_workflow_of_the_version_with_agents_is_fine(tmp_path: Path):
    content = flow(tmp_path / "f.yml", variables=[field("q")]).read_text().replace("0.5.0", "0.7.0")
    assert "0.7.0" in content
    assert inspect(content + "agent_packages: {}\n", registry())[1] == []
