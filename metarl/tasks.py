"""Tasks as plain data: one task, and many of one family by column."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from metarl.errors import InvalidTypeError, InvalidValueError, check_types


def _plain(value: Any) -> Any:
    """Turn numpy values and lists into plain, immutable Python ones."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item) for item in value)
    if not isinstance(value, (bool, int, float, str)):
        raise InvalidTypeError(
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
        check_types(str, "a string", family=family)
        check_types(Mapping, "a mapping from names to values", parameters=parameters)
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
            raise InvalidValueError(
                f"the columns of {family!r} differ in length: {sorted(lengths)}"
            )
        self._length = lengths.pop() if lengths else 0

    @classmethod
    def stack(cls, tasks: Sequence[Task]) -> "Tasks":
        """Make a batch of single tasks of one family.

        Raises:
            TypeError: If something in ``tasks`` is not a Task.
            ValueError: If there are none, or families or parameter names differ.
        """
        if isinstance(tasks, Tasks):
            return tasks
        check_types(Sequence, "a sequence of Task objects", tasks=tasks)
        if len(tasks) == 0:
            raise InvalidValueError("expected at least one task, got none")
        for task in tasks:
            if not isinstance(task, Task):
                raise InvalidTypeError(
                    f"expected Task objects, got {task!r}; use Task(family, values)"
                )
        first = tasks[0]
        for task in tasks:
            if task.family != first.family or task.keys() != first.keys():
                raise InvalidValueError(f"expected tasks of one family, got {first!r} and {task!r}")
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

    def group_ids(self) -> NDArray[np.intp]:
        """Return a number for each task, from 0 on; equal tasks get equal numbers."""
        ids = np.zeros(len(self), dtype=np.intp)
        for column in self.columns.values():
            _, values = np.unique(column, axis=0, return_inverse=True)
            # (ids, values) as one number: a sort of numbers is far cheaper than one of rows.
            pairs = ids * (values.max(initial=0) + 1) + values.reshape(-1)
            _, ids = np.unique(pairs, return_inverse=True)
        return ids.reshape(-1)

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
