"""Announcements that an operation will be removed."""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, time
from email.utils import format_datetime
from urllib.parse import urlsplit

from headrace.frozen import frozen

NOTICE_MONTHS = 6  # at least, between the announcement that an operation will be removed and its removal
DEPRECATION = "headrace.deprecation"
"""In a request's scope: the headers of a deprecated operation's responses, errors included."""


@frozen
class Deprecation:
    """That an operation should no longer be used; see `deprecated`."""

    since: date
    sunset: date
    link: str

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Deprecation (RFC 9745), Sunset (RFC 8594), and a link to what to use instead."""
        return [
            (b"deprecation", b"@%d" % _midnight(self.since).timestamp()),
            (b"sunset", format_datetime(_midnight(self.sunset), usegmt=True).encode()),
            (b"link", f'<{self.link}>; rel="deprecation"; type="text/html"'.encode()),
        ]

    @property
    def note(self) -> str:
        return f"Deprecated since {self.since}, available until {self.sunset}: see {self.link}."


def deprecated(since: date, sunset: date, link: str) -> Deprecation:
    """Announces that a route will be removed at `sunset` (a day, UTC). `link` is a page that says what to use instead.

    ValueError if that is less than six months after `since`, or the link is not an http or https URL.
    """
    earliest = _months_after(since, NOTICE_MONTHS)
    if sunset < earliest:
        raise ValueError(f"a route deprecated on {since} must be available until {earliest} at least, not {sunset}")
    plain = link.isascii() and link.isprintable() and not set(link) & set(' <>"\\')
    if not plain or urlsplit(link).scheme not in ("http", "https") or not urlsplit(link).hostname:
        raise ValueError(f"{link!r} is not an http or https URL")
    return Deprecation(since, sunset, link)


def _months_after(day: date, months: int) -> date:
    """The same day of the month, or its last one where it is shorter."""
    years, month = divmod(day.month - 1 + months, 12)
    year, month = day.year + years, month + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
