"""Which files may go with a message: what an app's file says of uploads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from headrace.errors import InvalidParam
from headrace.node import Flow
from headrace.values import File, Value

_METHODS = ("remote_url", "local_file")


class Uploads:
    """The app's feature `file_upload`, as its file has it."""

    def __init__(self, flow: Flow) -> None:
        feature = flow.features.get("file_upload")
        self._feature: Mapping[str, Value] = cast("dict[str, Value]", feature) if isinstance(feature, dict) else {}
        image = self._feature.get("image")
        self._image: Mapping[str, Value] = cast("dict[str, Value]", image) if isinstance(image, dict) else {}

    @property
    def on(self) -> bool:
        return bool(self._feature.get("enabled") or self._image.get("enabled"))  # old files know images only

    def taken(self, files: Sequence[Mapping[str, Value]]) -> Sequence[Mapping[str, Value]]:
        """What of the files given there is to look at: none where the app takes none, as Dify does it. InvalidParam
        where there are too many."""
        if not self.on:
            return ()
        most = self._feature.get("number_limits")
        if isinstance(most, int) and 0 < most < len(files):
            raise InvalidParam(f"Number of files exceeds the maximum limit {most}")
        return files

    def check(self, files: Sequence[File]) -> None:
        """InvalidParam where one is not of a kind that the app takes."""
        types = self._words("allowed_file_types") or (("image",) if self._image.get("enabled") else ())
        extensions = {each.lower().lstrip(".") for each in self._words("allowed_file_extensions")}
        methods = self._words("allowed_file_upload_methods") or _METHODS
        for file in files:
            custom = "custom" in types and (file.extension or "").lower().lstrip(".") in extensions
            if (types and file.type not in types and not custom) or file.transfer_method not in methods:
                raise InvalidParam(f"File validation failed for file: {file.filename or file.remote_url}")

    def _words(self, name: str) -> Sequence[str]:
        value = self._feature.get(name)
        return [each for each in cast("list[Value]", value) if isinstance(each, str)] if isinstance(value, list) else ()
