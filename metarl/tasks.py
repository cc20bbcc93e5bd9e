"""Tasks as plain data, and families of tasks: what a learner trains on and is judged on."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from metarl.errors import check_names
from metarl.parameters import Parameter
from metarl.seeding import Seed, check_seed, stream

if TYPE_CHECKING:
    from metarl.vector import TaskVectorEnv


def _plain(value: Any) -> Any:
    """Turn numpy values and lists into plain, immutable Python ones."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item) for item in value)
    if not isinstance(value, (bool, int, float, str)):
        raise TypeError(
            f"a task parameter must be a number, a boolean, a string or a sequence of these, "
            f"got {value!r}"
        )
    return value


class Task(Mapping[str, Any]):
    """One task: the values of its parameters. Immutable, hashable, JSON-able.

    It is a mapping, so ``make_env(**task)`` and ``task["gravity"]`` work.

    Args:
        family: The name of the family it belongs to.
        parameters: The parameters' values: numbers, booleans, strings, or sequences of these.

    Raises:
        TypeError: If a value is of another type.
    """

    __slots__ = ("_parameters", "family")

    def __init__(self, family: str, parameters: Mapping[str, Any]):
        self.family = family
        self._parameters = {name: _plain(value) for name, value in parameters.items()}

    def __getitem__(self, name: str) -> Any:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Task):
            return NotImplemented
        return self.family == other.family and self._parameters == other._parameters

    def __hash__(self) -> int:
        return hash((self.family, tuple(sorted(self._parameters.items()))))

    def __repr__(self) -> str:
        return f"Task({self.family}: {self.describe()})"

    def describe(self) -> str:
        """Return the parameters as ``name=value, ...``."""
        return ", ".join(f"{name}={_short(value)}" for name, value in self.items())

    def to_json(self) -> dict[str, Any]:
        """Return the task as a dictionary for ``json.dump``."""
        return {"family": self.family, "parameters": dict(self._parameters)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Task":
        """Rebuild a task from what :meth:`to_json` gave."""
        return cls(data["family"], data["parameters"])


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return "(" + ", ".join(_short(item) for item in value) + ")"
    return repr(value)


class Tasks(Sequence[Task]):
    """Many tasks of one family, stored by column so that batches are set without a loop.

    Args:
        family: The name of the family.
        columns: For each parameter an array of shape (num_tasks, *shape).

    Raises:
        ValueError: If the columns differ in length.
    """

    def __init__(self, family: str, columns: Mapping[str, NDArray[Any]]):
        self.family = family
        self.columns: Mapping[str, NDArray[Any]] = {}
        for name, column in columns.items():
            column = np.array(column)
            column.flags.writeable = False
            self.columns[name] = column
        lengths = {len(column) for column in self.columns.values()}
        if len(lengths) > 1:
            raise ValueError(f"the columns of {family!r} differ in length: {sorted(lengths)}")
        self._length = lengths.pop() if lengths else 0

    @classmethod
    def stack(cls, tasks: Sequence[Task]) -> "Tasks":
        """Gather single tasks of one family.

        Raises:
            TypeError: If something in ``tasks`` is not a Task.
            ValueError: If there are none, or families or parameter names differ.
        """
        if isinstance(tasks, Tasks):
            return tasks
        if len(tasks) == 0:
            raise ValueError("expected at least one task, got none")
        for task in tasks:
            if not isinstance(task, Task):
                raise TypeError(f"expected Task objects, got {task!r}; use Task(family, values)")
        first = tasks[0]
        for task in tasks:
            if task.family != first.family or task.keys() != first.keys():
                raise ValueError(f"tasks of one family expected, got {first!r} and {task!r}")
        return cls(first.family, {name: np.array([task[name] for task in tasks]) for name in first})

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice | NDArray[Any]) -> "Tasks": ...
    def __getitem__(self, index: Any) -> "Task | Tasks":
        if isinstance(index, (int, np.integer)):
            return Task(self.family, {name: col[index] for name, col in self.columns.items()})
        return Tasks(self.family, {name: col[index] for name, col in self.columns.items()})

    def __len__(self) -> int:
        return self._length

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tasks):
            return NotImplemented
        return (
            self.family == other.family
            and self.columns.keys() == other.columns.keys()
            and all(np.array_equal(col, other.columns[name]) for name, col in self.columns.items())
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Tasks({self.family}, {len(self)} tasks of {', '.join(self.columns)})"

    def kinds(self) -> NDArray[np.intp]:
        """Number the different tasks and return the number of each, of shape (num_tasks,)."""
        kinds = np.zeros(len(self), dtype=np.intp)
        for column in self.columns.values():
            _, values = np.unique(column, axis=0, return_inverse=True)
            _, kinds = np.unique([kinds, values.reshape(-1)], axis=1, return_inverse=True)
        return kinds.reshape(-1)

    def repeat(self, times: int) -> "Tasks":
        """Return each task ``times`` times in a row: a, a, b, b, ..."""
        columns = {name: np.repeat(col, times, axis=0) for name, col in self.columns.items()}
        return Tasks(self.family, columns)

    def to_json(self) -> dict[str, Any]:
        """Return the tasks as a dictionary for ``json.dump``."""
        columns = {name: column.tolist() for name, column in self.columns.items()}
        return {"family": self.family, "parameters": columns}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Tasks":
        """Rebuild tasks from what :meth:`to_json` gave."""
        columns = {name: np.array(column) for name, column in data["parameters"].items()}
        return cls(data["family"], columns)


@dataclass(frozen=True)
class TaskDistribution:
    """A family of tasks, declared as data: its parameters' laws, its splits, its environments.

    Every family has the splits ``train`` and ``held_out``: the same law, drawn from separate
    random streams. Further splits shift the law of some parameters.

    Attributes:
        name: The family's name.
        parameters: The law of each parameter.
        env_factory: Builds the batched environment: ``env_factory(num_envs, **options)``.
        shifted_splits: For each further split, the parameters whose law differs from ``train``.
        episodes_per_trial: How many episodes of one task a learner is given by default.
        statistic: How a report summarises returns over tasks: ``"iqm"``, or ``"mean"`` where
            single returns are binary and the interquartile mean would be degenerate.
        description: One line for ``metarl list``.

    Raises:
        ValueError: If a shifted split is named like a built-in one or names an unknown parameter.
    """

    name: str
    parameters: Mapping[str, Parameter]
    env_factory: Callable[..., "TaskVectorEnv"]
    shifted_splits: Mapping[str, Mapping[str, Parameter]] = field(default_factory=dict)
    episodes_per_trial: int = 1
    statistic: str = "iqm"
    description: str = ""

    def __post_init__(self) -> None:
        if self.statistic not in ("iqm", "mean"):
            raise ValueError(f"statistic must be 'iqm' or 'mean', got {self.statistic!r}")
        if self.episodes_per_trial < 1:
            raise ValueError(
                f"episodes_per_trial must be at least 1, got {self.episodes_per_trial}"
            )
        for split, laws in self.shifted_splits.items():
            if split in ("train", "held_out"):
                raise ValueError(
                    f"split {split!r} has the law of `parameters` and cannot be shifted"
                )
            check_names(laws, self.parameters, f"parameter in split {split!r}:")

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of all splits."""
        return ("train", "held_out", *self.shifted_splits)

    def laws(self, split: str) -> dict[str, Parameter]:
        """Return the law of every parameter in a split.

        Raises:
            ValueError: If there is no such split.
        """
        check_names([split], self.splits, f"split of {self.name!r}:")
        return {**self.parameters, **self.shifted_splits.get(split, {})}

    def num_tasks(self, split: str) -> int | None:
        """Return how many different tasks a split has, or None if they form a continuum."""
        counts = [law.num_values for law in self.laws(split).values()]
        finite = [count for count in counts if count is not None]
        return math.prod(finite) if len(finite) == len(counts) else None

    def overlap(self, split: str) -> str | None:
        """Say how the tasks of a split relate to those of ``train``, where they are not unseen.

        Returns:
            None if the split holds no task of ``train``; else one sentence for the report.
        """
        count = self.num_tasks(split)
        if split == "train" or count is None:
            return "these are training tasks" if split == "train" else None
        train = self.laws("train")
        for name, law in self.laws(split).items():
            values = np.unique(law.sample(np.random.default_rng(0), 64 * count), axis=0)
            if not train[name].contains(values).any():
                return None
        if count == 1:
            return f"{self.name} has a single task: it was seen in training"
        return f"{self.name} has only {count} different tasks: these were seen in training"

    def sample(self, split: str, num_tasks: int, seed: Seed) -> Tasks:
        """Draw tasks.

        Args:
            split: The name of the split.
            num_tasks: How many.
            seed: The seed; the same seed gives the same tasks, and other splits other tasks.

        Raises:
            ValueError: If there is no such split, or ``num_tasks`` is below 1.
        """
        laws = self.laws(split)
        if num_tasks < 1:
            raise ValueError(f"num_tasks must be at least 1, got {num_tasks}")
        check_seed(seed)
        rng = np.random.default_rng(stream(seed, "tasks", split))
        return Tasks(self.name, {name: law.sample(rng, num_tasks) for name, law in laws.items()})

    def encode(self, tasks: Tasks) -> NDArray[np.float32]:
        """Return tasks as features of shape (num_tasks, num_features), in [-1, 1] on ``train``."""
        laws = self.parameters
        return np.concatenate([laws[name].encode(tasks.columns[name]) for name in laws], axis=1)

    def make_vec(self, num_envs: int, **options: Any) -> "TaskVectorEnv":
        """Build a batch of environments. Every sub-environment starts with the default task.

        Args:
            num_envs: The number of sub-environments.
            options: Passed to the environment, for example ``render_mode``.

        Raises:
            ValueError: If ``num_envs`` is below 1.
        """
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        return self.env_factory(num_envs, **options)

    def told(self) -> "TaskDistribution":
        """Return the same family with the task appended to the observation: the oracle's view."""
        from metarl.vector import ToldVectorEnv

        def factory(num_envs: int, **options: Any) -> "TaskVectorEnv":
            return ToldVectorEnv(self.make_vec(num_envs, **options), self.encode)

        return replace(self, name=f"{self.name}-told", env_factory=factory)
