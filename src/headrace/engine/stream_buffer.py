"""Text that the nodes of one run stream: told at once, piece by piece, and journaled soon after in larger pieces."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.kernel.events import Delta
from headrace.kernel.path import Path
from headrace.kernel.secrets import Mask, MaskedText

FLUSH_SECONDS = 0.25  # how long a piece may wait for the journal


@dataclass(slots=True)
class _Text:
    """What the journal does not have yet of one output; `at` characters of it went before."""

    at: int = 0
    pieces: list[str] = field(default_factory=list[str])
    size: int = 0
    masked: MaskedText | None = None


class Texts:
    """Keeps what was streamed until it is taken for the journal. Secrets are masked here: one may span two pieces."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._texts: dict[tuple[Path, str], _Text] = {}

    def grow(self, path: Path, name: str, piece: str) -> Delta | None:
        """What followers can be told of a piece now; None where it may be the beginning of a secret."""
        text = self._texts.get((path, name))
        if text is None:
            text = self._texts[path, name] = _Text(masked=MaskedText(self._mask) if self._mask else None)
        return self._add(path, name, text, text.masked.feed(piece) if text.masked else piece)

    def take(self) -> list[Delta]:
        """What the journal does not have yet."""
        taken: list[Delta] = []
        for (path, name), text in self._texts.items():
            if text.pieces:
                taken.append(Delta(path, name, text.at, "".join(text.pieces)))
                text.at += text.size
                text.pieces, text.size = [], 0
        return taken

    def end(self, path: Path) -> list[Delta]:
        """An attempt is over: what was held back of its texts can be told. Then `take`, then `forget`."""
        mine = [(key, text) for key, text in self._texts.items() if key[0] == path and text.masked]
        ends = [self._add(*key, text, text.masked.end()) for key, text in mine if text.masked]
        return [delta for delta in ends if delta]

    def forget(self, path: Path) -> None:
        """The next attempt's texts begin anew."""
        for key in [key for key in self._texts if key[0] == path]:
            del self._texts[key]

    def __bool__(self) -> bool:
        return bool(self._texts)

    def _add(self, path: Path, name: str, text: _Text, piece: str) -> Delta | None:
        if not piece:
            return None
        if not text.pieces:  # what began to wait for the journal first is the first to be written there
            self._texts[path, name] = self._texts.pop((path, name))
        delta = Delta(path, name, text.at + text.size, piece)
        text.pieces.append(piece)
        text.size += len(piece)
        return delta
