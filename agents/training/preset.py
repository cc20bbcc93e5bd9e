"""Presets: hyperparameters tuned for families, and the rule by which a family gets one."""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from metarl.distribution import TaskDistribution
from metarl.errors import InvalidValueError


@dataclass(frozen=True)
class Preset:
    """How to train an agent on the families whose names match a pattern.

    Attributes:
        agent: The agent's name on the command line.
        pattern: A shell pattern of names of metarl's own families; the first match counts.
            ``*`` is for all families.
        total_timesteps: Env steps of training; None takes those of RL² on the family.
        hyperparameters: Keyword arguments of the agent; the rest keep their defaults.
        num_eval_tasks: Held-out tasks of the final evaluation.
        num_eval_episodes: Adaptation episodes of the final evaluation; None takes the family's.
    """

    agent: str
    pattern: str
    total_timesteps: int | None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    num_eval_tasks: int = 100
    num_eval_episodes: int | None = None


def first_match(presets: Iterable[Preset], agent: str, family: TaskDistribution | str) -> Preset:
    """Return the first preset of an agent whose pattern matches a family.

    Args:
        presets: The presets.
        agent: The agent's name on the command line.
        family: The family, or its name on the command line. Patterns match only metarl's own
            families: any other family, whatever its name, gets the preset ``*``.

    Raises:
        ValueError: If the agent has none for such a family.
    """
    if isinstance(family, TaskDistribution):
        name, built_in = family.name, family.built_in
    else:  # module:attribute is the user's own
        name, built_in = family, re.match(r"[\w.]+:", family) is None
    for preset in presets:
        matches = fnmatch.fnmatchcase(name if built_in else "", preset.pattern)
        if preset.agent == agent and matches:
            return preset
    raise InvalidValueError(f"there is no preset of {agent!r} for {name!r}; pass --total-timesteps")
