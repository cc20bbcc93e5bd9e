"""The relatives of MAML by name: the same algorithm, with the same arguments and other defaults."""

from dataclasses import dataclass, replace
from typing import Literal

from metarl.agents.maml.agent import MAML, MAMLConfig
from metarl.agents.maml.presets import PRESETS
from metarl.agents.training.config import NotNegative, Positive
from metarl.agents.training.preset import Preset


def _presets(agent: str, config_class: type[MAMLConfig]) -> tuple[Preset, ...]:
    """Return MAML's presets without the hyperparameters that make the relative what it is."""
    own = vars(config_class)["__annotations__"]
    return tuple(
        replace(
            preset,
            agent=agent,
            hyperparameters={n: v for n, v in preset.hyperparameters.items() if n not in own},
        )
        for preset in PRESETS
    )


@dataclass(frozen=True)
class ProMPConfig(MAMLConfig):
    """The hyperparameters of ProMP."""

    inner_objective: Literal["log_prob", "ratio"] = "ratio"
    outer: Literal["trpo", "ppo", "reptile"] = "ppo"


class ProMP(MAML):
    """Proximal meta-policy search (Rothfuss et al. 2019): MAML with PPO as its outer update.

    The inner step ascends the likelihood ratio times advantages, whose second derivatives have
    lower variance. For the differences from the paper see :class:`MAML`.
    """

    name = "ProMP"
    config_class = ProMPConfig
    presets = _presets("promp", ProMPConfig)


@dataclass(frozen=True)
class EMAMLConfig(MAMLConfig):
    """The hyperparameters of E-MAML."""

    exploration_coef: NotNegative = 1.0


class EMAML(MAML):
    """E-MAML (Stadie et al. 2018): support episodes are rewarded for the return of the query."""

    name = "E-MAML"
    config_class = EMAMLConfig
    presets = _presets("e-maml", EMAMLConfig)


@dataclass(frozen=True)
class ANILConfig(MAMLConfig):
    """The hyperparameters of ANIL."""

    adapt_only_last_layer: bool = True


class ANIL(MAML):
    """ANIL, "almost no inner loop" (Raghu et al. 2020): inner steps change the last layer only."""

    name = "ANIL"
    config_class = ANILConfig
    presets = _presets("anil", ANILConfig)


@dataclass(frozen=True)
class FOMAMLConfig(MAMLConfig):
    """The hyperparameters of first-order MAML."""

    first_order: bool = True


class FOMAML(MAML):
    """First-order MAML (Finn et al. 2017): the inner gradient counts as a constant."""

    name = "FOMAML"
    config_class = FOMAMLConfig
    presets = _presets("fomaml", FOMAMLConfig)


@dataclass(frozen=True)
class ReptileConfig(MAMLConfig):
    """The hyperparameters of Reptile."""

    learn_inner_lr: Literal["per_step", "per_parameter"] | None = None
    outer: Literal["trpo", "ppo", "reptile"] = "reptile"
    learning_rate: Positive = 1e-2


class Reptile(MAML):
    """Reptile (Nichol et al. 2018): the outer step goes towards the adapted parameters."""

    name = "Reptile"
    config_class = ReptileConfig
    presets = _presets("reptile", ReptileConfig)
