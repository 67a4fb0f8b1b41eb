"""Finds environment variables that look like settings, but are not, such as misspelled ones."""

from __future__ import annotations

import re
from collections.abc import Iterable

from headrace.settings import PREFIX, Settings

_ALIKE = 0.85  # of a name and its misspelling, at least
_OTHERS = re.compile(r"HEADRACE_(.*KEY|(CALLBACK_)?URL|COMPLETE|WEBHOOK_SECRET_.+)?")


def unknown_settings(variables: Iterable[str]) -> dict[str, str]:
    """Environment variables with the prefix that are not settings, and the nearest setting ("" if none is near). Those
    that clients, webhooks and the shell's completion read are left out, unless one is almost a setting."""
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = [name for name in variables if name.upper().startswith(PREFIX) and name.upper() not in settings]
    if not unknown:
        return {}
    from difflib import get_close_matches

    endings = [name.removeprefix(PREFIX) for name in settings]
    nearest = {name: get_close_matches(name.upper()[len(PREFIX) :], endings, 1, _ALIKE) for name in unknown}
    return {
        name: PREFIX + matches[0] if matches else ""
        for name, matches in nearest.items()
        if matches or not _OTHERS.fullmatch(name.upper())
    }
