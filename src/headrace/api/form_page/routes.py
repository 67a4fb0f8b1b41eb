"""`/form/{token}`: the page of a form, for everybody who has its link. The token is the only credential."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from pathlib import PurePath
from urllib.parse import urlsplit

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from headrace.api.auth import Api
from headrace.api.form_page.messages import MESSAGES, language_of
from headrace.api.form_page.page import PREFIX, Problem, form_page, message_page, policy
from headrace.api.http.errors import file_too_large, of_status
from headrace.api.http.request_body import Body
from headrace.content.filetypes import OCTET_STREAM, extension_of, kind_of
from headrace.errors import NotFound, RequestError, TooManyRequests
from headrace.kernel.events import FormRequested
from headrace.kernel.forms import FILE_TYPES
from headrace.runs.forms import TokenForm, check_waiting, open_form, submit_form
from headrace.values import Value

PATH = "/form/{token}"

_PER_MINUTE = 120  # requests of one address
_MAX_ADDRESSES = 50_000  # that are counted at once
_LONGEST_TEXT = 1024 * 1024  # bytes
_MOST_FILES, _MOST_FIELDS = 50, 200
_OVERHEAD = 2 * _LONGEST_TEXT  # bytes of an answer beyond its files
_REFUSALS = {404: ("unknown", "check"), 429: ("busy", "wait")}
_OVER = {"human_input_form_submitted": "submitted", "human_input_form_expired": "expired"}


class FormPage:
    """The page of every form."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._run_service = api.run_service
        url = urlsplit(api.options.public_url)
        origin = f"{url.scheme}://{url.netloc}" if url.netloc else ""
        self._images = [f"{origin}/"] if origin else []
        self._headers = {"Content-Security-Policy": policy([origin] if origin else ())}
        self._rate = Rate()
        self._largest = max(api.options.limit_for(extension) for extension in (".png", ".mp3", ".mp4", ".txt", ""))

    def route(self) -> Route:
        return Route(PATH, self._respond, methods=["GET", "POST"], include_in_schema=False)

    async def _respond(self, request: Request) -> Response:
        language = language_of(request.headers.get("accept-language", ""))
        try:
            now = self._run_service.environment.clock()
            self._rate.check(request.client.host if request.client else "", now)
            token_form = await open_form(self._run_service, request.path_params["token"])
            if token_form is None:
                raise NotFound("Form not found")
            check_waiting(self._run_service, token_form.form)
            if request.method == "POST":
                return await self._answer(request, token_form, language)
            return await self._form(token_form, language)
        except RequestError as error:
            if error.code in _OVER:
                return self._html(message_page(language, "over", _OVER[error.code]), 410)
            if error.status in _REFUSALS:
                return self._html(message_page(language, *_REFUSALS[error.status]), error.status, error.headers)
            return self._html(message_page(language, "problem", error.message), error.status, error.headers)

    async def _form(
        self,
        token_form: TokenForm,
        language: str,
        texts: dict[str, str] | None = None,
        problems: Sequence[Problem] = (),
    ) -> Response:
        html = await asyncio.to_thread(  # a long text takes a while to render
            form_page,
            token_form.request,
            language,
            expires_at=token_form.form.expires_at,
            texts=texts,
            problems=problems,
            images=self._images,
        )
        return self._html(html, 400 if problems else 200)

    def _html(self, html: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        return HTMLResponse(html, status, {**(headers or {}), **self._headers})

    # -------------------------------------------------------------------------------------------------------- answers

    async def _answer(self, request: Request, token_form: TokenForm, language: str) -> Response:
        words, form = MESSAGES[language], token_form.request
        fields = await self._read(request, form)
        try:
            texts = {name: value.replace("\r\n", "\n") for name, value in fields.items() if isinstance(value, str)}
            form_texts = {name.removeprefix(PREFIX): text for name, text in texts.items() if name.startswith(PREFIX)}
            files = {name: _files_of(fields, PREFIX + name) for name in map(_name_of, form.inputs)}
            missing = [name for item in form.inputs if _is_missing(item, form_texts, files[name := _name_of(item)])]
            if missing:
                problems = [Problem(words["required"], name) for name in missing]
            else:
                try:
                    inputs = {
                        _name_of(item): await self._value(token_form, item, form_texts, files) for item in form.inputs
                    }
                    await self._submit(token_form, texts.get("action", ""), inputs)
                except RequestError as error:
                    if error.status == 412:
                        raise
                    problems = [Problem(error.message)]
                else:
                    return self._html(message_page(language, "thanks", "sent"))
            if any(files.values()):
                problems.append(Problem(words["again"]))  # a browser fills in texts only
            return await self._form(token_form, language, form_texts, problems)
        finally:
            await fields.close()

    async def _submit(self, token_form: TokenForm, action: str, inputs: dict[str, Value]) -> None:
        resolve = partial(self._api.resolve, app=token_form.form.app)
        await submit_form(self._run_service, token_form, action, inputs, token_form.token.recipient, resolve)

    async def _value(
        self,
        token_form: TokenForm,
        item: Mapping[str, Value],
        texts: Mapping[str, str],
        files: Mapping[str, Sequence[UploadFile]],
    ) -> Value:
        """The value of an input, as a client of the API would send it."""
        name, kind = _name_of(item), item["type"]
        if kind not in FILE_TYPES:
            return texts[name]
        uploads = [await self._save(token_form, item, file) for file in files[name]]
        mappings: list[Value] = list(uploads) if uploads else [_link(item, texts[name])]
        return mappings if kind == "file-list" else mappings[0]

    async def _save(self, token_form: TokenForm, item: Mapping[str, Value], upload: UploadFile) -> Mapping[str, Value]:
        """Stores a file as one of the run's user. 413 if it is too large."""
        filename = upload.filename or "file"
        limit = self._api.upload_limit(PurePath(filename).suffix)
        if (upload.size or 0) > limit:
            raise file_too_large(limit)
        app, run = (
            await self._api.apps.find(token_form.form.app),
            await self._run_service.runs.find_run(token_form.form.run),
        )
        if app is None or run is None:
            raise NotFound("Form not found")
        file = await self._api.files.save(
            await upload.read(),
            filename=filename,
            mime_type=upload.content_type or OCTET_STREAM,
            transfer_method="local_file",
            app=app.id,
            owner=(await self._api.caller(app, run.session)).id,
        )
        return {
            "type": _allowed(item, file.type),
            "transfer_method": "local_file",
            "upload_file_id": file.related_id or "",
        }

    async def _read(self, request: Request, form: FormRequested) -> FormData:
        """The fields of an answer. RequestError if it is not a form, or too large."""
        limit = self._api.upload_limit("", self._largest) * _most_files(form) + _OVERHEAD
        body = Body(request, limit)
        type_ = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            if type_ == "multipart/form-data":
                parser = MultiPartParser(request.headers, _pieces(body), max_files=_MOST_FILES, max_fields=_MOST_FIELDS)
                return await parser.parse()
            if type_ == "application/x-www-form-urlencoded":
                return await FormParser(request.headers, _pieces(body), max_fields=_MOST_FIELDS).parse()
        except MultiPartException as error:
            await body.drain()
            raise of_status(400, error.message) from None
        except RequestError:
            await body.drain()
            raise
        raise of_status(415, "The request is not an HTML form.")


class Rate:
    """Counts the requests of each address in the current minute."""

    def __init__(self) -> None:
        self._minute = 0
        self._counts: Counter[str] = Counter()

    def check(self, address: str, now: float) -> None:
        """429 if there were too many."""
        minute = int(now // 60)
        if minute != self._minute or len(self._counts) > _MAX_ADDRESSES:
            self._minute = minute
            self._counts.clear()
        self._counts[address] += 1
        if self._counts[address] > _PER_MINUTE:
            raise TooManyRequests("Too many requests.", 60)


async def _pieces(body: Body) -> AsyncGenerator[bytes]:
    async for piece in body:
        yield piece


def _files_of(fields: FormData, name: str) -> list[UploadFile]:
    """The files that were chosen; a browser sends an empty one without a name where none was."""
    return [file for file in fields.getlist(name) if isinstance(file, UploadFile) and (file.filename or file.size)]


def _name_of(item: Mapping[str, Value]) -> str:
    return str(item["output_variable_name"])


def _is_missing(item: Mapping[str, Value], texts: Mapping[str, str], files: Sequence[UploadFile]) -> bool:
    """Whether an answer lacks a value; a paragraph may be empty."""
    name = _name_of(item)
    return not (files or texts.get(name)) if item["type"] in (*FILE_TYPES, "select") else name not in texts


def _most_files(form: FormRequested) -> int:
    """How many files an answer may have."""
    most = 0
    for item in form.inputs:
        if item["type"] in FILE_TYPES:
            limit = item.get("number_limits")
            most += 1 if item["type"] == "file" else limit if isinstance(limit, int) and limit > 0 else _MOST_FILES
    return min(most, _MOST_FILES)


def _link(item: Mapping[str, Value], url: str) -> Mapping[str, Value]:
    kind = kind_of(extension_of(urlsplit(url).path), "")
    return {"type": _allowed(item, kind), "transfer_method": "remote_url", "url": url}


def _allowed(item: Mapping[str, Value], kind: str) -> str:
    """The type under which an input accepts a file of this one. What it does not accept is refused with the answer."""
    types = item.get("allowed_file_types")
    return "custom" if isinstance(types, list) and "custom" in types and kind not in types else kind
