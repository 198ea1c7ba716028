"""Several fits of one base model trained in step: one forward and backward pass through the base for all their adapters.

Each fit runs in a thread of its own, and only one of them at a time, with its own random state: data order, dropout,
optimiser, validation, checkpoints and early stopping are those of the fit alone. Only the gradient of a batch is worked
out for all fits that stand before the same batch at once. Sums in another order leave differences of rounding alone.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from moodbench.models.features import uses_checkpointing
from moodbench.models.lora_variants import CHANGE_THE_BASE
from moodbench.spec import FitSpec

if TYPE_CHECKING:
    import torch

FAMILIES = ("bert", "distilbert", "electra", "roberta")
"""Families whose dropout always acts on tensors with the texts in their first dimension."""
_here = threading.local()


def can_join(spec: FitSpec, num_params: int, num_accumulated: int) -> bool:
    """Whether a fit may share passes through its base: full-precision weights that every adapter sees as they are."""
    assert spec.train is not None
    return (
        spec.lora is not None
        and spec.model.family in FAMILIES
        and spec.quantization == "none"
        and spec.prompt is None
        and spec.train.precision == "fp32"
        and spec.lora.init_lora_weights not in CHANGE_THE_BASE
        and num_accumulated == 1
        and not uses_checkpointing(num_params, True)
    )


@dataclass
class _Waiting:
    """A member that stands before a batch."""

    key: Hashable
    base: Callable[[], Any]
    model: Any
    batch: dict[str, torch.Tensor]
    random_state: torch.Tensor
    loss: torch.Tensor | None = None
    done: bool = False


@dataclass
class Member:
    """One fit among those that train together."""

    number: int
    group: Together
    seconds: float = 0.0
    """Its share of the time: alone in full, a joint pass divided by those in it."""
    most_joined: int = 1
    """The most fits, itself included, that shared a pass with it."""

    def elapsed_s(self) -> float:
        """Return its share of the time until now; for the thread of the member, whose turn it is."""
        return self.seconds + time.perf_counter() - self.group.since

    def step(
        self, key: Hashable, base: Callable[[], Any], model: Any, batch: dict[str, torch.Tensor]
    ) -> torch.Tensor | None:
        """The loss of `model` on `batch`, its gradients in place; None when no other fit stands before the same batch.

        `key` says which fits may share passes; `base` loads the plain base model of that key.
        """
        return self.group.step(self, key, base, model, batch)


def member() -> Member | None:
    """The member whose thread this is, or None."""
    return getattr(_here, "member", None)


@dataclass
class Together:
    """Fits that take turns, and meet before each batch."""

    _turn: threading.Condition = field(default_factory=threading.Condition)
    _current: int = 0
    _live: list[int] = field(default_factory=list)
    _members: list[Member] = field(default_factory=list)
    _waiting: dict[int, _Waiting] = field(default_factory=dict)
    _bases: dict[Hashable, Any] = field(default_factory=dict)
    since: float = 0.0
    """When the turn of the fit that works now began."""

    def run[T](self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """What each job returns, in their order; the first exception of one is raised when all have ended."""
        results: list[Any] = [None] * len(jobs)
        errors: list[BaseException] = []
        self._live, self._members = list(range(len(jobs))), [Member(n, self) for n in range(len(jobs))]
        begin = _random_state()

        def work(number: int) -> None:
            with self._turn:
                self._turn.wait_for(lambda: self._current == number)
            _here.member = self._members[number]
            _set_random_state(begin)
            self.since = time.perf_counter()
            try:
                results[number] = jobs[number]()
            except BaseException as error:  # noqa: BLE001 - raised again by run
                errors.append(error)
            finally:
                self._leave(number)

        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(jobs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results

    def step(
        self, one: Member, key: Hashable, base: Callable[[], Any], model: Any, batch: dict[str, torch.Tensor]
    ) -> torch.Tensor | None:
        """See Member.step."""
        import torch

        mine = _Waiting(key, base, model, batch, torch.get_rng_state())
        self._waiting[one.number] = mine
        self._charge(one)
        if not self._all_wait():
            kept = _random_state()
            self._hand_on(one.number)
            with self._turn:
                self._turn.wait_for(lambda: self._current == one.number)
            _set_random_state(kept)
        else:
            self._pass()
        torch.set_rng_state(mine.random_state)
        self.since = time.perf_counter()
        return mine.loss

    def _all_wait(self) -> bool:
        return all(number in self._waiting for number in self._live)

    def _charge(self, one: Member) -> None:
        one.seconds += time.perf_counter() - self.since

    def _leave(self, number: int) -> None:
        self._charge(self._members[number])
        self._live.remove(number)
        if self._live:
            if self._all_wait():
                self._pass()
            self._hand_on(number)

    def _hand_on(self, number: int) -> None:
        """Gives the turn to the next fit, in a ring, that does not wait for others."""
        ready = [n for n in self._live if n not in self._waiting]
        with self._turn:
            self._current = min(ready, key=lambda n: (n <= number, n))
            self._turn.notify_all()

    def _pass(self) -> None:
        """Works out the gradients of all that wait; those before the same batch of the same base at once."""
        left = dict(self._waiting)
        while left:
            first = next(iter(left.values()))
            same = {n: w for n, w in left.items() if w.key == first.key and _equal(w.batch, first.batch)}
            if len(same) > 1:
                began = time.perf_counter()
                self._joint(list(same.values()))
                share = (time.perf_counter() - began) / len(same)
                for number in same:
                    self._members[number].seconds += share
                    self._members[number].most_joined = max(self._members[number].most_joined, len(same))
            left = {n: w for n, w in left.items() if n not in same}
        self._waiting.clear()

    def _joint(self, waiting: list[_Waiting]) -> None:
        import torch
        from torch.nn.functional import cross_entropy

        first = waiting[0]
        if first.key not in self._bases:
            kept = _random_state()
            self._bases[first.key] = _Joined(first.base(), first.model)
            _set_random_state(kept)
        for each in waiting:
            each.model.train()
        states = [each.random_state for each in waiting]
        inputs = {k: v.repeat(len(waiting), *[1] * (v.dim() - 1)) for k, v in first.batch.items() if k != "labels"}
        logits = self._bases[first.key].logits([each.model for each in waiting], inputs, states)
        losses = [
            cross_entropy(part, each.batch["labels"])
            for part, each in zip(logits.chunk(len(waiting)), waiting, strict=True)
        ]
        torch.autograd.backward(losses)
        for each, loss, state in zip(waiting, losses, states, strict=True):
            each.loss, each.random_state = loss.detach(), state


class _Joined:
    """A base model whose adapted and new modules are, for each part of the batch, those of another fit."""

    def __init__(self, base: Any, example: Any) -> None:
        from peft.tuners.lora import LoraLayer
        from peft.utils import ModulesToSaveWrapper

        self.model = base.train()
        self.model.requires_grad_(False)
        self._models: Sequence[Any] = ()
        self._states: list[Any] = []
        adapted = example.get_base_model()
        for name, module in list(adapted.named_modules()):
            if isinstance(module, LoraLayer):
                layer = self.model.get_submodule(name)
                layer.forward = self._adapted(name, layer.forward)
            elif isinstance(module, ModulesToSaveWrapper):
                self.model.get_submodule(name).forward = self._replaced(name)

    def logits(
        self, models: Sequence[Any], inputs: dict[str, torch.Tensor], states: list[torch.Tensor]
    ) -> torch.Tensor:
        """Shape (fits x texts, labels); `states`, the random state of each fit, are moved on."""
        self._models, self._states = [model.get_base_model() for model in models], states
        with self._own_dropout():
            result: torch.Tensor = self.model(**inputs).logits
        return result

    def _parts(self, name: str) -> list[Any]:
        return [model.get_submodule(name) for model in self._models]

    def _adapted(self, name: str, plain: Callable[[Any], Any]) -> Callable[[Any], Any]:
        import torch

        def forward(x: Any) -> Any:
            whole = plain(x)
            parts = []
            for number, (layer, rows, result) in enumerate(
                zip(self._parts(name), x.chunk(len(self._models)), whole.chunk(len(self._models)), strict=True)
            ):
                with self._random(number):
                    if "default" in layer.lora_variant:
                        made = layer.lora_variant["default"].forward(
                            layer, active_adapter="default", x=rows, result=result
                        )
                    else:
                        down, up = layer.lora_A["default"], layer.lora_B["default"]
                        made = result + up(down(layer.lora_dropout["default"](rows))) * layer.scaling["default"]
                parts.append(made)
            return torch.cat(parts)

        return forward

    def _replaced(self, name: str) -> Callable[..., Any]:
        import torch

        def forward(x: Any, *rest: Any, **named: Any) -> Any:
            parts = []
            for number, (module, rows) in enumerate(zip(self._parts(name), x.chunk(len(self._models)), strict=True)):
                with self._random(number):
                    parts.append(module(rows, *rest, **named))
            return torch.cat(parts)

        return forward

    @contextmanager
    def _random(self, number: int) -> Iterator[None]:
        """Draws inside come from the random state of one fit, which moves on."""
        import torch

        outer, self._inside = getattr(self, "_inside", False), True
        torch.set_rng_state(self._states[number])
        yield
        self._states[number] = torch.get_rng_state()
        self._inside = outer

    @contextmanager
    def _own_dropout(self) -> Iterator[None]:
        """Dropout of the base draws for each fit's texts what the fit alone would draw."""
        import torch
        from torch.nn.functional import dropout, scaled_dot_product_attention
        from torch.overrides import TorchFunctionMode

        joined = self

        class Mode(TorchFunctionMode):
            def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                named = kwargs or {}
                if joined._inside or function not in (dropout, scaled_dot_product_attention):
                    return function(*args, **named)
                if function is dropout:
                    if not named.get("training", args[2] if len(args) > 2 else True) or not _share_of(
                        args, named, 1, "p"
                    ):
                        return function(*args, **named)
                elif not _share_of(args, named, 4, "dropout_p"):
                    return function(*args, **named)
                num, rows = len(joined._models), args[0].shape[0]
                made = []
                for number in range(num):

                    def part(value: Any, number: int = number) -> Any:
                        whole = isinstance(value, torch.Tensor) and value.dim() > 0 and value.shape[0] == rows
                        return value.chunk(num)[number] if whole else value

                    with joined._random(number):
                        made.append(function(*map(part, args), **{k: part(v) for k, v in named.items()}))
                return torch.cat(made)

        self._inside = False
        with Mode():
            yield


def _share_of(args: Any, named: Any, place: int, name: str) -> float:
    return float(named.get(name, args[place] if len(args) > place else 0.0))


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def _random_state() -> tuple[Any, Any, Any]:
    import torch

    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 - what libraries draw from


def _set_random_state(state: tuple[Any, Any, Any]) -> None:
    import torch

    torch.set_rng_state(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    random.setstate(state[2])
