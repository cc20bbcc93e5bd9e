"""Spaces of observations and actions; all code that depends on the kind of a space is here.

A batch of values of a space is an array with a row for each, and for Dict and Tuple spaces a
dictionary or a tuple of such arrays, as in gymnasium's vector environments. A new kind of space
needs a case in :func:`to_json` and :func:`_rows`, and one of actions a distribution in
:mod:`metarl.agents.common.actions`.
"""

from collections.abc import Callable, Iterator
from functools import singledispatch
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.errors import InvalidValueError

Array = NDArray[Any]
Space = spaces.Space[Any]
Values: TypeAlias = Any
"""A batch of values of a space: an array, or a dictionary or tuple of batches."""

MAX_RANGE = 1e30
"""Bounds of a Box further apart than this count as no bounds: float32 ends at 3e38."""

_PLAIN = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def check_space(what: str, space: Space) -> None:
    """Raise unless agents support a space.

    Args:
        what: ``"observation"`` or ``"action"``.
        space: The space.

    Raises:
        ValueError: If it is not made of Box, Discrete, MultiDiscrete and MultiBinary, by Dict and
            Tuple.
    """
    parts = list(leaves(space))
    good = [path for path, leaf in parts if isinstance(leaf, _PLAIN)]
    for path, leaf in parts:
        if isinstance(leaf, _PLAIN):
            continue
        if what == "action":
            way_out = "wrap the environment in a gymnasium.ActionWrapper"
        elif not path:
            way_out = "translate it with a gymnasium.ObservationWrapper"
        else:
            top = list(dict.fromkeys(other[0] for other in good))
            way_out = f"leave it out with gymnasium.wrappers.FilterObservation(env, {top})"
        raise InvalidValueError(
            f"{what} spaces must be Box, Discrete, MultiDiscrete or MultiBinary, or Dict or Tuple "
            f"of these, got {leaf}{f' at {_named(path)}' if path else ''}; {way_out}"
        )
    if not parts:
        raise InvalidValueError(f"the {what} space {space} is empty")


def leaves(space: Space, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Space]]:
    """Yield the parts of a space, each with the keys that lead to it."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from leaves(part, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from leaves(part, (*path, index))
    else:
        yield path, space


def _named(path: tuple[Any, ...]) -> str:
    return "".join(f"[{key!r}]" for key in path)


def is_bytes(space: Space) -> bool:
    """Return whether a space holds bytes: uint8 from 0 to 255, which agents scale to [0, 1]."""
    return (
        isinstance(space, spaces.Box)
        and space.dtype == np.uint8
        and bool((space.low == 0).all() and (space.high == 255).all())
    )


def is_image(space: Space) -> bool:
    """Return whether a space holds images: bytes, with the axes of a picture.

    Two axes are the height and width of a grey picture. With three, the channels are last, or first
    where that is the shortest axis, as in SB3. With four, the first counts pictures of three axes.
    """
    return is_bytes(space) and 2 <= len(space.shape or ()) <= 4


def image_shapes(space: Space) -> list[tuple[int, ...]]:
    """Return the shape of each image in a space."""
    return [leaf.shape or () for _, leaf in leaves(space) if is_image(leaf)]


def vector_size(space: Space) -> int:
    """Return the length of the rows that :func:`split` makes of all parts that are no images."""
    return sum(spaces.flatdim(leaf) for _, leaf in leaves(space) if not is_image(leaf))


def flatten(space: Space, values: Values) -> NDArray[np.float32]:
    """Return a batch of values of a space as float32 rows.

    Discrete parts become one-hot, and bytes become numbers from 0 to 1.

    Args:
        space: The space of one value.
        values: The batch.

    Returns:
        An array of shape (n, ``gymnasium.spaces.flatdim(space)``).

    Raises:
        ValueError: If the space holds one of another kind.
    """
    return _concatenate([_rows(leaf, part) for leaf, part in leaf_values(space, values)])


def split(space: Space, values: Values) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return a batch of values as float32 rows and, separately, the pixels of its images.

    Args:
        space: The space of one value.
        values: The batch.

    Returns:
        Rows of shape (n, :func:`vector_size`), discrete parts one-hot; and all images of a value
        side by side, of shape (n, number of pixels).

    Raises:
        ValueError: If the space holds one of another kind.
    """
    pairs = list(leaf_values(space, values))
    rows = [_rows(leaf, part) for leaf, part in pairs if not is_image(leaf)]
    images = [part.reshape(len(part), -1) for leaf, part in pairs if is_image(leaf)]
    num_values = len(pairs[0][1])
    return (
        _concatenate(rows) if rows else np.zeros((num_values, 0), np.float32),
        _concatenate(images) if images else np.zeros((num_values, 0), np.uint8),
    )


