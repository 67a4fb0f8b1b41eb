"""Resources for tests that need only some of them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from headrace.ports.services import Resources


def only(**resources: Any) -> Resources:
    """These resources, and nothing in place of the others: a test that reaches for one fails."""
    return Resources(**{field.name: resources.get(field.name) for field in fields(Resources)})
