"""What the command line takes: hyperparameters other than the preset's, and views of families."""

import json
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from metarl.agents import AGENTS, Learner
from metarl.agents.presets import find_preset
from metarl.errors import InvalidValueError, check_names
from metarl.views import View


def parse_overrides(agent_class: type[Learner], overrides: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` pairs; values are JSON, and bare words are strings.

    Raises:
        ValueError: If a pair lacks ``=`` or names an unknown hyperparameter.
    """
    values: dict[str, Any] = {}
    for pair in overrides:
        name, equals, text = pair.partition("=")
        name = name.replace("-", "_")
        if not equals:
            raise InvalidValueError(f"expected name=value, got {pair!r}")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    known = agent_class.hyperparameter_names()
    check_names(values, known, f"hyperparameter of {agent_class.__name__}:")
    return values


def hyperparameters_of(
    preset: Mapping[str, Any], overrides: Mapping[str, Any], has_teacher: bool
) -> dict[str, Any]:
    """Return the hyperparameters of a training: with a teacher, imitation to the end by default."""
    return {**preset, **({"teacher_share": 1.0} if has_teacher else {}), **overrides}


def overrides_in(command: str) -> list[str]:
    """Return the ``name=value`` pairs of a command line."""
    return [value for option, value in pairwise(shlex.split(command)) if option == "--set"]


def has_earlier_preset(config: Mapping[str, Any]) -> bool:
    """Return whether a run's command would train with other hyperparameters today.

    Args:
        config: The run's configuration.
    """
    if config["agent"] not in AGENTS:  # your own, which is not imported for this
        return False
    overrides = overrides_in(config["command"])
    try:
        preset = find_preset(config["agent"], config["tasks"]).hyperparameters
        given = parse_overrides(AGENTS[config["agent"]], overrides)
        today = hyperparameters_of(preset, given, "teacher" in config)
    except InvalidValueError:  # a preset or hyperparameter that no longer exists
        return True
    return bool(json.loads(json.dumps(today)) != config["hyperparameters"])


def view_arguments(view: View) -> list[str]:
    """Return the options by which the command line asks for a view."""
    arguments = []
    for name, value in view.items():
        arguments.append(f"--{name.replace('_', '-')}")
        if value is not True:
            arguments.append(str(value))
    return arguments
