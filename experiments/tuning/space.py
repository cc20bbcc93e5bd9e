"""The search space as plain data: for each agent the varied hyperparameters and their ranges."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from metarl.agents.common.actor_critic import NetworkConfig
from metarl.agents.maml.agent import MAMLConfig
from metarl.agents.maml.policy import PolicyConfig
from metarl.agents.rl2.agent import RL2Config
from metarl.agents.training.config import Config
from metarl.errors import InvalidValueError

if TYPE_CHECKING:
    import optuna

DIGITS = 3
"""Significant digits of drawn numbers, so that printed values are exactly the trained ones."""


@dataclass(frozen=True)
class Log:
    """A positive number whose logarithm is uniform.

    Attributes:
        low: The lower bound.
        high: The upper bound.
    """

    low: float
    high: float

    def suggest(self, trial: "optuna.Trial", name: str, at_preset: Any) -> Any:
        """Draw a value; the range is widened to include the preset's."""
        low, high = min(self.low, at_preset), max(self.high, at_preset)
        return float(f"{trial.suggest_float(name, low, high, log=True):.{DIGITS}g}")

    def encode(self, value: Any) -> Any:
        """Return a value as Optuna stores it."""
        return float(value)


@dataclass(frozen=True)
class OneOf:
    """One of some values.

    Attributes:
        values: The values: numbers, strings, or tuples of these.
    """

    values: tuple[Any, ...]

    def suggest(self, trial: "optuna.Trial", name: str, at_preset: Any) -> Any:
        """Draw a value; the preset's is always among them."""
        values = self.values if at_preset in self.values else (*self.values, at_preset)
        by_text = {self.encode(value): value for value in values}
        return by_text[trial.suggest_categorical(name, list(by_text))]

    def encode(self, value: Any) -> Any:
        """Return a value as Optuna stores it: as text, because it stores no tuples."""
        return str(next((own for own in self.values if own == value), value))


Space: TypeAlias = Mapping[str, Log | OneOf]

_POLICY = "policy_kwargs."
MINIBATCHES = "minibatches"
"""Stands for ``trials_per_minibatch``, which must not exceed ``trials_per_iteration``."""

SPACES: Mapping[str, Space] = {
    "rl2": {
        "learning_rate": Log(3e-4, 2e-2),
        "ent_coef": OneOf((0.0, 0.001, 0.003, 0.01, 0.03, 0.1)),  # a grid of logarithms, and none
        "gamma": OneOf((0.8, 0.9, 0.95, 0.98, 0.99, 1.0)),
        "gae_lambda": OneOf((0.3, 0.5, 0.8, 0.9, 0.95, 1.0)),
        "infinite_horizon_critic": OneOf((False, True)),
        "wall_clock_discount": OneOf((False, True)),
        "n_epochs": OneOf((1, 2, 4, 6, 8)),
        "trials_per_iteration": OneOf((32, 64, 128, 256, 512)),
        MINIBATCHES: OneOf((1, 2, 4, 8, 16)),
        "policy_kwargs.hidden_size": OneOf((32, 64, 128)),
        "policy_kwargs.memory": OneOf(("gru", "lstm")),
    },
    "maml": {
        "inner_lr": Log(1e-2, 1.0),
        "learning_rate": Log(3e-4, 2e-2),
        "max_kl": Log(3e-3, 0.1),
        "n_epochs": OneOf((2, 5, 8, 12)),
        "meta_batch_size": OneOf((5, 10, 20, 40)),
        "gae_lambda": OneOf((0.8, 0.9, 0.95, 0.985, 1.0)),
        "policy_kwargs.hidden_sizes": OneOf(((32,), (32, 32), (64, 64), (100, 100))),
    },
}
"""For each agent the hyperparameters that are varied. All others keep the preset's value; so do the
episodes per adaptation, which belong to the evaluation setting."""

_CONFIGS: Mapping[str, tuple[type[Config], type[Config]]] = {
    "rl2": (RL2Config, NetworkConfig),
    "maml": (MAMLConfig, PolicyConfig),
}


def space_of(agent: str, preset: Mapping[str, Any]) -> Space:
    """Return the search space, without hyperparameters that this preset does not use.

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
        of_others = {"trpo": {"learning_rate", "n_epochs"}, "reptile": {"max_kl", "n_epochs"}}
        unused = of_others.get(preset.get("outer", MAMLConfig.outer), unused)
    return {
        name: distribution for name, distribution in SPACES[agent].items() if name not in unused
    }


def values_at(agent: str, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of hyperparameters in the agent's space; missing ones have defaults."""
    own, policy = _CONFIGS[agent]
    values = own.build(hyperparameters).to_json()
    kwargs = policy.build(values["policy_kwargs"] or {}).to_json()
    values |= {_POLICY + name: value for name, value in kwargs.items()}
    if agent == "rl2":
        whole = values["trials_per_iteration"]
        values[MINIBATCHES] = whole // (values["trials_per_minibatch"] or whole)
    return {
        name: tuple(value) if isinstance(value := values[name], list) else value
        for name in SPACES[agent]
    }


def shown(agent: str, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the varied hyperparameters by their public names; missing ones have defaults."""
    values = values_at(agent, hyperparameters)
    if values.pop(MINIBATCHES, None) is not None:
        values["trials_per_minibatch"] = (
            _CONFIGS[agent][0].build(hyperparameters).to_json()["trials_per_minibatch"]
        )
    return {name.removeprefix(_POLICY): value for name, value in values.items()}


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
