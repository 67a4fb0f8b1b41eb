"""Remote knowledge bases: implements `ports.services.Knowledge` over HTTP.

There are two kinds of servers:

    dify      a Dify: `POST {dify_url}/v1/datasets/{id}/retrieve`, with a key for its knowledge bases
    external  a server of Dify's external knowledge API: `POST {url}/retrieval`

The ids in a workflow file are those of the Dify that exported it (which hides them in the file).
`HEADRACE_KNOWLEDGE_IDS` maps them to other ids: comma-separated `id in the file=id`, or with both servers
`id in the file=dify:id` or `=external:id`. Other ids are for the external server if there is one.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field
from typing import Any
from urllib.parse import quote

import orjson

from headrace.adapters.knowledge_answers import (
    ERROR,
    description,
    dify_passage,
    external_passage,
    field_names,
    is_object,
    records,
)
from headrace.adapters.models.failures import Failure, scrub
from headrace.adapters.models.lazy_transport import LazyTransport
from headrace.adapters.models.request import encode
from headrace.adapters.urls import is_base_url
from headrace.errors import HeadraceError, NodeError
from headrace.frozen import frozen
from headrace.ids import canonical_id
from headrace.ports.services import DatasetDescription, Passage, Retrieval
from headrace.values import Value

_LONGEST_QUERY = 250  # characters; Dify's limit
_LARGEST = 32 * 1024 * 1024  # bytes of a response
_REMEMBERED = 300  # seconds for which settings of a knowledge base are cached
_SERVERS = ("dify", "external")
_NAMES = (
    ("search_method", "reranking_enable", "reranking_mode", "reranking_model", "weights"),
    ("top_k", "score_threshold_enabled", "score_threshold"),
)


@frozen
class _Dataset:
    """What a Dify says of a knowledge base. `settings` are those of its searches; `limits` are how many results it has,
    and from which score."""

    about: DatasetDescription
    settings: Mapping[str, Value] = field(default_factory=dict[str, Value])
    limits: Mapping[str, Value] = field(default_factory=dict[str, Value])


class KnowledgeClient:
    """Implements `ports.services.Knowledge`.

    `dify_url` with `dify_key` and `url` with `key` are the two servers, "" for none; `ids` maps the ids of files (see
    the module). `environ` has the proxies. `seconds` is the time limit of a query. HeadraceError if a URL or `ids` is
    malformed.
    """

    def __init__(
        self,
        *,
        dify_url: str = "",
        dify_key: str = "",
        url: str = "",
        key: str = "",
        ids: Sequence[str] = (),
        environ: Mapping[str, str] = os.environ,
        connect: float = 10.0,
        seconds: float = 60.0,
    ) -> None:
        self._dify = _base("HEADRACE_DIFY_URL", dify_url).removesuffix("/v1")
        self._external = _base("HEADRACE_KNOWLEDGE_URL", url).removesuffix("/retrieval")
        self._dify_key = _header("HEADRACE_DIFY_DATASET_KEY", dify_key)
        self._key = _header("HEADRACE_KNOWLEDGE_API_KEY", key)
        self._ids = dict(_pair(entry) for entry in ids)
        self._seconds = seconds
        self._transport = LazyTransport(environ, connect, seconds)
        self._datasets: dict[str, tuple[float, _Dataset]] = {}

    def missing(self, dataset: str) -> str | None:
        """See `Knowledge.missing`."""
        server, remote_id = self._place(dataset)
        if server == "external":
            return None if self._external else f"Knowledge base '{dataset}': set HEADRACE_KNOWLEDGE_URL."
        if not self._dify:
            return (
                f"Knowledge base '{dataset}': no server is configured. Set HEADRACE_DIFY_URL and "
                "HEADRACE_DIFY_DATASET_KEY (a Dify's), or HEADRACE_KNOWLEDGE_URL (an external knowledge API)."
            )
        if not self._dify_key:
            return f"Knowledge base '{dataset}': set HEADRACE_DIFY_DATASET_KEY."
        if canonical_id(remote_id) is None:
            return (
                f"Knowledge base '{dataset}': Dify hides the ids of knowledge bases when it exports a file. "
                f"Add '{dataset}=ID' to HEADRACE_KNOWLEDGE_IDS."
            )
        return None

    async def retrieve(self, retrieval: Retrieval) -> Sequence[Passage]:
        """See `Knowledge.retrieve`; the error names the knowledge base, and the status of the response."""
        async with self._call_to(retrieval.dataset) as (server, remote_id):
            if server == "external":
                return await self._retrieve_external(retrieval, remote_id)
            return await self._retrieve_dify(retrieval, remote_id)

    async def fields(self, dataset: str, app: str = "") -> Sequence[str]:
        """See `Knowledge.fields`. The external knowledge API and old versions of Dify do not list them."""
        async with self._call_to(dataset) as (server, remote_id):
            return [] if server == "external" else await self._fields(remote_id)

    async def describe(self, dataset: str, app: str = "") -> DatasetDescription:
        """See `Knowledge.describe`. The external knowledge API says nothing: the name is the id."""
        async with self._call_to(dataset) as (server, remote_id):
            if server == "external":
                return DatasetDescription(dataset, technique="")
            return (await self._dataset(remote_id)).about

    async def scores(
        self, query: str, passages: Sequence[Passage], settings: Mapping[str, Value]
    ) -> Sequence[float | None]:
        """See `Knowledge.scores`. Servers order what is theirs alone."""
        return [passage.score for passage in passages]

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._transport.aclose()

    @asynccontextmanager
    async def _call_to(self, dataset: str) -> AsyncGenerator[tuple[str, str]]:
        """(dify or external, the id there), within the time limit; errors name the dataset."""
        if missing := self.missing(dataset):
            raise NodeError(missing, ERROR)
        try:
            async with asyncio.timeout(self._seconds):
                yield self._place(dataset)
        except TimeoutError:
            raise NodeError(f"Knowledge base '{dataset}': no answer within {self._seconds:g} seconds.", ERROR) from None
        except Failure as failure:
            status = f" (HTTP status {failure.status})" if failure.status else ""
            message = scrub(failure.message, [secret for secret in (self._dify_key, self._key) if secret])[:2000]
            raise NodeError(f"Knowledge base '{dataset}': {message}{status}", ERROR) from None

    def _place(self, dataset: str) -> tuple[str, str]:
        """(dify or external, the id there)."""
        remote_id = self._ids.get(dataset, dataset)
        server, colon, rest = remote_id.partition(":")
        if colon and server in _SERVERS:
            return server, rest
        return ("external" if self._external else "dify"), remote_id

    # -------------------------------------------------------------------------------------------------- external

    async def _retrieve_external(self, retrieval: Retrieval, remote_id: str) -> list[Passage]:
        body: dict[str, Value] = {
            "knowledge_id": remote_id,
            "query": retrieval.query,
            "retrieval_setting": {
                "top_k": retrieval.top_k,
                "score_threshold": retrieval.score_threshold or 0.0,
            },
        }
        if retrieval.conditions:
            body["metadata_condition"] = retrieval.conditions
        answer = await self._call("POST", f"{self._external}/retrieval", self._key, body)
        if answer.get("error_code"):  # some servers tell an error with status 200
            raise Failure(str(answer.get("error_msg") or answer["error_code"]), ERROR)
        return [external_passage(record, retrieval.dataset) for record in records(answer)]

    # ------------------------------------------------------------------------------------------------------ dify

    async def _retrieve_dify(self, retrieval: Retrieval, remote_id: str) -> list[Passage]:
        dataset = await self._dataset(remote_id)
        threshold = retrieval.score_threshold
        model: dict[str, Value] = {
            "search_method": "semantic_search",
            "reranking_enable": False,
            **dataset.settings,
            "top_k": retrieval.top_k,
            "score_threshold_enabled": threshold is not None and not retrieval.by_own_settings,
            "score_threshold": None if retrieval.by_own_settings else threshold,
            **(dataset.limits if retrieval.by_own_settings else retrieval.settings),
        }
        if retrieval.conditions:
            model["metadata_filtering_conditions"] = retrieval.conditions
        body = {"query": retrieval.query[:_LONGEST_QUERY], "retrieval_model": model}
        url = f"{self._dify}/v1/datasets/{quote(remote_id, safe='')}/retrieve"
        answer = await self._call("POST", url, self._dify_key, body)
        return [dify_passage(record, remote_id, dataset.about.name) for record in records(answer)]

    async def _dataset(self, remote_id: str) -> _Dataset:
        """What the Dify says of a knowledge base. Old ones do not say it: then its id is its name."""
        at, dataset = self._datasets.get(remote_id, (0.0, None))
        if dataset is not None and time.monotonic() - at < _REMEMBERED:
            return dataset
        try:
            body = await self._call("GET", f"{self._dify}/v1/datasets/{quote(remote_id, safe='')}", self._dify_key)
        except Failure as failure:
            if failure.status not in (404, 405):
                raise
            return _Dataset(DatasetDescription(remote_id))
        model = body.get("retrieval_model_dict")
        own: dict[str, Any] = model if is_object(model) else {}
        settings, limits = ({name: own[name] for name in names if own.get(name) is not None} for names in _NAMES)
        dataset = _Dataset(description(body, remote_id), settings, limits)
        if dataset.about.has_documents:  # the first one may come at any time
            self._datasets[remote_id] = (time.monotonic(), dataset)
        return dataset

    async def _fields(self, remote_id: str) -> list[str]:
        try:
            body = await self._call(
                "GET", f"{self._dify}/v1/datasets/{quote(remote_id, safe='')}/metadata", self._dify_key
            )
        except Failure as failure:
            if failure.status not in (404, 405):
                raise
            return []
        return field_names(body)

    # ------------------------------------------------------------------------------------------------------ http

    async def _call(self, method: str, url: str, key: str, body: Mapping[str, Value] | None = None) -> dict[str, Any]:
        """The object that a server answers with. Failure where it answers with anything else."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else encode(body)
        who = "the knowledge server"
        raw, _ = await self._transport.open().whole(method, who, url, headers, data, max_size=_LARGEST)
        try:
            answer: Any = orjson.loads(raw)
        except orjson.JSONDecodeError:
            answer = None
        if not is_object(answer):
            raise Failure(f"{who} sent a response that is not a JSON object.", ERROR)
        return answer


# ----------------------------------------------------------------------------------------------------------- settings


def _base(name: str, url: str) -> str:
    """A base URL without the slash at its end; "" for none."""
    url = url.strip().rstrip("/")
    if url and not is_base_url(url):
        raise HeadraceError(f"{name} is not a valid base URL, such as https://dify.example.com.")
    return url


def _header(name: str, key: str) -> str:
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise HeadraceError(f"{name} holds characters that no API key has.")
    return key


def _pair(entry: str) -> tuple[str, str]:
    """(id in the file, id elsewhere); the former may end in `=`, as a hidden id does."""
    here, equals, remote_id = (part.strip() for part in entry.rpartition("="))
    if not (here and equals and re.sub(r"^(dify|external):", "", remote_id)):
        raise HeadraceError(f"HEADRACE_KNOWLEDGE_IDS: '{entry}' is not 'id in the file=id'.")
    return here, remote_id
