"""What the asynchronous API works with, besides what every dialect does."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.api.polling.idempotency import Idempotency
from headrace.courier import Courier
from headrace.dispatcher import Dispatcher
from headrace.ports import Answers


@dataclass
class Polling:
    """Filled in by `serving`; `idempotency` is the one that all endpoints share."""

    answers: Answers
    courier: Courier
    dispatcher: Dispatcher
    idempotency: Idempotency = field(init=False)

    def __post_init__(self) -> None:
        self.idempotency = Idempotency(self.answers)
