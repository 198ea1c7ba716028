"""YAML files of the user: parsing with line numbers, messages for invalid values, and adding an entry."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from moodbench.config.schema.base import ChangesOf
from moodbench.errors import PrerequisiteError, SpecError, nearest

MAX_NODES = 100_000
"""Values that a file can have, each alias counted as all that it stands for."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2 numbers and booleans: 2e-4 is a number; `no`, 1:30 and dates are strings.

    Of tags, only !!str is read: the other ones fail for values of another kind in ways of their own.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one value; raise ComposerError for a tag, and for characters that no name or text has."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        tag, mark = getattr(event, "tag", None), event.start_mark
        if tag is not None and (tag != _STR or not isinstance(event, yaml.ScalarEvent)):
            raise yaml.composer.ComposerError(None, None, f"tag {tag!r} is not read here; remove it", mark)
        if isinstance(event, yaml.ScalarEvent) and (bad := _NO_TEXT.search(event.value)):
            raise yaml.composer.ComposerError(None, None, f"character {bad.group()!a} is not allowed in a value", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


_STR = "tag:yaml.org,2002:str"
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
"""NUL, which ends a path, and halves of surrogate pairs, which no file can have; both can be written as escapes."""

_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":float", ":bool", ":int", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.inf|\.nan)$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false|True|False)$"), list("tfTF"))


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "keys must be scalars", key_node.start_mark)
        key = loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} is given twice, first in line {seen[key]}", key_node.start_mark
            )
        seen[key] = line
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def read_yaml_text(path: Path, expected: str, option: str = "") -> str:
    """Return the text of the user's YAML file `path`, given with `option`.

    Raises: PrerequisiteError, which says that a file with `expected` is needed; SpecError if it is not UTF-8.
    """
    where = f"{option} {path}".strip()
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise PrerequisiteError(f"{where}: {error.strerror}; expected a YAML file with {expected}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{where}: not UTF-8 text (byte {error.start}); expected YAML") from error


def load_yaml(text: str, where: str) -> dict[str, Any]:
    """Return the mapping in the YAML `text`; empty text gives an empty mapping.

    Raises: SpecError, which names `where` and the line, for invalid YAML, repeated keys and anything but a mapping.
    """
    try:
        node = _composed(text)
        value = None if node is None else _Loader("").construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SpecError(f"{where}{line}: {error.problem or error}; expected YAML") from error
    except yaml.YAMLError as error:  # errors about characters that YAML does not allow have no mark
        raise SpecError(f"{where}: {error}; expected YAML") from error
    except RecursionError as error:
        raise SpecError(f"{where}: nested too deeply; expected YAML of a few levels") from error
    except ValueError as error:  # an integer of thousands of digits
        raise SpecError(f"{where}: {error}; expected YAML") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SpecError(f"{where}: expected a mapping (`key: value` lines), found a {type(value).__name__}")
    return value


def _composed(text: str) -> yaml.Node | None:
    """Return the root node of the YAML `text`.

    Raises: ConstructorError if a value contains itself or if aliases make more than MAX_NODES values.
    """
    loader = _Loader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
    finally:
        loader.dispose()
    if node is not None and _num_nodes(node, {}) > MAX_NODES:
        raise yaml.constructor.ConstructorError(
            None, None, f"aliases make more than {MAX_NODES:,} values", node.start_mark
        )
    return node


