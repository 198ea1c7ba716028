"""Small pieces of HTML that the tabs share. Whatever comes from a store is escaped here or by the caller."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

EMPTY = (
    '<div class="mb-empty" role="status"><p><b>No results yet.</b></p>'
    "<p>Run <code>moodbench run quickstart</code>, then reload: six contenders on real text, without network.</p></div>"
)


def scroll(content: str, label: str) -> str:
    """`content` in a region that scrolls sideways, by keyboard too."""
    return f'<div class="mb-scroll" role="region" tabindex="0" aria-label="{escape(label)}">{content}</div>'


def details(summary: str, content: str, *, is_open: bool = False) -> str:
    """`content` (HTML) folded below `summary` (text)."""
    return f"<details{' open' if is_open else ''}><summary>{escape(summary)}</summary>{content}</details>"


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], caption: str, *, left: int = 1, raw: bool = False
) -> str:
    """A table of texts, its first column the row headings; the first `left` columns stand on the left.

    `raw` cells are HTML already.
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
    made = f"<table><caption><div><strong>{escape(caption)}</strong></div></caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return scroll(made, caption)


def card(content: str, kind: str = "plain") -> str:
    """`content` (HTML) as a card: plain, good or warning."""
    return f'<div class="mb-card mb-{kind}" role="status">{content}</div>'


def hint(text: str) -> str:
    """A line that says what to do or why there is nothing."""
    return f'<p class="mb-empty" role="status">{escape(text)}</p>'


def error(text: str) -> str:
    """A message of something that is wrong."""
    return f'<p class="mb-error" role="alert">{escape(text)}</p>'