# From a policy's actions to values of a Box.


def has_bounds(space: spaces.Box) -> NDArray[np.bool_]:
    """Return which dimensions of a Box have two finite bounds that are not too far apart."""
    with np.errstate(over="ignore"):
        near = space.high.astype(np.float64) - space.low < MAX_RANGE
    # Without the flags, an integer Box without bounds has those of its type.
    bounded: NDArray[np.bool_] = space.bounded_below & space.bounded_above & near
    return bounded


def action_scale(space: spaces.Box) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the map from a policy's actions to those of a Box: ``center + half_range * action``.

    A dimension with bounds (:func:`has_bounds`) is stretched from [-1, 1] to them. Other dimensions
    are in the environment's own units.

    Returns:
        The centers and the half ranges, each of the space's shape.
    """
    bounded = has_bounds(space)
    low = np.where(bounded, space.low.astype(np.float64), -1.0)
    high = np.where(bounded, space.high.astype(np.float64), 1.0)
    return 0.5 * (low + high), 0.5 * (high - low)


def stretching(space: spaces.Box) -> Callable[[Array], Array]:
    """Return :func:`stretch` for one space, with constants computed in advance."""
    # Integers are computed in double precision, as their sums may exceed their own type.
    is_float = space.dtype.kind == "f"
    dtype = space.dtype if is_float else np.dtype(np.float64)
    center, half_range = (part.astype(dtype) for part in action_scale(space))
    low, high = space.low.astype(dtype), space.high.astype(dtype)
    if not is_float:
        # Double precision rounds the bounds of 64 bits outwards.
        low = np.where(low < -(2.0**53), np.nextafter(low, 0.0), low)
        high = np.where(high > 2.0**53, np.nextafter(high, 0.0), high)

    def stretched(values: Array) -> Array:
        scaled = center + half_range * values.reshape(-1, *space.shape)
        if not is_float:
            scaled = np.rint(scaled)
        return np.asarray(np.minimum(np.maximum(scaled, low), high), dtype=space.dtype)

    return stretched


def stretch(space: spaces.Box, values: Array) -> Array:
    """Return a policy's actions as values of a Box: scaled, clipped, and rounded if integers.

    Args:
        space: The space of one action.
        values: The actions, a row for each, in the units of :func:`action_scale`.

    Returns:
        An array of shape (n, *space.shape), of the space's type.
    """
    return stretching(space)(values)


def leaf_values(space: Space, values: Values) -> Iterator[tuple[Space, Array]]:
    """Yield the parts of a space, each with its part of a batch of values."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        for path, leaf in leaves(space):
            part = values
            for key in path:
                part = part[key]
            yield leaf, part
    else:
        yield space, values


def _concatenate(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


@singledispatch
def _rows(space: Space, values: Array) -> NDArray[np.float32]:
    """Return a batch of values of a plain space as float32 rows."""
    raise InvalidValueError(f"expected one of {[kind.__name__ for kind in _PLAIN]}, got {space}")


@_rows.register(spaces.Box)
@_rows.register(spaces.MultiBinary)
def _(space: Space, values: Array) -> NDArray[np.float32]:
    rows = values.reshape(len(values), -1).astype(np.float32, copy=False)
    return rows / np.float32(255) if is_bytes(space) else rows


@_rows.register
def _(space: spaces.Discrete, values: Array) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = np.equal.outer(values, np.arange(space.n) + space.start)
    return rows.astype(np.float32)


@_rows.register
def _(space: spaces.MultiDiscrete, values: Array) -> NDArray[np.float32]:
    counts, starts = space.nvec.ravel(), space.start.ravel()
    parts = [np.arange(count) + start for count, start in zip(counts, starts)]
    every = np.repeat(values.reshape(len(values), -1), counts, axis=1)
    rows: NDArray[np.float32] = (every == np.concatenate(parts)).astype(np.float32)
    return rows


# Spaces in files.


@singledispatch
def to_json(space: Space) -> dict[str, Any]:
    """Return the definition of a space, for ``json.dump``; equal spaces give equal dictionaries.

    Raises:
        ValueError: If the space holds one of another kind.
    """
    raise InvalidValueError(f"expected a space that agents support, got {space}")


@to_json.register
def _(space: spaces.Box) -> dict[str, Any]:
    def bound(values: Array) -> Any:  # images have thousands of equal bounds
        return values.flat[0].item() if (values == values.flat[0]).all() else values.tolist()

    return {
        "type": "Box",
        "shape": list(space.shape),
        "dtype": str(space.dtype),
        "low": bound(space.low),
        "high": bound(space.high),
    }


@to_json.register
def _(space: spaces.Discrete) -> dict[str, Any]:
    return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}


