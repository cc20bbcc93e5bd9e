"""The search space as plain data: for each agent the varied hyperparameters and their ranges."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from metarl.agents import AGENTS
from metarl.errors import InvalidValueError

if TYPE_CHECKING:
    import optuna

DIGITS = 3
"""Significant digits of drawn numbers, so that printed values are exactly the trained ones."""


@dataclass(frozen=True)
class Log:
    """A positive number whose logarithm is uniform between two bounds."""

    low: float
    high: float


_POLICY = "policy_kwargs."
MINIBATCHES = "minibatches"
"""Stands for ``trials_per_minibatch``, which must not exceed ``trials_per_iteration``."""

SPACES: Mapping[str, Mapping[str, Log | tuple[Any, ...]]] = {
    "rl2": {
        "learning_rate": Log(3e-4, 2e-2),
        "ent_coef": (0.0, 0.001, 0.003, 0.01, 0.03, 0.1),  # a grid of logarithms, and none
        "gamma": (0.8, 0.9, 0.95, 0.98, 0.99, 1.0),
        "gae_lambda": (0.3, 0.5, 0.8, 0.9, 0.95, 1.0),
        "infinite_horizon_critic": (False, True),
        "wall_clock_discount": (False, True),
        "n_epochs": (1, 2, 4, 6, 8),
        "trials_per_iteration": (32, 64, 128, 256, 512),
        MINIBATCHES: (1, 2, 4, 8, 16),
        "policy_kwargs.hidden_size": (32, 64, 128),
        "policy_kwargs.memory": ("gru", "lstm"),
    },
    "maml": {
        "inner_lr": Log(1e-2, 1.0),
        "learning_rate": Log(3e-4, 2e-2),
        "max_kl": Log(3e-3, 0.1),
        "n_epochs": (2, 5, 8, 12),
        "meta_batch_size": (5, 10, 20, 40),
        "gae_lambda": (0.8, 0.9, 0.95, 0.985, 1.0),
        "policy_kwargs.hidden_sizes": ((32,), (32, 32), (64, 64), (100, 100)),
    },
}
"""For each agent the hyperparameters that are varied. All others keep the preset's value; so do the
episodes per adaptation, which belong to the evaluation setting."""

Space: TypeAlias = Mapping[str, Log | Mapping[str, Any]]
"""For each hyperparameter its range, or its values by their text, as Optuna stores no tuples."""


def space_of(agent: str, preset: Mapping[str, Any]) -> Space:
    """Return what is varied from a preset: the hyperparameters that it uses, its values included.

    Args:
        agent: The agent's name.
        preset: The preset's hyperparameters.

    Raises:
        ValueError: If there is no search space for the agent.
    """
    if agent not in SPACES:
        raise InvalidValueError(
            f"there is no search space for {agent!r}, expected one of: {', '.join(SPACES)}; set "
            "the others by hand with: metarl train ... --set NAME=VALUE"
        )
    unused: set[str] = set()
    if agent == "maml":
        outer = AGENTS[agent].config_class.build(preset).to_json()["outer"]
        of_others = {"trpo": {"learning_rate", "n_epochs"}, "reptile": {"max_kl", "n_epochs"}}
        unused = of_others.get(outer, unused)
    space: dict[str, Log | Mapping[str, Any]] = {}
    for name, value in values_at(agent, preset).items():
        among = SPACES[agent][name]
        if name in unused:
            continue
        if isinstance(among, Log):
            space[name] = Log(min(among.low, value), max(among.high, value))
        else:
            values = among if value in among else (*among, value)
            space[name] = {str(each): each for each in values}
    return space


def suggest(trial: "optuna.Trial", space: Space) -> dict[str, Any]:
    """Let a trial draw a value of each hyperparameter."""
    values: dict[str, Any] = {}
    for name, among in space.items():
        if isinstance(among, Log):
            drawn = trial.suggest_float(name, among.low, among.high, log=True)
            values[name] = float(f"{drawn:.{DIGITS}g}")
        else:
            values[name] = among[trial.suggest_categorical(name, list(among))]
    return values


def encoded(values: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Return values as Optuna stores them."""
    return {
        name: float(values[name])
        if isinstance(among, Log)
        else next(text for text, value in among.items() if value == values[name])
        for name, among in space.items()
    }


def values_at(agent: str, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of hyperparameters in the agent's space; missing ones have defaults."""
    agent_class: Any = AGENTS[agent]
    values = agent_class.config_class.build(hyperparameters).to_json()
    policy = agent_class.policy_config_class.build(values["policy_kwargs"] or {}).to_json()
    values |= {_POLICY + name: value for name, value in policy.items()}
    if agent == "rl2":
        whole = values["trials_per_iteration"]
        values[MINIBATCHES] = whole // (values["trials_per_minibatch"] or whole)
    return {
        name: tuple(value) if isinstance(value := values[name], list) else value
        for name in SPACES[agent]
    }


def with_values(preset: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a preset's hyperparameters with other values in the agent's space.

    Args:
        preset: The preset's hyperparameters.
        values: The values by their names in the space.
    """
    changed = {**preset, **{name: v for name, v in values.items() if not name.startswith(_POLICY)}}
    kwargs = {
        name.removeprefix(_POLICY): v for name, v in values.items() if name.startswith(_POLICY)
    }
    policy = preset.get("policy_kwargs") or {}
    changed["policy_kwargs"] = {**policy, **kwargs}
    if changed["policy_kwargs"].get("memory") != policy.get("memory"):
        changed["policy_kwargs"].pop("memory_kwargs", None)  # options of the preset's memory
    if MINIBATCHES in changed:
        whole = changed["trials_per_iteration"]
        changed["trials_per_minibatch"] = max(1, whole // changed.pop(MINIBATCHES))
    return changed
