"""The bytes of a stored file that is not on this machine, or a range of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import aclosing
from email.utils import formatdate
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headrace.ports import RemoteContent

_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.IGNORECASE)


class ContentResponse(Response):
    """Sends content as Starlette's FileResponse sends a file. Several ranges in one request are not supported: as
    RFC 9110 allows, the whole content is sent."""

    def __init__(
        self, content: RemoteContent, headers: Mapping[str, str], media_type: str, filename: str, disposition: str
    ) -> None:
        self._content = content
        self.media_type = media_type
        self.status_code = 200
        self.background = None
        self.init_headers(headers)
        quoted_name = quote(filename)
        name = f'filename="{filename}"' if quoted_name == filename else f"filename*=utf-8''{quoted_name}"
        self.headers["content-disposition"] = f"{disposition}; {name}"
        self.headers["accept-ranges"] = "bytes"
        self.headers["content-length"] = str(content.size)
        self.headers["last-modified"] = formatdate(content.modified, usegmt=True)
        self.headers["etag"] = content.etag

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, end = 0, self._content.size
        part = self._range(Headers(scope=scope))
        if part is not None:
            start, end = part
            satisfiable = start < end
            self.status_code = 206 if satisfiable else 416
            range_text = f"{start}-{end - 1}" if satisfiable else "*"
            self.headers["content-range"] = f"bytes {range_text}/{self._content.size}"
            start = min(start, end)
            self.headers["content-length"] = str(end - start if satisfiable else 0)
            end = end if satisfiable else start
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            async with aclosing(self._content.read(start, end)) as pieces:
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _range(self, headers: Headers) -> tuple[int, int] | None:
        """(from, to) of the range that is requested, empty if it is outside of the content; None if there is none."""
        size = self._content.size
        match = _RANGE.fullmatch(headers.get("range", ""))
        condition = headers.get("if-range")
        if match is None or not (match[1] or match[2]):
            return None
        if condition is not None and condition not in (self.headers["etag"], self.headers["last-modified"]):
            return None
        if not match[1]:
            return max(0, size - int(match[2])), size
        return int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
