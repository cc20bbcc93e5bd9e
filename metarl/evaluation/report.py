"""Reports: raw returns, their metadata, and their summary over tasks."""

import importlib.metadata
import numbers
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from metarl._version import __version__
from metarl.entries import COUNT, STRING, check_entries, integer
from metarl.errors import InvalidValueError, check_at_least, check_types, found_in
from metarl.evaluation.archive import (
    SUFFIX,
    TASKS,
    Arrays,
    Header,
    read_archive,
    smallest,
    write_archive,
)
from metarl.evaluation.curves import Curve, Groups, curve_of, episode_groups, grouped
from metarl.evaluation.statistics import (
    FEW_TASKS,
    FEWEST_TASKS,
    Estimate,
    TaskBootstrap,
    statistic_of,
)
from metarl.evaluation.tables import (
    Cell,
    Interval,
    Share,
    Table,
    as_text,
    range_of_episodes,
    shown,
)
from metarl.files import as_path
from metarl.tasks import Tasks
from metarl.views import VIEW, View, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Metric: TypeAlias = Callable[["Report"], NDArray[Any]]
"""A column of a report's table; see :meth:`Report.table`."""

SHORT_NAMES = {"iqm": "IQM", "mean": "mean"}


class Ends(NamedTuple):
    """A report's first and last round of episodes and their difference, of one statistic."""

    first: Estimate
    last: Estimate
    gain: Estimate


def check_confidence(confidence: object) -> None:
    """Raise unless a level of confidence is a number between 0 and 1."""
    check_types(numbers.Real, "a number", confidence=confidence)
    if not 0.0 < confidence < 1.0:  # type: ignore[operator]
        raise InvalidValueError(f"confidence must be between 0 and 1, got {confidence}")


