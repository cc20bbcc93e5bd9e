"""Spaces of observations and actions: the one place that knows their kinds.

A new kind of space needs a case in each function below, and in the action distributions of
:mod:`metarl.agents.actions`.
"""

from functools import singledispatch
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.errors import InvalidValueError

Array = NDArray[Any]
Space = spaces.Space[Any]

_WAYS_OUT = {
    "observation": "wrap the environment in gymnasium.wrappers.FlattenObservation",
    "action": "wrap the environment in a gymnasium.ActionWrapper",
}


def check_space(what: str, space: Space) -> None:
    """Raise unless agents can deal with a space.

    Args:
        what: ``"observation"`` or ``"action"``.
        space: The space.

    Raises:
        ValueError: If the space is neither Box nor Discrete.
    """
    if not isinstance(space, (spaces.Box, spaces.Discrete)):
        raise InvalidValueError(
            f"{what} spaces must be Box or Discrete, got {space}; {_WAYS_OUT[what]}"
        )


@singledispatch
def flatten(space: Space, values: Array) -> NDArray[np.float32]:
    """Return a batch of values of a space as float32 rows; discrete ones become one-hot.

    Args:
        space: The space of one value.
        values: The batch, of shape (n, *space.shape).

    Returns:
        An array of shape (n, ``gymnasium.spaces.flatdim(space)``).

    Raises:
        ValueError: If the space is of another kind.
    """
    raise InvalidValueError(f"expected a Box or Discrete space, got {space}")


@flatten.register
def _(space: spaces.Box, values: Array) -> NDArray[np.float32]:
    return values.reshape(len(values), -1).astype(np.float32, copy=False)


@flatten.register
def _(space: spaces.Discrete, values: Array) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = np.equal.outer(values, np.arange(space.n) + space.start)
    return rows.astype(np.float32)


@singledispatch
def to_json(space: Space) -> dict[str, Any]:
    """Return all that defines a space, for ``json.dump``: equal spaces give equal dictionaries.

    Raises:
        ValueError: If the space is neither Box nor Discrete.
    """
    raise InvalidValueError(f"expected a Box or Discrete space, got {space}")


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


def difference(saved: Any, space: Space) -> str | None:
    """Say how a space differs from a saved one, or return None if it does not.

    Args:
        saved: What :func:`to_json` gave.
        space: The space it is compared with.

    Returns:
        For example ``"shape [17], not [18]"``.
    """
    present = to_json(space)
    if saved == present:
        return None
    if not isinstance(saved, dict) or saved.get("type") != present["type"]:
        kind = saved.get("type") if isinstance(saved, dict) else repr(saved)
        return f"{kind}, not {present['type']}"
    names = [name for name in present if saved.get(name) != present[name]]
    if not names:
        return f"{saved}, not {present}"
    # Bounds of many dimensions would fill a page: the first that differs tells enough.
    name, old, new = names[0], saved.get(names[0]), present[names[0]]
    if name in ("low", "high") and isinstance(old, list) and isinstance(new, list):
        pairs = zip(np.ravel(np.array(old)).tolist(), np.ravel(np.array(new)).tolist())
        index, (old, new) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        name = f"{name}[{index}]"
    return f"{name} {old}, not {new}"
