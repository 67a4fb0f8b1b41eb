"""Which files a run accepts beside its inputs, or with a message: the app's settings for uploads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from headrace.conversations.messages import MESSAGES
from headrace.errors import InvalidParam
from headrace.node import Flow
from headrace.values import File, Value

_METHODS = ("remote_url", "local_file")
_IMAGES = 3  # per message, where an old file does not say how many


class Uploads:
    """The app's feature `file_upload`, as its file has it."""

    def __init__(self, flow: Flow) -> None:
        feature = _mapping(flow.features.get("file_upload"))
        image = _mapping(feature.get("image"))
        if image.get("enabled"):  # old files have images only
            feature = {
                "allowed_file_types": ["image"],
                **feature,
                "enabled": True,
                "number_limits": image.get("number_limits", _IMAGES),
                "allowed_file_upload_methods": image.get("transfer_methods", _METHODS),
            }
        self._feature = feature
        self._unlimited = flow.mode not in MESSAGES

    @property
    def are_enabled(self) -> bool:
        return bool(self._feature.get("enabled"))

    def accepted(self, files: Sequence[Mapping[str, Value]]) -> Sequence[Mapping[str, Value]]:
        """The files to check. As in Dify, where the feature is off, a message's are ignored and a workflow's are all
        accepted. InvalidParam where there are too many."""
        if not self.are_enabled:
            return files if self._unlimited else ()
        most = self._feature.get("number_limits")
        if isinstance(most, int) and 0 < most < len(files):
            images = sum(file.get("type") == "image" for file in files)
            raise InvalidParam(
                f"Number of {'image files' if images > most else 'files'} exceeds the maximum limit {most}"
            )
        return files

    def check(self, files: Sequence[File]) -> None:
        """InvalidParam where the app does not accept one of the files."""
        if not self.are_enabled:
            return
        types = self._words("allowed_file_types")
        extensions = {extension.lower().lstrip(".") for extension in self._words("allowed_file_extensions")}
        methods = self._words("allowed_file_upload_methods") or _METHODS
        for file in files:
            custom = "custom" in types and (file.extension or "").lower().lstrip(".") in extensions
            if (types and file.type not in types and not custom) or file.transfer_method not in methods:
                raise InvalidParam(f"File validation failed for file: {file.filename or file.remote_url}")

    def _words(self, name: str) -> Sequence[str]:
        value = self._feature.get(name)
        words = cast("Sequence[Value]", value) if isinstance(value, list | tuple) else ()
        return [word for word in words if isinstance(word, str)]


def _mapping(value: Value) -> Mapping[str, Value]:
    return cast("dict[str, Value]", value) if isinstance(value, dict) else {}
