"""Distributions of whole tasks: the splits of a family, and the overlap of two splits."""

import math
import numbers
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.errors import InvalidValueError, check_names, check_types
from metarl.parameters import DISTRIBUTION, Choice, Parameter, Uniform
from metarl.seeding import Seed, mix, stream

Columns = Mapping[str, NDArray[Any]]
"""Parameters of many tasks: for each name an array of shape (num_tasks, *shape)."""


class TaskSampler(ABC):
    """A distribution of whole tasks, from which a split draws.

    Your own needs only :meth:`sample`; it is assumed to have a continuum of tasks, in which no task
    is drawn twice. For finitely many tasks use a :class:`TaskSet`.
    """

    @property
    def num_tasks(self) -> int | None:
        """How many different tasks there are, or None if they form a continuum."""
        return None

    @property
    def note(self) -> str | None:
        """A sentence that every report on such tasks has, if there is one."""
        return None

    @abstractmethod
    def sample(self, rng: np.random.Generator, num_tasks: int) -> Columns:
        """Draw tasks, as columns of ``num_tasks`` rows."""


class Independent(TaskSampler):
    """Parameters that are drawn independently of each other.

    Attributes:
        parameters: The distribution of each parameter.
    """

    def __init__(self, parameters: Mapping[str, Parameter]):
        check_types(Mapping, "a mapping from names to distributions", parameters=parameters)
        check_types(Parameter, DISTRIBUTION, **{str(n): p for n, p in parameters.items()})
        self.parameters = dict(parameters)

    def __repr__(self) -> str:
        return f"Independent({self.parameters})"

    @property
    def num_tasks(self) -> int | None:
        counts = [distribution.num_values for distribution in self.parameters.values()]
        finite = [count for count in counts if count is not None]
        return math.prod(finite) if len(finite) == len(counts) else None

    def sample(self, rng: np.random.Generator, num_tasks: int) -> Columns:
        return {
            name: distribution.sample(rng, num_tasks)
            for name, distribution in self.parameters.items()
        }


