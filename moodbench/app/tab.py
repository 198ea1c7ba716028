"""Definition of a tab of the page: its title, how its components are created, and how they are filled for a state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

from moodbench.app.snapshot import Snapshot
from moodbench.app.url_state import State
from moodbench.benchmark.context import BackgroundRun
from moodbench.config import Catalogue
from moodbench.runtime.ray_cluster import ClusterSnapshot
from moodbench.serving.classifier import Prediction

Choices = Sequence[tuple[str, Any]]
"""Titles and values of the choices of a component."""
LISTENER: Mapping[str, Any] = {
    "queue": False,
    "show_progress": "hidden",
    "api_visibility": "private",
    "preprocess": False,
}
"""Arguments of every event listener: hidden from the API, and not queued, because a queue keeps a stream open.

Callbacks get values as they were sent and check them, because Gradio's own checks end in an HTTP error.
"""


@dataclass(frozen=True)
class Services:
    """Services of a tab besides showing a snapshot."""

    ask: Callable[[str, str], tuple[Prediction, float]] | None = None
    """Labels a text with a fit, and takes that many seconds; None where the page was opened without models."""
    show_texts: bool = False
    """Whether private texts may be shown."""
    runner: BackgroundRun | None = None
    """Starts runs; None where the page only reads."""
    cluster: Callable[[], ClusterSnapshot | None] | None = None
    """Returns the last known status of the Ray cluster, without waiting; None where the page has no cluster."""
    catalogue: Catalogue | None = None
    """Source of the licences of models and datasets; None is the packaged catalogue."""
    audience: str = ""
    """Who else can open the page, shown at its top; empty where only this machine can."""


class Control(NamedTuple):
    """A component that sets a field of State."""

    component: Any
    event: str
    """Name of the event after which the tab is filled again."""
    choices: Choices | Callable[[Snapshot], Choices] | None
    """Choices of the component, fixed or from a snapshot; None for a component without choices."""
    blank: Any
    """Value shown for None."""
    only_reranks: bool
    """Whether the control changes nothing but weights and composite."""


class Action(NamedTuple):
    """Something a tab does on request: on one of `events`, `outputs` show the results of `run`.

    If the request is refused, the first output shows why.
    """

    outputs: Sequence[Any]
    events: Sequence[Any]
    inputs: Sequence[Any]
    run: Callable[..., Sequence[Any]]
    """Takes the snapshot (or store), the state, the services and the values of `inputs`; returns a value per output."""


@dataclass
class Layout:
    """Components of a tab, collected while it is built."""

    controls: dict[str, Control] = field(default_factory=dict)
    """Control of each State field."""
    outputs: list[Any] = field(default_factory=list)
    """Components that `render` fills, in its order."""
    weight_setters: list[Any] = field(default_factory=list)
    """Listeners that set weights; the tab is ranked again once they have finished."""
    actions: list[Action] = field(default_factory=list)

    def control(
        self,
        name: str,
        component: Any,
        event: str = "input",
        choices: Choices | Callable[[Snapshot], Choices] | None = None,
        *,
        blank: Any = None,
        only_reranks: bool = False,
    ) -> Any:
        """Add `component` as the control of the State field `name`, and return it."""
        self.controls[name] = Control(component, event, choices, blank, only_reranks)
        return component

    def events(self, *, only_reranks: bool) -> list[Any]:
        """Return the events of the controls that only rerank, or of all others."""
        controls = [c for c in self.controls.values() if c.only_reranks == only_reranks]
        return [getattr(c.component, c.event) for c in controls]

    def output(self, component: Any) -> Any:
        """Add `component` as the next output that `render` fills, and return it."""
        self.outputs.append(component)
        return component

    def html(self, elem_id: str, **options: Any) -> Any:
        """Add an HTML component as the next output, and return it."""
        import gradio as gr

        return self.output(gr.HTML(elem_id=elem_id, elem_classes="mb", **options))

    def plot(self, elem_id: str, title: str = "", *, level: int = 2) -> None:
        """Add a figure as the next output, below a heading with its `title`."""
        import gradio as gr

        if title:
            gr.HTML(f"<h{level}>{escape(title)}</h{level}>", elem_classes="mb")
        self.output(gr.Plot(show_label=False, container=False, elem_id=elem_id))


@dataclass(frozen=True)
class Tab:
    """One tab of the page."""

    key: str
    title: str
    build: Callable[[Layout, Services], None]
    render: Callable[[Any, State, Services], Sequence[Any]]
    """Returns a value for each output that `build` added, in their order; figures as described in `report.charts`.

    The first argument is a Snapshot, or the Store if the tab is live.
    """
    shows_when_empty: Callable[[Snapshot], bool] = lambda snapshot: False
    """Whether the tab has something to show even where nothing has been evaluated."""
    rerank: Callable[[Snapshot, State, Services], Sequence[Any]] | None = None
    """Like `render`, after only the weights have changed; returns None for an output that stays as it is."""
    is_live: bool = False
    """Whether the tab is rendered from the store instead of a snapshot, every few seconds while it is open."""
