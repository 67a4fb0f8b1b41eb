"""document-extractor: the text of documents. Output `text`: a string for one file, a list of strings for a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

from headrace.errors import NodeError
from headrace.node import Config, Context, Node, OutputType, Result, SelectorField, null_means_default
from headrace.values import File, Value


class DocumentExtractorConfig(Config):
    variable_selector: SelectorField = ()

    _null = null_means_default("variable_selector")


class DocumentExtractor(Node[DocumentExtractorConfig]):
    """Reads files one at a time, so that only one is in memory. Without any file, `text` is [], as in Dify.

    Fails with DocumentExtractorError (the variable), FileDownloadError (a file cannot be fetched),
    UnsupportedFileTypeError or TextExtractionError (it cannot be read); the error names the file.
    """

    type = "document-extractor"
    partial: ClassVar[bool] = True
    notes: ClassVar[str] = (
        "with the extra `documents` for PDF, Word, Excel and PowerPoint; does not read `.doc`, `.xls`, `.ppt` or "
        "`.msg` (the error says which format to save them in), nor the `.odt` of later versions"
    )

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {"text": OutputType()}

    async def run(self, ctx: Context) -> Result:
        selector = list(self.config.variable_selector)
        exists, value = ctx.variables.find(selector)
        if not exists:
            raise NodeError(f"File variable not found for selector: {selector}", "DocumentExtractorError")
        files = [item for item in _items(value) if item]
        if any(not isinstance(file, File) for file in files):
            raise NodeError(f"Variable {selector} is not an ArrayFileSegment", "DocumentExtractorError")
        inputs: dict[str, Value] = {"variable_selector": selector}
        process: dict[str, Value] = {"documents": files if isinstance(value, list) else [value]}
        try:
            texts = [await _text_of(ctx, file) for file in cast("list[File]", files)]
        except NodeError as error:
            raise NodeError(str(error), error.kind, inputs=inputs, process=process) from error
        return Result({"text": texts[0] if isinstance(value, File) else texts}, inputs, process)


def _items(value: Value) -> Sequence[Value]:
    return cast("list[Value]", value) if isinstance(value, list) else [value]


async def _text_of(ctx: Context, file: File) -> str:
    name = file.filename or file.url or "without a name"
    try:
        data = await ctx.resources.files.read(file)
    except NodeError as error:
        raise NodeError(f"Error downloading file: {error}", "FileDownloadError") from error
    extension = (file.extension or "").rstrip(".")
    try:
        return await ctx.resources.documents.text(data, extension=extension, mime_type=file.mime_type)
    except NodeError as error:
        raise NodeError(f"{error} (file '{name}')", error.kind) from error
