"""Action distributions: from a network's outputs to actions that an environment takes."""

from typing import Any

import numpy as np
from gymnasium import spaces

from metarl.agents.common.actions.composite import CompositeHead
from metarl.agents.common.actions.contract import IMPOSSIBLE, ActionHead
from metarl.agents.common.actions.heads import LOG_STD_MAX, LOG_STD_MIN, simple_head
from metarl.spaces import action_scale, check_space, leaves

__all__ = ["IMPOSSIBLE", "LOG_STD_MAX", "LOG_STD_MIN", "ActionHead", "action_head", "advice"]


def action_head(space: spaces.Space[Any], masked: bool = False) -> ActionHead:
    """Return the head of an action space.

    Args:
        space: The action space.
        masked: Whether actions may be forbidden.

    Raises:
        ValueError: If agents do not support the space.
    """
    check_space("action", space)
    composite = isinstance(space, spaces.Dict | spaces.Tuple)
    return CompositeHead(space, masked) if composite else simple_head(space, masked)


def advice(space: spaces.Space[Any]) -> str | None:
    """Return a warning if an action space makes learning harder; otherwise None."""
    for _, part in leaves(space):
        if isinstance(part, spaces.Box) and (advised := _box_advice(part)):
            return advised
    return None


def _box_advice(space: spaces.Box) -> str | None:
    center, half_range = action_scale(space)
    lowest, highest = center - half_range, center + half_range
    if not (np.isclose(lowest, space.low) & np.isclose(highest, space.high)).all():
        return (
            f"the action space {space} lacks bounds: without two of them, actions are drawn around "
            "0 in the environment's own units; declare the range that matters with "
            "gymnasium.wrappers.TransformAction(env, lambda action: action, Box(low, high))"
        )
    if np.issubdtype(space.dtype, np.integer):
        return (
            f"the action space {space} holds integers: actions are drawn from a Gaussian and "
            "rounded; agents learn better with a Discrete or MultiDiscrete space"
        )
    return None