@to_json.register
def _(space: spaces.MultiDiscrete) -> dict[str, Any]:
    return {"type": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}


@to_json.register
def _(space: spaces.MultiBinary) -> dict[str, Any]:
    return {"type": "MultiBinary", "shape": list(space.shape)}


@to_json.register
def _(space: spaces.Dict) -> dict[str, Any]:
    parts = {str(key): to_json(part) for key, part in space.spaces.items()}
    return {"type": "Dict", "spaces": parts}


@to_json.register(spaces.Tuple)
def _(space: spaces.Tuple[Any]) -> dict[str, Any]:
    parts = {str(index): to_json(part) for index, part in enumerate(space.spaces)}
    return {"type": "Tuple", "spaces": parts}


def from_json(saved: Any) -> Space:
    """Return the space that :func:`to_json` has described.

    Raises:
        ValueError: If the description is damaged.
    """
    try:
        return _READERS[saved["type"]](saved)
    except InvalidValueError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, RecursionError):
        raise InvalidValueError(
            f"expected the description of a space, got {saved!r:.100}"
        ) from None


def _read_box(saved: Any) -> Space:
    dtype, shape = np.dtype(saved["dtype"]), tuple(saved["shape"])
    low, high = (np.broadcast_to(np.array(saved[bound], dtype), shape) for bound in ("low", "high"))
    return spaces.Box(low, high, shape, dtype.type)


_READERS: dict[str, Callable[[Any], Space]] = {
    "Box": _read_box,
    "Discrete": lambda saved: spaces.Discrete(saved["n"], start=saved["start"]),
    "MultiDiscrete": lambda saved: spaces.MultiDiscrete(saved["nvec"], start=saved["start"]),
    "MultiBinary": lambda saved: spaces.MultiBinary(
        saved["shape"][0] if len(saved["shape"]) == 1 else saved["shape"]
    ),
    # A sequence of pairs keeps its order, where a dictionary would be sorted.
    "Dict": lambda saved: spaces.Dict([(k, from_json(v)) for k, v in saved["spaces"].items()]),
    "Tuple": lambda saved: spaces.Tuple([from_json(v) for v in saved["spaces"].values()]),
}


def difference(saved: Any, space: Space) -> str | None:
    """Return how a space differs from a saved one, or None if it does not.

    Args:
        saved: The result of :func:`to_json`.
        space: The space it is compared with.

    Returns:
        For example ``"shape [17], not [18]"``.
    """
    return _difference(saved, to_json(space))


def _difference(saved: Any, present: dict[str, Any]) -> str | None:
    if saved == present:
        return None
    if not isinstance(saved, dict) or saved.get("type") != present["type"]:
        kind = saved.get("type") if isinstance(saved, dict) else repr(saved)
        return f"{kind}, not {present['type']}"
    names = [name for name in present if saved.get(name) != present[name]]
    if not names:
        return f"{saved}, not {present}"
    # Bounds of many dimensions would fill a page: show only the first that differs.
    name, old, new = names[0], saved.get(names[0]), present[names[0]]
    if name == "spaces" and isinstance(old, dict):
        if old.keys() != new.keys():
            return f"entries {', '.join(old)}, not {', '.join(new)}"
        key = next(key for key in new if old[key] != new[key])
        return f"{key}: {_difference(old[key], new[key])}"
    if name in ("low", "high") and isinstance(old, list) and isinstance(new, list):
        pairs = zip(np.ravel(np.array(old)).tolist(), np.ravel(np.array(new)).tolist())
        index, (old, new) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        name = f"{name}[{index}]"
    return f"{name} {old}, not {new}"
