"""Messages for errors in a search space: file, line, key, value seen and what is allowed."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from moodbench.config.explaining import explain
from moodbench.config.search_space import Misplaced, SearchSpace
from moodbench.config.yaml_text import line_of
from moodbench.errors import UnknownNameError

DISTRIBUTIONS = ("choice", "uniform", "log_uniform", "integer", "power_of_two")


def explain_space(error: ValidationError, where: str, text: str) -> str:
    """Return a message with one line per problem in the search space `text`, read from the file `where`."""
    lines: list[str] = []
    for problem in error.errors():
        path = tuple(step for step in problem["loc"] if step not in DISTRIBUTIONS)
        wrong = problem.get("ctx", {}).get("error")
        if isinstance(wrong, Misplaced):
            lines.append(located(where, text, wrong.path, wrong.reason))
        elif said := _in_words(problem["type"], problem["input"], tuple(map(str, path))):
            lines.append(located(where, text, *said))
        else:
            plain = InitErrorDetails(type=problem["type"], loc=path, input=problem["input"], ctx=problem.get("ctx", {}))
            only = ValidationError.from_exception_data(error.title, [plain])
            lines += explain(only, where, text, schema=SearchSpace).splitlines()
    return "\n".join(dict.fromkeys(lines))  # pydantic reports a value once for every type of a union


def located(where: str, text: str, path: tuple[str, ...], reason: str) -> str:
    """Return `reason` prefixed with file, line and key."""
    line = line_of(text, path)
    return f"{where}{f', line {line}' if line else ''}: {'.'.join(path)}: {reason}"


def _in_words(kind: str, seen: Any, path: tuple[str, ...]) -> tuple[tuple[str, ...], str] | None:
    """Return the path and reason of a problem for which pydantic's own message would not help; None for others."""
    allowed = ", ".join(DISTRIBUTIONS)
    if kind == "union_tag_not_found":
        return path, f"has no `distribution`; allowed are {allowed} (seen: {seen!r})"
    if kind == "union_tag_invalid":
        return (*path, "distribution"), str(UnknownNameError("distribution", str(seen["distribution"]), DISTRIBUTIONS))
    if kind in ("model_attributes_type", "model_type"):
        return path, f"expected `distribution: NAME` with its values below it; allowed are {allowed} (seen: {seen!r})"
    for key, depth in (("values", 1), ("when", 2)):
        if key in path and len(path) > (end := path.index(key) + depth) and kind.endswith(("_type", "_parsing")):
            return path[:end], f"allowed are words, numbers, true, false and null (seen: {seen!r})"
    return None
