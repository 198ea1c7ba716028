"""Functions of the driver and the command line take few parameters, and spell them out."""

import ast
from pathlib import Path

import pytest

import moodbench

ROOT = Path(moodbench.__file__).parent
FILES = sorted(path for folder in ("benchmark", "cli") for path in (ROOT / folder).rglob("*.py"))
MAX_PARAMETERS = 6


def functions(path):
    return [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)]


def parameters(function):
    given = function.args
    return [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs) if a.arg not in ("self", "cls")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_function_has_more_than_six_parameters(path):
    assert {f.name: parameters(f) for f in functions(path) if len(parameters(f)) > MAX_PARAMETERS} == {}
