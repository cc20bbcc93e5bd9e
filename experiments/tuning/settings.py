"""The settings of a search over hyperparameters."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

from metarl import TaskDistribution, envs
from metarl.agents import AGENTS
from metarl.agents.presets import find_preset
from metarl.agents.training.preset import Preset
from metarl.errors import check_at_least, check_names
from metarl.experiments.cli.overrides import view_arguments
from metarl.experiments.tuning.space import space_of
from metarl.seeding import check_seed
from metarl.views import View, slug


@dataclass(frozen=True)
class Settings:
    """The settings that all trials of a storage have in common.

    Attributes:
        agent: The agent's name.
        family: The family's name on the command line.
        total_timesteps: Env steps of each training; None takes the preset's.
        seed: The seed of all trainings, of the scored tasks and of the search.
        storage: The journal; None takes ``runs/tune/AGENT-FAMILY/journal.log``.
        view: The options of :func:`metarl.envs.make` (:mod:`metarl.views`).

    Raises:
        ValueError: If a name is unknown or a number out of its range.
    """

    agent: str
    family: str
    total_timesteps: int | None = None
    seed: int = 0
    storage: Path | None = None
    view: View = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_names([self.agent], AGENTS, "agent")
        space_of(self.agent, {})
        check_seed(self.seed)
        if self.total_timesteps is not None:
            check_at_least(1, total_timesteps=self.total_timesteps)

    @property
    def journal(self) -> Path:
        """Where the trials are."""
        folder = f"{self.agent}-{slug(self.family, self.view)}"
        return self.storage or Path("runs/tune") / folder / "journal.log"

    @property
    def locks(self) -> Path:
        """The folder of the locks, and of the processes' output."""
        return self.journal.with_name(f"{self.journal.name}.processes")

    def tasks(self) -> TaskDistribution:
        """Return the family, in the view that is searched."""
        return envs.make(self.family, **self.view)

    @functools.cached_property
    def preset(self) -> Preset:
        """The preset that the search starts from."""
        return find_preset(self.agent, self.tasks())

    @property
    def env_steps(self) -> int:
        """Env steps of each training."""
        steps = self.total_timesteps or self.preset.total_timesteps
        assert steps is not None  # presets that are found have one
        return steps

    def arguments(self) -> list[str]:
        """Return the settings as arguments of the command line."""
        arguments = [self.agent, self.family, *view_arguments(self.view)]
        if self.total_timesteps is not None:
            arguments += ["--total-timesteps", str(self.total_timesteps)]
        if self.seed:
            arguments += ["--seed", str(self.seed)]
        if self.storage is not None:
            arguments += ["--storage", str(self.storage)]
        return arguments
