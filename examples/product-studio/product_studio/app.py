"""The HTTP API, and the built page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import uuid4

import httpx
from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.sse import EventSourceResponse
from fastapi.staticfiles import StaticFiles
from headrace_client import HeadraceError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp

from product_studio.generation import Generation
from product_studio.models import (
    MESSAGE,
    DetailRequest,
    DetailResponse,
    Id,
    NewProduct,
    Picture,
    Product,
    Products,
    Progress,
    Stopped,
    StopRequest,
    StreamRequest,
)
from product_studio.pictures import LARGEST, PictureError, check_upload
from product_studio.security import Guard
from product_studio.service import ProductDetailService, to_failed
from product_studio.settings import Settings
from product_studio.store import Store, UnknownPicture, UnknownProduct, picture_url

DETAIL = "/api/Dify/CreateProductDetail"
_NOT_BUILT = "The page is not built. It needs Node 20.19 or later: npm ci && npm run build, in the folder web.\n"
_PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"  # an SVG may bring styles, but does nothing


def create_app(settings: Settings) -> ASGIApp:
    store = Store(settings.studio_database)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=200)) as http:
            app.state.service = ProductDetailService(settings, http, store)
            yield

    # FastAPI's own pages of documentation load their scripts from elsewhere, which the policy forbids
    app = FastAPI(title="Product Studio", lifespan=lifespan, docs_url=None, redoc_url=None, max_body_size=LARGEST)
    _add_generation(app)
    _add_products(app, store)
    if settings.studio_page.joinpath("index.html").is_file():
        app.mount("/", StaticFiles(directory=settings.studio_page, html=True))
    else:
        app.add_api_route("/", lambda: PlainTextResponse(_NOT_BUILT, 503), include_in_schema=False)
    return Guard(app, settings.hosts)


def _service(request: Request) -> ProductDetailService:
    return request.app.state.service


Service = Annotated[ProductDetailService, Depends(_service)]


RunId = Annotated[Id, Path()]
_MAX_ID = 2**63 - 1  # SQLite's
ProductId = Annotated[int, Path(ge=1, le=_MAX_ID)]


async def _generation(body: StreamRequest, service: Service) -> AsyncGenerator[Generation]:
    """Left when the response is sent, and when the browser disconnects before."""
    run_id = None
    if body.retry_of is not None:
        try:
            run_id = await service.retry(body.retry_of)
        except HeadraceError as error:
            to_failed(error)
            raise HTTPException(502, "The run could not be continued.") from error
    if run_id is not None:
        stream = service.client.follow_workflow_run(run_id)
    else:
        stream = service.client.stream_workflow({"product_name": body.product_name})
    async with Generation(service, stream, run_id) as generation:
        yield generation


async def _followed(run_id: RunId, service: Service) -> AsyncGenerator[Generation]:
    async with Generation(service, service.client.follow_workflow_run(run_id), run_id, is_known=True) as generation:
        if generation.is_unavailable:  # the page waits longer each time
            raise HTTPException(503, "The workflow's server cannot be reached.")
        yield generation


def _error(status: int) -> JSONResponse:
    return JSONResponse(DetailResponse(isSuccess=False, code=500, body=MESSAGE).model_dump(), status)


def _add_generation(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    def unprocessable(request: Request, error: RequestValidationError) -> Response:
        if request.url.path == DETAIL:
            return _error(422)
        # without the input: it may be anything
        problems = [{"loc": problem["loc"], "msg": problem["msg"]} for problem in error.errors()]
        return JSONResponse({"detail": problems}, 422)

    @app.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException) -> Response:
        """A body that is too large, or not text."""
        return _error(error.status_code) if request.url.path == DETAIL else await http_exception_handler(request, error)

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> Response:
        """Starlette raises it again afterwards, so it is logged."""
        return _error(500)

    @app.post(DETAIL, response_model=DetailResponse)
    async def create_product_detail(body: DetailRequest, service: Service) -> DetailResponse | JSONResponse:
        """Runs the workflow and waits for its end."""
        try:
            outputs = await service.create(body.product_name)
        except HeadraceError as error:
            to_failed(error)
            return _error(500)
        return DetailResponse(isSuccess=True, code=200, body=outputs)

    @app.post(f"{DETAIL}/stream", response_class=EventSourceResponse)
    async def stream_product_detail(
        request: Request, generation: Annotated[Generation, Depends(_generation)]
    ) -> AsyncIterable[Progress]:
        """Runs the workflow, or continues a run that failed, and streams what happens. A run that has been announced
        continues without the browser."""
        if await request.is_disconnected():
            return
        async for progress in generation:
            yield progress

    @app.get(f"{DETAIL}/runs/{{run_id}}/stream", response_class=EventSourceResponse)
    async def follow_product_detail(
        generation: Annotated[Generation, Depends(_followed)],
    ) -> AsyncIterable[Progress]:
        """The same stream of a run that exists, from its start, whether or not it has ended."""
        async for progress in generation:
            yield progress

    @app.post(f"{DETAIL}/stop")
    async def stop_product_detail(body: StopRequest, service: Service) -> Stopped:
        """Stops a run, by the `task_id` of its `started` event."""
        try:
            await service.stop(body.task_id)
        except HeadraceError as error:
            to_failed(error)
            raise HTTPException(502, "The run could not be stopped.") from error
        return Stopped()


def _add_products(app: FastAPI, store: Store) -> None:
    @app.exception_handler(UnknownPicture)
    def unknown_picture(request: Request, error: UnknownPicture) -> Response:
        return JSONResponse({"detail": "There is no picture with this id."}, 422)

    @app.exception_handler(UnknownProduct)
    def unknown_product(request: Request, error: UnknownProduct) -> Response:
        return JSONResponse({"detail": "There is no product with this id."}, 404)

    @app.get("/api/products")
    def list_products(
        limit: Annotated[int, Query(ge=1, le=100)] = 20, before: Annotated[int | None, Query(ge=1, le=_MAX_ID)] = None
    ) -> Products:
        """Products, newest first; `before`: the id of the last product of the previous page."""
        products, total, has_more = store.products(limit, before)
        return Products(products=products, total=total, has_more=has_more)

    @app.post("/api/products", status_code=201)
    def add_product(new: NewProduct) -> Product:
        return store.add_product(new)

    @app.put("/api/products/{product_id}")
    def put_product(product_id: ProductId, new: NewProduct) -> Product:
        """Replaces a product. One that was deleted is restored."""
        return store.put_product(product_id, new)

    @app.delete("/api/products/{product_id}", status_code=204)
    def delete_product(product_id: ProductId) -> None:
        store.delete_product(product_id)

    @app.post("/api/pictures", status_code=201)
    async def add_picture(request: Request) -> Picture:
        """A picture as the body itself; its Content-Type is image/... ."""
        # a form of another site cannot send this type
        if not request.headers.get("content-type", "").startswith("image/"):
            raise HTTPException(415, "The body must be a picture.")
        try:
            picture = check_upload(await request.body())
        except PictureError as error:
            raise HTTPException(415, str(error)) from error
        name = str(uuid4())
        await run_in_threadpool(store.add_picture, name, picture)
        return Picture(picture_id=name, picture_url=picture_url(name))

    @app.get("/api/pictures/{picture_id:path}", response_class=Response)
    def get_picture(picture_id: str) -> Response:
        picture = store.picture(picture_id)
        if picture is None:
            raise HTTPException(404, "There is no such picture.")
        headers = {"Content-Security-Policy": _PICTURE_POLICY, "Cache-Control": "private, max-age=31536000, immutable"}
        return Response(picture.data, media_type=picture.media_type, headers=headers)
