"""Joint training of several adapters on one base model, with shared forward and backward passes through the base.

Each fit has its own thread and random state, and only one thread runs at a time. Data order, dropout, optimiser,
validation, checkpoints and early stopping are the same as if the fit trained alone. Only the gradients of a batch are
computed jointly, for all fits that wait with the same batch. Results differ only by rounding, as sums are computed in
another order.
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

from moodbench.models.adapter import CHANGE_THE_BASE
from moodbench.models.features import uses_checkpointing
from moodbench.spec import FitSpec

if TYPE_CHECKING:
    import torch

FAMILIES = ("bert", "distilbert", "electra", "roberta")
"""Families in which the first dimension of every dropout input is the batch."""
_here = threading.local()


def can_join(spec: FitSpec, num_params: int, num_accumulated: int) -> bool:
    """Return whether a fit can share passes through its base model.

    The base must be in fp32 and unchanged by the adapter's initialisation, and each batch must fit in one pass.
    """
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
class _WaitingFit:
    """A fit that waits for the gradients of its batch."""

    key: Hashable
    base: Callable[[], Any]
    model: Any
    batch: dict[str, torch.Tensor]
    random_state: torch.Tensor
    loss: torch.Tensor | None = None
    done: bool = False


@dataclass
class JointFit:
    """One of the fits that train together."""

    number: int
    group: JointTraining
    seconds: float = 0.0
    """Time of this fit in seconds: its own work in full, and an equal share of each joint pass."""
    most_joined: int = 1
    """Largest number of fits in a joint pass of this fit, including itself."""

    def elapsed_s(self) -> float:
        """Return the time of this fit so far, in seconds; call it only from the thread of the fit during its turn."""
        return self.seconds + time.perf_counter() - self.group.since


def current_fit() -> JointFit | None:
    """Return the joint fit that the current thread runs, or None."""
    return getattr(_here, "current_fit", None)


@dataclass
class JointTraining:
    """Group of fits that take turns and synchronise before each batch."""

    _turn: threading.Condition = field(default_factory=threading.Condition)
    _current: int = 0
    _live: list[int] = field(default_factory=list)
    _members: list[JointFit] = field(default_factory=list)
    _waiting: dict[int, _WaitingFit] = field(default_factory=dict)
    _bases: dict[Hashable, Any] = field(default_factory=dict)
    since: float = 0.0
    """Start of the current turn, by `time.perf_counter`."""

    def run[T](self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """Return the results of `jobs` in order; after all have ended, raise the first exception of any of them."""
        results: list[Any] = [None] * len(jobs)
        errors: list[BaseException] = []
        self._live, self._members = list(range(len(jobs))), [JointFit(n, self) for n in range(len(jobs))]
        begin = _random_state()

        def work(number: int) -> None:
            with self._turn:
                self._turn.wait_for(lambda: self._current == number)
            _here.current_fit = self._members[number]
            _set_random_state(begin)
            self.since = time.perf_counter()
            try:
                results[number] = jobs[number]()
            except BaseException as error:  # noqa: BLE001 - re-raised by run
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
        self, one: JointFit, key: Hashable, base: Callable[[], Any], model: Any, batch: dict[str, torch.Tensor]
    ) -> torch.Tensor | None:
        """Return the loss of `model` on `batch` after setting its gradients, or None if no other fit has this batch.

        `one` is the calling fit. Fits with equal `key` may share passes; `base` loads the plain base model of that key.
        """
        import torch

        mine = _WaitingFit(key, base, model, batch, torch.get_rng_state())
        self._waiting[one.number] = mine
        self._charge(one)
        if not self._all_wait():
            saved = _random_state()
            self._hand_on(one.number)
            with self._turn:
                self._turn.wait_for(lambda: self._current == one.number)
            _set_random_state(saved)
        else:
            self._pass()
        torch.set_rng_state(mine.random_state)
        self.since = time.perf_counter()
        return mine.loss

    def _all_wait(self) -> bool:
        return all(number in self._waiting for number in self._live)

    def _charge(self, one: JointFit) -> None:
        one.seconds += time.perf_counter() - self.since

    def _leave(self, number: int) -> None:
        self._charge(self._members[number])
        self._live.remove(number)
        if self._live:
            if self._all_wait():
                self._pass()
            self._hand_on(number)

    def _hand_on(self, number: int) -> None:
        """Give the turn to the next fit that does not wait for a batch, in round-robin order."""
        ready = [n for n in self._live if n not in self._waiting]
        with self._turn:
            self._current = min(ready, key=lambda n: (n <= number, n))
            self._turn.notify_all()

    def _pass(self) -> None:
        """Compute the gradients of waiting fits that share base and batch in joint passes, and release all of them."""
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

    def _joint(self, waiting: list[_WaitingFit]) -> None:
        import torch
        from torch.nn.functional import cross_entropy

        first = waiting[0]
        if first.key not in self._bases:
            saved = _random_state()
            self._bases[first.key] = _Joined(first.base(), first.model)
            _set_random_state(saved)
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
    """A base model that applies, to each chunk of the batch, the adapters and new modules of another fit."""

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
        """Return logits (fits x texts, labels), and advance `states`, the random state of each fit."""
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
        """Use and advance the random state of one fit inside this context."""
        import torch

        outer, self._inside = getattr(self, "_inside", False), True
        torch.set_rng_state(self._states[number])
        yield
        self._states[number] = torch.get_rng_state()
        self._inside = outer

    @contextmanager
    def _own_dropout(self) -> Iterator[None]:
        """Make dropout in the base draw the same masks for each fit as if it trained alone."""
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

    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 - used by the libraries


def _set_random_state(state: tuple[Any, Any, Any]) -> None:
    import torch

    torch.set_rng_state(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    random.setstate(state[2])
