"""The fields and pictures of a request, from a form or from JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from imglish.serving.fields import read_json
from imglish.serving.refusals import RefusalError
from imglish.serving.settings import LONGEST_TEXT, MOST_CLASSES, MOST_FIELDS, Limits
from imglish.serving.uploads import from_base64

_LONGEST_FIELD = 4 * MOST_CLASSES * LONGEST_TEXT  # bytes; the checks of the fields count letters


@dataclass(slots=True)
class Body:
    """What a request holds: encoded pictures by their fields, and everything else, not checked yet."""

    pictures: dict[str, bytes] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)


async def read_body(request: Request, pictures: Collection[str], limits: Limits, executor: Executor) -> Body:
    """Read a request's body.

    Args:
        request: A form (multipart/form-data) with pictures as files, or JSON with pictures in base64.
        pictures: Which fields are pictures.
        limits: Seconds that reading may take, and bytes of a picture.
        executor: Where large bodies are taken apart.

    Raises:
        RefusalError: 415 for another type, 422 for what cannot be read, 408 for what comes too slowly, 413.
    """
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    try:
        async with asyncio.timeout(limits.seconds):
            if kind == "multipart/form-data":
                return await _read_form(request, pictures)
            if kind == "application/json":
                data = await request.body()
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(executor, _read_object, data, pictures, limits)
    except TimeoutError:
        raise RefusalError(408, "too_slow", "the request did not arrive in time", closes=True) from None
    raise RefusalError(
        415,
        "body_type",
        "expected multipart/form-data with pictures as files, or application/json with pictures in base64",
        closes=True,
    )


async def _read_form(request: Request, pictures: Collection[str]) -> Body:
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=len(pictures),
        max_fields=MOST_FIELDS,
        max_part_size=_LONGEST_FIELD,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RefusalError(
            422, "form_wrong", f"the form cannot be read: {error.message}", closes=True
        ) from None
    body = Body()
    try:
        for name in form:
            values = form.getlist(name)
            files = [value for value in values if isinstance(value, UploadFile)]
            if name in pictures:
                if len(values) != 1 or not files:
                    raise RefusalError(422, "field_wrong", f"the field {name!r} is wrong: expected one file")
                body.pictures[name] = await files[0].read()
            elif files:
                raise RefusalError(422, "field_wrong", f"the field {name[:100]!r} takes no file here")
            else:
                texts = [value for value in values if value != ""]  # an empty input of a page is none
                if texts:
                    body.fields[name] = texts if len(texts) > 1 else texts[0]
    finally:
        await form.close()
    return body


def _read_object(data: bytes, pictures: Collection[str], limits: Limits) -> Body:
    given = read_json(data, "the request")
    if not isinstance(given, dict):
        raise RefusalError(422, "json_wrong", "the request is no JSON object; expected {...}")
    body = Body()
    for name, value in given.items():
        if name in pictures:
            body.pictures[name] = from_base64(value, name, limits)
        else:
            body.fields[name] = value
    return body
