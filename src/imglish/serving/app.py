"""The server's paths: questions, what it knows of itself, samples, search and the page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from imglish import __version__
from imglish.inference.samples import Sample
from imglish.serving.answers import JsonResponse
from imglish.serving.bodies import Body, read_body
from imglish.serving.fields import NoFields, PredictFields, SearchFields, TextFields, read_fields, read_json
from imglish.serving.gate import Gate, Trace, Traffic
from imglish.serving.metrics import CONTENT_TYPE, Metrics
from imglish.serving.openapi import described
from imglish.serving.refusals import RefusalError
from imglish.serving.search import FolderSearch
from imglish.serving.service import Reply, Service
from imglish.serving.tasks import TASKS

PAGE = Path(__file__).parent / "page"
QUESTIONS = tuple(name for name in TASKS if name != "embed_text")  # a text is embedded at /v1/embed
_IN_PREDICT = tuple(name for name in QUESTIONS if TASKS[name].pictures == ("picture",))
_DESCRIPTION = (
    "Captions, answers, classes, vectors, masks and boxes. Send multipart/form-data with pictures as files, "
    "or JSON with pictures in base64; no path and no address is ever read."
)


def build_app(
    service: Service,
    *,
    metrics: Metrics,
    traffic: Traffic,
    samples: Sequence[Sample],
    search: FolderSearch | None = None,
    token: str = "",
    hosts: Sequence[str] = (),
) -> FastAPI:
    """The application that a server runs.

    Args:
        service: Answers questions; it is closed when the application ends.
        metrics: What is counted.
        traffic: What is inside at the moment.
        samples: Pictures to try.
        search: The folder that can be searched.
        token: What requests below ``/v1`` must bring; empty for none.
        hosts: Names that the server may be called by; empty for any.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="imglish",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(
        Gate,
        limits=service.limits,
        traffic=traffic,
        metrics=metrics,
        token=token,
        hosts=frozenset(host.lower() for host in hosts),
    )
    app.add_exception_handler(RefusalError, _refused)
    app.add_exception_handler(HTTPException, _unknown)
    _add_state(app, service, metrics, traffic, search)
    _add_samples(app, samples)
    for name in QUESTIONS:
        _add_question(app, service, name)
    _add_predict(app, service)
    _add_search(app, service, search)
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    return app


