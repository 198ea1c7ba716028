"""A document as blocks, written as Markdown or as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from moodbench.report.charts_matplotlib import Drawing

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1240px;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .45rem;text-align:right;border-bottom:1px solid #e5e7eb;white-space:nowrap}
th{border-bottom:2px solid #9aa0a6}.left{text-align:left}.scroll{overflow-x:auto}
figure{margin:1rem 0}svg{max-width:100%;height:auto}.note{color:#555;font-size:13px}
:root{color-scheme:light dark}
@media screen and (prefers-color-scheme:dark){
body{color:#e5e7eb;background:#18181b}th,td{border-bottom-color:#3f3f46}th{border-bottom-color:#71717a}
.note{color:#b4b4bb}svg{filter:invert(.91) hue-rotate(180deg)}
}
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class Heading(NamedTuple):
    """A heading of level 1 to 3."""

    text: str
    level: int = 2


class Paragraph(NamedTuple):
    """A paragraph; a note is shown smaller where that is possible."""

    text: str
    is_note: bool = False


class Items(NamedTuple):
    """A list of notes, each with a term in bold in front, which may be empty."""

    items: Sequence[tuple[str, str]]


class Table(NamedTuple):
    """A table of texts; columns whose heading is in `left` are aligned left, others right."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: Sequence[str] = ("Model",)


class Picture(NamedTuple):
    """A figure, which Markdown expects as files of the name `stem` beside it."""

    stem: str
    alternative: str
    caption: str
    drawing: Drawing


type Block = Heading | Paragraph | Items | Table | Picture


def markdown(blocks: Sequence[Block]) -> str:
    """Return the document as Markdown, with figures as links to .svg and .png files beside it."""
    return "\n\n".join(map(_markdown, blocks)) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Paragraph(text, _):
            return text
        case Items(items):
            return "\n".join(f"- **{term}**: {text}" if term else f"- {text}" for term, text in items)
        case Table(headings, rows, left):
            return markdown_table(headings, rows, [heading for heading in headings if heading not in left])
        case Picture(stem, alternative, caption, _):
            return f"![{alternative}]({stem}.svg)\n\n{caption} ([PNG]({stem}.png))"


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> str:
    """Return a table in Markdown; columns whose heading is in `right` are aligned right, others left."""
    sides = ["--:" if heading in right else ":--" for heading in headings]
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (list(headings), sides, *cells))


def page(title: str, blocks: Sequence[Block]) -> str:
    """Return the document as an HTML page with styles and figures inside, without scripts or external requests."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>\n'
        + "\n".join(map(html, blocks))
        + "\n</body></html>\n"
    )


def html(block: Block) -> str:
    """Return a block as HTML."""
    match block:
        case Heading(text, level):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Paragraph(text, is_note):
            return f"<p{' class=note' if is_note else ''}>{escape(text)}</p>"
        case Items(items):
            terms = (f"<b>{escape(term)}</b>: " if term else "" for term, _ in items)
            return "\n".join(f"<p class=note>{t}{escape(text)}</p>" for t, (_, text) in zip(terms, items, strict=True))
        case Table(headings, rows, left):
            sides = [' class="left"' if heading in left else "" for heading in headings]
            head, *body = (
                [f"{side}>{escape(str(cell))}" for side, cell in zip(sides, line, strict=True)]
                for line in (headings, *rows)
            )
            lines = "".join(f"<tr>{''.join(f'<td{cell}</td>' for cell in line)}</tr>" for line in body)
            top = "".join(f"<th{cell}</th>" for cell in head)
            return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'
        case Picture(_, _, caption, drawing):
            return f"<figure>{drawing.svg}<figcaption class=note>{escape(caption)}</figcaption></figure>"
