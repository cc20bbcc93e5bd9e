"""Statistics of returns over tasks: interquartile mean, bootstrap interval, adaptation curve."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from metarl.seeding import stream

STATISTIC_NAMES = {"iqm": "interquartile mean", "mean": "mean"}


@dataclass(frozen=True)
class Summary:
    """A curve over adaptation episodes: one entry for each range of episodes.

    Attributes:
        groups: Ranges (start, stop) of episode indices.
        mean: The mean over tasks.
        iqm: The interquartile mean over tasks.
        low, high: The bootstrap interval of the statistic.
        statistic: ``"iqm"`` or ``"mean"``.
        confidence: The level of the interval.
    """

    groups: list[tuple[int, int]]
    mean: NDArray[np.float64]
    iqm: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    statistic: str
    confidence: float

    @property
    def center(self) -> NDArray[np.float64]:
        """The statistic over tasks."""
        return self.iqm if self.statistic == "iqm" else self.mean


def episode_groups(num_episodes: int, together: int, at_most: int) -> list[tuple[int, int]]:
    """Divide episodes into at most ``at_most`` ranges, finer at the start.

    Args:
        num_episodes: How many episodes there are.
        together: How many in a row are never divided, as an agent ran them side by side.
        at_most: The most ranges.

    Returns:
        Ranges (start, stop) of episode indices.
    """
    rounds = num_episodes // together
    if rounds <= at_most:
        edges = np.arange(rounds + 1)
    else:
        edges = np.unique(np.geomspace(1, rounds + 1, at_most + 1).astype(int)) - 1
    return [(int(a) * together, int(b) * together) for a, b in itertools.pairwise(edges)]


def summarize(
    returns: NDArray[np.float64],
    groups: Sequence[tuple[int, int]],
    statistic: str,
    confidence: float,
    seed: int,
) -> Summary:
    """Summarise returns over tasks.

    Args:
        returns: Of shape (num_tasks, num_episodes).
        groups: Ranges (start, stop) of episode indices; the episodes of a range are averaged.
        statistic: ``"iqm"`` or ``"mean"``.
        confidence: The level of the bootstrap interval of the statistic.
        seed: The seed of the bootstrap.
    """
    values = np.stack([returns[:, a:b].mean(axis=1) for a, b in groups], axis=1)
    low, high = bootstrap_interval(values, statistic, confidence, seed)
    return Summary(
        groups=list(groups),
        mean=values.mean(axis=0),
        iqm=_iqm(values),
        low=low,
        high=high,
        statistic=statistic,
        confidence=confidence,
    )


def _iqm(values: NDArray[Any], axis: int = 0) -> NDArray[np.float64]:
    return np.asarray(scipy.stats.trim_mean(values, 0.25, axis=axis))


_STATISTICS: dict[str, Callable[..., Any]] = {"iqm": _iqm, "mean": np.mean}


def bootstrap_interval(
    values: NDArray[np.float64], statistic: str, confidence: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentile bootstrap over tasks, for each column."""
    if len(values) < 2:
        return values[0], values[0]
    result = scipy.stats.bootstrap(
        (values,),
        _STATISTICS[statistic],
        axis=0,
        vectorized=True,
        n_resamples=1000,
        batch=max(1, 10_000_000 // values.size),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(stream(seed, "bootstrap")),
    )
    return result.confidence_interval.low, result.confidence_interval.high