@dataclass(frozen=True, eq=False)
class Report:
    """The result of an evaluation: raw returns and metadata.

    Attributes:
        agent: The agent's name.
        family: The family's name.
        split: The split the tasks come from.
        returns: Of shape (num_tasks, num_episodes).
        lengths: The episodes' numbers of env steps, of the same shape.
        tasks: The tasks.
        episodes_per_adaptation: How many episodes of a task the agent sees before it adapts.
        statistic: ``"iqm"`` (interquartile mean over tasks) or ``"mean"``.
        seed: The seed of the evaluation.
        notes: Sentences the reader must know.
        successes: Whether the task was done in each episode, of the shape of the returns; None
            where the environments do not tell.
        view: Which view of the family the agent saw, as :class:`metarl.TaskDistribution` has it.
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
    successes: NDArray[np.bool_] | None = None
    view: View = field(default_factory=dict)

    @property
    def family_label(self) -> str:
        """What tables call the family: its name, with the view in brackets."""
        return label(self.family, self.view)

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
            self,
            returns=self.returns[rows],
            lengths=self.lengths[rows],
            tasks=self.tasks[rows],
            successes=None if self.successes is None else self.successes[rows],
        )

    @cached_property
    def bootstrap(self) -> TaskBootstrap:
        """Resamples of the tasks, the same for reports on the same tasks."""
        return TaskBootstrap(self._task_ids(), self.seed)

    def _task_ids(self) -> NDArray[np.intp]:
        # Records leave out large tasks, as the tables of an MDP: these are all different.
        if len(self.tasks) == self.num_tasks and self.tasks.columns:
            return self.tasks.group_ids()
        return np.arange(self.num_tasks)

    @property
    def num_distinct(self) -> int:
        """The number of different tasks: a family of few has each of them several times."""
        return int(self._task_ids().max()) + 1

    def describe_tasks(self) -> str:
        """Return how many tasks there are, as "40 tasks" or "5 tasks, 40 times each"."""
        distinct = self.num_distinct
        tasks = f"{distinct} task{'s' if distinct > 1 else ''}"
        if distinct == self.num_tasks:
            return tasks
        if distinct == 1:
            return f"{tasks}, {self.num_tasks} times"
        if (np.bincount(self._task_ids()) == self.num_tasks // distinct).all():
            return f"{tasks}, {self.num_tasks // distinct} times each"
        return f"{tasks}, drawn {self.num_tasks} times"

    def all_notes(self) -> list[str]:
        """Return what the reader must know: the notes, and whether tasks are few."""
        units = self.bootstrap.num_units
        if units < FEWEST_TASKS:
            return [*self.notes, f"there are no intervals over fewer than {FEWEST_TASKS} tasks"]
        if self.num_distinct == 1:
            return [*self.notes, "intervals are over repetitions of the one task"]
        if units < FEW_TASKS:
            return [*self.notes, f"intervals over fewer than {FEW_TASKS} different tasks are rough"]
        return list(self.notes)

    @property
    def rounds(self) -> NDArray[np.float64]:
        """The mean return of each task's rounds of episodes, of shape (num_tasks, num_rounds).

        A round is what the agent adapts by: one episode, or several that it runs side by side.
        """
        return grouped(self.returns, self.groups(self.num_episodes))

    @property
    def first(self) -> NDArray[np.float64]:
        """Each task's return in the first round, before any experience, of shape (num_tasks,)."""
        return self.rounds[:, 0]

    @property
    def last(self) -> NDArray[np.float64]:
        """Each task's return in the last round, of shape (num_tasks,)."""
        return self.rounds[:, -1]

    @property
    def gain(self) -> NDArray[np.float64]:
        """The last round minus the first, task by task, of shape (num_tasks,)."""
        return self.last - self.first

    def groups(self, at_most: int) -> Groups:
        """Divide the episodes into at most ``at_most`` ranges, finer at the start.

        Episodes that an agent runs side by side stay together.

        Returns:
            Ranges (start, stop) of episode indices.
        """
        check_at_least(1, at_most=at_most)
        return episode_groups(self.num_episodes, self.episodes_per_adaptation, at_most)

    def curve(self, at_most: int = 12, confidence: float = 0.95) -> Curve:
        """Return the adaptation curve: the statistic over tasks and its interval.

        Args:
            at_most: The most ranges of episodes; those of a range are averaged.
            confidence: The level of the interval.

        Raises:
            ValueError: If ``confidence`` is not between 0 and 1.
        """
        check_confidence(confidence)
        return curve_of(
            [self.returns], self.groups(at_most), self.bootstrap, self.statistic, confidence
        )

    def ends(self, confidence: float = 0.95) -> "Ends":
        """Estimate the return before experience and at the end, and their difference.

        All three are of the same statistic over tasks: the gain is the last minus the first. Its
        interval is paired, as each resample has the same tasks in both: what tasks differ in, and
        what widens the intervals of the two, cancels.

        Args:
            confidence: The level of the intervals.
        """
        check_confidence(confidence)
        sample = self.bootstrap.sample(self.rounds[None, :, [0, -1]], self.statistic)
        first, last = sample.columns(slice(0, 1)), sample.columns(slice(1, 2))
        return Ends(
            *(
                self.bootstrap.estimate(each, confidence=confidence)[0]
                for each in (first, last, last - first)
            )
        )

    def at_round(self, index: int) -> Estimate:
        """Estimate the return of one round of episodes: 1 is that after the first adaptation.

        Args:
            index: Which round, counted from 0; beyond the last it is the last.
        """
        index = min(index, self.rounds.shape[1] - 1)
        sample = self.bootstrap.sample(self.rounds[None, :, [index]], self.statistic)
        return self.bootstrap.estimate(sample)[0]

    def total(self, num_episodes: int | None = None) -> Estimate:
        """Estimate the mean return of a whole trial.

        Args:
            num_episodes: How many episodes count, the first ones; None counts all.
        """
        totals = self.returns[None, :, :num_episodes].sum(axis=2, keepdims=True)
        return self.bootstrap.estimate(self.bootstrap.sample(totals, "mean"))[0]

    def table(self, metrics: Mapping[str, Metric] | None = None, at_most: int = 12) -> Table:
        """Return the report as a table: a row for each episode, or for each range of episodes.

        Args:
            metrics: Further columns, by name: functions of the report. A metric gives a number for
                each task and episode, of shape (num_tasks, num_episodes), which is shown as the
                mean over tasks with its interval; or one for each episode, of shape
                (num_episodes,).
            at_most: The most rows.

        Raises:
            ValueError: If a metric's array has another shape.
        """
        groups = self.groups(at_most)
        curve = self.curve(at_most)
        values = grouped(self.returns, groups)
        columns: dict[str, Iterable[Cell]] = {
            "episode": map(range_of_episodes, groups),
            "mean": map(float, values.mean(axis=0)),
            "IQM": map(float, statistic_of(values, "iqm")),
            f"{curve.confidence:.0%} interval of the {SHORT_NAMES[self.statistic]}": map(
                Interval, curve.low, curve.high
            ),
        }
        if self.successes is not None:
            shares = grouped(self.successes.astype(np.float64), groups)
            columns["success"] = map(Share, shares.mean(axis=0))
        for name, metric in (metrics or {}).items():
            columns[name] = self._column(name, metric(self), groups)
        return Table(tuple(columns), tuple(zip(*columns.values())))

    def _column(self, name: str, values: Any, groups: Groups) -> Iterable[Cell]:
        values = np.asarray(values, dtype=np.float64)
        if values.shape == (self.num_episodes,):
            return map(float, grouped(values, groups))
        if values.shape != self.returns.shape:
            raise InvalidValueError(
                f"the metric {name!r} must give an array of shape {self.returns.shape} (tasks, "
                f"episodes) or {self.returns.shape[1:]} (episodes), got {values.shape}"
            )
        sample = self.bootstrap.sample(grouped(values, groups)[None], "mean")
        estimates = self.bootstrap.estimate(sample)
        return [estimates[index] for index in range(len(groups))]

    def __str__(self) -> str:
        """Return the report as text: the table, what adaptation gained, the notes."""
        return self.describe()

    def describe(self, metrics: Mapping[str, Metric] | None = None) -> str:
        """Return the report as text.

        Args:
            metrics: Further columns of the table, as in :meth:`table`.
        """
        lines = [
            f"{self.agent} on {self.family_label}, {self.split}: {self.describe_tasks()}",
            as_text(self.table(metrics)),
            f" all {self.num_episodes} episodes together: mean {shown(self.total())}",
        ]
        if self.rounds.shape[1] > 1:
            lines.append(f" last minus first, paired by task: {shown(self.ends().gain)}")
            lines += self._by_task()
        lines += [f" note: {note}" for note in self.all_notes()]
        return "\n".join(lines)

    def _by_task(self) -> list[str]:
        """Return a line for each task of a family of few, whose differences widen no interval."""
        ids, count = self._task_ids(), self.num_distinct
        if not 1 < count <= min(4, self.num_tasks // 2):
            return []
        lines = [" first and last in each task by itself:"]
        for task in range(count):
            part = self.select(ids == task)
            first, last, _ = part.ends()
            lines.append(f"   {part.tasks[0].describe()}: {shown(first)} -> {shown(last)}")
        return lines

    def plot(self, path: str | Path | None = None) -> "Figure":
        """Draw the adaptation curve.

        Args:
            path: Where to write the picture, or None.

        Returns:
            The matplotlib figure.
        """
        from metarl.evaluation.plotting import plot_curves

        title = f"{self.family_label}, {self.split}: {self.describe_tasks()}"
        return plot_curves([(self.agent, self.curve(self.num_points))], title, path)

    @property
    def num_points(self) -> int:
        """How many points a picture of the curve has at most."""
        return 30 if self.num_episodes >= 50 else 50

    def save(self, directory: str | Path, name: str | None = None) -> Path:
        """Write the raw returns, and all else, as an archive (:mod:`metarl.evaluation.archive`).

        Args:
            directory: The folder.
            name: The file's name without ``.npz``; None takes the split's.

        Returns:
            The file's path.
        """
        path = as_path(directory) / f"{name or self.split}{SUFFIX}"
        write_archive(path, *self.to_archive())
        return path

    def to_archive(self) -> tuple[Header, Arrays]:
        """Return the report as the header and the arrays of an archive."""
        header = {
            "agent": self.agent,
            "family": self.family,
            **({"view": dict(self.view)} if self.view else {}),
            "split": self.split,
            "seed": self.seed,
            "episodes_per_adaptation": self.episodes_per_adaptation,
            "statistic": self.statistic,
            "notes": list(self.notes),
            "task_family": self.tasks.family,
            "versions": versions(),
        }
        arrays = {"returns": smallest(self.returns), "lengths": smallest(self.lengths)}
        if self.successes is not None:
            arrays["successes"] = self.successes
        columns = self.tasks.columns.items()
        return header, arrays | {f"{TASKS}{name}": column for name, column in columns}

    @classmethod
    def from_archive(cls, header: Any, arrays: Mapping[str, NDArray[Any]]) -> "Report":
        """Rebuild a report from what :meth:`to_archive` gave.

        Raises:
            ValueError: If it is something else; the message names what does not fit.
        """
        check_entries(header, _ENTRIES)
        check_entries({"view": {}, **header}, {"view": VIEW})
        returns = _matrix(arrays, "returns", "iuf", "finite numbers").astype(np.float64)
        if not (np.abs(returns) < _LARGE).all():
            raise InvalidValueError(f"'returns' must be finite numbers, below {_LARGE:g}")
        if returns.shape[1] % header["episodes_per_adaptation"]:
            raise InvalidValueError("'episodes_per_adaptation' must divide the number of episodes")
        lengths = _matrix(arrays, "lengths", "iu", "integers of at least 1", returns.shape)
        lengths = lengths.astype(np.int64)
        if lengths.min() < 1:
            raise InvalidValueError("'lengths' must be integers of at least 1")
        successes = None
        if "successes" in arrays:
            successes = _matrix(arrays, "successes", "b", "booleans", returns.shape)
        columns = {
            name.removeprefix(TASKS): column
            for name, column in arrays.items()
            if name.startswith(TASKS)
        }
        for name, column in columns.items():
            fits = column.ndim > 0 and len(column) == len(returns) and column.dtype.kind in "bifuU"
            if not fits or not STRING[0](name):
                raise InvalidValueError(
                    f"{TASKS + name!r} must have one value for each row of returns"
                )
        return cls(
            agent=header["agent"],
            family=header["family"],
            split=header["split"],
            returns=returns,
            lengths=lengths,
            tasks=Tasks(header["task_family"], columns),
            episodes_per_adaptation=header["episodes_per_adaptation"],
            statistic=header["statistic"],
            seed=header["seed"],
            notes=tuple(header["notes"]),
            successes=successes,
            view=header.get("view", {}),
        )

    @classmethod
    def load(cls, path: str | Path) -> "Report":
        """Read a report from a file written by :meth:`save`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not such a file, or damaged.
        """
        path = as_path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no report {str(path)!r}")
        header, arrays = read_archive(path)
        with found_in(f"{str(path)!r} is not a report"):
            return cls.from_archive(header, arrays)


_ENTRIES = {
    "agent": STRING,
    "family": STRING,
    "split": (lambda v: STRING[0](v) and Path(v).name == v, "a name without slashes"),
    "seed": integer(0),
    "episodes_per_adaptation": COUNT,
    "statistic": (lambda v: v in ("iqm", "mean"), "'iqm' or 'mean'"),
    "notes": (lambda v: isinstance(v, list) and all(map(STRING[0], v)), "a list of strings"),
    "task_family": STRING,
}

_LARGE = 1e100  # its square is still finite


def _matrix(
    arrays: Mapping[str, NDArray[Any]],
    name: str,
    kinds: str,
    words: str,
    shape: tuple[int, ...] | None = None,
) -> NDArray[Any]:
    """Return an array with a row for each task and a column for each episode.

    Raises:
        ValueError: If there is none, or it is of another kind or shape.
    """
    array = arrays.get(name, np.empty(0))
    fits = array.ndim == 2 and array.size > 0 if shape is None else array.shape == shape
    if not fits or array.dtype.kind not in kinds:
        where = "one for each task and episode" if shape is None else "as many as 'returns'"
        raise InvalidValueError(
            f"{name!r} must be {words}, {where}, got {array.dtype} of shape {array.shape}"
        )
    return array


def versions() -> dict[str, str]:
    """Return the versions of what results depend on."""
    others = ("numpy", "torch", "gymnasium", "mujoco")
    return {
        "metarl": __version__,
        "python": platform.python_version(),
        **{name: _version_of(name) for name in others},
    }


_version_of = cache(importlib.metadata.version)  # which parses a file each time
