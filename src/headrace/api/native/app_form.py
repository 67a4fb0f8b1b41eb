"""The form of an app's start node, in one shape for apps of all modes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from headrace.api.native.schemas.apps import AppForm, FormFile, FormInput
from headrace.conversations.messages import MESSAGES
from headrace.dsl.check import mapping
from headrace.node import Flow
from headrace.nodes.start import Input, Start
from headrace.values import Value

_FILES = ("file", "file-list")


def form_of(flow: Flow) -> AppForm:
    """The form of a version. Secrets are masked."""
    start, features = flow.nodes[flow.graph.root], flow.features
    questions: Any = features.get("suggested_questions")
    form: AppForm = {
        "mode": flow.mode,
        "inputs": [_input(field) for field in start.fields] if isinstance(start, Start) else [],
        "opening_statement": str(features.get("opening_statement") or ""),
        "suggested_questions": [str(item) for item in cast("list[Value]", questions)]
        if isinstance(questions, list)
        else [],
        "features": {
            "file_upload": _feature(features, "file_upload") if _is_on(features, "file_upload") else None,
            "speech_to_text": _is_on(features, "speech_to_text"),
            "text_to_speech": _is_on(features, "text_to_speech"),
            "citations": _is_on(features, "retriever_resource"),
            "suggested_after_answer": _is_on(features, "suggested_questions_after_answer"),
            "feedback": flow.mode in MESSAGES,
        },
    }
    return cast("AppForm", flow.mask.value(cast("Any", form))) if flow.mask else form


def _input(field: Input) -> FormInput:
    extra: Mapping[str, Any] = field.model_extra or {}
    entry: FormInput = {
        "name": field.variable,
        "label": str(extra.get("label") or field.variable),
        "type": field.type,
        "required": field.required,
        "default": field.default,
        "max_length": None if field.type in _FILES else field.max_length,
        "options": list(field.options),
        "hint": str(extra.get("hint") or extra.get("placeholder") or ""),
        "json_schema": field.json_schema,
        "file": _file(field) if field.type in _FILES else None,
    }
    return entry


def _file(field: Input) -> FormFile:
    return {
        "types": list(field.allowed_file_types),
        "extensions": list(field.allowed_file_extensions),
        "methods": list(field.allowed_file_upload_methods),
        "max": 1 if field.type == "file" else field.max_length,
    }


def _feature(features: Mapping[str, Value], name: str) -> Mapping[str, Value]:
    return mapping(features.get(name)) or {}


def _is_on(features: Mapping[str, Value], name: str) -> bool:
    feature = _feature(features, name)
    return bool(feature.get("enabled") or (name == "file_upload" and _feature(feature, "image").get("enabled")))
