"""Write one entry into the user's YAML file, leaving other lines and comments unchanged."""

from __future__ import annotations

from typing import Any

import yaml

from moodbench.config.yaml_text import load_yaml
from moodbench.errors import SpecError


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
                f"{where}, line {key.start_mark.line + 1}: {section} is written in one line; give each entry lines of "
                "its own"
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
        raise SpecError(
            f"{where}: is written in a way that cannot be added to line by line; add {name} by hand: {entry}"
        )
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
