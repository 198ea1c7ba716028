"""The page: places the tabs, reads the address into the controls, and fills the open tab when a control changes.

Its launch options keep it offline: local fonts only, nothing downloaded, no telemetry.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies

from pydantic.warnings import UnsupportedFieldAttributeWarning

from moodbench.app import compare, data, html, leaderboard, live, speed, training, try_it, which
from moodbench.app.guard import guarded
from moodbench.app.privacy import failures_table
from moodbench.app.snapshot import Snapshot, SnapshotReader
from moodbench.app.tab import LISTENER, Action, Choices, Control, Layout, Services, Tab
from moodbench.app.url_state import DEFAULT, MAX_MODELS, State, read_state
from moodbench.errors import MoodBenchError
from moodbench.hardware import Hardware
from moodbench.report.charts import Figure
from moodbench.report.charts_plotly import plotly_figure
from moodbench.store import Store

if TYPE_CHECKING:
    import gradio as gr

TABS: tuple[Tab, ...] = (
    leaderboard.TAB, which.TAB, compare.TAB, speed.TAB, training.TAB, live.TAB, try_it.TAB, data.METHOD_TAB, data.TAB,
)  # fmt: skip
"""The tabs in order; to add one, write its module and list it here."""
LIVE_EVERY_S = 2.0
DOWNLOAD_CLEANUP_S = (3600, 24 * 3600)
"""Seconds between checks of Gradio's own copies of downloaded files, and the age at which a copy is removed."""


@dataclass(frozen=True)
class TabContent:
    """Contents of one tab for one state of the page."""

    source: str
    """Store that was read, and the time."""
    address: str
    """The canonical query of the state, for the browser's address bar."""
    notice: str
    """Message shown in place of the outputs; empty where there are outputs."""
    outputs: Sequence[Any] | None
    """A value for each output of the tab; None where the notice is shown."""


def render_tab(
    reader: SnapshotReader, tab: Tab, state: State, services: Services, *, source: str | None = None
) -> TabContent:
    """Render `tab` for `state`, or the message of an error that the user can fix.

    `source` is given where only the weights have changed: the `TabContent.source` that the page shows. If that snapshot
    is still the current one, only what depends on the weights is rendered again.
    """
    address = f'<span data-query="{escape(state.to_query())}"></span>'
    uri = escape(reader.store.uri)
    try:
        if tab.is_live:
            outputs = tab.render(reader.store, state, services)
            return TabContent(f'<p role="status">{uri}</p>', address, "", outputs)
        snapshot = reader.current(timeout_s=None if source is None else 0)
        current = f'<p role="status">{uri} · read {_time_html(snapshot)}</p>'
        if snapshot.is_empty and not tab.shows_when_empty(snapshot):
            may_show = snapshot.message_filter(show_texts=services.show_texts)
            notice = html.empty(reader.store.uri) + failures_table(snapshot.results.records.failures, may_show)
            return TabContent(current, address, notice, None)
        render = tab.rerank if tab.rerank and source == current else tab.render
        outputs = [_drawn(output) for output in render(snapshot, state, services)]
        return TabContent(current, address, "", outputs)
    except MoodBenchError as problem:
        return TabContent(f'<p role="status">{uri}</p>', address, html.error(str(problem)), None)


def _drawn(output: Any) -> Any:
    return plotly_figure(output) if isinstance(output, Figure.__value__) else output


def _time_html(snapshot: Snapshot) -> str:
    """Return the time of a snapshot; two snapshots within one second differ in the attribute."""
    return f'<time datetime="{snapshot.read_at.isoformat()}">{snapshot.read_at:%Y-%m-%d %H:%M:%S}</time>'


def build_page(store: Store, machine: Hardware, services: Services) -> gr.Blocks:
    """Build the page of `store`, which is read again whenever a record is added or removed."""
    return Page(store, machine, services).build()


