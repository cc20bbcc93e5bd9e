"""The parameters of a task, each with its distribution."""

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from metarl.errors import InvalidValueError, check_types

Scalar: TypeAlias = float | int | bool | str


DISTRIBUTION = "a distribution, such as Uniform(0.0, 1.0) or Choice((1, 2))"
"""What error messages call the declaration of a parameter."""
_LARGE = 1e300  # the difference of two such numbers is still finite
_BELOW_ONE = np.nextafter(1.0, 0.0)


class Parameter(ABC):
    """One parameter of a task: its possible values, and their distribution.

    Values travel as columns: an array of shape ``(num_tasks, *shape)``.
    """

    shape: tuple[int, ...]

    @property
    @abstractmethod
    def default(self) -> Any:
        """The nominal value."""

    @property
    def finite_values(self) -> Sequence[Any] | None:
        """All values, or None if they form a continuum."""
        return None

    @property
    def num_values(self) -> int | None:
        """How many values there are, or None if they form a continuum."""
        return None if self.finite_values is None else len(self.finite_values)

    @property
    def one_hot_size(self) -> int | None:
        """The length of a one-hot block of its features; 1 if they are signs, None if numbers."""
        return None

    @abstractmethod
    def sample(self, rng: np.random.Generator, num_tasks: int) -> NDArray[Any]:
        """Draw independent values, as an array of shape (num_tasks, *shape)."""

    @abstractmethod
    def contains(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Return for each task whether its value is allowed, as an array of shape (num_tasks,)."""

    @abstractmethod
    def encode(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return the values as features in [-1, 1], of shape (num_tasks, num_features)."""

    def decode(self, features: NDArray[Any]) -> NDArray[Any] | None:
        """Return the values of given features, or the closest that there are.

        Args:
            features: Features as of :meth:`encode`, or a prediction of them.

        Returns:
            An array of shape (num_tasks, *shape); None if the parameter cannot tell.
        """
        if self.finite_values is None:
            return None
        values = np.asarray(self.finite_values)
        errors = features[:, None] - self.encode(values)  # (num_tasks, num_values, num_features)
        return np.asarray(values[np.square(errors).sum(-1).argmin(1)])


@dataclass(frozen=True)
class Uniform(Parameter):
    """Values drawn uniformly from [low, high], element by element.

    Attributes:
        low: The least value.
        high: The greatest value.
        shape: The shape of one task's value; ``()`` is a plain number.
        nominal: The default value of every element; the middle of the range if None.

    Raises:
        ValueError: If the bounds are not finite or ``low > high``, or the nominal value lies
            outside them.
    """

    low: float
    high: float
    shape: tuple[int, ...] = ()
    nominal: float | None = None

    def __post_init__(self) -> None:
        nominal = self.low if self.nominal is None else self.nominal
        check_types(numbers.Real, "a number", low=self.low, high=self.high, nominal=nominal)
        if not -_LARGE <= self.low <= self.high <= _LARGE:
            raise InvalidValueError(
                f"{type(self).__name__} needs finite bounds with low <= high, "
                f"got low={self.low}, high={self.high}"
            )
        if self.nominal is not None and not self.low <= self.nominal <= self.high:
            raise InvalidValueError(
                f"nominal value {self.nominal} is outside [{self.low}, {self.high}]"
            )

    @property
    def default(self) -> Any:
        return self._fill(self._middle() if self.nominal is None else self.nominal)

    @property
    def finite_values(self) -> Sequence[Any] | None:
        return [self.default] if self.low == self.high else None

    def sample(self, rng: np.random.Generator, num_tasks: int) -> NDArray[Any]:
        # Adding zero makes 0.0 of -0.0, which numpy takes for less than 0.0.
        return rng.uniform(self.low, self.high + 0.0, (num_tasks, *self.shape))

    def contains(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        inside = np.asarray((values >= self.low) & (values <= self.high))
        return np.asarray(inside.reshape(len(values), -1).all(axis=1))

    def encode(self, values: NDArray[Any]) -> NDArray[np.float32]:
        span = (self.high - self.low) or 1.0
        scaled = 2.0 * (values - self.low) / span - 1.0
        return scaled.reshape(len(values), -1).astype(np.float32)

    def decode(self, features: NDArray[Any]) -> NDArray[Any]:
        shares = 0.5 * (np.clip(features, -1.0, 1.0) + 1.0)
        values = self.low + shares * (self.high - self.low)
        return np.asarray(values.reshape(len(features), *self.shape))

    def _middle(self) -> float:
        return 0.5 * (self.low + self.high)

    def _fill(self, value: float) -> Any:
        return np.full(self.shape, value).tolist()


@dataclass(frozen=True)
class LogUniform(Uniform):
    """Values whose logarithm is uniform: ``low * (high / low) ** u`` with u ~ U[0, 1].

    Raises:
        ValueError: If ``low`` is not above zero, or as for :class:`Uniform`.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise InvalidValueError(f"LogUniform needs low > 0, got {self.low}")

    def sample(self, rng: np.random.Generator, num_tasks: int) -> NDArray[Any]:
        logs = rng.uniform(math.log(self.low), math.log(self.high), (num_tasks, *self.shape))
        # exp(log(x)) may miss x by an ulp, and a sample must lie inside its own bounds.
        return np.clip(np.exp(logs), self.low, self.high)

    def encode(self, values: NDArray[Any]) -> NDArray[np.float32]:
        return self._logs().encode(np.log(values))

    def decode(self, features: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.clip(np.exp(self._logs().decode(features)), self.low, self.high))

    def _logs(self) -> Uniform:
        return Uniform(math.log(self.low), math.log(self.high), self.shape)

    def _middle(self) -> float:
        return math.sqrt(self.low * self.high)


@dataclass(frozen=True)
class Normal(Parameter):
    """Values drawn from a normal distribution, element by element.

    Attributes:
        mean: The mean, and the default value of every element.
        std: The standard deviation.
        shape: The shape of one task's value; ``()`` is a plain number.

    Raises:
        ValueError: If the mean is not finite, or ``std`` is not finite and above zero.
    """

    mean: float = 0.0
    std: float = 1.0
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise InvalidValueError(
                f"Normal needs a finite mean and a finite std > 0, "
                f"got mean={self.mean}, std={self.std}"
            )

    @property
    def default(self) -> Any:
        return np.full(self.shape, self.mean).tolist()

    def sample(self, rng: np.random.Generator, num_tasks: int) -> NDArray[Any]:
        return rng.normal(self.mean, self.std, (num_tasks, *self.shape))

    def contains(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        return np.asarray(np.isfinite(values).reshape(len(values), -1).all(axis=1))

    def encode(self, values: NDArray[Any]) -> NDArray[np.float32]:
        # All numbers fit into (-1, 1), and `decode` gets them back from single precision.
        squashed = np.tanh(0.5 * (values - self.mean) / self.std)
        return squashed.reshape(len(values), -1).astype(np.float32)

    def decode(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Return the values, of shape (num_tasks, *shape), of given features.

        Values within 4 standard deviations of the mean are exact to 1e-5 of one.
        """
        inside = np.clip(np.asarray(features, dtype=np.float64), -_BELOW_ONE, _BELOW_ONE)
        values = self.mean + 2.0 * self.std * np.arctanh(inside)
        return values.reshape(len(features), *self.shape)


@dataclass(frozen=True)
class Dirichlet(Parameter):
    """Probabilities from a symmetric Dirichlet distribution, one set for each row.

    Attributes:
        shape: The shape of one task's value. The last axis holds the outcomes of a distribution.
        concentration: The parameter for every outcome; with 1 all probability vectors are equally
            likely. The default value has equal probabilities.

    Raises:
        ValueError: If the shape has no axis, or the concentration is not finite and above zero.
    """

    shape: tuple[int, ...]
    concentration: float = 1.0

    def __post_init__(self) -> None:
        if not self.shape or self.shape[-1] < 1:
            raise InvalidValueError(
                f"Dirichlet needs a shape whose last axis has the outcomes, got {self.shape}"
            )
        if not (math.isfinite(self.concentration) and self.concentration > 0):
            raise InvalidValueError(
                f"Dirichlet needs a finite concentration > 0, got {self.concentration}"
            )

    @property
    def default(self) -> Any:
        return np.full(self.shape, 1.0 / self.shape[-1]).tolist()

    def sample(self, rng: np.random.Generator, num_tasks: int) -> NDArray[Any]:
        alpha = np.full(self.shape[-1], self.concentration)
        return rng.dirichlet(alpha, (num_tasks, *self.shape[:-1]))

    def contains(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        sums_to_one = np.abs(values.sum(axis=-1, keepdims=True) - 1.0) < 1e-6
        inside = (values >= 0.0) & sums_to_one
        return np.asarray(inside.reshape(len(values), -1).all(axis=1))

    def encode(self, values: NDArray[Any]) -> NDArray[np.float32]:
        return (2.0 * values - 1.0).reshape(len(values), -1).astype(np.float32)

    def decode(self, features: NDArray[Any]) -> NDArray[np.float64]:
        values = 0.5 * (np.asarray(features, dtype=np.float64) + 1.0)
        return values.reshape(len(features), *self.shape)


@dataclass(frozen=True, init=False)
class Choice(Parameter):
    """One of finitely many values, all equally likely.

    Args:
        values: The values: numbers, booleans or strings, all different.
        nominal: The default value; the first if None.

    Raises:
        ValueError: If there are no values, a value occurs twice, they are of different kinds, or
            ``nominal`` is not among them.
    """

    values: tuple[Scalar, ...]
    nominal: Scalar

    def __init__(self, values: Sequence[Scalar], nominal: Scalar | None = None):
        check_types(Sequence, "a sequence", values=values)
        check_types(
            (int, float, str, bool, np.generic),
            "a number or a string",
            **{f"values[{i}]": value for i, value in enumerate(values)},
        )
        if len(values) == 0 or len(set(values)) != len(values):
            raise InvalidValueError(
                f"Choice needs at least one value, all different, got {values!r}"
            )
        # In one array numpy would turn numbers into strings, and booleans into numbers.
        kinds = {type(v).__name__ if isinstance(v, (bool, str)) else "number" for v in values}
        if len(kinds) > 1:
            raise InvalidValueError(
                f"Choice needs values of one kind, got {sorted(kinds)}: {values!r}"
            )
        object.__setattr__(self, "values", tuple(values))
        object.__setattr__(self, "nominal", values[0] if nominal is None else nominal)
        if self.nominal not in self.values:
            raise InvalidValueError(f"nominal value {nominal!r} is not among {self.values}")

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return ()

    @property
    def default(self) -> Scalar:
        return self.nominal

    @property
    def finite_values(self) -> Sequence[Any]:
        return self.values

    @property
    def one_hot_size(self) -> int:
        return 1 if len(self.values) == 2 else len(self.values)

    def sample(self, rng: np.random.Generator, num_tasks: int) -> NDArray[Any]:
        return np.asarray(self.values)[rng.integers(len(self.values), size=num_tasks)]

    def contains(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        return np.isin(values, np.asarray(self.values))

    def encode(self, values: NDArray[Any]) -> NDArray[np.float32]:
        matches = values[:, None] == np.asarray(self.values)
        if len(self.values) == 2:  # one feature is enough
            matches = 2.0 * matches[:, 1:] - 1.0
        return np.asarray(matches, dtype=np.float32)


@dataclass(frozen=True)
class Table(Parameter):
    """One of finitely many rows of symbols, all equally likely.

    Attributes:
        rows: The rows, all of one length; the first is the default.
        rule: What makes a row one of them, for error messages.
    """

    rows: tuple[tuple[Scalar, ...], ...]
    rule: str

    def __str__(self) -> str:
        return self.rule

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (len(self.rows[0]),)

    @property
    def default(self) -> tuple[Scalar, ...]:
        return self.rows[0]

    @property
    def finite_values(self) -> Sequence[Any]:
        return self.rows

    @property
    def one_hot_size(self) -> int:
        return len(np.unique(self.rows))

    def sample(self, rng: np.random.Generator, num_tasks: int) -> NDArray[Any]:
        return np.asarray(self.rows)[rng.integers(len(self.rows), size=num_tasks)]

    def contains(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        return np.asarray((values[:, None] == np.asarray(self.rows)).all(axis=2).any(axis=1))

    def encode(self, values: NDArray[Any]) -> NDArray[np.float32]:
        matches: NDArray[np.bool_] = values[:, :, None] == np.unique(self.rows)
        return matches.reshape(len(values), -1).astype(np.float32)


def hull(distributions: Sequence[Parameter]) -> Parameter:
    """Return one distribution that allows the values of all given ones: those of an environment.

    Ranges are joined to the smallest range around them, choices to the union of their values. The
    nominal value is that of the first distribution.

    Args:
        distributions: The distributions of one parameter in all splits.

    Raises:
        ValueError: If shapes differ, or the distributions cannot be joined.
    """
    first = distributions[0]
    if len({each.shape for each in distributions}) > 1:
        raise InvalidValueError(
            f"distributions of one parameter must have the same shape, got {list(distributions)}"
        )
    if all(each == first for each in distributions):
        return first
    choices = [value for each in distributions if isinstance(each, Choice) for value in each.values]
    if all(isinstance(each, Choice) for each in distributions):
        return Choice(tuple(dict.fromkeys(choices)), first.default)
    bounds: list[float] = []
    for each in distributions:
        if isinstance(each, Uniform):
            bounds += [each.low, each.high]
        elif isinstance(each, Choice) and not any(isinstance(v, str) for v in each.values):
            bounds += [float(value) for value in each.values]
        else:
            raise InvalidValueError(
                f"distributions of one parameter must be all ranges or all choices, got {each}"
            )
    nominal = float(np.ravel(first.default)[0])
    return Uniform(min(bounds), max(bounds), first.shape, nominal)
