"""The types of settings that are more than a number or a text; see `Settings`."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

from headrace.retention import days_kept

_WIRE_URL = re.compile(r"(off|(rediss?|valkeys?|unix|postgres(ql)?)://.+)?")
_MODEL_LIMIT = re.compile(r"(\S[^=]*)=([1-9][0-9]{0,5})")
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")


def _origins(value: list[str]) -> list[str]:
    for origin in value:
        parts = urlsplit(origin.replace("*", ""))
        # as browsers write them: an origin with a path after the host, or a * in it, would never match
        if origin not in ("*", "null") and (
            not (parts.scheme and parts.netloc) or origin != f"{parts.scheme}://{parts.netloc.lower()}"
        ):
            raise ValueError(f"{origin!r} is not a valid origin; expected https://example.com or *")
    return value


def _members(value: list[str]) -> list[str]:
    for member in value:
        name, _, address = member.partition("=")
        if not name.strip() or "@" not in address:
            raise ValueError(f"{member!r} is not ID=ADDRESS")
    return value


def _model_limits(value: list[str]) -> list[str]:
    for limit in value:
        if not _MODEL_LIMIT.fullmatch(limit):
            raise ValueError(f"{limit!r} is not PROVIDER=NUMBER or PROVIDER/MODEL=NUMBER, of 1 to 999999 calls")
    if len({limit.rpartition("=")[0].strip() for limit in value}) < len(value):
        raise ValueError("a provider or model is named twice")
    return value


def _bucket_url(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment):
        raise ValueError("must be s3://BUCKET or s3://BUCKET/PREFIX")
    return value.rstrip("/")


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment):
        raise ValueError("must be an http or https URL without a query")
    _ = parts.port  # ValueError if it is not a number of a port
    return value.rstrip("/")


def _mirror_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "file":
        return _base_url(value)
    if parts.netloc or not parts.path.startswith("/"):
        raise ValueError("must be an http or https URL without a query, or file:///FOLDER")
    return value.rstrip("/")


def _wire_url(value: str) -> str:
    if not _WIRE_URL.fullmatch(value):
        raise ValueError("must be off, or a URL such as redis://HOST:6379 or postgresql://USER:PASSWORD@HOST/NAME")
    return value


def _root_path(value: str) -> str:
    if not _ROOT_PATH.fullmatch(value):
        raise ValueError("must be a path such as /api")
    return value.rstrip("/")


def _retention_days(value: str) -> str:
    days_kept(value)
    return value


def _networks(value: list[str]) -> list[str]:
    for network in value if value != ["*"] else []:
        try:
            ip_network(network)
        except ValueError as error:
            raise ValueError(f"{network} is neither an address nor a CIDR ({error})") from None
    return value


OptionalPath: TypeAlias = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
"""An empty variable, as compose files set it, is an unset one; `Path("")` would be the current folder."""

TextList: TypeAlias = Annotated[
    list[str],
    BeforeValidator(
        lambda value: [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    ),
]
"""Values that are separated by commas."""

Origins: TypeAlias = Annotated[TextList, AfterValidator(_origins)]
Members: TypeAlias = Annotated[TextList, AfterValidator(_members)]
ModelLimits: TypeAlias = Annotated[TextList, AfterValidator(_model_limits)]
Networks: TypeAlias = Annotated[TextList, AfterValidator(_networks)]
BucketUrl: TypeAlias = Annotated[str, AfterValidator(_bucket_url)]
BaseUrl: TypeAlias = Annotated[str, AfterValidator(_base_url)]
MirrorUrl: TypeAlias = Annotated[str, AfterValidator(_mirror_url)]
WireUrl: TypeAlias = Annotated[str, AfterValidator(_wire_url)]
RootPath: TypeAlias = Annotated[str, AfterValidator(_root_path)]
RetentionDays: TypeAlias = Annotated[str, AfterValidator(_retention_days)]
