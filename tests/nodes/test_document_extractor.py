"""The document-extractor node: one file, many, none, and those that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from headrace.adapters.documents import DocumentReader
from headrace.errors import NodeError
from headrace.node import Result
from headrace.nodes.document_extractor import DocumentExtractor
from headrace.values import File, Value
from tests.documents.making import pdf, sheet, words
from tests.nodes import plain
from tests.resources import only

CONTENTS = {
    "a.txt": "Grüße".encode(),
    "b.pdf": pdf(words("Hello")),
    "c.xlsx": sheet(["n"], [1]),
    "d.xyz": b"?",
    "e.pdf": b"no",
}
SELECTOR = ["start", "doc"]


class Shelf:
    async def read(self, file: File, max_size: int = 100) -> bytes:
        if file.filename not in CONTENTS:
            raise NodeError(f"File '{file.filename}' is not stored here.", "FileFetchError")
        return CONTENTS[file.filename]


def doc(name: str, mime_type: str | None = None, extension: str | None = None) -> File:
    return File(
        "document",
        "local_file",
        name,
        extension if extension is not None else f".{name[-3:]}",
        mime_type,
        related_id="x",
    )


async def extract(value: Value, start: Mapping[str, Value] | None = None) -> Result:
    scopes = {"start": {"doc": value} if start is None else start}
    resources = only(files=Shelf(), documents=DocumentReader())
    return await plain.run(DocumentExtractor, {"variable_selector": SELECTOR}, scopes, resources=resources)


async def failure(value: Value, start: Mapping[str, Value] | None = None) -> NodeError:
    with pytest.raises(NodeError) as raised:
        await extract(value, start)
    return raised.value


async def test_one_file_is_one_text() -> None:
    file = doc("a.txt")
    assert await extract(file) == Result({"text": "Grüße"}, {"variable_selector": SELECTOR}, {"documents": [file]})


async def test_a_list_is_a_list_of_texts_in_order() -> None:
    files = [doc("b.pdf"), doc("a.txt"), doc("c.xlsx", extension=".xlsx")]
    result = await extract(files)
    assert result.outputs == {"text": ["Hello", "Grüße", "| n |\n| - |\n| 1 |\n\n"]}
    assert result.process == {"documents": files}


@pytest.mark.parametrize(("value", "documents"), [([], []), ([None], []), (None, [None]), ("", [""])])
async def test_no_file_is_no_text(value: Value, documents: list[Value]) -> None:
    result = await extract(value)
    assert result.outputs == {"text": []}
    assert result.process == {"documents": documents}


async def test_a_file_without_extension_goes_by_its_type() -> None:
    assert (await extract(doc("a.txt", "text/plain", "."))).outputs == {"text": "Grüße"}
    assert (await extract(doc("a.txt", "text/plain", ""))).outputs == {"text": "Grüße"}


async def test_what_is_no_file() -> None:
    assert str(await failure(None, {})) == "File variable not found for selector: ['start', 'doc']"
    for value in ("text", [1], {"a": 1}, [doc("a.txt"), "text"]):
        error = await failure(value)
        assert str(error) == "Variable ['start', 'doc'] is not an ArrayFileSegment"
        assert error.kind == "DocumentExtractorError"


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("d.xyz", "UnsupportedFileTypeError", "Unsupported Extension Type: .xyz (file 'd.xyz')"),
        ("e.pdf", "TextExtractionError", "Failed to extract text from PDF: it is damaged, or of another format"),
        ("f.pdf", "FileDownloadError", "Error downloading file: File 'f.pdf' is not stored here."),
    ],
)
async def test_the_error_names_the_file(name: str, kind: str, message: str) -> None:
    files = [doc("a.txt"), doc(name)]
    error = await failure(files)
    assert str(error).startswith(message)
    assert f"'{name}'" in str(error)
    assert error.kind == kind
    assert error.inputs == {"variable_selector": SELECTOR}
    assert error.process == {"documents": files}
