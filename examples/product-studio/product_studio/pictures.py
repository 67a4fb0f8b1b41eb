"""Pictures: from the workflow, or uploaded by the user. The browser gets them from this server only."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import httpx

LARGEST = 5 * 1024 * 1024  # bytes

_BEGINNINGS = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
_SHOWN_BY_BROWSERS = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/svg+xml"})


class PictureError(Exception):
    """Why there is no picture."""


@dataclass(frozen=True)
class PictureData:
    media_type: str
    data: bytes


def check_upload(data: bytes) -> PictureData:
    """A picture that a user uploads: its type follows from its bytes, not from its name."""
    if len(data) > LARGEST:
        raise PictureError("the picture is too large")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return PictureData("image/webp", data)
    for beginning, media_type in _BEGINNINGS:
        if data.startswith(beginning):
            return PictureData(media_type, data)
    raise PictureError("this is not a PNG, JPEG, GIF or WebP picture")


async def fetch_picture(http: httpx.AsyncClient, server: str, url: str) -> PictureData:
    """The picture that a workflow's output points to: a `data:` URL, or an address; `server` is where one without a
    host is."""
    if url.startswith("data:"):
        return _from_data(url)
    try:
        async with http.stream("GET", httpx.URL(server).join(url), follow_redirects=True, timeout=20) as response:
            response.raise_for_status()
            media_type = _known(response.headers.get("content-type", ""))
            data = bytearray()
            async for piece in response.aiter_bytes():
                data += piece
                if len(data) > LARGEST:
                    raise PictureError("the picture is too large")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PictureError(f"the picture could not be fetched: {error}") from error
    return PictureData(media_type, bytes(data))


def _from_data(url: str) -> PictureData:
    head, comma, body = url.removeprefix("data:").partition(",")
    if not comma:
        raise PictureError("the data: URL has no data")
    data = unquote_to_bytes(body)
    if head.endswith(";base64"):
        try:
            data = base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise PictureError(f"the data: URL is not valid base64: {error}") from error
    if len(data) > LARGEST:
        raise PictureError("the picture is too large")
    return PictureData(_known(head), data)


def _known(content_type: str) -> str:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in _SHOWN_BY_BROWSERS:
        raise PictureError(f"{media_type or 'nothing'} is not a type of picture that browsers show")
    return media_type
