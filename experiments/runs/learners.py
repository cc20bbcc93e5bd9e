"""The learners of the command line, by name: those of metarl, and ``module:Class`` of your own."""

import inspect
from typing import Any

from metarl.agents import AGENTS, Learner, OnlineLearner, presets
from metarl.agents.training.preset import Preset, first_match
from metarl.distribution import TaskDistribution
from metarl.envs.custom.loading import load_attribute
from metarl.errors import InvalidTypeError, InvalidValueError, check_names


def find_learner(name: str) -> type[Learner]:
    """Return the class of a learner. A module is imported: of a run, it must be trusted.

    Args:
        name: One of :data:`metarl.agents.AGENTS`, or for example ``my_package.my_module:MyAgent``.

    Raises:
        TypeError: If the attribute is no learner.
        ValueError: If there is no such name, module or attribute.
    """
    if ":" not in name:
        check_names([name], AGENTS, "agent")
        return AGENTS[name]
    found = load_attribute(name)
    if not (isinstance(found, type) and issubclass(found, Learner)) or inspect.isabstract(found):
        raise InvalidTypeError(
            f"{name} must be a class derived from metarl.agents.OnlineLearner or OfflineLearner "
            f"that implements its methods, got {found!r}"
        )
    return found


def find_online_learner(name: str) -> type[OnlineLearner[Any]]:
    """Return the class of a learner that trains in environments; see :func:`find_learner`.

    Raises:
        TypeError: If the attribute is no learner.
        ValueError: If there is no such name, or it learns from stored data.
    """
    found = find_learner(name)
    if not issubclass(found, OnlineLearner):
        raise InvalidValueError(
            f"{name} learns from stored data, which the command line does not read yet: train it "
            f"in Python, with {found.__name__}(tasks).learn(data, total_gradient_steps)"
        )
    return found


def find_preset(agent: str, family: TaskDistribution | str) -> Preset:
    """Return the preset of a learner for a family: metarl's, or one of your own class's.

    Raises:
        ValueError: If it has none for such a family.
    """
    if agent in AGENTS:
        return presets.find_preset(agent, family)
    found = find_learner(agent)
    return first_match(found.presets, found.name.lower(), family)
