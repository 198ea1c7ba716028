"""Definition of a tab of the page: its title, how its components are created, and how they are filled for a state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from moodbench.app.snapshot import Reading
from moodbench.app.url_state import State
from moodbench.benchmark.background_run import BackgroundRun
from moodbench.config import Catalogue
from moodbench.runtime.ray_glance import ClusterNow

Offer = Sequence[tuple[str, Any]] | Callable[[Reading], Sequence[tuple[str, Any]]]
"""Titles and values of the choices that a component offers, fixed or for a reading."""
QUIET: Mapping[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Arguments of every event listener: hidden from the API, and past the queue, which would keep a stream open."""


class Answer(Protocol):
    """Prediction of a fitted model for one text, and how long it took."""

    @property
    def label(self) -> str:
        """Most probable class."""

    @property
    def probabilities(self) -> Mapping[str, float]:
        """Probability of every class."""

    @property
    def seconds(self) -> float:
        """Seconds from the text to its label."""

    @property
    def truncated(self) -> bool:
        """Whether the text was longer than the model's maximum length."""


Ask = Callable[[str, str], Answer]
"""Function from a fit id or model name and a text to the answer; raises MoodBenchError when there is none."""


@dataclass(frozen=True)
class Services:
    """Actions of tabs besides showing a snapshot."""

    ask: Ask | None = None
    """Labels a text; None where the page was opened without models."""
    show_texts: bool = False
    """Whether private texts may be shown."""
    runner: BackgroundRun | None = None
    """Starts runs; None where the page only reads."""
    cluster: Callable[[], ClusterNow | None] | None = None
    """Returns the last known status of the Ray cluster, without waiting; None where the page has no cluster."""
    catalogue: Catalogue | None = None
    """Source of the licences of models and datasets; None is the packaged catalogue."""


@dataclass(frozen=True)
class Action:
    """Action of a tab on request: on one of `events`, `output` shows the `answer` for the values of `given`."""

    output: Any
    events: Sequence[Any]
    given: Sequence[Any]
    answer: Callable[..., Any]


@dataclass
class Layout:
    """Collects the components of a tab while it is built."""

    controls: dict[str, Any] = field(default_factory=dict)
    """Field of State to the component that sets it."""
    choices: dict[str, Offer] = field(default_factory=dict)
    """Field of State to the choices of its component."""
    blanks: dict[str, Any] = field(default_factory=dict)
    """Field of State to what its component shows for None."""
    outputs: list[Any] = field(default_factory=list)
    """Components that `render` fills, in its order."""
    events: list[Any] = field(default_factory=list)
    """Events after which the tab is filled again."""
    weighing: list[Any] = field(default_factory=list)
    """Events after which the tab is ranked again."""
    chained: list[Any] = field(default_factory=list)
    """Listeners after which the tab is ranked again, once they have finished."""
    actions: list[Action] = field(default_factory=list)
    """Actions that run only on request."""
    opened: Any = None
    """Event of opening the tab."""

    def control(
        self,
        name: str,
        component: Any,
        event: str,
        choices: Offer | None = None,
        *,
        blank: Any = None,
        weighs: bool = False,
    ) -> Any:
        """Add `component` as the control of the State field `name`, and return it.

        On `event` the tab is filled again, or only ranked again if the control `weighs`. `blank` is the value shown for
        None.
        """
        self.blanks[name] = blank
        self.controls[name] = component
        (self.weighing if weighs else self.events).append(getattr(component, event))
        if choices is not None:
            self.choices[name] = choices
        return component

    def after(self, listener: Any) -> None:
        """Rank the tab again after `listener` has set weights."""
        self.chained.append(listener)

    def action(self, output: Any, events: Sequence[Any], given: Sequence[Any], answer: Callable[..., Any]) -> None:
        """Show in `output`, on one of `events`, the `answer` for reading, state, services and the values of `given`."""
        self.actions.append(Action(output, events, given, answer))

    def output(self, component: Any) -> Any:
        """Add `component` as the next output that `render` fills, and return it."""
        self.outputs.append(component)
        return component


@dataclass(frozen=True)
class Tab:
    """One tab of the page."""

    key: str
    title: str
    build: Callable[[Layout, Services], None]
    render: Callable[[Any, State, Services], Sequence[Any]]
    """Returns a value for each output that `build` added, in their order.

    The first argument is a Reading, or the Store where no results are needed.
    """
    needs_results: bool = True
    """Whether the tab is rendered from a reading.

    If so, it waits for the first reading, and shows for an empty store the hint how to start.
    """
    without_results: Callable[[Reading], bool] = lambda reading: False
    """Whether the tab has something to show even where nothing has been evaluated."""
    rerank: Callable[[Reading, State, Services], Sequence[Any]] | None = None
    """Like `render`, after only the weights have changed; returns None for an output that stays as it is."""
    is_live: bool = False
    """Whether the tab is filled again every few seconds while it is open."""
