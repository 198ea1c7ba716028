"""Messages for validation errors: file, line, key, value seen, and the nearest known key."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from moodbench.config.changes import ChangesOf
from moodbench.config.yaml_text import line_of
from moodbench.errors import nearest

_LONGEST_VALUE = 200


def explain(
    error: ValidationError,
    where: str,
    text: str | None = None,
    prefix: tuple[str, ...] = (),
    *,
    schema: type[BaseModel],
) -> str:
    """Return a message with one line per problem in a pydantic `error` of `schema`.

    Each line has the location, key, value seen and what is allowed. `text` is the YAML text of the file `where`, and
    `prefix` the keys in it above the validated values.
    """
    lines = []
    parents = {tuple(problem["loc"][:-1]) for problem in error.errors()}
    for problem in error.errors():
        path = tuple(problem["loc"])
        if problem["type"] == "too_short" and path in parents:
            continue  # pydantic counts only the valid items; the invalid ones have their own error
        key = ".".join(map(str, (*prefix, *path)))
        line = line_of(text, (*prefix, *path)) if text is not None and key else None
        place = where + (f", line {line}" if line else "")
        reason = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            reason = f"unknown key; {_instead(str(path[-1]), known_keys(schema, path[:-1]))}"
        seen = problem["input"]
        if problem["type"] in ("tuple_type", "list_type"):
            reason = "expected a list" if isinstance(seen, dict | None) else f"expected a list: write [{seen}]"
        shown = "" if isinstance(seen, dict) else f" (seen: {_short(repr(seen))})"
        lines.append(": ".join(part for part in (place, key, f"{reason}{shown}") if part))
    return "\n".join(lines)


def known_keys(schema: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are allowed at `path` in values of `schema`, sorted."""
    kinds: list[Any] = [schema]
    for step in path:
        # A step that matches no key is pydantic's tag of a union member.
        kinds = [inner for kind in kinds for inner in _inside(kind, step)] or kinds
    return sorted({key for kind in kinds for model in _models(kind) for key in model.model_fields})


def _inside(kind: Any, step: int | str) -> Iterator[Any]:
    for model in _models(kind):
        if step in model.model_fields:
            field = model.model_fields[str(step)]
            changes = [mark.schema for mark in field.metadata if isinstance(mark, ChangesOf)]
            yield changes[0] if changes else field.annotation
    for plain in _alternatives(kind):
        if get_origin(plain) is dict:
            yield get_args(plain)[1]
        elif get_origin(plain) in (tuple, list) and isinstance(step, int):
            yield get_args(plain)[0]


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    for plain in _alternatives(kind):
        if isinstance(plain, type) and issubclass(plain, BaseModel):
            yield plain


def _alternatives(kind: Any) -> Iterator[Any]:
    if get_origin(kind) is Annotated:
        yield from _alternatives(get_args(kind)[0])
    elif get_origin(kind) in (Union, types.UnionType):
        for each in get_args(kind):
            yield from _alternatives(each)
    else:
        yield kind


def _instead(key: str, known: list[str]) -> str:
    near = nearest(key, known)
    return f"did you mean {near!r}?" if near else f"known are {', '.join(known) or 'none'}; remove it"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
