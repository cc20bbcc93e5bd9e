"""Masks of invalid actions: an entry ``action_mask`` of the observation says what is allowed.

A mask has an entry for each value of each discrete part of an action, side by side: 1 if it is
allowed now and 0 if not. ``Discrete(n)`` needs n entries, ``MultiDiscrete(nvec)`` the sum of nvec,
as in Gymnasium and sb3-contrib.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.batches import map_spaces
from metarl.errors import InvalidValueError
from metarl.spaces import Array, Space, Values, is_image, leaves

KEY = "action_mask"


@dataclass(frozen=True)
class ActionMask:
    """Where observations hold the mask, and what its entries are.

    Attributes:
        observation_space: The space of one observation.
        action_space: The space of one action.
        counts: The number of values of each discrete part of an action.
    """

    observation_space: Space
    action_space: Space
    counts: tuple[int, ...]

    def of(self, observations: Values) -> NDArray[np.bool_]:
        """Return which values are allowed, of shape (n, sum of ``counts``)."""
        mask: Any = mask_values(self.observation_space, observations)
        return np.asarray(mask > 0)

    def columns(self, *, images: bool) -> slice:
        """Return where the mask is in the rows of observations.

        Args:
            images: Whether rows hold images too (:func:`metarl.spaces.flatten`) or not
                (:func:`metarl.spaces.split`).
        """
        start = 0
        for path, leaf in leaves(self.observation_space):
            if path[-1] == KEY:
                break
            start += spaces.flatdim(leaf) if images or not is_image(leaf) else 0
        return slice(start, start + sum(self.counts))

    def leaves_a_choice(self, observations: Values) -> NDArray[np.bool_]:
        """Return where every part of an action has an allowed value, of shape (n,)."""
        starts = np.cumsum([0, *self.counts[:-1]])
        some: NDArray[np.bool_] = np.logical_or.reduceat(self.of(observations), starts, axis=1)
        return np.asarray(some.all(axis=1))

    def redrawn(self, actions: Values, observations: Values, draws: Array) -> Values:
        """Return actions whose discrete parts are drawn again, among what is allowed.

        Args:
            actions: A batch of actions.
            observations: The observations that they are chosen from.
            draws: Numbers in [0, 1) that the choices depend on, of shape (n, parts).
        """
        stops = np.cumsum(self.counts)[:-1]
        parts = zip(np.split(self.of(observations), stops, axis=1), draws.T)

        def redraw(space: Space, values: Array) -> Array:
            if not isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
                return values
            chosen = [
                (np.cumsum(own, axis=1) > np.floor(draw * own.sum(axis=1))[:, None]).argmax(axis=1)
                for own, draw in itertools.islice(parts, math.prod(space.shape or ()))
            ]
            indices = np.stack(chosen, axis=1).reshape(values.shape)
            return (indices + space.start).astype(values.dtype)

        return map_spaces(redraw, self.action_space, actions)


def find_mask(observation_space: Space, action_space: Space) -> ActionMask | None:
    """Return the mask of invalid actions, or None if observations hold none.

    Raises:
        ValueError: If there are several, the mask is of another shape or does not hold 0 and 1,
            or no part of an action is Discrete or MultiDiscrete.
    """
    found = [leaf for path, leaf in leaves(observation_space) if path[-1:] == (KEY,)]
    if not found:
        return None
    if len(found) > 1:
        raise InvalidValueError(
            f"the observation space {observation_space} has {len(found)} entries {KEY!r}; "
            "expected one, for all parts of the action"
        )
    counts = discrete_counts(action_space)
    if not counts:
        raise InvalidValueError(
            f"observations hold an {KEY!r}, but no part of the action space {action_space} is "
            "Discrete or MultiDiscrete; rename the entry or change the action space"
        )
    (leaf,) = found
    if not (leaf.shape == (sum(counts),) and _is_binary(leaf)):
        raise InvalidValueError(
            f"the {KEY!r} of observations must be MultiBinary({sum(counts)}), an entry for each "
            f"discrete value of the action space {action_space}, got {leaf}"
        )
    return ActionMask(observation_space, action_space, counts)


def mask_values(observation_space: Space, observations: Values) -> Array | None:
    """Return the mask in a batch of observations, of shape (n, size); None if there is none."""
    for path, _ in leaves(observation_space):
        if path[-1:] == (KEY,):
            for key in path:
                observations = observations[key]
            mask: Array = observations
            return mask
    return None


def discrete_counts(action_space: Space) -> tuple[int, ...]:
    """Return the number of values of each discrete part of an action."""
    counts: list[int] = []
    for _, leaf in leaves(action_space):
        if isinstance(leaf, spaces.Discrete):
            counts.append(int(leaf.n))
        elif isinstance(leaf, spaces.MultiDiscrete):
            counts += leaf.nvec.ravel().tolist()
    return tuple(counts)


def _is_binary(space: Space) -> bool:
    if isinstance(space, spaces.Box):
        return bool((space.low == 0).all() and (space.high == 1).all())
    return isinstance(space, spaces.MultiBinary)