def _num_nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values `node` has, aliases counted as what they stand for; `known` holds counts by node."""
    if id(node) in known:
        if not known[id(node)]:
            raise yaml.constructor.ConstructorError(None, None, "a value contains itself", node.start_mark)
        return known[id(node)]
    known[id(node)] = 0  # begun
    children: list[Any] = node.value if isinstance(node, yaml.CollectionNode) else []
    pairs = [each for child in children for each in (child if isinstance(child, tuple) else (child,))]
    known[id(node)] = 1 + sum(_num_nodes(each, known) for each in pairs)
    return known[id(node)]


def line_of(text: str, path: tuple[str | int, ...]) -> int | None:
    """Return the 1-based line of the value at `path` in the YAML `text`, or of its nearest existing parent.

    None for empty text.
    """
    node = yaml.compose(text, Loader=_Loader)
    if node is None:
        return None
    line = node.start_mark.line + 1
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(step)), None)
            if found is None:
                return int(line)
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            return int(line)
    return int(line)


def validated[T: BaseModel](
    schema: type[T], values: Any, where: str, text: str | None = None, prefix: tuple[str, ...] = ()
) -> T:
    """Return `values` as `schema`, or raise SpecError with the message of `validation_message`."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise SpecError(validation_message(error, where, text, prefix, schema=schema)) from error


def validation_message(
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
        path = tuple(step for step in problem["loc"] if step != "[key]")  # of a key, not of its value
        if problem["type"] == "too_short" and path in parents:
            continue  # pydantic counts only the valid items; the invalid ones have their own error
        key = ".".join(map(str, (*prefix, *path)))
        line = line_of(text, (*prefix, *path)) if text is not None and key else None
        place = where + (f", line {line}" if line else "")
        reason = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            reason = f"unknown key; {_known_instead(str(path[-1]), known_keys(schema, path[:-1]))}"
        seen = problem["input"]
        if problem["type"] == "model_type":
            reason = "expected keys below it"
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


def _known_instead(key: str, known: list[str]) -> str:
    near = nearest(key, known)
    return f"did you mean {near!r}?" if near else f"known are {', '.join(known) or 'none'}; remove it"


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."


def with_entry(text: str, where: str, section: str, name: str, entry: dict[str, Any]) -> tuple[str, Any]:
    """Return `text` with `entry` as `name` below `section`, and the replaced entry, or None.

    Raises: SpecError if the text is not such a mapping, has the section on one line, or cannot be edited line by line.
    """
    old = load_yaml(text, where)
    given = old.get(section)
    if given is not None and not isinstance(given, dict):
        raise SpecError(f"{where}: {section}: expected `name: entry` lines, found a {type(given).__name__}")
    before = (given or {}).get(name)
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    found = _section(text, section)
    if found is None:
        lines += [f"{section}:\n", *_block(name, entry, 2)]
    else:
        key, value = found
        if isinstance(value, yaml.MappingNode) and value.flow_style and value.value:
            raise SpecError(
                f"{where}, line {key.start_mark.line + 1}: {section} is written on one line; put each entry on its own "
                "lines"
            )
        if not isinstance(value, yaml.MappingNode) or not value.value:  # `models:` or `models: {}`
            lines[key.start_mark.line : _last_line(value) + 1] = [f"{section}:\n", *_block(name, entry, 2)]
        else:
            indent = value.value[0][0].start_mark.column
            same = next(((k, v) for k, v in value.value if k.value == name), None)
            begin = same[0].start_mark.line if same else _last_line(value) + 1
            end = _last_line(same[1]) + 1 if same else begin
            lines[begin:end] = _block(name, entry, indent)
    changed = "".join(lines)
    expected = {**old, section: {**(given or {}), name: entry}}
    if load_yaml(changed, where) != expected:
        raise SpecError(f"{where}: cannot be edited line by line; add {name} by hand: {entry}")
    return changed, before


def _section(text: str, section: str) -> tuple[yaml.Node, yaml.Node] | None:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next(((k, v) for k, v in pairs if k.value == section), None)


def _block(name: str, entry: dict[str, Any], indent: int) -> list[str]:
    dumped = yaml.safe_dump({name: entry}, sort_keys=False, allow_unicode=True, width=10_000)
    return [" " * indent + line for line in dumped.splitlines(keepends=True)]


def _last_line(node: yaml.Node) -> int:
    """Return the 0-based number of the last line of `node`, excluding comments below it."""
    if isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    mark = node.end_mark
    return int(mark.line if mark.column or mark.line == node.start_mark.line else mark.line - 1)
