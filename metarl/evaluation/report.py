"""Reports: raw returns, what is needed to read them, and their summary over tasks."""

import importlib.metadata
import json
import numbers
import platform
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metarl._version import __version__
from metarl.entries import COUNT, OBJECT, STRING, check_entries, integer, parse_json
from metarl.errors import InvalidValueError, check_at_least, check_types
from metarl.evaluation.summary import Summary, bootstrap_interval, episode_groups, summarize
from metarl.evaluation.tables import interval, number, plain_table, range_of_episodes
from metarl.files import as_path, atomic_write
from metarl.tasks import Tasks
from metarl.views import VIEW, View, label

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

    def groups(self, at_most: int) -> list[tuple[int, int]]:
        """Divide the episodes into at most ``at_most`` ranges, finer at the start.

        Episodes that an agent runs side by side stay together.

        Returns:
            Ranges (start, stop) of episode indices.
        """
        check_at_least(1, at_most=at_most)
        return episode_groups(self.num_episodes, self.episodes_per_adaptation, at_most)

    def summary(self, groups: list[tuple[int, int]], confidence: float = 0.95) -> Summary:
        """Summarise over tasks: mean, interquartile mean, bootstrap interval of the statistic.

        Args:
            groups: Ranges (start, stop) of episode indices; the episodes of a range are averaged.
            confidence: The level of the interval.

        Returns:
            The summary.

        Raises:
            ValueError: If ``confidence`` is not between 0 and 1.
        """
        check_types(numbers.Real, "a number", confidence=confidence)
        if not 0.0 < confidence < 1.0:
            raise InvalidValueError(f"confidence must be between 0 and 1, got {confidence}")
        return summarize(self.returns, groups, self.statistic, confidence, self.seed)

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
        low, high = bootstrap_interval(gain, "mean", confidence, self.seed)
        return float(gain.mean()), float(low[0]), float(high[0])

    def __str__(self) -> str:
        """Return the report as a table: episode, mean, interquartile mean, interval."""
        summary = self.summary(self.groups(12))
        name = {"iqm": "IQM", "mean": "mean"}[self.statistic]
        rows = [
            [range_of_episodes(group), number(mean), number(iqm), interval(low, high)]
            for group, mean, iqm, low, high in zip(
                summary.groups, summary.mean, summary.iqm, summary.low, summary.high
            )
        ]
        heading = ["episode", "mean", "IQM", f"{summary.confidence:.0%} interval of the {name}"]
        if self.successes is not None:
            heading.append("success")
            for row, (start, stop) in zip(rows, summary.groups):
                row.append(f"{self.successes[:, start:stop].mean():.0%}")
        lines = [
            f"{self.agent} on {self.family_label}, {self.split}: {self.num_tasks} tasks",
            plain_table(heading, rows),
            f" all {self.num_episodes} episodes together: {self.trial_summary()} "
            "(mean over tasks ± standard error)",
        ]
        if len(summary.groups) > 1:
            gain, low, high = self.improvement()
            lines.append(
                f" last minus first, task by task: {number(gain)} "
                f"({summary.confidence:.0%} interval {interval(low, high)})"
            )
            lines += self._by_task()
        lines += [f" note: {note}" for note in self.notes]
        return "\n".join(lines)

    def trial_summary(self, num_episodes: int | None = None) -> str:
        """Return the mean return of a whole trial, with its standard error over tasks, as text.

        Args:
            num_episodes: How many episodes count, the first ones; None counts all.
        """
        totals = self.returns[:, :num_episodes].sum(axis=1)
        error = totals.std(ddof=1) / np.sqrt(len(totals)) if len(totals) > 1 else 0.0
        return f"{totals.mean():.2f} ± {error:.2f}"

    def _by_task(self) -> list[str]:
        """Return a line for each task of a family of few, whose differences widen no interval."""
        ids = self.tasks.group_ids()
        count = int(ids.max()) + 1
        if not 1 < count <= min(4, self.num_tasks // 2):
            return []
        groups = self.groups(self.num_episodes)
        lines = [" first and last in each task by itself:"]
        for task in range(count):
            part = self.select(ids == task)
            summary = part.summary([groups[0], groups[-1]])
            ends = [
                f"{number(center)} ({interval(low, high)})"
                for center, low, high in zip(summary.center, summary.low, summary.high)
            ]
            lines.append(f"   {part.tasks[0].describe()}: {' -> '.join(ends)}")
        return lines

    def plot(self, path: str | Path | None = None) -> "Figure":
        """Draw the adaptation curve.

        Args:
            path: Where to write the picture, or None.

        Returns:
            The matplotlib figure.
        """
        from metarl.evaluation.plotting import plot_curves

        return plot_curves(
            [self.curve()], f"{self.family_label}, {self.split}: {self.num_tasks} tasks", path
        )

    def curve(self) -> tuple[str, Summary]:
        """Return what is drawn of the report: its agent and its adaptation curve."""
        return self.agent, self.summary(self.groups(30 if self.num_episodes >= 50 else 50))

    def save(self, directory: str | Path, name: str | None = None) -> Path:
        """Write the raw returns as JSON.

        Args:
            directory: The folder.
            name: The file's name without ``.json``; None takes the split's.

        Returns:
            The file's path.
        """
        path = as_path(directory) / f"{name or self.split}.json"
        atomic_write(path, json.dumps(self.to_json(), separators=(",", ":")) + "\n")
        return path

    def to_json(self) -> dict[str, Any]:
        """Return the report as a dictionary for ``json.dump``."""
        return {
            "agent": self.agent,
            "family": self.family,
            **({"view": dict(self.view)} if self.view else {}),
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
            **(
                {}
                if self.successes is None
                else {"successes": self.successes.astype(np.int64).tolist()}
            ),
        }

    @classmethod
    def from_json(cls, data: Any) -> "Report":
        """Rebuild a report from what :meth:`to_json` gave.

        Raises:
            ValueError: If it is something else; the message names what does not fit.
        """
        check_entries(data, _ENTRIES)
        check_entries({"view": {}, **data}, {"view": VIEW})
        returns = _matrix("returns", data["returns"]).astype(np.float64)
        lengths = data["lengths"]
        if isinstance(lengths, list):
            lengths = _matrix("lengths", lengths)
            if lengths.dtype.kind != "i" or lengths.min() < 1 or lengths.shape != returns.shape:
                raise InvalidValueError("'lengths' must be integers of at least 1, as 'returns'")
        successes = None
        if "successes" in data:
            successes = _matrix("successes", data["successes"])
            if successes.shape != returns.shape or not np.isin(successes, (0, 1)).all():
                raise InvalidValueError("'successes' must be 0 or 1, as many as 'returns'")
        for column in data["tasks"]["parameters"].values():
            if len(column) != len(returns) or _array(column).dtype.kind not in "bifU":
                raise InvalidValueError(
                    "'tasks.parameters' must have one value for each row of returns"
                )
        tasks = Tasks.from_json(data["tasks"])
        if returns.shape[1] % data["episodes_per_adaptation"]:
            raise InvalidValueError("'episodes_per_adaptation' must divide the number of episodes")
        return cls(
            agent=data["agent"],
            family=data["family"],
            split=data["split"],
            returns=returns,
            lengths=np.broadcast_to(lengths, returns.shape),
            tasks=tasks,
            episodes_per_adaptation=data["episodes_per_adaptation"],
            statistic=data["statistic"],
            seed=data["seed"],
            notes=tuple(data["notes"]),
            successes=None if successes is None else successes.astype(np.bool_),
            view=data.get("view", {}),
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
        try:
            return cls.from_json(parse_json(path.read_bytes()))
        except ValueError as error:
            raise InvalidValueError(f"{str(path)!r} is not a report: {error}") from None


_ENTRIES = {
    "agent": STRING,
    "family": STRING,
    "split": (lambda v: STRING[0](v) and Path(v).name == v, "a name without slashes"),
    "seed": integer(0),
    "episodes_per_adaptation": COUNT,
    "statistic": (lambda v: v in ("iqm", "mean"), "'iqm' or 'mean'"),
    "notes": (lambda v: isinstance(v, list) and all(map(STRING[0], v)), "a list of strings"),
    "tasks": OBJECT,
    "tasks.family": STRING,
    "tasks.parameters": (
        lambda v: (
            isinstance(v, dict) and all(STRING[0](name) and isinstance(v[name], list) for name in v)
        ),
        "an object of lists",
    ),
    "returns": (lambda v: isinstance(v, list), "a list of rows"),
    "lengths": (lambda v: isinstance(v, list) or COUNT[0](v), f"a list of rows, or {COUNT[1]}"),
}

_LARGE = 1e100  # its square is a number still


def _matrix(name: str, rows: list[Any]) -> NDArray[Any]:
    matrix = _array(rows)
    if matrix.ndim != 2 or not matrix.size or matrix.dtype.kind not in "if":
        raise InvalidValueError(f"{name!r} must be rows of equally many numbers, one for each task")
    if not (np.abs(matrix.astype(np.float64)) < _LARGE).all():
        raise InvalidValueError(f"{name!r} must be finite numbers, below {_LARGE:g}")
    return matrix


def _array(rows: list[Any]) -> NDArray[Any]:
    try:
        return np.array(rows)
    except ValueError:  # rows of unequal length
        return np.empty(0, dtype=object)


def versions() -> dict[str, str]:
    """Return the versions of what results depend on."""
    others = ("numpy", "torch", "gymnasium", "mujoco")
    return {
        "metarl": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in others},
    }


def _whole(values: NDArray[np.float64]) -> NDArray[Any]:
    """Return integers where all values are whole: a third of the file."""
    exact = (values == np.rint(values)) & (np.abs(values) < 2**53)
    return values.astype(np.int64) if exact.all() else values
