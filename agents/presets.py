"""The presets of all agents, each declared beside its agent."""

from dataclasses import replace

from metarl.agents.distill.presets import PRESETS as DISTILL_PRESETS
from metarl.agents.maml.presets import PRESETS as MAML_PRESETS
from metarl.agents.maml.variants import ANIL, EMAML, FOMAML, ProMP, Reptile
from metarl.agents.rl2.presets import PRESETS as RL2_PRESETS
from metarl.agents.sb3.presets import PRESETS as SB3_PRESETS
from metarl.agents.training.preset import Preset, first_match
from metarl.agents.varibad.presets import PRESETS as VARIBAD_PRESETS
from metarl.distribution import TaskDistribution

PRESETS: tuple[Preset, ...] = (
    *RL2_PRESETS,
    *VARIBAD_PRESETS,
    *MAML_PRESETS,
    *(preset for variant in (ANIL, EMAML, FOMAML, ProMP, Reptile) for preset in variant.presets),
    *DISTILL_PRESETS,
    *SB3_PRESETS,
)


def find_preset(agent: str, family: TaskDistribution | str) -> Preset:
    """Return the preset of an agent for a family; see :func:`first_match`.

    A preset without a number of env steps gets that of RL².

    Args:
        agent: The agent's name on the command line.
        family: The family, or its name on the command line.

    Raises:
        ValueError: If the agent has none for such a family.
    """
    preset = first_match(PRESETS, agent, family)
    if preset.total_timesteps is None:
        same = first_match(RL2_PRESETS, "rl2", family).total_timesteps
        return replace(preset, total_timesteps=same)
    return preset
