"""Pieces of HTML shared by the tabs: tables, cards, folds and hints. Text from a store is escaped here."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files


def asset(name: str) -> str:
    """Return a style sheet or script of this package."""
    return files("moodbench.app").joinpath(name).read_text("utf-8")


class Html(str):
    """A table cell that is HTML already; any other cell is text and gets escaped."""


def with_store(command: str, uri: str) -> str:
    """Return `command` with `--store` and `uri`, quoted for a shell."""
    return f"{command} --store {shlex.quote(uri)}"


def empty(uri: str) -> str:
    """Return how to fill the empty store at `uri`."""
    command = escape(with_store("moodbench run quickstart", uri))
    return (
        '<div class="mb-empty" role="status"><p><b>No results yet.</b></p>'
        f"<p>Run <code>{command}</code>, then reload this page: six entries on real text, no network needed.</p></div>"
    )


def scroll(content: str, label: str) -> str:
    """Return `content` in a region that scrolls sideways, also by keyboard."""
    return f'<div class="mb-scroll" role="region" tabindex="0" aria-label="{escape(label)}">{content}</div>'


def details(summary: str, content: str, *, key: str = "") -> str:
    """Return `content` (HTML) folded below `summary` (text).

    The browser recognizes a fold with a `key` when it is rendered again, and keeps it open.
    """
    attribute = f' data-key="{escape(key)}"' if key else ""
    return f"<details{attribute}><summary>{escape(summary)}</summary>{content}</details>"


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str,
    *,
    subtitle: str = "",
    left: int = 1,
    css: str = "",
) -> str:
    """Return a table whose first column holds the row headings; its first `left` columns are left-aligned.

    `subtitle` is added below the caption; `css` is the class of the table.
    """
    side = ['class="mb-name"', *[' class="mb-text"'] * (left - 1), *[""] * (len(headings) - left)]
    head = "".join(f'<th scope="col" {s}>{escape(h)}</th>' for h, s in zip(headings, side, strict=True))
    body = "".join(
        f'<tr><th scope="row" {side[0]}>{_cell(first)}</th>'
        + "".join(f"<td{s}>{_cell(cell)}</td>" for s, cell in zip(side[1:], rest, strict=True))
        + "</tr>"
        for first, *rest in rows
    )
    title = f"<caption><div><strong>{escape(caption)}</strong>{escape(subtitle)}</div></caption>"
    attribute = f' class="{css}"' if css else ""
    content = f"<table{attribute}>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return scroll(content, caption)


def _cell(cell: str) -> str:
    return cell if isinstance(cell, Html) else escape(cell)


def card(content: str, kind: str = "plain") -> str:
    """Return `content` (HTML) as a card of the `kind` plain, good or warning."""
    return f'<div class="mb-card mb-{kind}" role="status">{content}</div>'


def hint(text: str) -> str:
    """Return what to do next, or why there is nothing to show."""
    return f'<p class="mb-empty" role="status">{escape(text)}</p>'


def legend(text: str) -> str:
    """Return a remark about the table or figure above; empty for an empty text."""
    return f'<p class="mb-legend">{escape(text)}</p>' if text else ""


def not_shown(reasons: Mapping[str, str]) -> str:
    """Return which models are missing from the figure or table above, and why; empty if none is."""
    names = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
    return legend(f"Not shown: {names}." if names else "")


def error(text: str) -> str:
    """Return an error message."""
    return f'<p class="mb-error" role="alert">{escape(text)}</p>'


def progress(share: float, label: str) -> str:
    """Return a progress bar filled to `share`, 0 to 1; screen readers announce `label`."""
    return f'<progress max="100" value="{100 * share:.0f}" aria-label="{escape(label)}"></progress>'
