"""What a tab of the page is: a title, how its parts are placed, and how they are filled for a state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from moodbench.benchmark.queue import RunQueue
from moodbench.config import Catalogue
from moodbench.execution.ray_glance import ClusterNow
from moodbench.visualization.page.reading import Reading
from moodbench.visualization.state import State

Offer = Sequence[tuple[str, Any]] | Callable[[Reading], Sequence[tuple[str, Any]]]
"""Titles and values that a component lets one choose from, always or for a reading."""
QUIET: Mapping[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""How every listener is registered: hidden from the API, and past the queue, which would keep a stream open."""


class Answer(Protocol):
    """What a fitted contender says about one text, and how long that took."""

    @property
    def label(self) -> str:
        """The most probable class."""

    @property
    def probabilities(self) -> Mapping[str, float]:
        """Of every class."""

    @property
    def seconds(self) -> float:
        """From the text to its label."""

    @property
    def truncated(self) -> bool:
        """Whether the text was longer than the model reads."""


Ask = Callable[[str, str], Answer]
"""A contender's fit id or model and a text to its answer; MoodBenchError when it cannot."""


@dataclass(frozen=True)
class Services:
    """What tabs can do besides showing a reading."""

    ask: Ask | None = None
    """Labels a text; None where the page was opened without models."""
    show_texts: bool = False
    """Whether private texts may be shown."""
    runner: RunQueue | None = None
    """Starts runs; None where the page only reads."""
    cluster: Callable[[], ClusterNow | None] | None = None
    """What was last seen of the Ray cluster, at once; None where the page was told of none."""
    catalogue: Catalogue | None = None
    """Names the licences of models and data sets; None is the one that comes with the program."""


@dataclass(frozen=True)
class Action:
    """Something that a tab does when asked."""

    output: Any
    events: Sequence[Any]
    given: Sequence[Any]
    answer: Callable[..., Any]


@dataclass
class Layout:
    """Collects what a tab places while it is built."""

    controls: dict[str, Any] = field(default_factory=dict)
    """Field of State to the component that sets it."""
    choices: dict[str, Offer] = field(default_factory=dict)
    """Field of State to what its component offers."""
    blanks: dict[str, Any] = field(default_factory=dict)
    """Field of State to what its component shows for None."""
    outputs: list[Any] = field(default_factory=list)
    """Components that `render` fills, in its order."""
    events: list[Any] = field(default_factory=list)
    """Events after which the tab is filled again."""
    weighing: list[Any] = field(default_factory=list)
    """Events after which the tab is ranked again."""
    chained: list[Any] = field(default_factory=list)
    """Listeners after whose end the tab is ranked again."""
    actions: list[Action] = field(default_factory=list)
    """What is answered on request alone."""
    opened: Any = None
    """The event of opening the tab."""

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
        """`component`, which sets the field `name` and fills the tab again on `event`; `blank` shows that it is None; one that
        `weighs` only ranks it again."""
        self.blanks[name] = blank
        self.controls[name] = component
        (self.weighing if weighs else self.events).append(getattr(component, event))
        if choices is not None:
            self.choices[name] = choices
        return component

    def after(self, listener: Any) -> None:
        """Nothing; ranks the tab again when `listener` has set weights."""
        self.chained.append(listener)

    def action(self, output: Any, events: Sequence[Any], given: Sequence[Any], answer: Callable[..., Any]) -> None:
        """Nothing; on one of `events`, `output` shows `answer` of reading, state, services and the values of `given`."""
        self.actions.append(Action(output, events, given, answer))

    def output(self, component: Any) -> Any:
        """`component`, which `render` fills."""
        self.outputs.append(component)
        return component


@dataclass(frozen=True)
class Tab:
    """One tab of the page."""

    key: str
    title: str
    build: Callable[[Layout, Services], None]
    render: Callable[[Any, State, Services], Sequence[Any]]
    """A value for each output that `build` placed, in their order; from a Reading, or from the Store where no results are needed."""
    needs_results: bool = True
    """Whether it is made from a reading: then it waits for the first one, and an empty store is answered by the hint how to start."""
    without_results: Callable[[Reading], bool] = lambda reading: False
    """Whether it has something to show all the same, where nothing is evaluated."""
    rerank: Callable[[Reading, State, Services], Sequence[Any]] | None = None
    """Like `render` after a change of weights alone: None for an output that stays as it is."""
    is_live: bool = False
    """Whether it is filled again every few seconds while it is open."""
