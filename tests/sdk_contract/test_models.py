"""The models of both SDKs, compared with the schemas of `/openapi.json`.

The SDKs also talk to Dify and to older servers, so a model may call a field optional that Headrace always sends.
It may not call a field always sent that is not, nor give it another type or another name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from headrace_client import dataset_models, models
from pydantic import TypeAdapter
from pydantic_core import PydanticUndefined

from headrace.api.openapi import document
from headrace.stores.memory import memory_storage
from tests.native.world import api_of, apps_of

TYPESCRIPT = "\n".join(
    Path(f"sdks/node/src/{module}.ts").read_text() for module in ("models", "errors", "dataset-models")
)
SCHEMAS: Mapping[str, Sequence[str]] = {  # by model: it holds all of them
    "AppInfo": ["AppInfo"],
    "AppMeta": ["AppMeta"],
    "AppParameters": ["AppParameters"],
    "AppSite": ["AppSite"],
    "Attachment": ["Attachment"],
    "ChildChunk": ["ChildChunk", "FoundChildChunk"],
    "Conversation": ["Conversation"],
    "ConversationVariable": ["ConversationVariable"],
    "CreatedRun": ["AcceptedRun"],
    "Dataset": ["Dataset"],
    "DatasourcePlugin": ["DatasourcePlugin"],
    "Document": ["Document"],
    "DocumentDetail": ["DocumentDetail"],
    "ErrorNode": ["ErrorNode"],
    "Feedback": ["Feedback"],
    "IndexedDocument": ["IndexedDocument"],
    "IndexingStatus": ["IndexingStatus"],
    "LoggedRun": ["LoggedRun"],
    "Message": ["Message", "PausedMessage"],
    "MetadataField": ["MetadataField", "FieldOfMetadata"],
    "MetadataFields": ["MetadataFields"],
    "MetadataValue": ["MetadataValueBody"],
    "Model": ["ModelBody"],
    "ModelProvider": ["ModelProvider"],
    "NodeExecution": ["NodeExecution"],
    "PastMessage": ["PastMessage"],
    "PipelineFile": ["PipelineFile"],
    "PipelineRun": ["PipelineResult"],
    "Result": ["Success"],
    "Retrieved": ["Retrieval"],
    "RetrievedDocument": ["FoundDocument"],
    "RetrievedRecord": ["Found"],
    "RetrievedSegment": ["FoundSegment"],
    "Segment": ["Segment"],
    "SuggestedQuestions": ["SuggestedQuestions"],
    "Tag": ["Tag", "DatasetTag", "BoundTag"],
    "Transcript": ["Transcript"],
    "UploadedFile": ["UploadedFile"],
    "Usage": ["RunUsage"],
    "WorkflowLog": ["WorkflowLog"],
    "WorkflowRun": ["RunDetail", "WorkflowRun", "RunResult"],
}
TYPESCRIPT_NAMES = {"Result": "Done"}
NOT_OURS = {  # Dify's, or added by the SDK itself
    ("PipelineRun", "data"),  # of a draft's run
    ("PipelineRun", "task_id"),
    ("PipelineRun", "workflow_run_id"),
    ("StoppedRun", "result"),
    ("WorkflowRun", "workflow_run_id"),
}
EMPTY = {  # always null or empty in Headrace: to be read as `model["name"]`, where Dify sends it
    "AppSite": {"chat_color_theme", "copyright", "input_placeholder", "privacy_policy"},
    "Feedback": {"from_account_id"},
    "PastMessage": {"extra_contents"},
    "UploadedFile": {
        "conversation_id",
        "file_key",
        "original_url",
        "preview_url",
        "reference",
        "tenant_id",
        "user_id",
    },
    "WorkflowLog": {"created_by_account", "details"},
}
ON_REQUEST = {  # only sent where `?include=` names them, which the SDKs do not
    "NodeExecution": {"agent_log", "cost", "first_token", "messages", "path", "rounds"},
    "WorkflowRun": {
        "app_name",
        "children",
        "cost",
        "currency",
        "error_node_title",
        "first_token",
        "input",
        "key",
        "parent_run_id",
        "queue_time",
        "replay_of",
        "total_price",
        "version_number",
    },
}
JSON_IN_TEXT = {("WorkflowRun", "inputs"), ("WorkflowRun", "outputs")}  # which the SDKs parse


@cache
def components() -> Mapping[str, Any]:
    store = memory_storage()
    api: Any = api_of(apps_of(store), store)
    return document(api.routes)["components"]["schemas"]


def properties(model: str) -> dict[str, list[tuple[bool, set[str]]]]:
    """(always there?, JSON types) of each field in each of a model's schemas that has it."""
    schemas = [components()[name] for name in SCHEMAS[model]]
    return {
        field: [
            (field in schema.get("required", ()), types(schema["properties"][field]))
            for schema in schemas
            if field in schema["properties"]
        ]
        for field in dict.fromkeys(name for schema in schemas for name in schema["properties"])
    }