def _add_state(
    app: FastAPI, service: Service, metrics: Metrics, traffic: Traffic, search: FolderSearch | None
) -> None:
    begun, facts = time.monotonic(), service.facts

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response((PAGE / "index.html").read_bytes(), media_type="text/html; charset=utf-8")

    @app.get("/health", summary="Whether the server takes questions.")
    async def health() -> JsonResponse:
        return JsonResponse(
            {
                "status": "stopping" if traffic.stopping else "ok",
                "model": facts.name,
                "abilities": facts.abilities,
                "version": __version__,
                "queue": service.waiting(),
                "uptime_seconds": round(time.monotonic() - begun, 3),
            }
        )

    @app.get("/metrics", summary="Counts and times, as Prometheus reads them.")
    async def counted() -> PlainTextResponse:
        return PlainTextResponse(metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/v1/model", summary="What the model is and can do.")
    async def model() -> JsonResponse:
        return JsonResponse(
            {
                "name": facts.name,
                "abilities": facts.abilities,
                "card": facts.card,
                "classes": facts.classes,
                "notice": facts.notice,
                "index": search and search.about(),
                "limits": {"bytes": service.limits.bytes, "pixels": service.limits.pixels},
            }
        )


def _add_samples(app: FastAPI, samples: Sequence[Sample]) -> None:
    by_name = {sample.name: sample for sample in samples}

    @app.get("/v1/samples", summary="Pictures to try.")
    async def listed() -> JsonResponse:
        return JsonResponse(
            [
                {"name": one.name, "url": f"/v1/samples/{one.name}.png", "question": one.question}
                for one in samples
            ]
        )

    @app.get("/v1/samples/{name}.png", summary="A picture to try.")
    async def picture(name: str) -> Response:
        if name not in by_name:
            raise RefusalError(404, "not_found", "there is no such sample; see /v1/samples")
        return Response(by_name[name].png, media_type="image/png")


def _add_question(app: FastAPI, service: Service, name: str) -> None:
    task = TASKS[name]

    @app.post(f"/v1/{name}", name=name, summary=task.summary, **described(name))
    async def ask(request: Request) -> JsonResponse:
        trace = _trace(request)
        body = await read_body(request, task.pictures, service.limits, service.executor)
        asked = name
        if name == "embed" and "text" in body.fields and not body.pictures:
            asked, fields = "embed_text", read_fields(TextFields, body.fields)
        else:
            fields = read_fields(task.fields, body.fields)
        reply = await _ask(service, trace, {asked: fields}, body)
        return _answered(reply, reply.results[asked], service, trace)


def _add_predict(app: FastAPI, service: Service) -> None:
    @app.post("/v1/predict", summary="Several questions about one picture.", **described("predict"))
    async def predict(request: Request) -> JsonResponse:
        trace = _trace(request)
        body = await read_body(request, ("picture",), service.limits, service.executor)
        if isinstance(body.fields.get("tasks"), str):
            body.fields["tasks"] = read_json(body.fields["tasks"], "the field 'tasks'")
        wanted = read_fields(PredictFields, body.fields).tasks
        for name in wanted:
            if name not in _IN_PREDICT:
                raise RefusalError(
                    422,
                    "field_wrong",
                    f"there is no task {name[:100]!r} here; there are: {', '.join(_IN_PREDICT)}",
                )
        tasks = {name: read_fields(TASKS[name].fields, given, name) for name, given in wanted.items()}
        reply = await _ask(service, trace, tasks, body)
        return _answered(reply, reply.results, service, trace)


def _add_search(app: FastAPI, service: Service, search: FolderSearch | None) -> None:
    none = RefusalError(404, "no_index", "this server searches no folder; it is started with --index FILE")

    @app.post("/v1/search", summary="Pictures of a folder by a text or a picture.", **described("search"))
    async def find(request: Request) -> JsonResponse:
        trace = _trace(request)
        body = await read_body(request, ("like",), service.limits, service.executor)
        if search is None:
            raise none
        fields = read_fields(SearchFields, body.fields)
        if (fields.text is None) == ("like" not in body.pictures):
            raise RefusalError(422, "field_wrong", "expected one of the fields 'text' and 'like', a picture")
        if fields.text is None:
            body.pictures = {"picture": body.pictures["like"]}
            tasks: dict[str, Any] = {"embed": NoFields()}
        else:
            tasks = {"embed_text": TextFields(text=fields.text)}
        reply = await _ask(service, trace, tasks, body)
        (found,) = reply.results.values()
        loop = asyncio.get_running_loop()
        matches = await loop.run_in_executor(
            service.executor, search.find, found["vector"], fields.num_matches
        )
        return _answered(reply, {"matches": matches}, service, trace)

    @app.get("/v1/search/picture", summary="A picture that a search found, made small.")
    async def picture(request: Request) -> Response:
        if search is None:
            raise none
        query = request.scope["query_string"].decode("latin-1")
        (path,) = parse_qs(query, errors="surrogateescape").get("path", [""])[:1]
        return Response(
            await service.thumbnail(partial(search.open, path)),
            media_type="image/jpeg",
            headers={"Cache-Control": "private, max-age=60"},
        )


async def _ask(service: Service, trace: Trace, tasks: Mapping[str, Any], body: Body) -> Reply:
    reply = await service.ask(tasks, body.pictures, until=trace.started + service.limits.seconds)
    trace.batch = reply.batch
    return reply


def _answered(reply: Reply, result: Any, service: Service, trace: Trace) -> JsonResponse:
    return JsonResponse(
        {
            "result": result,
            "model": service.facts.name,
            "seconds": {
                "queued": round(reply.queued, 6),
                "computed": round(reply.computed, 6),
                "total": round(time.monotonic() - trace.started, 6),
            },
            "picture": reply.size and {"width": reply.size[1], "height": reply.size[0]},
        }
    )


def _trace(request: Request) -> Trace:
    trace = request.scope["trace"]
    assert isinstance(trace, Trace)  # put there by the gate
    return trace


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)
    return JsonResponse(error.body(), error.status, error.headers())


async def _unknown(request: Request, error: Exception) -> Response:
    """A path or method that there is not."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_wrong"}.get(error.status_code, "refused")
    message = {
        404: "there is no such path; see /openapi.json",
        405: "this path is asked in another way; see /openapi.json",
    }.get(error.status_code, "the request cannot be answered")
    refusal = RefusalError(error.status_code, code, message)
    return JsonResponse(refusal.body(), refusal.status, error.headers)
