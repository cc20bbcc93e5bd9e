"""Batches of values of a space: arrays, and for Dict and Tuple spaces nested ones.

As in gymnasium's vector environments, a batch has one row for each value.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from metarl.errors import InvalidValueError
from metarl.spaces import Array, Space, Values, leaf_values, leaves


def map_leaves(function: Callable[..., Any], values: Values, *others: Values) -> Values:
    """Apply a function to the arrays of a batch, and of others that are made alike."""
    if isinstance(values, dict):
        return {
            key: map_leaves(function, part, *(other[key] for other in others))
            for key, part in values.items()
        }
    if isinstance(values, tuple):
        return tuple(map_leaves(function, *parts) for parts in zip(values, *others))
    return function(values, *others)


def take(values: Values, rows: Any) -> Values:
    """Return some rows of a batch, or one value for an integer."""
    return map_leaves(lambda part: part[rows], values)


def replaced(values: Values, rows: Any, new: Values) -> Values:
    """Return a copy of a batch in which some rows are those of ``new``, which has as many."""

    def replace(part: Array, other: Array) -> Array:
        part = part.copy()
        part[rows] = other
        return part

    return map_leaves(replace, values, new)


def stack(space: Space, values: list[Any]) -> Values:
    """Make a batch of single values, in the types of their space.

    Raises:
        ValueError: If a value has another shape, or lacks an entry.
    """
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        entries = space.spaces
        named = entries.items() if isinstance(entries, dict) else enumerate(entries)
        try:
            parts = {key: stack(part, [value[key] for value in values]) for key, part in named}
        except (KeyError, IndexError, TypeError) as error:
            raise InvalidValueError(
                f"the environment returned the observation {values[0]!r:.200}, but its observation "
                f"space is {space} ({type(error).__name__}: {error})"
            ) from None
        return parts if isinstance(space, spaces.Dict) else tuple(parts.values())
    try:
        rows = np.array(values, dtype=space.dtype)
    except (TypeError, ValueError):
        for value in values:  # the first that does not fit
            try:
                fits = np.array(value, dtype=space.dtype).shape == space.shape
            except (TypeError, ValueError):
                fits = False
            if not fits:
                raise InvalidValueError(
                    f"the environment returned the observation {value!r:.200}, but its observation "
                    f"space is {space}"
                ) from None
        raise
    if rows.shape[1:] != space.shape:
        raise InvalidValueError(
            f"the environment returned observations of shape {rows.shape[1:]}, "
            f"but its observation space is {space}"
        )
    return rows


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