def types(schema: Mapping[str, Any], definitions: Mapping[str, Any] | None = None) -> set[str]:
    """The JSON types that a schema allows; "any" where it allows all."""
    known = components() if definitions is None else definitions
    if "$ref" in schema:
        return types(known[schema["$ref"].rpartition("/")[2]], known)
    if "anyOf" in schema:
        return {type_ for choice in schema["anyOf"] for type_ in types(choice, known)}
    type_ = schema.get("type", "any")
    return {"number" if type_ == "integer" else type_} if isinstance(type_, str) else set(type_)


def difference(sent: bool, sent_types: set[str], always: bool, accepted: set[str]) -> str | None:
    """How a server's field differs from a model's; None where it does not."""
    if always and not sent:
        return "is not always sent"
    if "any" not in accepted and not sent_types <= accepted:
        return f"is {sorted(sent_types)}, not {sorted(accepted)}"
    return None


def differences(model: str, fields: Mapping[str, tuple[bool, set[str]]]) -> Iterator[str]:
    """`fields`: (always there?, JSON types) of the model's."""
    server = properties(model)
    for name in fields.keys() - server.keys():
        if (model, name) not in NOT_OURS:
            yield f"{model}.{name} is in no schema"
    for name in server.keys() - fields.keys() - EMPTY.get(model, set()) - ON_REQUEST.get(model, set()):
        yield f"{model}.{name} is missing from the model"
    for name in fields.keys() & server.keys() - {name for owner, name in JSON_IN_TEXT if owner == model}:
        for sent, sent_types in server[name]:
            if problem := difference(sent, sent_types, *fields[name]):
                yield f"{model}.{name} {problem}"


@pytest.mark.parametrize("model", SCHEMAS)
def test_pythons_models_are_the_schemas(model: str) -> None:
    cls = getattr(models, model, None) or getattr(dataset_models, model)
    fields: dict[str, tuple[bool, set[str]]] = {}
    for name, field in cls.model_fields.items():
        schema = TypeAdapter(field.rebuild_annotation()).json_schema(mode="serialization")
        accepted = types(schema, schema.get("$defs", {}))
        if field.metadata:  # `Id`: null becomes ""
            accepted |= {"null"}
        fields[name] = field.default is PydanticUndefined, accepted
    assert sorted(differences(model, fields)) == []


@pytest.mark.parametrize("model", SCHEMAS)
def test_nodes_models_are_the_schemas(model: str) -> None:
    fields = typescript_fields(TYPESCRIPT_NAMES.get(model, model))
    assert sorted(differences(model, fields)) == []


def typescript_fields(name: str) -> dict[str, tuple[bool, set[str]]]:
    """(always there?, JSON types) of an interface's fields, with those that it inherits."""
    body = re.search(
        rf"^(?:export )?interface {name} (?:extends (\w+) )?{{(.*?)^}}", TYPESCRIPT, re.DOTALL | re.MULTILINE
    )
    assert body is not None, f"{name} is not declared"
    inherited = typescript_fields(body[1]) if body[1] not in (None, "Fields") else {}
    declared = re.findall(r"readonly (\w+)(\??): ([^;]+);", body[2])
    return inherited | {field: (not optional, typescript_types(type_)) for field, optional, type_ in declared}


def typescript_types(text: str) -> set[str]:
    """The JSON types of a type of TypeScript."""
    kinds: set[str] = set()
    for part in re.split(r"\s*\|\s*", text.strip()):
        if part in ("string", "number", "boolean", "null"):
            kinds.add(part)
        elif part == "unknown":
            kinds.add("any")
        elif part == "RunStatus":
            kinds.add("string")
        else:
            kinds.add("array" if part.endswith("[]") else "object")
    return kinds
