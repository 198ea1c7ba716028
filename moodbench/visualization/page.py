"""The board as a page: semantic HTML from the same cells as the terminal, and the Gradio shell around it."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from moodbench.errors import MoodBenchError
from moodbench.hardware import Hardware
from moodbench.store import Store
from moodbench.visualization.board_view import BoardView, view_board
from moodbench.visualization.formatting import COLUMNS, MISSING, Column, cells, missing, track_facts

if TYPE_CHECKING:
    import gradio as gr

CLOCKED = {"rank", "score", "latency_p50_s", "latency_p99_s", "throughput_texts_per_s"}
"""Columns that other load disturbs."""
MEASURED = {"latency_p50_s", "latency_p99_s", "throughput_texts_per_s", "memory_peak_batch1_bytes"}
"""Columns that come from a measurement."""
PROVISIONAL = "provisional: other load disturbed the clock"
EMPTY = '<p class="mb-empty" role="status">No results yet: <code>moodbench run quickstart</code></p>'
WHISKER_WIDTH, WHISKER_HEIGHT = 120, 16


class Axis(NamedTuple):
    """The ends of the accuracy axis that the rows of a track share, as shares."""

    low: float
    high: float

    def x(self, share: float) -> float:
        """Where `share` lies in the drawing, in pixels, at its edge when beyond the axis."""
        place = (share - self.low) / (self.high - self.low)
        return 4 + min(max(place, 0.0), 1.0) * (WHISKER_WIDTH - 8)


def board_html(view: BoardView) -> str:
    """The board: a table per track, the notes, and the failures; a hint how to start where there is neither."""
    tracks = [_track_html(name, view.track(name), view.failures) for name in view.tracks]
    notes = "".join(f"<li>{escape(note)}</li>" for note in view.notes)
    parts = [*tracks, f'<ul class="mb-notes" aria-label="Notes">{notes}</ul>' if notes else ""]
    parts += [_columns_html() if tracks else "", _failures_html(view.failures) if len(view.failures) else ""]
    return "".join(parts) or EMPTY


def store_html(store: Store, machine: Hardware, now: datetime) -> str:
    """What the page shows of `store`: its board, or the message of an error that the user can fix."""
    try:
        body = board_html(view_board(store, machine))
    except MoodBenchError as error:
        body = f'<p class="mb-error" role="alert">{escape(str(error))}</p>'
    return f'<p class="mb-read" role="status">{escape(store.uri)} · read {now:%Y-%m-%d %H:%M:%S}</p>{body}'


def why_missing(key: str, row: pd.Series[Any], failures: pd.DataFrame) -> str:
    """The reason why the cell of column `key` in this row of the board holds no value."""
    fit_ids = row["fit_ids"] if isinstance(row.get("fit_ids"), list) else []
    if key == "rank" and not missing(row["score"]):
        return "no place: the score is provisional, and other rows were measured undisturbed"
    if key in ("rank", "score"):
        if not fit_ids:
            return "not scored on every data set"
        if row["verdict"] == "invalid":
            return "not scored: the timed model gave other labels than the evaluated one"
        if missing(row.get("base_accuracy")):
            return "not scored: the baseline has no result on this data"
        absent = [m for m in ("latency_p50_s", "throughput_texts_per_s") if missing(row[m])]
        return why_missing(absent[0], row, failures) if absent else "a part of the score is missing"
    if key not in MEASURED:
        return "not recorded"
    if ((failures["phase"] == "measure") & failures["fit_id"].isin(fit_ids)).any():
        return "measuring failed, see below"
    if all(missing(row[m]) for m in MEASURED):
        return "not measured on the machine shown"
    return "withheld: too few clean requests" if key.startswith("latency_") else "not recorded"


def _track_html(name: str, rows: pd.DataFrame, failures: pd.DataFrame) -> str:
    axis = _axis(rows)
    texts = cells(rows)
    reasons: dict[str, list[str]] = defaultdict(list)
    body = []
    for (_, row), (_, text) in zip(rows.iterrows(), texts.iterrows(), strict=True):
        why = {c.key: why_missing(c.key, row, failures) for c in COLUMNS if text[c.heading] == MISSING}
        body.append(_row_html(row, text, why, axis))
        for reason in dict.fromkeys(why.values()):
            columns = ", ".join(c.heading for c in COLUMNS if why.get(c.key) == reason)
            reasons[reason].append(f"{row['name']} ({columns})")
    legend = (
        f'<p class="mb-legend"><span class="mb-hatched"></span>{PROVISIONAL}</p>' if rows["provisional"].any() else ""
    )
    head = "".join(_heading_html(column, axis) for column in COLUMNS)
    return (
        f'<section class="mb-track"><div class="mb-scroll" role="region" tabindex="0" aria-label="{escape(name)}">'
        f"<table><caption><div><h2>{escape(name)}</h2>{escape(track_facts(rows))}</div></caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>{legend}{_reasons_html(reasons)}</section>"
    )


def _heading_html(column: Column, axis: Axis | None) -> str:
    scale = ""
    if column.key == "accuracy" and axis:
        ends = "".join(f"<span>{100 * end:.0f}</span>" for end in axis)
        scale = f'<span class="mb-scale" aria-hidden="true">{ends}</span>'
    title = escape(column.help)
    return f'<th scope="col" class="mb-{column.key}" title="{title}">{escape(column.heading)}{scale}</th>'


def _row_html(row: pd.Series[Any], text: pd.Series[str], why: dict[str, str], axis: Axis | None) -> str:
    provisional = bool(row["provisional"])
    made = [_cell_html(c.key, text[c.heading], row, provisional, why.get(c.key), axis) for c in COLUMNS]
    return f"<tr{' class="mb-provisional"' if provisional else ''}>{''.join(made)}</tr>"


def _cell_html(key: str, text: str, row: pd.Series[Any], provisional: bool, why: str | None, axis: Axis | None) -> str:
    if key == "name":
        return f'<th scope="row" class="mb-name">{escape(text)}</th>'
    hatched = provisional and key in CLOCKED
    classes = f"mb-{key} mb-hatched" if hatched else f"mb-{key}"
    about = "; ".join(filter(None, [why, PROVISIONAL if hatched else None]))
    title = f' title="{escape(about)}"' if about else ""
    drawing = _whisker_svg(row, axis) if key == "accuracy" and axis and why is None else ""
    return f'<td class="{classes}"{title}><span>{escape(text)}</span>{drawing}</td>'


def _axis(rows: pd.DataFrame) -> Axis | None:
    """The axis around all intervals, on multiples of 5 %; None where no row has an accuracy."""
    low, high = rows["accuracy_low"].min(), rows["accuracy_high"].max()
    if missing(low) or missing(high):
        return None
    start = max(math.floor(20 * low), 0)
    return Axis(start / 20, max(min(math.ceil(20 * high), 20), start + 1) / 20)


def _whisker_svg(row: pd.Series[Any], axis: Axis) -> str:
    """A dot at the accuracy and a line over its interval; hidden from readers, who have the text."""
    low, dot, high = (axis.x(row[k]) for k in ("accuracy_low", "accuracy", "accuracy_high"))
    middle, w, h = WHISKER_HEIGHT / 2, WHISKER_WIDTH, WHISKER_HEIGHT
    return (
        f'<svg class="mb-whisker" width="{w}" height="{h}" viewBox="0 0 {w} {h}" aria-hidden="true">'
        f'<path class="mb-line" d="M0 {middle}H{w}"/>'
        f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} 4V{h - 4}M{high:.1f} 4V{h - 4}"/>'
        f'<circle cx="{dot:.1f}" cy="{middle}" r="3"/></svg>'
    )


def _reasons_html(reasons: dict[str, list[str]]) -> str:
    """Why cells are missing, in words that need no pointer to hover with."""
    if not reasons:
        return ""
    items = "".join(f"<li>{escape(r)}: {escape(', '.join(rows))}</li>" for r, rows in reasons.items())
    return f"<details><summary>Why {MISSING}</summary><ul>{items}</ul></details>"


def _columns_html() -> str:
    entries = "".join(f"<dt>{escape(c.heading)}</dt><dd>{escape(c.help)}</dd>" for c in COLUMNS)
    return f"<details><summary>What the columns say</summary><dl>{entries}</dl></details>"


def _failures_html(failures: pd.DataFrame) -> str:
    head = '<th scope="col" class="mb-name">Model</th>'
    head += "".join(f'<th scope="col">{h}</th>' for h in ("Data set", "Seed", "Phase", "Error"))
    body = "".join(
        f'<tr><th scope="row" class="mb-name">{escape(str(row["model"]))}</th>'
        + "".join(f"<td>{escape(str(row[k]))}</td>" for k in ("dataset", "seed", "phase"))
        + f'<td class="mb-message">{_message_html(row["error_class"], row["message"])}</td></tr>'
        for _, row in failures.iterrows()
    )
    return (
        '<section class="mb-track"><div class="mb-scroll" role="region" tabindex="0" aria-label="Failed">'
        '<table class="mb-failures"><caption><div><h2>Failed</h2>the last attempt of each phase without a record</div>'
        f"</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _message_html(error_class: Any, message: Any) -> str:
    """The first line of an error, with the other lines folded below it."""
    lines = [] if missing(message) else str(message).strip().splitlines()
    first = escape(": ".join([str(error_class), *lines[:1]]))
    rest = escape("\n".join(lines[1:]))
    return f"<details><summary>{first}</summary><pre>{rest}</pre></details>" if rest else first


def build_page(store: Store, machine: Hardware) -> gr.Blocks:
    """The page of `store`, which reads it again whenever it is opened or asked to."""
    import gradio as gr

    def read() -> str:
        return store_html(store, machine, datetime.now())

    with gr.Blocks(title="MoodBench", analytics_enabled=False, fill_width=True) as page:
        with gr.Row(elem_id="mb-head"):
            gr.HTML("<h1>MoodBench</h1><p>Small language models for sentiment, fine-tuned, measured and ranked.</p>")
            reload = gr.Button("Reload", elem_id="mb-reload", size="sm", scale=0, min_width=96)
        board = gr.HTML("<p>Reading the results …</p>", elem_id="mb-board", apply_default_css=False)
        # Both are hidden from the API, and skip the queue, which would keep a stream open.
        for event in (page.load, reload.click):
            event(read, None, board, queue=False, show_progress="hidden", api_visibility="private")
    return page


def launch_options() -> dict[str, Any]:
    """What `launch` needs to look right and to stay quiet: own fonts only, no links, nothing kept in the browser."""
    import gradio as gr

    # Gradio's semi-bold Source Sans is a subset that mixes two fonts in one word; 600 falls to the whole bold one.
    sans = [gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"]
    theme = gr.themes.Default(primary_hue="blue", font=sans).set(
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300"
    )
    return {
        "theme": theme,
        "css": CSS,
        "footer_links": [],
        "quiet": True,
        "prevent_thread_lock": True,
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "mcp_server": False,
    }


CSS = """
.gradio-container{width:100%!important;max-width:none!important}
.gradio-container>.main{padding:16px 24px!important}
:is(#mb-head,#mb-board) .html-container{padding:0!important}
#mb-head{align-items:center;flex-wrap:nowrap}
#mb-head h1{font-size:22px;font-weight:700;margin:0}
#mb-head p,#mb-board .mb-read{color:var(--body-text-color-subdued);margin:0}
#mb-board{font-size:14px;line-height:1.4;color:var(--body-text-color)}
#mb-board .mb-read{overflow-wrap:anywhere;font-size:13px}
#mb-board .mb-track{margin:18px 0}
#mb-board .mb-scroll{overflow-x:auto;border:1px solid var(--border-color-primary);border-radius:10px}
#mb-board .mb-scroll:focus-visible,#mb-board summary:focus-visible{outline:3px solid var(--color-accent);outline-offset:2px}
#mb-board table{width:100%;border-collapse:separate;border-spacing:0;margin:0;font-variant-numeric:tabular-nums}
#mb-board caption{text-align:left;color:var(--body-text-color-subdued);padding:10px 0;caption-side:top}
#mb-board caption div{position:sticky;left:0;width:max-content;max-width:min(100%,100vw - 40px);padding:0 12px}
#mb-board h2{font-size:17px;font-weight:700;color:var(--body-text-color);margin:0}
#mb-board th,#mb-board td{padding:7px 12px;text-align:right;white-space:nowrap;border:0;border-top:1px solid var(--border-color-primary);background-color:var(--background-fill-primary)}
#mb-board thead th{font-weight:700;vertical-align:bottom;background-color:var(--background-fill-secondary)}
#mb-board tbody tr:hover>*{background-color:var(--background-fill-secondary)}
#mb-board .mb-name,#mb-board .mb-failures :is(th,td){text-align:left}
#mb-board .mb-name{position:sticky;left:0;z-index:1;font-weight:700;white-space:normal;min-width:8rem;max-width:20rem;overflow-wrap:anywhere}
#mb-board .mb-accuracy svg,#mb-board .mb-scale{display:inline-flex;vertical-align:middle;margin-left:10px}
#mb-board .mb-scale{width:120px;justify-content:space-between;font-weight:400;font-size:12px;color:var(--body-text-color-subdued)}
#mb-board .mb-whisker path{stroke:var(--body-text-color);stroke-width:1.5;fill:none}
#mb-board .mb-whisker .mb-line{stroke:var(--border-color-primary);stroke-width:1}
#mb-board .mb-whisker circle{fill:var(--color-accent)}
#mb-board .mb-hatched{background-image:repeating-linear-gradient(135deg,transparent 0 5px,var(--border-color-primary) 5px 6px)}
#mb-board .mb-message{white-space:normal;min-width:20rem;overflow-wrap:anywhere}
#mb-board p.mb-legend{margin:8px 0;color:var(--body-text-color-subdued)}
#mb-board .mb-legend span{display:inline-block;width:28px;height:14px;margin-right:8px;vertical-align:-2px;border:1px solid var(--border-color-primary)}
#mb-board pre{white-space:pre-wrap;margin:6px 0 0;font-size:12px}
#mb-board details{margin:8px 0;color:var(--body-text-color-subdued)}
#mb-board summary{cursor:pointer}
#mb-board details ul,#mb-board .mb-notes{margin:8px 0;padding-left:20px;list-style:disc;color:var(--body-text-color-subdued)}
#mb-board dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 14px;margin:8px 0}
#mb-board dt{font-weight:700}
#mb-board dd{margin:0}
#mb-board .mb-empty,#mb-board .mb-error{margin:18px 0;padding:28px;border:1px dashed var(--border-color-primary);border-radius:10px;text-align:center}
#mb-board .mb-error{border:1px solid var(--error-border-color);background:var(--error-background-fill);color:var(--error-text-color);text-align:left;overflow-wrap:anywhere}
#mb-board code{background:var(--background-fill-secondary);padding:2px 6px;border-radius:4px}
@media (max-width:640px){
.gradio-container>.main{padding:10px!important}
#mb-board th,#mb-board td{padding:7px 8px}
#mb-board .mb-name{max-width:8rem}
#mb-board .mb-accuracy :is(svg,.mb-scale){display:flex;margin:3px 0 0 auto}
}
"""
