"""Several configurations as one trial of Ray Tune: proposed together, trained together, told to the searcher one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MEMBERS = "members"


def members_of(config: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    """The configurations that a trial's `config` stands for."""
    found: Sequence[dict[str, Any]] = config.get(MEMBERS, (dict(config),))
    return found


def groups(inner: Any, size: int, num_configurations: int, mode: str) -> Any:
    """A Ray searcher whose trials are `size` proposals of `inner` each, `num_configurations` in all."""
    from ray.tune.search import Searcher

    class Groups(Searcher):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(metric="score", mode=mode)
            self.sizes: dict[str, int] = {}

        def suggest(self, trial_id: str) -> Any:
            wanted = min(size, num_configurations - sum(self.sizes.values()))
            members = []
            for number in range(wanted):
                proposed = inner.suggest(f"{trial_id}-{number}")
                if not isinstance(proposed, dict):
                    break
                members.append(proposed)
            if not members:
                return Searcher.FINISHED
            self.sizes[trial_id] = len(members)
            return {MEMBERS: members}

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            """Nothing; a searcher learns from ends alone."""

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            scores = (result or {}).get("scores") or ()
            for number in range(self.sizes.get(trial_id, 0)):
                score = scores[number] if number < len(scores) else None
                end = None if score is None else {**(result or {}), "score": score}
                inner.on_trial_complete(f"{trial_id}-{number}", end, error=score is None)

        def save(self, checkpoint_path: str) -> None:
            """Nothing: a search goes on from its own records."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: a search goes on from its own records."""

    return Groups()
