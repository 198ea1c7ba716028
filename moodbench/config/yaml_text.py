"""Parse YAML text with YAML 1.2 numbers and booleans; errors name the line."""

from __future__ import annotations

import re
from typing import Any

import yaml

from moodbench.errors import SpecError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2 numbers and booleans: 2e-4 is a number; `no`, 1:30 and dates are strings."""


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
            raise yaml.constructor.ConstructorError(None, None, "a key is no single word", key_node.start_mark)
        key = loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} is given twice, first in line {seen[key]}", key_node.start_mark
            )
        seen[key] = line
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def load_yaml(text: str, where: str) -> dict[str, Any]:
    """Return the mapping in the YAML `text`; empty text gives an empty mapping.

    Raises: SpecError, which names `where` and the line, for invalid YAML, repeated keys and anything but a mapping.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SpecError(f"{where}{line}: {error.problem or error}; expected YAML") from error
    except yaml.YAMLError as error:  # errors about characters that YAML does not allow have no mark
        raise SpecError(f"{where}: {error}; expected YAML") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SpecError(f"{where}: expected `key: value` lines at the top, found a {type(value).__name__}")
    return value


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