class Page:
    """Components of the page and the callbacks behind them."""

    def __init__(self, store: Store, machine: Hardware, services: Services) -> None:
        self._reader = SnapshotReader(store, machine)
        self._reader.refresh()
        self._services = services
        self._tabs = {tab.key: tab for tab in TABS}
        self._shared = Layout()
        self._layouts: dict[str, Layout] = {}
        self._controls: dict[str, Control] = {}
        self._placed: dict[str, Any] = {}
        self._bodies: dict[str, Any] = {}

    def build(self) -> gr.Blocks:
        """Build the page."""
        import gradio as gr

        title = "<h1>MoodBench</h1><p>Small language models for sentiment, fine-tuned, measured and ranked.</p>"
        with gr.Blocks(
            title="MoodBench", analytics_enabled=False, fill_width=True, delete_cache=DOWNLOAD_CLEANUP_S
        ) as blocks:
            with gr.Row(elem_id="mb-head"):
                gr.HTML(title)
                reload = gr.Button("Reload", elem_id="mb-reload", size="sm", scale=0, min_width=96)
            if self._services.audience:
                gr.HTML(f'<p role="note">{escape(self._services.audience)}</p>', elem_id="mb-audience")
            self._source = gr.HTML(elem_id="mb-source")
            self._address = gr.HTML(elem_id="mb-address", js_on_load=html.asset("address.js"), apply_default_css=False)
            self._notice = gr.HTML("<p>Reading the results …</p>", elem_id="mb-notice", elem_classes="mb")
            self._requested_key = gr.Textbox(visible=False)  # the tab in the address
            self._open_key = gr.Textbox(visible=False)  # the open tab, empty until the address has been read
            _build_shared(self._shared)
            with gr.Tabs(elem_id="mb-tabs") as self._tabs_component:
                for key, tab in self._tabs.items():
                    layout = self._layouts[key] = Layout()
                    self._placed[key] = gr.Tab(tab.title, id=key, elem_id=f"tab-{key}")
                    with self._placed[key], gr.Column(visible=False) as self._bodies[key]:
                        tab.build(layout, self._services)
            for layout in (self._shared, *self._layouts.values()):
                self._controls |= layout.controls
            self._timer = gr.Timer(LIVE_EVERY_S, active=False)
            for key in self._tabs:
                self._listen_to_tab(key)
            self._listen_to_page(blocks)
            reload.click(None, None, None, js="() => { location.reload(); }", **LISTENER)
        return blocks

    def _listen_to_tab(self, key: str) -> None:
        import gradio as gr

        layout, values = self._layouts[key], [c.component for c in self._controls.values()]
        inputs, outputs = [self._open_key, self._source, *values], self._outputs(key)
        latest = {**LISTENER, "trigger_mode": "always_last"}  # a slider sends an event for every move
        change = partial(self._changed, key, only_reranked=False)
        rerank = partial(self._changed, key, only_reranked=True)
        if events := layout.events(only_reranks=False):
            gr.on(events, change, inputs, outputs, **latest)
        if events := layout.events(only_reranks=True):
            gr.on(events, rerank, inputs, outputs, **latest)
        for listener in layout.weight_setters:
            listener.then(rerank, inputs, outputs, **LISTENER)
        for action in layout.actions:
            run = partial(self._acted, key, action)
            shown = {**latest, "show_progress": "minimal"}
            gr.on(action.events, run, [*action.inputs, *values], list(action.outputs), **shown)
        opened = [self._open_key, self._timer, *outputs]
        noted = f"() => {{ document.dispatchEvent(new CustomEvent('mb-tab', {{detail: '{key}'}})); }}"
        self._placed[key].select(None, None, None, js=noted, **LISTENER)
        self._placed[key].select(partial(self._opened, key), [self._open_key, *values], opened, **LISTENER)
        if self._tabs[key].is_live:
            self._timer.tick(change, inputs, outputs, **LISTENER)

    def _listen_to_page(self, blocks: gr.Blocks) -> None:
        import gradio as gr

        values = [c.component for c in self._controls.values()]
        outputs = list(dict.fromkeys(output for key in self._tabs for output in self._outputs(key)))
        inputs, events = [self._open_key, *values], self._shared.events(only_reranks=False)
        gr.on(events, self._shared_changed, inputs, outputs, trigger_mode="always_last", **LISTENER)

        def load(request: Any) -> dict[Any, Any]:
            return self._loaded(dict(request.query_params))

        load.__annotations__["request"] = gr.Request  # Gradio decides by this annotation what to pass
        outputs = [self._requested_key, self._tabs_component, self._timer, *values, *outputs]
        loaded = blocks.load(load, None, outputs, **LISTENER)
        # Controls also send events for their first values, so a tab counts as open only when all of them have been set.
        settled = "key => new Promise(done => setTimeout(() => done(key), 50))"
        loaded.then(None, self._requested_key, self._open_key, js=settled, **LISTENER)

    def _outputs(self, key: str) -> list[Any]:
        """Return the components that `_content` fills."""
        return [self._source, self._address, self._notice, self._bodies[key], *self._layouts[key].outputs]

    def _state(self, key: str, values: Sequence[Any]) -> State:
        return read_state({**dict(zip(self._controls, values, strict=True)), "tab": key})

    def _changed(self, key: str, open_key: str | None, source: str, *values: Any, only_reranked: bool) -> Any:
        """Fill a tab after one of its controls has changed; skip a closed tab, as controls also change when created."""
        import gradio as gr

        if open_key != key:
            return gr.skip()
        return self._content(key, self._state(key, values), source=source if only_reranked else None)

    def _shared_changed(self, open_key: str | None, *values: Any) -> Any:
        """Fill the open tab after a shared control has changed; the other tabs are filled when they are opened."""
        import gradio as gr

        return self._content(open_key, self._state(open_key, values)) if open_key in self._tabs else gr.skip()

    def _opened(self, key: str, open_key: str | None, *values: Any) -> Any:
        """Fill the opened tab and set the timer; skip both before the address has been read into the controls."""
        import gradio as gr

        if not open_key:
            return gr.skip()
        timer = gr.Timer(active=self._tabs[key].is_live)
        return {self._open_key: key, self._timer: timer, **self._content(key, self._state(key, values))}

    def _acted(self, key: str, action: Action, *values: Any) -> Any:
        """Return the values of the outputs of an action; the first one says why an action is refused."""
        import gradio as gr

        num_inputs = len(action.inputs)
        state = self._state(key, values[num_inputs:])
        try:
            source = self._reader.store if self._tabs[key].is_live else self._reader.current()
            results = action.run(source, state, self._services, *values[:num_inputs])
        except MoodBenchError as problem:
            results = [html.error(str(problem)), *[gr.skip()] * (len(action.outputs) - 1)]
        return results if len(results) > 1 else results[0]  # Gradio takes the value itself where there is one output

    def _loaded(self, query: Mapping[str, str]) -> dict[Any, Any]:
        """Fill the controls and the open tab from the query of the address."""
        import gradio as gr

        state, controls = self._offered(read_state(query))
        key = state.tab if state.tab in self._tabs else next(iter(self._tabs))
        return {
            self._requested_key: key,
            self._tabs_component: gr.Tabs(selected=key),
            self._timer: gr.Timer(active=self._tabs[key].is_live),
            **controls,
            **self._content(key, replace(state, tab=key)),
        }

    def _offered(self, state: State) -> tuple[State, dict[Any, Any]]:
        """Return `state` without the values that their controls do not offer, and the updates that show it in them.

        With a value that is not offered, every later callback would fail. A value whose control offers nothing yet is
        kept in the state, and nothing is chosen in the control.
        """
        import gradio as gr

        try:
            snapshot: Snapshot | None = self._reader.current()
        except MoodBenchError:
            snapshot = None
        updates: dict[Any, Any] = {}
        for name, control in self._controls.items():
            value = getattr(state, name)
            choices = control.choices
            if callable(choices):
                choices = choices(snapshot) if snapshot is not None else []
            if choices:
                offered = [choice for _, choice in choices]
                if isinstance(value, tuple):
                    value = tuple(v for v in value if v in offered)
                elif (control.blank if value is None else value) not in offered:
                    value = getattr(DEFAULT, name)
                state = replace(state, **{name: value})
            shown = control.blank if value is None else list(value) if isinstance(value, tuple) else value
            if choices is None:
                updates[control.component] = gr.update(value=shown)
            else:
                nothing: list[Any] | None = [] if isinstance(value, tuple) else None
                updates[control.component] = gr.update(choices=list(choices), value=shown if choices else nothing)
        return state, updates

    def _content(self, key: str, state: State, *, source: str | None = None) -> dict[Any, Any]:
        """Return the value of each component that shows the content of a tab."""
        import gradio as gr

        content = render_tab(self._reader, self._tabs[key], state, self._services, source=source)
        values = content.outputs or [None] * len(self._layouts[key].outputs)
        outputs = dict(zip(self._layouts[key].outputs, values, strict=True))
        return {
            self._source: content.source,
            self._address: content.address,
            self._notice: content.notice,
            self._bodies[key]: gr.Column(visible=content.outputs is not None),
            **{component: value for component, value in outputs.items() if value is not None},
        }


