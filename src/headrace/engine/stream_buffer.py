"""Text that the nodes of one run stream: told at once, piece by piece, and journaled soon after in larger pieces."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.kernel.events import Delta
from headrace.kernel.path import Path
from headrace.kernel.secrets import SecretMask, StreamingMask

FLUSH_SECONDS = 0.25  # how long a piece may wait for the journal


@dataclass(slots=True)
class _OutputBuffer:
    """What the journal does not have yet of one output; `at` characters of it went before."""

    offset: int = 0
    pieces: list[str] = field(default_factory=list[str])
    size: int = 0
    mask: StreamingMask | None = None


class StreamBuffer:
    """Keeps what was streamed until it is taken for the journal. Secrets are masked here: one may span two pieces."""

    def __init__(self, mask: SecretMask) -> None:
        self._mask = mask
        self._buffers: dict[tuple[Path, str], _OutputBuffer] = {}

    def append(self, path: Path, name: str, piece: str) -> Delta | None:
        """What followers can be told of a piece now; None where it may be the beginning of a secret."""
        buffer = self._buffers.get((path, name))
        if buffer is None:
            buffer = self._buffers[path, name] = _OutputBuffer(mask=StreamingMask(self._mask) if self._mask else None)
        return self._add(path, name, buffer, buffer.mask.feed(piece) if buffer.mask else piece)

    def drain(self) -> list[Delta]:
        """What the journal does not have yet."""
        deltas: list[Delta] = []
        for (path, name), buffer in self._buffers.items():
            if buffer.pieces:
                deltas.append(Delta(path, name, buffer.offset, "".join(buffer.pieces)))
                buffer.offset += buffer.size
                buffer.pieces, buffer.size = [], 0
        return deltas

    def end(self, path: Path) -> list[Delta]:
        """An attempt is over: what was held back of its texts can be told. Then `take`, then `forget`."""
        mine = [(key, text) for key, text in self._buffers.items() if key[0] == path and text.mask]
        ends = [self._add(*key, text, text.mask.end()) for key, text in mine if text.mask]
        return [delta for delta in ends if delta]

    def reset(self, path: Path) -> None:
        """The next attempt's texts begin anew."""
        for key in [key for key in self._buffers if key[0] == path]:
            del self._buffers[key]

    def __bool__(self) -> bool:
        return bool(self._buffers)

    def _add(self, path: Path, name: str, buffer: _OutputBuffer, piece: str) -> Delta | None:
        if not piece:
            return None
        if not buffer.pieces:  # what began to wait for the journal first is the first to be written there
            self._buffers[path, name] = self._buffers.pop((path, name))
        delta = Delta(path, name, buffer.offset + buffer.size, piece)
        buffer.pieces.append(piece)
        buffer.size += len(piece)
        return delta
