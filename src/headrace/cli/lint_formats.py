"""The formats of `headrace lint`: for people, programs, and the annotations of code hosts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from click import format_filename

from headrace import __version__
from headrace.cli.shared import printable
from headrace.errors import Problem

Reports = Sequence[tuple[Path, Sequence[Problem]]]
"""The problems of each file."""


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _text(reports: Reports) -> str:
    lines = [
        printable(f"{format_filename(file)}: {problem}")
        for file, problems in reports
        for problem in problems or ("no problems",)
    ]
    return "".join(f"{line}\n" for line in lines)


def _json(reports: Reports) -> str:
    output = [
        {
            "file": format_filename(file),
            "loads": not any(problem.fatal for problem in problems),
            "problems": [
                {
                    "message": problem.message,
                    "line": problem.line,
                    "node": problem.node,
                    "field": problem.field,
                    "fatal": problem.fatal,
                }
                for problem in problems
            ],
        }
        for file, problems in reports
    ]
    return _dump(output)


def _github(reports: Reports) -> str:
    """Commands of GitHub Actions, which make annotations of them: a line for each problem."""
    lines: list[str] = []
    for file, problems in reports:
        for problem in problems:
            level = "error" if problem.fatal else "warning"
            place = f"file={_escaped(format_filename(file.as_posix()), property_=True)},line={problem.line or 1}"
            lines.append(f"::{level} {place},title=headrace lint::{_escaped(printable(str(problem)))}\n")
    return "".join(lines)


def _escaped(text: str, *, property_: bool = False) -> str:
    for character in "%\r\n" + (":," if property_ else ""):  # the percent sign first
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _sarif(reports: Reports) -> str:
    driver = {"name": "headrace", "version": __version__, "rules": [{"id": "cannot-load"}, {"id": "problem"}]}
    results = [_result(file, problem) for file, problems in reports for problem in problems]
    return _dump(
        {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{"tool": {"driver": driver}, "results": results}],
        }
    )


def _result(file: Path, problem: Problem) -> Mapping[str, Any]:
    location = {"artifactLocation": {"uri": _uri(file)}, "region": {"startLine": problem.line or 1}}
    return {
        "ruleId": "cannot-load" if problem.fatal else "problem",
        "level": "error" if problem.fatal else "warning",
        "message": {"text": str(problem)},
        "locations": [{"physicalLocation": location}],
    }


def _uri(file: Path) -> str:
    from urllib.parse import quote

    return file.as_uri() if file.is_absolute() else quote(os.fsencode(file.as_posix()))


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


FORMATS: Mapping[str, Callable[[Reports], str]] = {"text": _text, "json": _json, "github": _github, "sarif": _sarif}
