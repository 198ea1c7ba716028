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
UNSTEADY = 0.25
"""Level of the test that an entry varies more between its seeds than comparable entries, which then do not moderate it.

So high a level is usual where two variances are pooled unless a test rejects that they are equal.
"""


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


def seed_priors(scores: Sequence[Floats], kinds: Sequence[str], varies: Sequence[bool]) -> list[SeedPrior]:
    """Return the prior of each entry, from the `scores` `(seeds,)` of all.

    Entries of one kind are comparable. Those with one seed, or whose predictions do not vary between seeds (`varies`),
    neither have a prior nor count. The variance is pooled over the comparable entries. Its degrees of freedom are those
    of the other entries, up to half of the entry's own and up to MAX_PRIOR_DF: Smyth estimates them from the spread of
    the log variances, but a handful of entries tells too little about that. An entry that varies more than the others,
    by the F test at level UNSTEADY, has no prior, so that its own seeds alone tell how unsteady it is.
    By simulation of seeds alone, the interval of one of 2 to 12 entries with up to 25 times the variance of the others
    covers 93 % or more with 3 seeds; with 2, up to 9 times. Median widths are 0.6, 0.8 and 0.9 of those without a
    prior with 2, 3 and 5 seeds.
    Source: Smyth 2004; Bancroft 1964, Biometrics 20(3), for pooling after a test at such a level.
    """
    found = [NO_PRIOR] * len(scores)
    for kind in set(kinds):
        at = [m for m, own in enumerate(scores) if kinds[m] == kind and varies[m] and len(own) > 1]
        if len(at) < 2:
            continue
        df = np.array([len(scores[m]) - 1.0 for m in at])
        squares = df * np.array([scores[m].var(ddof=1) for m in at])
        others, others_df = squares.sum() - squares, df.sum() - df
        ratio = np.divide(squares / df * others_df, others, out=np.full(len(at), np.inf), where=others > 0)
        steady = scipy.special.fdtrc(df, others_df, ratio) >= UNSTEADY
        counted = np.where(steady, np.minimum(np.minimum(df / 2, others_df), MAX_PRIOR_DF), 0.0)
        for m, prior_df in zip(at, counted.tolist(), strict=True):
            found[m] = SeedPrior(float(squares.sum() / df.sum()), prior_df) if prior_df else NO_PRIOR
    return found


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
        priors = seed_priors(scores, self.kinds, self.varies)
        made = [
            self._effect(m, own, priors[m]) if self.varies[m] and len(own) > 1 else np.zeros(len(self.scale))
            for m, own in enumerate(scores)
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
