"""Statistics over tasks and seeds with their intervals.

Intervals come from a bootstrap that resamples *distinct tasks* and, where an agent was trained with
several seeds, its seeds at the same time (a crossed, or hierarchical, bootstrap; Agarwal et al.
2021, "Deep reinforcement learning at the edge of the statistical precipice"). Resampled units are
few: percentiles of the resamples alone cover too little (Hesterberg 2015, "What teachers should
know about the bootstrap"). So the bootstrap gives the shape of the interval, and its width is that
of a t interval with the unbiased variance.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from metarl.seeding import stream

STATISTIC_NAMES = {"iqm": "interquartile mean", "mean": "mean"}
NUM_RESAMPLES = 1000
FEW_TASKS = 30
"""Below so many tasks intervals are rough."""
FEWEST_TASKS = 3
"""Below so many there are none: an interval of two would be thirteen standard errors wide."""
_MAX_UNITS = 2000  # of more tasks, groups are resampled: memory does not grow with them
_MAX_ENTRIES = 100_000  # of a matrix of rows and resamples: it fits into a cache

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number and its interval.

    Attributes:
        value: The number.
        low, high: The ends of its interval; NaN where there is none, as of one or two tasks.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimates:
    """Several numbers and their intervals, arrays of one shape; see :class:`Estimate`."""

    value: Array
    low: Array
    high: Array

    def __getitem__(self, index: int) -> Estimate:
        return Estimate(*(float(part[index]) for part in (self.value, self.low, self.high)))


def statistic_of(values: Array, statistic: str, axis: int = 0) -> Array:
    """Return the mean or the interquartile mean along an axis.

    Args:
        values: Any numbers.
        statistic: ``"iqm"`` or ``"mean"``.
        axis: Over what.
    """
    if statistic == "mean":
        return np.asarray(values.mean(axis=axis))
    return np.asarray(scipy.stats.trim_mean(values, 0.25, axis=axis))


@dataclass(frozen=True)
class Sample:
    """A statistic over tasks, for each seed and column: as it is, and in resamples of the tasks.

    Attributes:
        value: Of shape (num_seeds, num_columns).
        resampled: Of shape (num_resamples, num_seeds, num_columns).
        is_share: Whether a column is the mean of zeros and ones of distinct tasks, for one seed.
    """

    value: Array
    resampled: Array
    is_share: NDArray[np.bool_]

    def __sub__(self, other: "Sample") -> "Sample":
        """Return the difference seed by seed: of two episodes of the same agents."""
        return Sample(
            self.value - other.value,
            self.resampled - other.resampled,
            np.zeros_like(self.is_share),
        )

    def __neg__(self) -> "Sample":
        """Return it with the other sign, to be subtracted in :meth:`TaskBootstrap.estimate`."""
        return Sample(-self.value, -self.resampled, np.zeros_like(self.is_share))

    def columns(self, index: slice) -> "Sample":
        """Return some of the columns."""
        return replace(
            self,
            value=self.value[:, index],
            resampled=self.resampled[:, :, index],
            is_share=self.is_share[index],
        )


class TaskBootstrap:
    """Resamples of the tasks of an evaluation.

    All that is estimated from one object shares the resamples: differences are paired by task.

    Args:
        ids: For each row of an evaluation which task it is of. Rows of one task are drawn together;
            where all are of a single task, each row is drawn by itself.
        seed: The seed of the resamples.
    """

    def __init__(self, ids: NDArray[np.intp], seed: int):
        if len(ids) and not ids.any():  # one task: what is left to resample is its repetitions
            ids = np.arange(len(ids))
        self.ids, self.seed = ids % _MAX_UNITS, seed
        self.num_units = int(self.ids.max()) + 1
        self._counts, self._counts_by_task = _counts_of_tasks(self.num_units, seed)

    def sample(self, values: Array, statistic: str) -> Sample:
        """Return a statistic over tasks.

        Args:
            values: Of shape (num_seeds, num_tasks, num_columns).
            statistic: ``"iqm"`` or ``"mean"``.
        """
        num_seeds, num_rows, num_columns = values.shape
        if statistic == "mean":
            sums = np.zeros((self.num_units, num_seeds, num_columns))
            np.add.at(sums, self.ids, values.swapaxes(0, 1))
            sizes = np.bincount(self.ids, minlength=self.num_units)
            totals = self._counts @ sums.reshape(self.num_units, -1)
            resampled = totals / (self._counts @ sizes)[:, None]
        else:
            columns = values.swapaxes(1, 2).reshape(-1, num_rows)
            resampled = np.stack([self._iqms(column) for column in columns], axis=1)
        distinct = self.num_units == num_rows and num_seeds == 1 and statistic == "mean"
        return Sample(
            statistic_of(values, statistic, axis=1),
            resampled.reshape(NUM_RESAMPLES, num_seeds, num_columns),
            np.asarray(np.isin(values, (0.0, 1.0)).all(axis=(0, 1)) & distinct, dtype=np.bool_),
        )

    def _iqms(self, values: Array) -> Array:
        """Return the interquartile mean of rows, of shape (num_rows,), in each resample."""
        order = np.argsort(values, kind="stable")
        ordered, ids = values[order], self.ids[order]
        # Numbers from -1 to 1: single precision is enough for them, and fast.
        middle = ordered[len(ordered) // 2]
        spread = max(ordered[-1] - middle, middle - ordered[0]) or 1.0
        ordered = (ordered - middle) / spread
        steps = np.append(ordered[:-1] - ordered[1:], ordered[-1]).astype(np.float32)
        chunk = max(1, _MAX_ENTRIES // len(values))
        means = []
        for start in range(0, NUM_RESAMPLES, chunk):
            # A row counts as often as its task was drawn; a quarter of all is cut at either end.
            below = self._counts_by_task[ids, start : start + chunk]  # (num_rows, chunk)
            np.cumsum(below, axis=0, out=below)
            total = below[-1].copy()
            cut = np.floor(0.25 * total)
            np.clip(below, cut, total - cut, out=below)
            # The sum of rows times how often they are kept, summed by parts.
            kept = steps @ below - cut * ordered[0]
            means.append(kept / (total - 2 * cut))
        resampled: Array = middle + spread * np.concatenate(means).astype(np.float64)
        return resampled

    def estimate(self, *samples: Sample, confidence: float = 0.95) -> Estimates:
        """Return the mean over seeds of a statistic, or a sum of such means, with its interval.

        With one seed the interval is over tasks: it says what other tasks would give, not what
        another training would. With several it is over seeds and tasks.

        Args:
            samples: What is added up: of one agent, or of several on the same tasks, whose seeds
                have nothing to do with each other; ``estimate(a, -b)`` is of their difference.
            confidence: The level of the interval.
        """
        value = np.sum([sample.value.mean(axis=0) for sample in samples], axis=0)
        if self.num_units < FEWEST_TASKS:
            nothing = np.full_like(value, np.nan)
            return Estimates(value, nothing, nothing)
        unbiased = self.num_units / (self.num_units - 1)
        by_tasks, both = np.zeros((2, *samples[0].resampled[:, 0].shape))
        by_seeds, noise, freedom = [], np.zeros_like(value), [self.num_units - 1]
        for index, sample in enumerate(samples):
            num_seeds = len(sample.value)
            rng = np.random.default_rng(stream(self.seed, "bootstrap", "seeds", index))
            weights = _draw(rng, num_seeds) / num_seeds
            by_tasks += sample.resampled.mean(axis=1)
            both += np.einsum("bs,bsc->bc", weights, sample.resampled)
            if num_seeds > 1:
                by_seeds.append(sample.value.var(axis=0, ddof=1) / num_seeds)
                freedom.append(num_seeds - 1)
                # What seeds and tasks have together is in both variances: it is taken off once.
                own = sample.resampled - sample.resampled.mean(axis=1, keepdims=True)
                noise += own.var(axis=0).sum(axis=0) / (num_seeds - 1) / num_seeds * unbiased
        parts = np.stack([by_tasks.var(axis=0) * unbiased, *by_seeds])
        largest = parts.max(axis=0)
        variance = np.maximum(parts.sum(axis=0) - noise, largest)
        # Satterthwaite's approximation; of no variance at all the degrees of freedom are any.
        ratios = np.divide(parts, largest, out=np.ones_like(parts), where=largest > 0)
        weighted = (ratios**2 / np.array(freedom)[:, None]).sum(axis=0)
        degrees = ratios.sum(axis=0) ** 2 / weighted
        reach = scipy.special.stdtrit(degrees, 0.5 + confidence / 2) * np.sqrt(variance)
        low, high = np.quantile(both, [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
        below, above = np.maximum(value - low, 0.0), np.maximum(high - value, 0.0)
        width = below + above
        wider = np.divide(2 * reach, width, out=np.zeros_like(value), where=width > 0)
        found = Estimates(value, value - wider * below, value + wider * above)
        if len(samples) == 1:
            is_share = samples[0].is_share
            for end, share in zip(
                (found.low, found.high), _wilson(value, self.num_units, confidence)
            ):
                end[is_share] = share[is_share]
        return found


@lru_cache(maxsize=4)  # reports on the same tasks share it
def _counts_of_tasks(num_units: int, seed: int) -> tuple[Array, NDArray[np.float32]]:
    """Return how often tasks are drawn: (num_resamples, num_units), and transposed."""
    counts = _draw(np.random.default_rng(stream(seed, "bootstrap")), num_units)
    return counts, np.ascontiguousarray(counts.T, dtype=np.float32)


def _draw(rng: np.random.Generator, num_units: int) -> Array:
    """Return how often each unit is drawn in each resample, of shape (num_resamples, num_units)."""
    drawn = rng.integers(num_units, size=(NUM_RESAMPLES, num_units))
    places = drawn + num_units * np.arange(NUM_RESAMPLES)[:, None]
    counts = np.bincount(places.reshape(-1), minlength=NUM_RESAMPLES * num_units)
    return counts.reshape(NUM_RESAMPLES, num_units).astype(np.float64)


def _wilson(share: Array, number: int, confidence: float) -> tuple[Array, Array]:
    """Return Wilson's interval of a share (Wilson 1927): there is one of all ones, too."""
    z = float(scipy.special.ndtri(0.5 + confidence / 2))
    center = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    spread = np.sqrt(np.maximum(share * (1 - share), 0.0) / number + z**2 / (4 * number**2))
    half = z / (1 + z**2 / number) * spread
    return np.maximum(center - half, 0.0), np.minimum(center + half, 1.0)
