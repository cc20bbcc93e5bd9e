"""Batches of values of a space: arrays, and for Dict and Tuple spaces nested ones.

As in gymnasium's vector environments, a batch has one row for each value.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from metarl.errors import InvalidValueError
from metarl.spaces import Array, Space, Values, leaf_values, leaves


def map_leaves(function: Callable[..., Any], values: Values, *others: Values) -> Values:
    """Apply a function to the arrays of a batch, and of other batches of the same structure."""
    if isinstance(values, dict):
        return {
            key: map_leaves(function, part, *(other[key] for other in others))
            for key, part in values.items()
        }
    if isinstance(values, tuple):
        return tuple(map_leaves(function, *parts) for parts in zip(values, *others))
    return function(values, *others)


def map_spaces(function: Callable[[Space, Any], Any], space: Space, values: Values) -> Values:
    """Apply a function to the plain parts of a space and of a value or batch of it.

    Raises:
        ValueError: If the values lack an entry.
    """
    try:
        parts = [function(leaf, part) for leaf, part in leaf_values(space, values)]
    except (KeyError, IndexError, TypeError):
        raise InvalidValueError(f"expected values of {space}, got {values!r:.200}") from None
    return nest(space, iter(parts))


def nest(space: Space, parts: Iterator[Any]) -> Values:
    """Put the plain parts of a value or batch together as the space is nested."""
    if isinstance(space, spaces.Dict):
        return {key: nest(part, parts) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(nest(part, parts) for part in space.spaces)
    return next(parts)


def take(values: Values, rows: Any) -> Values:
    """Return some rows of a batch, or one value for an integer."""
    return map_leaves(lambda part: part[rows], values)


def replaced(values: Values, rows: Any, new: Values) -> Values:
    """Return a copy of a batch with some rows replaced by the rows of ``new``."""

    def replace(part: Array, other: Array) -> Array:
        part = part.copy()
        part[rows] = other
        return part

    return map_leaves(replace, values, new)


def stack(space: Space, values: list[Any]) -> Values:
    """Make a batch of single values returned by environments, in the dtypes of their space.

    Raises:
        ValueError: If a value has another shape, lacks an entry, or would be changed by the type.
    """
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        return _parts(space, values[0], lambda key, part: stack(part, [v[key] for v in values]))
    try:
        rows = np.array(values)
    except (TypeError, ValueError, RuntimeError):  # of unequal shapes, or no numbers
        rows = np.empty(0, dtype=object)
    return _in_type(space, rows, values)


def in_types(space: Space, batch: Values) -> Values:
    """Return an environment's batch in the dtypes of the space of one value.

    Raises:
        ValueError: If a value has another shape, lacks an entry, or would be changed by the type.
    """
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        return _parts(space, batch, lambda key, part: in_types(part, batch[key]))
    return _in_type(space, batch, batch)


def _parts(space: Any, shown: Any, make: Callable[[Any, Space], Values]) -> Values:
    """Make a batch for each entry of a Dict or Tuple space."""
    entries = space.spaces
    named = entries.items() if isinstance(entries, dict) else enumerate(entries)
    try:
        parts = {key: make(key, part) for key, part in named}
    except (KeyError, IndexError, TypeError) as error:
        raise InvalidValueError(
            f"the environment returned the observation {shown!r:.200}, but its observation "
            f"space is {space} ({type(error).__name__}: {error})"
        ) from None
    return parts if isinstance(space, spaces.Dict) else tuple(parts.values())


def _in_type(space: Space, rows: Array, values: Sequence[Any] | Array) -> Array:
    """Return the rows in the dtype of their space; ``values`` are the original ones."""
    if rows.dtype == space.dtype and rows.shape[1:] == space.shape:
        return rows
    if rows.dtype.kind not in "biuf" or rows.shape[1:] != space.shape:
        rows = np.stack([_numbers(space, value) for value in values])  # which says what is wrong
    with np.errstate(invalid="ignore", over="ignore"):
        cast = rows.astype(space.dtype)
    if cast.dtype.kind == "f":  # rounding is allowed, overflow is not
        if np.isfinite(cast).all():
            return cast
        kept = np.isfinite(cast) | ~np.isfinite(rows)
    else:
        kept = cast == rows
    if not kept.all():
        place = tuple(np.argwhere(~kept)[0])
        raise InvalidValueError(
            f"the environment returned an observation with the {rows.dtype} value {rows[place]}, "
            f"which the {space.dtype} of its observation space {space} cannot hold; return "
            f"{space.dtype} values, or declare the space with dtype {rows.dtype}"
        )
    return cast


def _numbers(space: Space, value: Any) -> Array:
    """Return one value of a plain space as an array, or raise."""
    shown = f"the environment returned the observation {value!r:.200}"
    expected = f"but its observation space is {space}"
    try:
        part = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidValueError(f"{shown}, {expected} ({type(error).__name__}: {error})") from None
    if part.shape != space.shape or part.dtype.kind not in "biuf":
        raise InvalidValueError(f"{shown} of type {part.dtype} and shape {part.shape}, {expected}")
    return part


def as_batch(space: Space, values: Values) -> tuple[Values, bool]:
    """Return values as a batch, and whether they were a single value.

    Args:
        space: The space of one value.
        values: One value, or a batch.

    Raises:
        ValueError: If they have another shape.
    """
    (path, first), *_ = leaves(space)
    part = values
    try:
        for key in path:
            part = part[key]
        single = np.ndim(part) == len(first.shape or ())
        batch = map_leaves(lambda part: np.asarray(part)[None if single else ...], values)
        for leaf, rows in leaf_values(space, batch):
            if rows.shape[1:] != leaf.shape:
                raise InvalidValueError(
                    f"expected observations of shape {leaf.shape}, got {rows.shape}"
                )
    except InvalidValueError:
        raise
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError, ValueError):
        raise InvalidValueError(f"expected observations of {space}, got {values!r:.200}") from None
    return batch, single
