"""Workflow files on disk."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

from headrace.dsl.package import SIGNATURE_LENGTH, is_package, packaged, text_of
from headrace.errors import LoadError, Problem

LARGEST_FILE = 10 * 1024 * 1024  # bytes


def source_of(file: Path) -> str:
    """The `App.source` of a file: its absolute path."""
    return os.path.abspath(file)


def read_workflow(file: Path) -> str:
    """The text of a workflow file, or of the one in an app package (`.ifpkg`). LoadError if it cannot be read, is not
    UTF-8, or is too large."""
    try:
        with file.open("rb") as stream:
            start = stream.read(SIGNATURE_LENGTH)
            if is_package(start):
                return packaged(stream if stream.seekable() else BytesIO(start + stream.read()), str(file))
            content = start + stream.read(LARGEST_FILE)
    except OSError as error:
        raise LoadError(str(file), [Problem(f"cannot be read: {error.strerror}")]) from error
    if len(content) > LARGEST_FILE:
        raise LoadError(str(file), [Problem(f"the file is larger than {LARGEST_FILE // 1024 // 1024} MB")])
    return text_of(content, str(file)).replace("\r\n", "\n").replace("\r", "\n")
