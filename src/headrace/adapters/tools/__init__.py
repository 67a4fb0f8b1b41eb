"""The tools that can be called here. `ToolRegistry` implements `resources.Tools`; each source provides the tools of one
provider type."""

from headrace.adapters.tools.builtin import BuiltinTools
from headrace.adapters.tools.configuration import read_config
from headrace.adapters.tools.custom import CustomTools
from headrace.adapters.tools.mcp import McpTools, read_servers
from headrace.adapters.tools.plugins import PluginStrategies, PluginTools, ToolCalls
from headrace.adapters.tools.registry import ToolRegistry, ToolSource

__all__ = [
    "BuiltinTools",
    "CustomTools",
    "McpTools",
    "PluginStrategies",
    "PluginTools",
    "ToolCalls",
    "ToolRegistry",
    "ToolSource",
    "read_config",
    "read_servers",
]
