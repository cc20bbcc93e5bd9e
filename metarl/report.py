"""Reports: raw returns, what is needed to read them, and their summary over tasks."""

import importlib.metadata
import itertools
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy
from numpy.typing import NDArray

from metarl._version import __version__
from metarl.checkpoint import atomic_write
from metarl.seeding import stream
from metarl.tasks import Tasks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Report:
    """What an agent achieved: the raw returns and what is needed to read them.

    Attributes:
        agent: The agent's name.
        family: The family's name.
        split: The split the tasks come from.
        returns: Of shape (num_tasks, num_episodes).
        lengths: The episodes' numbers of env steps, of the same shape.
        tasks: The tasks.
        episodes_per_adaptation: Every so many episodes the agent adapts.
        statistic: ``"iqm"`` (interquartile mean over tasks) or ``"mean"``.
        seed: The seed of the evaluation.
        notes: Sentences the reader must know.
    """

    agent: str
    family: str
    split: str
    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    tasks: Tasks
    episodes_per_adaptation: int = 1
    statistic: str = "iqm"
    seed: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def num_tasks(self) -> int:
        """The number of tasks."""
        return int(self.returns.shape[0])

    @property
    def num_episodes(self) -> int:
        """The number of adaptation episodes of each task."""
        return int(self.returns.shape[1])

    @property
    def trial_returns(self) -> NDArray[np.float64]:
        """The return of all episodes of each task together, of shape (num_tasks,)."""
        return np.asarray(self.returns.sum(axis=1))

    def select(self, rows: NDArray[Any]) -> "Report":
        """Return the report of some of the tasks.

        Args:
            rows: A mask of shape (num_tasks,), or indices.
        """
        return replace(
            self, returns=self.returns[rows], lengths=self.lengths[rows], tasks=self.tasks[rows]
        )

    def groups(self, at_most: int) -> list[tuple[int, int]]:
        """Divide the episodes into at most so many ranges, finer at the start.

        Episodes that an agent runs side by side stay together.

        Returns:
            Ranges (start, stop) of episode indices.
        """
        step = self.episodes_per_adaptation
        rounds = self.num_episodes // step
        if rounds <= at_most:
            edges = np.arange(rounds + 1)
        else:
            edges = np.unique(np.geomspace(1, rounds + 1, at_most + 1).astype(int)) - 1
        return [(int(a) * step, int(b) * step) for a, b in itertools.pairwise(edges)]

    def summary(self, groups: list[tuple[int, int]], confidence: float = 0.95) -> "Summary":
        """Summarise over tasks: mean, interquartile mean, bootstrap interval of the statistic.

        Args:
            groups: Ranges (start, stop) of episode indices; the episodes of a range are averaged.
            confidence: The level of the interval.

        Returns:
            The summary.
        """
        values = np.stack([self.returns[:, a:b].mean(axis=1) for a, b in groups], axis=1)
        low, high = _interval(values, self.statistic, confidence, self.seed)
        return Summary(
            groups=groups,
            mean=values.mean(axis=0),
            iqm=_iqm(values),
            low=low,
            high=high,
            statistic=self.statistic,
            confidence=confidence,
        )

    def improvement(self, confidence: float = 0.95) -> tuple[float, float, float]:
        """Return by how much the last round of episodes beats the first, task by task.

        Tasks differ in what can be earned in them, and that hides what adaptation adds from the
        intervals of single episodes; in the difference of two episodes of one task it cancels.

        Args:
            confidence: The level of the interval.

        Returns:
            The mean over tasks of the difference, and its bootstrap interval.
        """
        groups = self.groups(self.num_episodes)
        first, last = (self.returns[:, a:b].mean(axis=1) for a, b in (groups[0], groups[-1]))
        gain = (last - first)[:, None]
        low, high = _interval(gain, "mean", confidence, self.seed)
        return float(gain.mean()), float(low[0]), float(high[0])

    def __str__(self) -> str:
        from metarl.tables import report_table

        return report_table(self)

    def plot(self, path: str | Path | None = None) -> "Figure":
        """Draw the adaptation curve.

        Args:
            path: Where to write the picture, or None.

        Returns:
            The matplotlib figure.
        """
        from metarl.plotting import plot_reports

        return plot_reports([self], path)

    def save(self, directory: str | Path, name: str | None = None) -> Path:
        """Write the raw returns as JSON.

        Args:
            directory: The folder.
            name: The file's name without ``.json``; None takes the split's.

        Returns:
            The file's path.
        """
        path = Path(directory) / f"{name or self.split}.json"
        atomic_write(path, json.dumps(self.to_json(), separators=(",", ":")) + "\n")
        return path

    def to_json(self) -> dict[str, Any]:
        """Return the report as a dictionary for ``json.dump``."""
        return {
            "agent": self.agent,
            "family": self.family,
            "split": self.split,
            "seed": self.seed,
            "episodes_per_adaptation": self.episodes_per_adaptation,
            "statistic": self.statistic,
            "notes": list(self.notes),
            "versions": versions(),
            "tasks": self.tasks.to_json(),
            "returns": _whole(self.returns).tolist(),
            # Where all episodes are of one length, that number says it.
            "lengths": self.lengths.tolist() if np.ptp(self.lengths) else int(self.lengths[0, 0]),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Report":
        """Rebuild a report from what :meth:`to_json` gave."""
        returns = np.array(data["returns"], dtype=np.float64)
        lengths = np.array(data["lengths"], dtype=np.int64)
        return cls(
            agent=data["agent"],
            family=data["family"],
            split=data["split"],
            returns=returns,
            lengths=np.broadcast_to(lengths, returns.shape),
            tasks=Tasks.from_json(data["tasks"]),
            episodes_per_adaptation=data["episodes_per_adaptation"],
            statistic=data["statistic"],
            seed=data["seed"],
            notes=tuple(data["notes"]),
        )

    @classmethod
    def load(cls, path: str | Path) -> "Report":
        """Read a report from a file written by :meth:`save`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not such a file.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no report {str(path)!r}")
        try:
            return cls.from_json(json.loads(path.read_text()))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{str(path)!r} is not a report: {error}") from None


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


def versions() -> dict[str, str]:
    """Return the versions of what results depend on."""
    others = ("numpy", "torch", "gymnasium", "mujoco")
    return {
        "metarl": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in others},
    }


def _iqm(values: NDArray[Any], axis: int = 0) -> NDArray[np.float64]:
    return np.asarray(scipy.stats.trim_mean(values, 0.25, axis=axis))


_STATISTICS: dict[str, Callable[..., Any]] = {"iqm": _iqm, "mean": np.mean}


def _interval(
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


def _whole(values: NDArray[np.float64]) -> NDArray[Any]:
    """Return integers where all values are whole: a third of the file."""
    exact = (values == np.rint(values)) & (np.abs(values) < 2**53)
    return values.astype(np.int64) if exact.all() else values


def check_comparable(reports: Sequence[Report]) -> None:
    """Raise unless reports are of the same tasks.

    Raises:
        ValueError: If there are none, or families, splits or tasks differ.
    """
    if not reports:
        raise ValueError("expected at least one report, got none")
    first = reports[0]
    for other in reports[1:]:
        if _basis(other) != _basis(first) or (
            Tasks(first.tasks.family, other.tasks.columns) != first.tasks
        ):
            raise ValueError(
                f"{first.agent!r} and {other.agent!r} were not evaluated on the same tasks: "
                f"{first.family}/{first.split}, {first.num_tasks} tasks, seed {first.seed} against "
                f"{other.family}/{other.split}, {other.num_tasks} tasks, seed {other.seed}; "
                "evaluate both with the same split, num_tasks and seed"
            )


def _basis(report: Report) -> tuple[str, str, int, int]:
    # An oracle's family differs in what it tells, not in its tasks.
    family = report.family.removesuffix("-told")
    return family, report.split, report.num_tasks, report.seed
