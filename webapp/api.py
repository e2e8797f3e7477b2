"""The HTTP API: a recording is posted, its answer comes back as JSON."""

from __future__ import annotations

import base64
import binascii
import functools
import json
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

import config
import utils
from webapp import api_page, uploads
from webapp.service import RecognitionService
from webapp.uploads import Refused, Source

MAX_FIELDS = 20
"""Fields of a form that are no files."""
Value = TypeVar("Value")
Check = Literal["none", "luhn", "isbn"]
FILE = {"type": "string", "format": "binary", "description": "a sound file of any format"}
ERRORS: dict[int | str, dict[str, Any]] = {
    code: {
        "description": text,
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"error": {"type": "string"}}}
            }
        },
    }
    for code, text in (
        (400, "Malformed form or JSON"),
        (413, "Too large, or too many files"),
        (422, "Not sound, too short, too long; unknown model"),
        (429, "Too many requests"),
        (503, "Too many are waiting"),
    )
}


class Workers:
    """Threads that compute, as many as there are cores, and a bounded queue before them."""

    def __init__(self, max_waiting: int) -> None:
        self.max_waiting, self.waiting = max_waiting, 0
        self._limiter: anyio.CapacityLimiter | None = None

    async def run(self, work: Callable[[], Value]) -> Value:
        """Have a thread do it.

        Raises
        ------
        Refused : too many are waiting
        """
        if self._limiter is None:  # belongs to the running loop
            self._limiter = anyio.CapacityLimiter(max(2, utils.available_cores()))
        if self.waiting >= self.max_waiting:
            raise Refused("too many are waiting; come back in a second", 503)
        self.waiting += 1
        try:
            return await run_sync(work, limiter=self._limiter)
        finally:
            self.waiting -= 1


