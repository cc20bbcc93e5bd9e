"""Algorithm distillation: a sequence model that goes on as a learning algorithm would."""

from dataclasses import dataclass, replace

import torch

from metarl.agents.common.acting import MemoryAdaptation
from metarl.agents.common.actor_critic import NetworkConfig, RecurrentActorCritic
from metarl.agents.common.memory.transformer import Transformer, TransformerConfig
from metarl.agents.common.memory_agent import MemoryAgent
from metarl.agents.common.noise import ActionNoise
from metarl.agents.common.normalization import Normalizer
from metarl.agents.distill.learner import Distillation, DistillationConfig, prediction_loss
from metarl.agents.distill.presets import AD_PRESETS
from metarl.agents.training.config import Width
from metarl.batches import map_leaves
from metarl.data import Batch
from metarl.seeding import Seed
from metarl.trial import TrialInput


@dataclass(frozen=True)
class ADConfig(DistillationConfig):
    """The hyperparameters of AD."""

    greedy: bool = False
    """Whether it takes the most likely actions instead of drawing them, as long as it acts: for
    histories of an algorithm that leaves nothing to chance. Of it, drawn actions differ now and
    then, and what follows them is in no history."""


@dataclass(frozen=True)
class ADNetworkConfig(NetworkConfig):
    """The ``policy_kwargs`` of AD: a Transformer, if nothing else is asked for."""

    hidden_size: Width = 64
    memory: str = "transformer"


class AD(MemoryAgent, Distillation):
    """Algorithm distillation (Laskin et al. 2022).

    ::

        repeat
            draw windows of successive episodes from histories of a learning algorithm   update
            predict each action from all of the window that came before it               loss
            descend the negative log-likelihood of the actions taken                     update

    A history shows how an algorithm improves, so what predicts its next action must improve with
    what it reads, too. Once trained, it acts by what it has read of the present task, and its
    parameters stay as they are. Inputs are those of RL²: observation, last action, last reward,
    episode end.

    Where the memory is a Transformer without a ``context`` of its own, it attends to as many steps
    as a window can have. Acting goes on for any number of episodes: the context slides along.

    Differences from the paper: a step is one token; the Transformer has gates (GTrXL) and relative
    positions; any other memory can take its place. Of the actor-critic network, only the actor is
    trained.

    Args:
        tasks: The family to act in.
        seed: The seed of everything; None draws one.
        device: Where to compute.
        verbose: 1 prints the log of every iteration.
        tensorboard_log: The folder for TensorBoard, or None.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of its range, or a name is unknown.
    """

    name = "AD"
    presets = AD_PRESETS
    config: ADConfig
    network: RecurrentActorCritic
    config_class = ADConfig
    policy_config_class = ADNetworkConfig
    reset_memory_every = None

    def build_network(self, generator: torch.Generator) -> RecurrentActorCritic:
        config = ADNetworkConfig.build(self.config.policy_kwargs or {}, "policy_kwargs name")
        options = config.memory_config()
        if isinstance(options, TransformerConfig) and options.context is None:
            context = {"context": self.num_episodes * self.horizon}
            config = replace(config, memory_kwargs={**(config.memory_kwargs or {}), **context})
        self.trial_input = TrialInput(self.observation_space, self.action_space)
        self.episodes_per_trial = self.num_episodes
        return RecurrentActorCritic(
            self.trial_input, self.action_space, generator, config, self.interface
        )

    def loss(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        inputs = self.trial_input.sequence(
            batch.observations, batch.actions, batch.rewards, batch.episode_end
        )
        steps = map_leaves(lambda part: part.reshape(-1, *part.shape[2:]), batch.actions)
        actions = self.network.action_head.from_env(steps)
        actions = actions.reshape(*batch.mask.shape, *actions.shape[1:])
        rows, pixels, actions, mask = (  # (time, n, ...)
            torch.as_tensor(part, device=self.device).transpose(0, 1)
            for part in (*inputs, actions, batch.mask)
        )
        outputs = self.network.outputs(self.normalizer()(rows), pixels)
        return prediction_loss(self.network.distribution(outputs[mask]), actions[mask])

    # Acting.

    def adaptation(
        self,
        num_tasks: int,
        *,
        seed: Seed = 0,
        deterministic: bool = False,
        shard: slice | None = None,
    ) -> MemoryAdaptation:
        most_likely = deterministic or self.config.greedy
        return super().adaptation(num_tasks, seed=seed, deterministic=most_likely, shard=shard)

    def prediction_noise(self, deterministic: bool) -> ActionNoise | None:
        return super().prediction_noise(deterministic or self.config.greedy)

    @property
    def evaluation_options(self) -> tuple[str, ...]:
        return ("greedy",)

    def normalizer(self) -> Normalizer:
        """Return the function from rows to network inputs."""
        return self.normalizer_of(self.trial_input.size)

    def evaluation_warning(self, num_episodes: int) -> str | None:
        """Return a warning for reports about this number of episodes in a task, if any."""
        slides = isinstance(self.network.actor, Transformer)
        if slides or num_episodes <= self.num_episodes:
            return None
        return (
            f"{self.name} has learned from windows of {self.num_episodes} episodes and is "
            f"evaluated on {num_episodes}: in the later ones its memory may fail (the context of a "
            "transformer slides along)"
        )