class TaskSet(TaskSampler):
    """Finitely many tasks, all different, equally likely unless they are :meth:`weighted`.

    Equally likely tasks are drawn without repetition until all have been drawn, then again in
    another order. Weighted ones are drawn independently.

    Args:
        columns: For each parameter an array of shape (num_tasks, *shape).

    Attributes:
        weights: How likely each task is, of shape (num_tasks,), up to a factor; None if all are
            equally likely.

    Raises:
        ValueError: If there is no task, columns differ in length, or a task occurs twice.
    """

    def __init__(self, columns: Mapping[str, Any]):
        check_types(Mapping, "a mapping from names to columns", columns=columns)
        values = {str(name): column for name, column in columns.items()}
        check_types((Sequence, np.ndarray), "an array of values", **values)
        self.columns: Columns = {name: np.asarray(column) for name, column in columns.items()}
        self.weights: NDArray[np.float64] | None = None
        lengths = {name: len(column) if column.ndim else 0 for name, column in self.columns.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise InvalidValueError(
                f"a TaskSet needs columns of one length, of at least one task, got {lengths}"
            )
        _, counts = np.unique(_hashes(self.columns), return_counts=True)
        repeated = len(self) - len(set(_exact_rows(self.columns))) if (counts > 1).any() else 0
        if repeated:
            raise InvalidValueError(
                f"the tasks of a TaskSet must be different, but {repeated} of {len(self)} are "
                "repetitions"
            )

    @classmethod
    def from_tasks(cls, tasks: Sequence[Mapping[str, Any]]) -> "TaskSet":
        """Make a set from single tasks, as mappings from parameter to value.

        Raises:
            ValueError: If there is none, or they differ in their parameters.
        """
        if len(tasks) == 0 or any(task.keys() != tasks[0].keys() for task in tasks):
            raise InvalidValueError("a TaskSet needs tasks that have the same parameters")
        return cls({name: np.array([task[name] for task in tasks]) for name in tasks[0]})

    @classmethod
    def product(cls, parameters: Mapping[str, Parameter]) -> "TaskSet":
        """Return every combination of parameters that have finitely many values each.

        Raises:
            ValueError: If a parameter has a continuum of values.
        """
        values = {}
        for name, distribution in parameters.items():
            if distribution.finite_values is None:
                raise InvalidValueError(
                    f"parameter {name!r} has a continuum of values ({distribution}); a TaskSet "
                    "needs finitely many, as a Choice has"
                )
            values[name] = np.asarray(distribution.finite_values)
        grid = np.indices([len(column) for column in values.values()]).reshape(len(values), -1)
        return cls._of({name: column[rows] for (name, column), rows in zip(values.items(), grid)})

    @classmethod
    def _of(cls, columns: Columns, weights: NDArray[np.float64] | None = None) -> "TaskSet":
        """Build a set from columns that are known to be valid."""
        tasks = cls.__new__(cls)
        tasks.columns, tasks.weights = columns, weights
        return tasks

    def weighted(self, weights: NDArray[Any]) -> "TaskSet":
        """Return the same tasks with other probabilities.

        Args:
            weights: How likely each task is, of shape (num_tasks,), up to a factor.

        Raises:
            ValueError: If there is not one for each task, or one is not positive and finite.
        """
        weights = np.asarray(weights, dtype=np.float64)
        if weights.shape != (len(self),):
            raise InvalidValueError(
                f"weights must be {len(self)} numbers, one for each task, got the shape "
                f"{weights.shape}"
            )
        if not (np.isfinite(weights) & (weights > 0)).all():
            bad = weights[~(np.isfinite(weights) & (weights > 0))][0]
            raise InvalidValueError(f"weights must be positive and finite, got {bad}")
        return self._of(self.columns, weights)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __repr__(self) -> str:
        return f"TaskSet({len(self)} tasks of {', '.join(self.columns)})"

    @property
    def num_tasks(self) -> int:
        return len(self)

    def sample(self, rng: np.random.Generator, num_tasks: int) -> Columns:
        if self.weights is None:
            passes = [rng.permutation(len(self)) for _ in range(math.ceil(num_tasks / len(self)))]
            rows = np.concatenate(passes)[:num_tasks]
        else:
            rows = rng.choice(len(self), num_tasks, p=self.weights / self.weights.sum())
        return {name: column[rows] for name, column in self.columns.items()}

    def split(self, fraction: float, seed: Seed) -> tuple["TaskSet", "TaskSet"]:
        """Divide the set at random into two that share no task.

        Args:
            fraction: The share of the first set, between 0 and 1.
            seed: The seed; the same seed gives the same division.

        Raises:
            ValueError: If one of the two would be empty.
        """
        check_types(numbers.Real, "a number", fraction=fraction)
        if not 0 < fraction < 1:
            raise InvalidValueError(f"fraction must be between 0 and 1, got {fraction}")
        size = round(fraction * len(self))
        if not 0 < size < len(self):
            raise InvalidValueError(
                f"split({fraction}) of {len(self)} tasks gives {size} and {len(self) - size}; "
                "both sets need at least one task"
            )
        order = np.random.default_rng(stream(seed, "split")).permutation(len(self))
        return self._select(np.sort(order[:size])), self._select(np.sort(order[size:]))

    def where(self, condition: Callable[[Columns], NDArray[np.bool_]]) -> "TaskSet":
        """Return the tasks that meet a condition.

        Args:
            condition: Maps the columns to booleans of shape (num_tasks,), for example
                ``lambda task: task["speed"] > 2``.

        Raises:
            ValueError: If the condition returns something else, or no task meets it.
        """
        mask = np.asarray(condition(self.columns))
        if mask.shape != (len(self),) or mask.dtype != np.bool_:
            raise InvalidValueError(
                f"the condition must give booleans of shape ({len(self)},), got {mask.dtype} of "
                f"shape {mask.shape}"
            )
        if not mask.any():
            raise InvalidValueError(f"none of the {len(self)} tasks meets the condition")
        return self._select(mask)

    def without(self, others: Columns) -> "TaskSet":
        """Return the tasks that are not among others; there must be one.

        Args:
            others: The columns of the other tasks.
        """
        excluded = set(_exact_rows({name: others[name] for name in self.columns}))
        return self._select(np.array([row not in excluded for row in _exact_rows(self.columns)]))

    def _select(self, rows: NDArray[Any]) -> "TaskSet":
        weights = None if self.weights is None else self.weights[rows]
        return self._of({name: column[rows] for name, column in self.columns.items()}, weights)

    def parameters(self) -> dict[str, Parameter]:
        """Return a distribution for each parameter that allows the values in the set.

        Raises:
            ValueError: If a parameter is an array of something other than floats, whose
                allowed values cannot be guessed.
        """
        return {name: _allowing(name, column) for name, column in self.columns.items()}


def num_shared(distribution: TaskSampler, other: TaskSampler) -> int:
    """Return how many tasks two distributions share; exact if both are finite.

    If one is a continuum they share none, because they draw from separate random streams.
    """
    if distribution is other:
        return distribution.num_tasks or 0
    if isinstance(distribution, Independent) and isinstance(other, Independent):
        if distribution.num_tasks is None or other.num_tasks is None:
            return 0
        return math.prod(
            int(other.parameters[name].contains(np.asarray(own.finite_values)).sum())
            for name, own in distribution.parameters.items()
        )
    if isinstance(distribution, TaskSet) and isinstance(other, TaskSet):
        check_names(distribution.columns, other.columns, "task parameter")
        # Rows with different hashes are different; only the others need to be compared.
        mine, theirs = _hashes(distribution.columns), _hashes(other.columns)
        merged = np.sort(np.concatenate([mine, theirs]))
        common = merged[1:][merged[1:] == merged[:-1]]
        both = {
            name: np.concatenate(
                [column[np.isin(mine, common)], other.columns[name][np.isin(theirs, common)]]
            )
            for name, column in distribution.columns.items()
            if len(common)
        }
        return len(next(iter(both.values()))) - len(set(_exact_rows(both))) if both else 0
    for tasks, against in ((distribution, other), (other, distribution)):
        if isinstance(tasks, TaskSet) and isinstance(against, Independent):
            if against.num_tasks is None:
                return 0
            inside = [
                distribution.contains(tasks.columns[n])
                for n, distribution in against.parameters.items()
            ]
            return int(np.logical_and.reduce(inside).sum())
    return 0


def _allowing(name: str, column: NDArray[Any]) -> Parameter:
    if column.dtype.kind == "f":
        nominal = float(column[0]) if column.ndim == 1 else None
        return Uniform(float(column.min()), float(column.max()), column.shape[1:], nominal)
    if column.ndim == 1:
        return Choice(tuple(np.unique(column).tolist()), column[0].item())
    raise InvalidValueError(
        f"parameter {name!r} is an array of {column.dtype}: declare which values it may have with "
        "parameters="
    )


def _exact_rows(columns: Columns) -> list[tuple[Any, ...]]:
    """Return rows as tuples."""
    flat = [c.reshape(len(c), math.prod(c.shape[1:])).tolist() for c in columns.values()]
    return [tuple(value for part in row for value in part) for row in zip(*flat)]


def _hashes(columns: Columns) -> NDArray[np.uint64]:
    """Return a hash of each row; equal rows have equal hashes, whatever the other rows are."""
    hashes = np.zeros(len(next(iter(columns.values()))), dtype=np.uint64)
    for name, column in columns.items():
        if column.dtype.kind == "U":  # as numbers, one for each character
            column = np.ascontiguousarray(column).reshape(len(hashes), -1).view(np.uint32)
        for place, values in enumerate(column.reshape(len(hashes), -1).T):
            bits = (values.astype(np.float64) + 0.0).view(np.uint64)  # -0.0 equals 0.0
            key = np.array([zlib.crc32(f"{name}.{place}".encode())], dtype=np.uint64)
            # Zero adds nothing, so the padding of strings, which is of any width, does not count.
            hashes += mix(bits) * (mix(key) | np.uint64(1))
    return hashes