def body_of(schema: dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI is told of a body that the route itself reads."""
    return {"requestBody": {"required": True, "content": schema}}


def form_of(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """The schema of a form."""
    return {
        "multipart/form-data": {
            "schema": {"type": "object", "properties": properties, "required": required}
        }
    }


ONE = body_of(
    form_of({"file": FILE}, ["file"])
    | {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "audio": {"type": "string", "format": "byte", "description": "base64"},
                    "name": {"type": "string"},
                },
                "required": ["audio"],
            }
        },
        "audio/*": {"schema": FILE},
    }
)
MANY = body_of(form_of({"files": {"type": "array", "items": FILE}}, ["files"]))


def api_router(service: RecognitionService, workers: Workers) -> APIRouter:
    """The routes below /v1, and those for machines that watch."""
    router = APIRouter()

    @router.post("/v1/recognize", responses=ERRORS, openapi_extra=ONE, tags=["recognition"])
    async def recognize(request: Request, model: str = "") -> JSONResponse:
        """Which digit a recording holds; null is "no digit".

        The recording is the field "file" of a form, or the whole body as audio/..., or base64 in
        JSON. `model` is one that /v1/models names; by default the one chosen in the settings.
        """
        name, content = await one_recording(request)
        answer = await workers.run(lambda: service.recognize(name, content, "api", model))
        return JSONResponse(answer.as_dict())

    @router.post("/v1/recognize_batch", responses=ERRORS, openapi_extra=MANY, tags=["recognition"])
    async def recognize_batch(request: Request, model: str = "") -> JSONResponse:
        """Answers to many recordings, or to those in zip archives, in their order.

        One that can't be answered has an "error" instead; where none can, the status is 422.
        """
        service.recognizer(model)
        async with open_form(request, service.settings.max_files) as form:
            sources: list[Source] = [await contents(item) for item in form.getlist("files")]
        expanded = await workers.run(lambda: uploads.expand(sources, service.settings.max_files))
        answers = [
            await workers.run(functools.partial(answer_or_error, service, *item, model))
            for item in expanded
        ]
        failed = sum("error" in answer for answer in answers)
        return JSONResponse(
            {"answers": answers, "failed": failed}, 422 if failed == len(answers) else 200
        )

    @router.post("/v1/strings", responses=ERRORS, openapi_extra=ONE, tags=["recognition"])
    async def strings(
        request: Request, length: int | None = None, check: Check = "none"
    ) -> JSONResponse:
        """The digits of a recording, in one breath or with pauses, with times and confidence.

        The recording is sent as to /v1/recognize. `length` is how many digits there must be,
        `check` the check digit that must be right: the likeliest such reading is given, and
        "meets" says whether there is one.
        """
        name, content = await one_recording(request)
        try:
            settings = config.StringsSettings(length=length, check=check)
        except config.UserError as error:
            raise Refused(str(error)) from None
        return JSONResponse(
            await workers.run(lambda: service.recognize_string(name, content, settings))
        )

    @router.get("/v1/models", tags=["recognition"])
    async def models() -> JSONResponse:
        """The networks that can be asked: sizes, scores, thresholds."""
        return JSONResponse(utils.json_value({"models": await run_sync(service.models)}))

    @router.get("/healthz", tags=["operation"])
    async def health() -> JSONResponse:
        """Whether networks and history are there: 200, or 503."""
        try:
            await run_sync(service.recognizer)
            stored = await run_sync(service.history.count)
        except Exception as error:
            return JSONResponse({"status": "unhealthy", "error": str(error)}, 503)
        return JSONResponse({"status": "ok", "answers_on_record": stored})

    @router.get("/metrics", tags=["operation"])
    async def metrics() -> PlainTextResponse:
        """Counts and times in Prometheus' text format."""
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")

    return router


def answer_or_error(
    service: RecognitionService, name: str, source: Any, model: str
) -> dict[str, Any]:
    """The answer to one of many, or its error."""
    try:
        return service.recognize(name, source, "batch", model).as_dict()
    except Refused as error:
        return {"source": uploads.safe_name(name), "error": str(error)}


async def one_recording(request: Request) -> tuple[str, bytes]:
    """A recording's name and bytes, in whichever way they were posted.

    Raises
    ------
    Refused : there is none, or the form or the JSON is malformed
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with open_form(request, 1) as form:
            return await contents(form.get("file"))
    body = await request.body()
    if kind == "application/json":
        return from_json(body)
    if not body:
        raise Refused('nothing was posted: send a sound file as the field "file" of a form')
    return "recording", body


def open_form(request: Request, max_files: int) -> Any:
    """The form of a request; a context manager that closes its files."""
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise Refused("send a form (multipart/form-data) with sound files", 415)
    return request.form(max_files=max_files, max_fields=MAX_FIELDS, max_part_size=2**16)


async def contents(item: Any) -> tuple[str, bytes]:
    """Name and bytes of a file in a form; a text there, such as a path, is no file."""
    if not isinstance(item, UploadFile):
        raise Refused("the field must be a file: its content, not its name")
    return item.filename or "recording", await item.read()


def from_json(body: bytes) -> tuple[str, bytes]:
    """Name and bytes of a recording in JSON."""
    try:
        value = json.loads(body)
        name, audio = value.get("name", "recording"), value["audio"]
        return str(name), base64.b64decode(audio, validate=True)
    except (ValueError, RecursionError, binascii.Error):
        raise Refused("malformed JSON, or its audio is no base64", 400) from None
    except (KeyError, TypeError, AttributeError):
        raise Refused('the JSON needs "audio": base64 of a sound file', 400) from None


def make_api(service: RecognitionService) -> FastAPI:
    """The application with the API's routes and its page; the pages are mounted after it."""
    app = FastAPI(
        title="Spoken digits",
        version="1",
        description="Send a recording, get the digit that is spoken in it.",
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(api_router(service, Workers(service.settings.max_waiting)))

    @app.get("/docs", include_in_schema=False)
    async def documentation() -> HTMLResponse:
        return HTMLResponse(api_page.page(app.openapi()))

    @app.exception_handler(config.UserError)
    async def refuse(request: Request, error: Exception) -> JSONResponse:
        status = error.status if isinstance(error, Refused) else 503
        headers = {"retry-after": "1"} if status == 503 else None
        return JSONResponse({"error": str(error)}, status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        told = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors())
        return JSONResponse({"error": told}, 422)

    @app.exception_handler(HTTPException)
    async def explain(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    return app