def _build_shared(layout: Layout) -> None:
    """Create the controls above the tabs: the dataset and the pinned models."""
    import gradio as gr

    with gr.Row(elem_id="mb-shared"):
        dataset = gr.Dropdown([], label="Dataset", elem_id="track", min_width=200, scale=1)
        layout.control("track", dataset, choices=_datasets)
        pinned = gr.Dropdown(
            [], multiselect=True, max_choices=MAX_MODELS, elem_id="models", min_width=200, scale=2,
            label=f"Pinned entries, up to {MAX_MODELS}, to look at side by side",
        )  # fmt: skip
        layout.control("models", pinned, choices=_models)


def _datasets(snapshot: Snapshot) -> Choices:
    """Return the names of the datasets; the first is the default, whose value is empty."""
    if snapshot.is_empty:
        return []
    first = snapshot.chosen_track(DEFAULT)
    return [(first, ""), *((name, name) for name in snapshot.track_names if name != first)]


def _models(snapshot: Snapshot) -> Choices:
    return [] if snapshot.is_empty else [(name, name) for name in sorted(set(snapshot.results.entries["name"]))]


def quiet_environment() -> None:
    """Turn off telemetry, and two warnings; call it before Gradio is imported and before other threads start.

    Gradio suppresses the warning of its audio library about missing ffmpeg, and FastAPI that of Pydantic about fields
    that FastAPI itself creates; both use `warnings.catch_warnings`, which another thread can undo.
    """
    warnings.filterwarnings("ignore", "Couldn't find ffmpeg", RuntimeWarning)
    warnings.simplefilter("ignore", UnsupportedFieldAttributeWarning)
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # for the runs that the page starts
    # Gradio sends itself a request to check that it is up.
    os.environ["no_proxy"] = f"{getproxies().get('no', '')},127.0.0.1"


def launch_options(names: Collection[str] = ()) -> dict[str, Any]:
    """Return the arguments that `launch` needs besides an address.

    `names` are host names that the page answers to besides those of this machine.
    """
    import gradio as gr

    # Gradio's semi-bold Source Sans is a subset that mixes two fonts in one word; 600 falls back to the complete bold.
    sans = [gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"]
    theme = gr.themes.Default(primary_hue="blue", font=sans).set(
        color_accent="*primary_600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )
    return {
        "app_kwargs": guarded(names),
        "theme": theme,
        "css": html.asset("page.css"),
        "footer_links": [],
        "quiet": True,
        "prevent_thread_lock": True,
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "mcp_server": False,
        "share": False,
    }
