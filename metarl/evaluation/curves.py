"""Adaptation curves: a statistic for each adaptation episode, with its interval."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metarl.evaluation.statistics import STATISTIC_NAMES, Estimates, TaskBootstrap

EXPERIENCE = "episodes of experience in the task"
"""The axis of every figure that shows adaptation: 0 is the first adaptation episode."""

Groups = list[tuple[int, int]]
"""Ranges (start, stop) of episode indices."""


@dataclass(frozen=True)
class Curve(Estimates):
    """A statistic over adaptation episodes: one entry for each range of episodes.

    Attributes:
        value: The statistic over tasks; the mean over seeds where there are several.
        low, high: Its interval, over tasks, or over seeds and tasks; NaN for one or two tasks.
        groups: Ranges (start, stop) of episode indices.
        seeds: The statistic of each seed, of shape (num_seeds, num_groups).
        statistic: ``"iqm"`` or ``"mean"``.
        confidence: The level of the interval.
    """

    groups: Groups
    seeds: NDArray[np.float64]
    statistic: str
    confidence: float

    @property
    def by_rounds(self) -> bool:
        """Whether it is in steps: of an agent that learns from several episodes at a time."""
        return self.groups[0][1] > 1

    @property
    def experience(self) -> list[int]:
        """How many episodes in the task come before each range: what figures show it against.

        A curve in steps has one entry more, as its last range reaches to the last episode.
        """
        ends = [self.groups[-1][1]] if self.by_rounds else []
        return [*(start for start, _ in self.groups), *ends]

    @property
    def has_band(self) -> bool:
        """Whether figures show the interval: that of two seeds is so wide that it hides all lines.

        Two seeds are shown as lines of their own.
        """
        return len(self.seeds) != 2

    def describe(self) -> str:
        """Return what is shown, for axes and captions."""
        if not self.has_band:
            return f"{STATISTIC_NAMES[self.statistic]}; thin: each seed"
        over = "over seeds and tasks" if len(self.seeds) > 1 else "over tasks"
        return f"{STATISTIC_NAMES[self.statistic]}, {self.confidence:.0%} interval {over}"


def shown_range(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return the ends of an axis that shows curves: all lines and bands."""
    parts = [part for curve in curves for part in curve.seeds]
    parts += [end for curve in curves if curve.has_band for end in (curve.low, curve.high)]
    values = np.concatenate(parts)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    space = 0.05 * max(high - low, 1e-9)
    return low - space, high + space


def episode_groups(num_episodes: int, together: int, at_most: int) -> Groups:
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


def episode_ticks(last: int) -> list[int]:
    """Return which numbers of episodes an axis from 0 to ``last`` shows: the last is among them.

    Up to 6 these are all, beyond it 0, 1, 2, 5, 10, 20, 50 and so on.
    """
    if last <= 6:
        return list(range(last + 1))
    round_numbers = (a * 10**b for b in range(len(str(last))) for a in (1, 2, 5))
    # Labels of the last and the one before it must not touch.
    return [0, *(tick for tick in round_numbers if tick <= 0.75 * last), last]


def grouped(values: NDArray[np.float64], groups: Groups) -> NDArray[np.float64]:
    """Average the last axis, that of episodes, over ranges of it."""
    return np.stack([values[..., a:b].mean(axis=-1) for a, b in groups], axis=-1)


def curve_of(
    returns: Sequence[NDArray[np.float64]],
    groups: Groups,
    bootstrap: TaskBootstrap,
    statistic: str,
    confidence: float,
) -> Curve:
    """Return the curve of an agent: of one training, or of several seeds on the same tasks.

    Args:
        returns: For each seed an array of shape (num_tasks, num_episodes).
        groups: Ranges (start, stop) of episode indices; the episodes of a range are averaged.
        bootstrap: Resamples of the tasks.
        statistic: ``"iqm"`` or ``"mean"``.
        confidence: The level of the interval.
    """
    values = np.stack([grouped(each, groups) for each in returns])
    sample = bootstrap.sample(values, statistic)
    found = bootstrap.estimate(sample, confidence=confidence)
    return Curve(found.value, found.low, found.high, groups, sample.value, statistic, confidence)
