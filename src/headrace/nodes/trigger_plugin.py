"""trigger-plugin: a run for each event that a plugin finds in the requests of a subscription."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

from pydantic import Field

from headrace.node import Config, null_means_default
from headrace.nodes.trigger import Trigger
from headrace.values import Value


class PluginTriggerConfig(Config):
    plugin_id: str = ""
    provider_id: str = ""
    event_name: str = ""
    subscription_id: str = ""
    plugin_unique_identifier: str = ""
    event_parameters: dict[str, Value] = Field(default_factory=dict[str, Value])

    _null = null_means_default(
        "plugin_id", "provider_id", "event_name", "subscription_id", "plugin_unique_identifier", "event_parameters"
    )


class TriggerPlugin(Trigger[PluginTriggerConfig]):
    type = "trigger-plugin"
    kind: ClassVar[str] = "plugin"
    notes: ClassVar[str] = "for the subscriptions of the workspace, see triggers.md"

    def outputs_schema(self) -> None:
        """None: the plugin has it, which may not be installed here."""

    @property
    def parameters(self) -> Mapping[str, Value]:
        """The constant values of the event's parameters."""
        return {name: _constant(value) for name, value in self.config.event_parameters.items()}

    def metadata(self) -> Mapping[str, Value]:
        config = self.config
        return {
            "trigger_info": {
                "provider_id": config.provider_id,
                "event_name": config.event_name,
                "plugin_unique_identifier": config.plugin_unique_identifier,
            }
        }


def _constant(value: Value) -> Value:
    """The value of `{type: constant, value: ...}`; one that is not written so is the value itself."""
    return cast("dict[str, Value]", value).get("value") if isinstance(value, dict) else value
