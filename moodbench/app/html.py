"""Small pieces of HTML shared by the tabs. Values from a store are escaped here or by the caller."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape


def with_store(command: str, uri: str) -> str:
    """Return `command` with `--store` and `uri`, quoted for a shell."""
    return f"{command} --store {shlex.quote(uri)}"


def empty(uri: str) -> str:
    """Return how to fill the empty store at `uri`."""
    command = escape(with_store("moodbench run quickstart", uri))
    return (
        '<div class="mb-empty" role="status"><p><b>No results yet.</b></p>'
        f"<p>Run <code>{command}</code>, then reload: six entries on real text, without network.</p></div>"
    )


def scroll(content: str, label: str) -> str:
    """Return `content` in a region that scrolls sideways, also by keyboard."""
    return f'<div class="mb-scroll" role="region" tabindex="0" aria-label="{escape(label)}">{content}</div>'


def details(summary: str, content: str, *, is_open: bool = False, key: str = "") -> str:
    """Return `content` (HTML) folded below `summary` (text).

    By `key` the browser recognises the fold when it is rendered again, and keeps it open.
    """
    known = f' data-key="{escape(key)}"' if key else ""
    return f"<details{known}{' open' if is_open else ''}><summary>{escape(summary)}</summary>{content}</details>"


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], caption: str, *, left: int = 1, raw: bool = False
) -> str:
    """Return a table of texts whose first column holds the row headings; the first `left` columns are left-aligned.

    Cells that are `raw` are HTML already.
    """
    show = str if raw else escape
    side = ['class="mb-name"', *[' class="mb-text"'] * (left - 1)] + [""] * (len(headings) - left)
    head = "".join(f'<th scope="col" {s}>{escape(h)}</th>' for h, s in zip(headings, side, strict=True))
    body = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row" {side[0]}>{show(cell)}</th>' if i == 0 else f"<td{side[i]}>{show(cell)}</td>"
            for i, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    made = (
        f"<table><caption><div><strong>{escape(caption)}</strong></div></caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
    return scroll(made, caption)


def card(content: str, kind: str = "plain") -> str:
    """Return `content` (HTML) as a card of the `kind` plain, good or warning."""
    return f'<div class="mb-card mb-{kind}" role="status">{content}</div>'


def hint(text: str) -> str:
    """Return a line that says what to do or why there is nothing to show."""
    return f'<p class="mb-empty" role="status">{escape(text)}</p>'


def not_shown(reasons: Mapping[str, str]) -> str:
    """Return the models missing from the figure or table above, and why; empty where none is."""
    if not reasons:
        return ""
    names = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
    return f'<p class="mb-legend">Not shown: {escape(names)}.</p>'


def error(text: str) -> str:
    """Return an error message."""
    return f'<p class="mb-error" role="alert">{escape(text)}</p>'
