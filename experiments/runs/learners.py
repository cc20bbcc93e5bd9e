"""The learners of the command line, by name: those of metarl, and ``module:Class`` of your own."""

import inspect
from collections.abc import Mapping
from typing import Any

from metarl.agents import AGENTS, Learner, OfflineLearner, presets
from metarl.agents.training.preset import Preset, first_match
from metarl.agents.training.ranks import current_ranks
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


def check_data_options(
    agent: str, data: object, total_timesteps: int | None, total_gradient_steps: int | None
) -> None:
    """Raise unless the options of a training are those of such a learner.

    Args:
        agent: Its name.
        data: The folder of histories, if any.
        total_timesteps: Env steps, if given.
        total_gradient_steps: Gradient steps, if given.
    """
    if issubclass(find_learner(agent), OfflineLearner):
        if data is None:
            raise InvalidValueError(
                f"{agent} learns from stored data, got none: pass --data DIR, a folder that "
                "metarl record has written"
            )
        if total_timesteps is not None:
            raise InvalidValueError(
                f"{agent} learns from stored data and takes no env steps, got --total-timesteps "
                f"{total_timesteps}: pass --total-gradient-steps"
            )
    elif data is not None or total_gradient_steps is not None:
        given = "--data" if data is not None else "--total-gradient-steps"
        raise InvalidValueError(
            f"{agent} learns in environments, got {given}: leave it out, or train a learner from "
            "stored data (metarl.agents.OfflineLearner)"
        )


def check_teacher_options(agent: str, teacher: object, hyperparameters: Mapping[str, Any]) -> None:
    """Raise unless a learner with a teacher is one that learns from it, and has one if it must.

    Args:
        agent: Its name.
        teacher: The teacher, if any.
        hyperparameters: The learner's.
    """
    share = hyperparameters.get("teacher_share", 0.0)
    if teacher is None:
        if share:
            raise InvalidValueError(
                f"teacher_share is {share} and there is no teacher; pass --teacher RUN"
            )
    elif "teacher_share" not in find_learner(agent).hyperparameter_names():
        raise InvalidValueError(
            f"{agent} learns from no teacher, got --teacher {teacher}: leave it out, or train rl2"
        )
    elif (size := current_ranks().size) > 1:
        raise InvalidValueError(
            f"one process learns from a teacher, got {size}; leave out --processes"
        )


def find_preset(agent: str, family: TaskDistribution | str) -> Preset:
    """Return the preset of a learner for a family: metarl's, or one of your own class's.

    Raises:
        ValueError: If it has none for such a family.
    """
    if agent in AGENTS:
        return presets.find_preset(agent, family)
    found = find_learner(agent)
    return first_match(found.presets, found.name.lower(), family)
