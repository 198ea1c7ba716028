"""Variance between trainings of a recipe, moderated by comparable recipes: two or three seeds say little about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when first used; scipy.stats alone takes a second

Floats = npt.NDArray[np.float64]
MAX_PRIOR_DF = 3.0
"""Most degrees of freedom of a prior: variances of entries do differ, and a larger prior hides an unsteady entry."""


class SeedPrior(NamedTuple):
    """Prior of the variance of the score of one training, from comparable entries; nothing by default."""

    variance: float = 0.0
    df: float = 0.0
    """Degrees of freedom that `variance` counts for."""

    def moderated[T: (float, Floats)](self, variance: T, num_seeds: int) -> T:
        """Return the mean of the prior and an entry's own `variance` over its seeds, weighted by degrees of freedom.

        It has the degrees of freedom of both, `df` + `num_seeds` - 1.

        Source: Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3(1), section 3.
        """
        own = num_seeds - 1
        return (self.df * self.variance + own * variance) / (self.df + own)

    def of_difference(self, other: SeedPrior) -> SeedPrior:
        """Return the prior of the difference of two entries, as if their seeds had nothing in common."""
        if self.df == other.df == math.inf:
            return NO_PRIOR
        return SeedPrior(self.variance + other.variance, min(self.df, other.df))


NO_PRIOR = SeedPrior()
DETERMINISTIC = SeedPrior(0.0, math.inf)
"""Prior of an entry whose predictions are the same with all seeds; only for differences to others."""


def seed_prior(scores: Sequence[Floats]) -> SeedPrior:
    """Return the prior from the `scores` `(seeds,)` of each of several comparable entries that are not deterministic.

    Entries with one seed do not count. The variance is pooled over the entries. Its degrees of freedom are those of
    the other entries, up to MAX_PRIOR_DF: Smyth estimates them from the spread of the log variances, but a handful of
    entries tells too little about that.
    """
    varying = [own for own in scores if len(own) > 1]
    df = np.array([len(own) - 1 for own in varying], dtype=np.float64)
    if len(varying) < 2:
        return NO_PRIOR
    pooled = float(np.sum([d * own.var(ddof=1) for d, own in zip(df, varying, strict=True)]) / df.sum())
    return SeedPrior(pooled, min(MAX_PRIOR_DF, float(df.sum() - df.max())))


class SeedNoise(NamedTuple):
    """Random numbers of the seed effects of all entries, for B bootstrap draws."""

    shared: Floats
    """`(B, different seeds)`: standard normal numbers of each seed, which entries with that seed share."""
    own: Floats
    """`(B, M)`: standard normal numbers of each entry."""
    scale: Floats
    """`(B,)`: uniform numbers, from which the scale of the t distribution follows."""
    places: Sequence[Sequence[int]]
    """Seeds of each entry, as columns of `shared`."""
    kinds: Sequence[str]
    """Kind of each entry: entries of one kind are comparable."""
    varies: Sequence[bool]
    """Whether the predictions of each entry vary between its seeds; a deterministic one has no seed effect."""

    @classmethod
    def drawn(
        cls,
        rng: np.random.Generator,
        num_draws: int,
        *,
        seeds: Sequence[Sequence[int]],
        kinds: Sequence[str],
        varies: Sequence[bool],
    ) -> SeedNoise:
        """Return the random numbers of entries with these `seeds`, in the order of their scores."""
        every = sorted({s for own in seeds for s in own})
        shared, own = (rng.standard_normal((num_draws, n)) for n in (len(every), len(seeds)))
        places = [[every.index(s) for s in each] for each in seeds]
        return cls(shared, own, rng.random(num_draws), places, kinds, varies)

    def effects(self, scores: Sequence[Floats]) -> Floats:
        """Return draws `(B, M)` of the error of the mean over seeds, from the `scores` `(seeds,)` of each entry."""
        given = list(zip(scores, self.kinds, self.varies, strict=True))
        priors = {k: seed_prior([own for own, kind, varies in given if varies and kind == k]) for k in self.kinds}
        made = [
            self._effect(m, own, priors[kind]) if varies and len(own) > 1 else np.zeros(len(self.scale))
            for m, (own, kind, varies) in enumerate(given)
        ]
        return np.stack(made, axis=1)

    def _effect(self, m: int, per_seed: Floats, prior: SeedPrior) -> Floats:
        """Return draws `(B,)` of one entry with several seeds.

        The moderated covariance between entries is that of their scores and, of weight `prior.df`, that of independent
        entries with the variance of the prior.
        """
        size = len(per_seed)
        df = prior.df + size - 1
        common = self.shared[:, self.places[m]] @ (per_seed - per_seed.mean())  # variance (size - 1) x own variance
        alone = np.sqrt(prior.df * prior.variance) * self.own[:, m]
        scale = np.sqrt(2 * scipy.special.gammaincinv(df / 2, self.scale) / df)
        return np.asarray((common + alone) / np.sqrt(df * size) / scale)
