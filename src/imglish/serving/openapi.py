"""What ``/openapi.json`` tells of each question: its fields, and an example of asking and of the answer."""

from __future__ import annotations

from typing import Any

from imglish.serving.fields import PredictFields, SearchFields
from imglish.serving.tasks import TASKS

_BASE64 = "iVBORw0KGgo..."
_ERRORS = {
    401: ("token_wrong", "this server asks for a token: send Authorization: Bearer TOKEN"),
    413: ("too_large", "the picture is too large; a picture may have 16,777,216 bytes"),
    415: (
        "picture_type",
        "the picture is no picture that is taken; expected PNG, JPEG, WebP, GIF, BMP or TIFF",
    ),
    421: ("host_unknown", "the server is not known by this name; start it with --hosts"),
    422: ("picture_damaged", "the picture: does not decode (image file is truncated); expected a picture"),
    503: ("busy", "as many questions as the server takes are waiting; come again"),
    504: ("too_late", "there was no answer within 30 seconds"),
}


def described(name: str) -> dict[str, Any]:
    """Arguments of FastAPI's routes for a question of `TASKS`, or for ``predict``."""
    pictures: tuple[str, ...]
    if name == "predict":
        pictures, fields = ("picture",), PredictFields.model_json_schema()
        examples = {task: TASKS[task].example for task in ("caption", "detect")}
        asked: dict[str, Any] = {"tasks": {task: given for task, (given, _) in examples.items()}}
        result: dict[str, Any] = {task: found for task, (_, found) in examples.items()}
    elif name == "search":
        pictures, fields = ("like",), SearchFields.model_json_schema()
        asked = {"text": "two red fish above the sand", "num_matches": 1}
        url = "/v1/search/picture?path=beach/fish.png"
        result = {"matches": [{"path": "beach/fish.png", "similarity": 0.71, "url": url}]}
    else:
        task = TASKS[name]
        pictures, fields = task.pictures, task.fields.model_json_schema()
        asked, result = task.example
    return {
        "openapi_extra": {"requestBody": _request(pictures, fields, asked)},
        "responses": {
            200: {
                "description": "The result.",
                "content": {"application/json": {"example": _answer(result)}},
            },
            **{status: _error(*error) for status, error in _ERRORS.items()},
        },
    }


def _request(pictures: tuple[str, ...], fields: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    as_file = {name: {"type": "string", "format": "binary"} for name in pictures}
    as_text = {name: {"type": "string", "format": "byte"} for name in pictures}
    given = fields.get("properties", {})
    needed = [*(name for name in pictures if name != "like"), *fields.get("required", [])]
    form, body = (
        {"type": "object", "properties": {**shown, **given}, "required": needed}
        for shown in (as_file, as_text)
    )
    example = {**{name: _BASE64 for name in pictures if name != "like"}, **asked}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": form},
            "application/json": {"schema": body, "example": example},
        },
    }


def _answer(result: dict[str, Any]) -> dict[str, Any]:
    return {
        "result": result,
        "model": "world",
        "seconds": {"queued": 0.004, "computed": 0.021, "total": 0.031},
        "picture": {"width": 64, "height": 64},
    }


def _error(code: str, message: str) -> dict[str, Any]:
    return {
        "description": "Refused.",
        "content": {"application/json": {"example": {"error": {"code": code, "message": message}}}},
    }
