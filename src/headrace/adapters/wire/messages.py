"""The messages between hosts.

A message is text: a signature, then a line with the sender, then a line for each item. Items are JSON arrays, so that
no line has a line break in it; a record's event follows after a tab, as the journal has it. Signatures are made with
the secret of the installation, because others may write to the same server.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

import orjson

from headrace.kernel.events import Record

_VERSION = 1
_SIGNATURE_BYTES = 16

Encode = Callable[[Record], tuple[str, int | None, float, str, bytes]]
"""run, seq, at, type and body of a record."""
Decode = Callable[[tuple[str, Any, float, str, bytes]], Record]

HELLO = b'["hello"]'  # asks for all that the receiver follows
RESET = b'["reset"]'  # the sender follows what is listed from here on
ALIVE = b'["alive"]'


def line(*values: str | int) -> bytes:
    return orjson.dumps(values)


class Messages:
    """Signs and reads the messages of one installation. `sender` is this host."""

    def __init__(self, secret: bytes, sender: str, encode: Encode, decode: Decode) -> None:
        self._key = blake2b(b"wire", key=secret[:64]).digest()
        self._sender = line(_VERSION, sender)
        self._encode = encode
        self._decode = decode
        self.overhead = 2 * _SIGNATURE_BYTES + len(self._sender) + 2  # bytes of a message without items

    def channel(self, name: str) -> str:
        """The name of a channel of this installation, for the server."""
        return f"headrace_{blake2b(b'channel', key=self._key, digest_size=6).hexdigest()}_{name}"

    def record_line(self, record: Record) -> bytes:
        run, seq, at, kind, body = self._encode(record)
        return orjson.dumps(("record", run, seq, at, kind)) + b"\t" + body

    def record(self, fields: Sequence[Any], body: bytes) -> Record:
        """The record of an item. HeadraceError, ValueError or TypeError if it cannot be read."""
        run, seq, at, kind = fields
        return self._decode((run, seq, at, kind, body))

    def pack(self, lines: Sequence[bytes], limit: int) -> Iterator[bytes]:
        """As few messages as hold these lines, in order, none larger than `limit`. No line may be larger than that
        less the overhead."""
        items, size = [self._sender], self.overhead
        for item in lines:
            if size + len(item) > limit and len(items) > 1:
                yield self._sign(items)
                items, size = [self._sender], self.overhead
            items.append(item)
            size += len(item) + 1
        if len(items) > 1:
            yield self._sign(items)

    def _sign(self, items: list[bytes]) -> bytes:
        content = b"\n".join(items)
        return self._signature(content) + b"\n" + content

    def _signature(self, content: bytes) -> bytes:
        return blake2b(content, key=self._key, digest_size=_SIGNATURE_BYTES).hexdigest().encode()

    def open(self, payload: bytes) -> tuple[str, list[bytes]]:
        """The sender of a message, and its items. ValueError if it is not of this installation, or of another version
        of this format."""
        signature, _, content = payload.partition(b"\n")
        if not hmac.compare_digest(signature, self._signature(content)):
            raise ValueError("a message is not signed with the secret of this installation")
        first, *items = content.split(b"\n")
        version, sender = orjson.loads(first)
        if version != _VERSION:
            raise ValueError(f"a message has the format {version} of another version of Headrace")
        return str(sender), items
