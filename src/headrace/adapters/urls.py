"""Checks of URLs that are settings."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_base_url(url: str) -> bool:
    """Whether paths can be appended to a URL: it has a host, and neither a query nor a fragment."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and url.isprintable()
    except ValueError:
        return False
    return bool(valid) and not parts.query and not parts.fragment


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, without resolving its name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
