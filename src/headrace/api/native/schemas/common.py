"""Shapes that occur in several requests and responses of the asynchronous API."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from headrace.errors import NotFound
from headrace.kernel.summary import STATUSES

JsonObject = Annotated[Any, WithJsonSchema({"type": "object", "additionalProperties": True})]
Seconds = Annotated[int, Field(description="Seconds since the epoch")]
Milliseconds = Annotated[int, Field(description="Milliseconds since the epoch")]
Duration = Annotated[float, Field(description="Seconds")]


def one_of(*values: str) -> Any:
    """Describes a string that is one of these."""
    return Field(json_schema_extra={"enum": list(values)})


Status = Annotated[str, one_of(*STATUSES)]

APP_ID = "b2c69214-ecc5-4196-99c4-c8fdf975a694"
BATCH_ID = "5c0a2f0e-98a5-4f3c-8d1c-8a7b6c5d4e3f"
CONVERSATION_ID = "45701982-8118-4bc5-8e9b-64562b4555f2"
RUN_ID = "fb47b2e6-5e43-4f90-be01-d5c5a088d156"
TASK_ID = "c3800678-a077-43df-a102-53f23ed20b88"
WORKFLOW_ID = "7c3e33d4-2a8b-4e5f-9b1a-d3c6e8f12345"
USER = "user-123"

RUNS_TAG = "Asynchronous runs"
NO_APP = NotFound(f"App not found with id: {APP_ID}")
NO_WORKFLOW = NotFound(f"Workflow not found with id: {WORKFLOW_ID}")
