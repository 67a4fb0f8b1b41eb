"""The server's certificate, and the client certificates that it requires."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from headrace.errors import HeadraceError
from headrace.settings import Settings

logger = logging.getLogger(__name__)

_CERTIFICATE, _KEY, _CLIENT_CA = "HEADRACE_TLS_CERTIFICATE", "HEADRACE_TLS_KEY", "HEADRACE_TLS_CLIENT_CA"


def tls_of(settings: Settings) -> Tls | None:
    """The TLS of an installation by its settings; None for plain HTTP. HeadraceError if the settings are invalid."""
    if settings.tls_certificate is None:
        for name, path in ((_KEY, settings.tls_key), (_CLIENT_CA, settings.tls_client_ca)):
            if path is not None:
                raise HeadraceError(f"{name} is set, and {_CERTIFICATE} is not")
        return None
    return Tls(
        settings.tls_certificate,
        settings.tls_key,
        settings.tls_key_password,
        settings.tls_client_ca,
        client_required=settings.tls_client_required,
    )


class Tls:
    """TLS 1.2 and later, from PEM files.

    `certificate` has the chain, the server's own first; without `key` it has the private key as well. With `client_ca`
    clients present a certificate that one of its authorities has signed, or, unless `client_required`, none.
    HeadraceError, in one line, where a file is not valid.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path | None = None,
        password: str = "",
        client_ca: Path | None = None,
        *,
        client_required: bool = True,
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._password = password
        _readable(_CERTIFICATE, certificate)
        if key is not None:
            _readable(_KEY, key)
        self.context = _bare()
        self._load(self.context)
        if client_ca is not None:
            _readable(_CLIENT_CA, client_ca)
            try:
                self.context.load_verify_locations(client_ca)
            except (ssl.SSLError, OSError) as error:
                raise HeadraceError(f"{_CLIENT_CA}: {client_ca} has no PEM certificate") from error
            self.context.verify_mode = ssl.CERT_REQUIRED if client_required else ssl.CERT_OPTIONAL
        self._last_change = self._changed_at()

    def reload(self) -> None:
        """Loads a renewed certificate, for new connections; keeps the current one while the new one is not complete.
        Cheap while nothing has changed."""
        now = self._changed_at()
        if now == self._last_change or None in now:  # a file is being replaced
            return
        self._last_change = now
        try:
            self._load(_bare())  # a key that does not fit would spoil the context in use
            self._load(self.context)
        except HeadraceError as error:
            logger.error("the certificate has changed, and cannot be loaded: %s", error)
        else:
            logger.info("the renewed certificate is in use")

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            # with None, OpenSSL would ask for a password at the terminal
            context.load_cert_chain(self._certificate, self._key, self._password)
        except ssl.SSLError as error:
            key = f"{_KEY}: {self._key}" if self._key else f"{_CERTIFICATE}: {self._certificate}"
            if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
                problem = f"{key} is not the key of the certificate in {self._certificate}"
            elif b"ENCRYPTED" in (self._key or self._certificate).read_bytes():  # OpenSSL does not say so
                problem = f"{key} has a password, and HEADRACE_TLS_KEY_PASSWORD is not the right one"
            else:
                problem = f"{_CERTIFICATE}: {self._certificate} and {self._key or 'the key in it'} cannot be used: "
                problem += f"not a PEM certificate and key ({error.reason or error})"
            raise HeadraceError(problem) from error
        except (OSError, ValueError) as error:
            raise HeadraceError(f"{_CERTIFICATE}: {self._certificate} cannot be used: {error}") from error

    def _changed_at(self) -> tuple[int | None, ...]:
        return tuple(_changed_at(file) for file in (self._certificate, self._key) if file is not None)


def _bare() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _readable(setting: str, file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise HeadraceError(f"{setting}: {file} cannot be read: {error.strerror}") from error


def _changed_at(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None
