"""The Gradio shell: place the tabs, read the address into the controls, and fill the open tab when one changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from moodbench.app import compare, data, html, leaderboard, live, method, speed, training, try_it, which
from moodbench.app.filling import fill
from moodbench.app.script import ADDRESS_JS
from moodbench.app.shared import build_shared
from moodbench.app.snapshot import Reader, Reading
from moodbench.app.tab import QUIET, Layout, Services, Tab
from moodbench.app.url_state import DEFAULT, State, read_state
from moodbench.errors import MoodBenchError
from moodbench.hardware import Hardware
from moodbench.store import Store

if TYPE_CHECKING:
    import gradio as gr

TABS: tuple[Tab, ...] = (
    leaderboard.TAB,
    which.TAB,
    compare.TAB,
    speed.TAB,
    training.TAB,
    live.TAB,
    try_it.TAB,
    method.TAB,
    data.TAB,
)
"""The tabs in order; to add one, write its module and list it here."""
LIVE_EVERY_S = 2.0
KEPT_FILES_S = (3600, 24 * 3600)
"""Seconds between checks of Gradio's own copies of downloaded files, and the age at which a copy is removed."""


class Shell:
    """One page: its layout and the callbacks behind it."""

    def __init__(self, store: Store, machine: Hardware, services: Services, tabs: Sequence[Tab]) -> None:
        self._reader = Reader(store, machine)
        self._reader.begin()
        self._services = services
        self._tabs = {tab.key: tab for tab in tabs}
        self._layouts: dict[str, Layout] = {}
        self._shared = Layout()
        self._bodies: dict[str, Any] = {}

    def build(self) -> gr.Blocks:
        """Build the page."""
        import gradio as gr

        with gr.Blocks(title="MoodBench", analytics_enabled=False, fill_width=True, delete_cache=KEPT_FILES_S) as page:
            with gr.Row(elem_id="mb-head"):
                gr.HTML(
                    "<h1>MoodBench</h1><p>Small language models for sentiment, fine-tuned, measured and ranked.</p>"
                )
                reload = gr.Button("Reload", elem_id="mb-reload", size="sm", scale=0, min_width=96)
            self._read = gr.HTML(elem_id="mb-read")
            self._address = gr.HTML(elem_id="mb-address", js_on_load=ADDRESS_JS, apply_default_css=False)
            self._notice = gr.HTML("<p>Reading the results …</p>", elem_id="mb-notice", elem_classes="mb")
            self._asked = gr.Textbox(visible=False)  # key of the tab that the address requests
            self._open = gr.Textbox(visible=False)  # key of the open tab, empty until the address has been read
            build_shared(self._shared)
            with gr.Tabs(elem_id="mb-tabs") as self._tabs_component:
                for tab in self._tabs.values():
                    layout = self._layouts[tab.key] = Layout()
                    with gr.Tab(tab.title, id=tab.key, elem_id=f"tab-{tab.key}") as placed:
                        self._bodies[tab.key] = gr.Column(visible=False)
                        with self._bodies[tab.key]:
                            tab.build(layout, self._services)
                    layout.opened = placed.select
            layouts = [self._shared, *self._layouts.values()]
            self._controls = {name: c for layout in layouts for name, c in layout.controls.items()}
            self._choices = {name: f for layout in layouts for name, f in layout.choices.items()}
            self._blanks = {name: v for layout in layouts for name, v in layout.blanks.items()}
            self._timer = gr.Timer(LIVE_EVERY_S, active=False)
            self._listen(page, reload)
        return page

    def _listen(self, page: Any, reload: Any) -> None:
        import gradio as gr

        values = list(self._controls.values())
        for key, layout in self._layouts.items():
            outputs = [*self._frame(key), *layout.outputs]
            if layout.events:  # a slider sends an event for every move; the last one wins
                gr.on(
                    layout.events,
                    partial(self._changed, key),
                    [self._open, *values],
                    outputs,
                    trigger_mode="always_last",
                    **QUIET,
                )
            if layout.weighing:
                given = [self._open, self._read, *values]
                again = partial(self._reweighed, key)
                gr.on(layout.weighing, again, given, outputs, trigger_mode="always_last", **QUIET)
                for listener in layout.chained:
                    listener.then(again, given, outputs, **QUIET)
            for action in layout.actions:
                act = partial(self._acted, key, action.answer, len(action.given))
                asked = [*action.given, *values]
                gr.on(action.events, act, asked, action.output, **{**QUIET, "show_progress": "minimal"})
            opened = [self._open, *outputs, self._timer]
            layout.opened(partial(self._opened, key), [self._open, *values], opened, **QUIET)
            if self._tabs[key].is_live:
                self._timer.tick(partial(self._changed, key), [self._open, *values], outputs, **QUIET)
        contents = [component for layout in self._layouts.values() for component in layout.outputs]
        everything = [self._read, self._address, self._notice, *self._bodies.values(), *contents]
        gr.on(
            self._shared.events,
            self._everywhere,
            [self._open, *values],
            everything,
            trigger_mode="always_last",
            **QUIET,
        )

        def load(request: Any) -> list[Any]:
            return self._loaded(dict(request.query_params))

        load.__annotations__["request"] = gr.Request  # Gradio decides by this annotation what to pass
        loaded = page.load(load, None, [self._asked, self._tabs_component, self._timer, *values, *everything], **QUIET)
        # Controls also send events for their first values, so a tab counts as open only when all of them have been set.
        settled = "key => new Promise(done => setTimeout(() => done(key), 50))"
        loaded.then(None, self._asked, self._open, js=settled, **QUIET)
        reload.click(None, None, None, js="() => { location.reload(); }", **QUIET)

    def _frame(self, key: str) -> list[Any]:
        return [self._read, self._address, self._notice, self._bodies[key]]

    def _state(self, key: str, values: Sequence[Any]) -> State:
        return read_state({**dict(zip(self._controls, values, strict=True)), "tab": key})

    def _changed(self, key: str, current: str | None, *values: Any, seen: str | None = None) -> list[Any]:
        """Fill a tab after one of its controls has changed; skip a closed tab, as controls also change when created."""
        import gradio as gr

        if current != key:
            return [gr.skip()] * (len(self._frame(key)) + len(self._layouts[key].outputs))
        return self._filled(key, self._state(key, values), seen=seen)

    def _reweighed(self, key: str, current: str | None, seen: str, *values: Any) -> list[Any]:
        """Fill a tab after the weights have changed since it was filled; `seen` is the read line of that reading."""
        return self._changed(key, current, *values, seen=seen)

    def _opened(self, key: str, current: str | None, *values: Any) -> list[Any]:
        """Fill the opened tab and set the timer; skip both before the address has been read into the controls."""
        import gradio as gr

        if not current:
            return [gr.skip()] * (len(self._frame(key)) + len(self._layouts[key].outputs) + 2)
        return [key, *self._filled(key, self._state(key, values)), gr.Timer(active=self._tabs[key].is_live)]

    def _acted(self, key: str, answer: Any, num_given: int, *values: Any) -> Any:
        """Return the answer of a tab to an action."""
        given, controls = values[:num_given], values[num_given:]
        try:
            source = self._reader.current() if self._tabs[key].needs_results else self._reader.store
            return answer(source, self._state(key, controls), self._services, *given)
        except MoodBenchError as problem:
            return html.error(str(problem))

    def _everywhere(self, current: str, *values: Any) -> list[Any]:
        """Fill the open tab after a shared control has changed; the other tabs are filled when they are opened."""
        import gradio as gr

        if not current:
            return [gr.skip()] * (3 + len(self._bodies) + sum(len(layout.outputs) for layout in self._layouts.values()))
        return self._spread(current, self._filled(current, self._state(current, values)))

    def _spread(self, key: str, filled: list[Any]) -> list[Any]:
        """Return the values of `_filled` for one tab, with skips for the outputs of all other tabs."""
        import gradio as gr

        read, address, notice, body, *contents = filled
        bodies = [body if other == key else gr.skip() for other in self._bodies]
        spread = [read, address, notice, *bodies]
        for other, layout in self._layouts.items():
            spread += contents if other == key else [gr.skip()] * len(layout.outputs)
        return spread

    def _loaded(self, query: Mapping[str, str]) -> list[Any]:
        """Fill the controls and the open tab from the query of the address."""
        import gradio as gr

        state = self._offered_state(read_state(query))
        key = state.tab if state.tab in self._tabs else next(iter(self._tabs))
        state = read_state({**vars(state), "tab": key})
        timer = gr.Timer(active=self._tabs[key].is_live)
        filled = self._spread(key, self._filled(key, state))
        return [key, gr.Tabs(selected=key), timer, *self._control_updates(state), *filled]

    def _offered_state(self, state: State) -> State:
        """Return `state` without the values that their controls do not offer, which count as not given.

        A value whose control offers nothing yet is kept.
        """
        kept: dict[str, Any] = {}
        for name, offered in self._offered().items():
            value, values = self._shown_value(name, state), [value for _, value in offered]
            if isinstance(value, list):
                kept[name] = tuple(v for v in value if v in values) if values else tuple(value)
            elif values and value not in values:
                kept[name] = getattr(DEFAULT, name)
        return replace(state, **kept)

    def _control_updates(self, state: State) -> list[Any]:
        """Return the updates that set the controls to a state whose values they offer, see `_offered_state`.

        With a value that is not offered, every later callback would fail. Where nothing is offered yet, nothing is
        chosen.
        """
        import gradio as gr

        choices = self._offered()
        updates = []
        for name in self._controls:
            value = self._shown_value(name, state)
            if name not in choices:
                updates.append(gr.update(value=value))
                continue
            nothing: list[Any] | None = [] if isinstance(value, list) else None
            updates.append(gr.update(choices=choices[name], value=value if choices[name] else nothing))
        return updates

    def _shown_value(self, name: str, state: State) -> Any:
        """Return what the control of the field `name` shows for `state`."""
        value = getattr(state, name)
        value = self._blanks[name] if value is None else value
        return list(value) if isinstance(value, tuple) else value

    def _offered(self) -> dict[str, list[tuple[str, Any]]]:
        """Return the current choices of each control that has choices; none from the store where it cannot be read."""
        try:
            reading: Reading | None = self._reader.current()
        except MoodBenchError:
            reading = None
        return {
            name: list(offer) if not callable(offer) else list(offer(reading)) if reading is not None else []
            for name, offer in self._choices.items()
        }

    def _filled(self, key: str, state: State, *, seen: str | None = None) -> list[Any]:
        """Return the read line, address, notice, body and contents of one tab."""
        import gradio as gr

        made = fill(self._reader, self._tabs[key], state, self._services, seen=seen)
        contents = made.contents or [None] * len(self._layouts[key].outputs)
        contents = [gr.skip() if each is None else each for each in contents]
        return [made.read, made.address, made.notice, gr.Column(visible=made.contents is not None), *contents]


def build_page(
    store: Store, machine: Hardware, services: Services | None = None, tabs: Sequence[Tab] = TABS
) -> gr.Blocks:
    """Build the page of `store`, which is read again whenever a record is added or removed."""
    return Shell(store, machine, services or Services(), tabs).build()
