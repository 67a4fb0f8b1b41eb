"""Times in responses: whole seconds, which every client can decode, and milliseconds under another name."""

from __future__ import annotations

from typing import overload

from headrace.values import Value


@overload
def whole_seconds(moment: float) -> int: ...
@overload
def whole_seconds(moment: None) -> None: ...
def whole_seconds(moment: float | None) -> int | None:
    """Seconds since the epoch, as Dify has them; None for None."""
    return None if moment is None else int(moment * 1000) // 1000


@overload
def milliseconds(moment: float) -> int: ...
@overload
def milliseconds(moment: None) -> None: ...
def milliseconds(moment: float | None) -> int | None:
    """Milliseconds since the epoch; None for None."""
    return None if moment is None else int(moment * 1000)


def times(**moments: float | None) -> dict[str, Value]:
    """Times (seconds since the epoch) in whole seconds by name, and in milliseconds by NAME_ms."""
    whole: dict[str, Value] = {name: None if at is None else whole_seconds(at) for name, at in moments.items()}
    return whole | {f"{name}_ms": None if at is None else int(at * 1000) for name, at in moments.items()}
