"""E-mail, as the parts that send it need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Protocol

from headrace.errors import HeadraceError
from headrace.frozen import frozen

if TYPE_CHECKING:
    from email.message import EmailMessage


class MailError(HeadraceError):
    """A message was not accepted. `final`: it will not be, however often it is sent."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


@frozen
class MailSetup:
    """What of the setup of e-mail a file's check needs: the settings that are missing, and the members by id."""

    missing: Sequence[str] = ()
    members: Mapping[str, str] = field(default_factory=dict[str, str])


class Mailer(Protocol):
    """Sends e-mail."""

    async def send(self, message: EmailMessage) -> None:
        """MailError if the server does not accept it."""
        ...
