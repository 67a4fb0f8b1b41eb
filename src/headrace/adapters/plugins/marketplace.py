"""Downloads packages: from Dify's marketplace, from a mirror of it, or from any URL.

Of a marketplace it takes two paths:

    /api/v1/plugins/AUTHOR/NAME                       {"data": {"plugin": {"latest_package_identifier": ...}}}
    /api/v1/plugins/AUTHOR/NAME/VERSION/download      the package

A mirror of exact versions needs the second one only: it can be a folder of files, as in `file:///srv/plugins`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPException
from typing import IO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from headrace.adapters.plugins.fields import mapping_of, text_of
from headrace.adapters.plugins.identifiers import PluginId
from headrace.adapters.plugins.package import MAX_PACKED
from headrace.errors import HeadraceError

_SECONDS = 60  # without a byte
_PIECE = 1024 * 1024
_MAX_DESCRIPTION = 10 * 1024 * 1024  # bytes


class Marketplace:
    """A marketplace at a URL."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def latest(self, plugin: PluginId) -> PluginId:
        """The newest version of a plugin. HeadraceError if there is none, or the marketplace does not answer."""
        url = f"{self._url}/api/v1/plugins/{plugin.plugin}"
        try:
            content: object = json.loads(b"".join(_pieces(url, _MAX_DESCRIPTION)))
        except (ValueError, RecursionError) as error:
            raise HeadraceError(f"{url} did not answer with JSON") from error
        description = mapping_of(mapping_of(mapping_of(content).get("data")).get("plugin"))
        latest = PluginId.match(text_of(description.get("latest_package_identifier")))
        if latest is None or latest.plugin != plugin.plugin or not latest.version:
            raise HeadraceError(f"{url} does not name the newest version of {plugin.plugin}")
        return latest

    def download(self, plugin: PluginId, file: IO[bytes]) -> str:
        """Downloads the package of a version into an open file, and returns its URL. HeadraceError if that fails."""
        url = f"{self._url}/api/v1/plugins/{plugin.plugin}/{plugin.version}/download"
        download(url, file)
        return url


def download(url: str, file: IO[bytes]) -> None:
    """Downloads a package into an open file. HeadraceError if that fails, or it is too large."""
    for piece in _pieces(url, MAX_PACKED):
        try:
            file.write(piece)
        except OSError as error:
            raise HeadraceError(f"{url} cannot be stored: {error.strerror or error}") from error


def _pieces(url: str, limit: int) -> Iterator[bytes]:
    """The body of a response. HeadraceError if there is none, it is cut off, or larger than the limit."""
    try:
        with urlopen(Request(url, headers={"User-Agent": "headrace"}), timeout=_SECONDS) as response:
            while piece := response.read(_PIECE):
                limit -= len(piece)
                if limit < 0:
                    raise HeadraceError(f"{url} is too large")
                yield piece
            if getattr(response, "length", 0):  # a file has none
                raise HeadraceError(f"{url} is cut off")
    except HTTPError as error:
        error.close()
        raise HeadraceError(f"{url} answered with the status {error.code}") from error
    except (HTTPException, OSError, ValueError) as error:
        raise HeadraceError(f"{url} cannot be downloaded: {getattr(error, 'reason', error)}") from error
