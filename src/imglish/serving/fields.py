"""The fields of each question, checked: what a form or a JSON body may hold besides pictures."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from imglish.serving.refusals import RefusalError
from imglish.serving.settings import LONGEST_TEXT, MOST_CLASSES, MOST_RESULTS, MOST_TEXTS


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


def _names(value: Any) -> Any:
    """Names with commas between, as forms have them, as a list."""
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    """A single text, as a form has it that gives the field once, as a list."""
    return [value] if isinstance(value, str) else value


def _different(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) < len(value):
        raise ValueError("expected names that differ from each other")
    return value


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_TEXT)]
Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=1, le=MOST_RESULTS)]
Share = Annotated[float, BeforeValidator(_no_bool), Field(ge=0, le=1, allow_inf_nan=False)]
Names = Annotated[
    tuple[Text, ...],
    BeforeValidator(_names),
    AfterValidator(_different),
    Field(min_length=1, max_length=MOST_CLASSES),
]


class Fields(BaseModel):
    """Fields of a question; one that is unknown is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class NoFields(Fields):
    """Nothing but the picture."""


class AnswerFields(Fields):
    """A question about the picture, and how many answers to give."""

    question: Text
    num_answers: Count = 3


class ClassifyFields(Fields):
    """Names to choose among (with commas between in a form), or the classes of training without any."""

    classes: Names | None = None
    num_classes: Count = 5


class TextFields(Fields):
    """A text to embed instead of a picture."""

    text: Text


class MatchFields(Fields):
    """Texts to compare the picture with."""

    texts: Annotated[tuple[Text, ...], BeforeValidator(_listed), Field(min_length=1, max_length=MOST_TEXTS)]


class JudgeFields(Fields):
    """A statement about the left and the right picture."""

    statement: Text


class DetectFields(Fields):
    """How sure an object must be."""

    min_score: Share = 0.3


class SearchFields(Fields):
    """What to look for (a text, unless a picture is given), and how many pictures to find."""

    text: Text | None = None
    num_matches: Count = 12


class PredictFields(Fields):
    """Several questions about one picture: the fields of each by its name."""

    tasks: Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=16)]


def read_fields(kind: type[Fields], given: dict[str, Any], inside: str = "") -> Any:
    """The fields, checked.

    Args:
        kind: Which fields there are.
        given: By their names; texts where they come from a form.
        inside: What they are fields of, for an error message.

    Returns:
        An instance of ``kind``.

    Raises:
        RefusalError: 422, with a sentence about the first field that is wrong.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = ".".join([inside, *map(str, first["loc"])] if inside else map(str, first["loc"]))[:100]
        if first["type"] == "extra_forbidden":
            known = ", ".join(kind.model_fields) or "none"
            message = f"there is no field {name!r} here; besides pictures there are: {known}"
        elif first["type"] == "missing":
            message = f"the field {name!r} is missing"
        else:
            message = f"the field {name!r} is wrong: {first['msg'][:1].lower()}{first['msg'][1:]}"
        raise RefusalError(422, "field_wrong", message) from None


def read_json(text: str | bytes, what: str) -> Any:
    """A JSON value; raises RefusalError 422 for what is none, or is nested too deep."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise RefusalError(422, "json_wrong", f"{what} is nested too deep") from None
    except ValueError as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "it is not UTF-8, or has no JSON"
        raise RefusalError(422, "json_wrong", f"{what} is not JSON: {reason}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
