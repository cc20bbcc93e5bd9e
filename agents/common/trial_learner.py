"""What agents share that have a memory and learn by PPO on whole trials."""

import contextlib
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from metarl.agents.common.acting import TrialBuffer
from metarl.agents.common.losses import running_returns
from metarl.agents.common.memory_agent import MemoryAgent
from metarl.agents.common.normalization import Normalizer, RunningMoments, summarized
from metarl.agents.common.ppo import Batch, TrialNetwork, TrialPPOConfig, make_batch, ppo_update
from metarl.agents.common.teacher import ActionLabels
from metarl.agents.common.trials import Trials
from metarl.agents.training.config import Count
from metarl.agents.training.online import OnlineLearner
from metarl.errors import InvalidValueError
from metarl.evaluation.adaptation import OnStep, Rollout, rollout
from metarl.seeding import stream_seed
from metarl.trial import TrialInput
from metarl.vector.env import TaskVectorEnv


@dataclass(frozen=True)
class TrialLearnerConfig(TrialPPOConfig):
    """The hyperparameters of such agents; those of an agent are derived from it."""

    trials_per_iteration: Count = 256
    """Trials collected in parallel in each iteration."""
    episodes_per_trial: Count | None = None
    """K, the episodes of a trial; None takes the family's."""
    first_episodes_per_trial: Count | None = None
    """Start with trials of this many episodes, growing geometrically to K over the first half of
    ``learn``; None starts with K. Short trials are cheap, and skills learned in them carry over to
    long ones."""
    reset_memory_every: Count | None = None
    """Act with a fresh memory after this many episodes in a task; None keeps it. The network has
    learned to use its memory for the K episodes of a trial, and beyond them it may go wrong for
    good. It changes nothing in training: ``load(path, tasks, reset_memory_every=K)``."""
    normalize_observation: bool = False
    """Whether to normalise observations by running moments."""
    normalize_reward: bool = False
    """Whether to scale training rewards by the running deviation of discounted returns, and the
    rewards in the network's input by their own running deviation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.trials_per_minibatch or 0) > self.trials_per_iteration:
            raise InvalidValueError(
                f"trials_per_minibatch ({self.trials_per_minibatch}) must not exceed "
                f"trials_per_iteration ({self.trials_per_iteration})"
            )


class TrialLearner(MemoryAgent, OnlineLearner[TrialBuffer]):
    """An agent that collects whole trials, and learns from them by PPO.

    An agent extends ``build``, and implements ``ppo_network`` and ``update``, which calls
    ``update_policy`` and ``update_moments``.

    Attributes:
        optimizer: PPO's, of the parameters of ``ppo_network``.
        moments: Modules with the moments that inputs and rewards are normalised by, to be put into
            ``modules``.
    """

    buffer_class: ClassVar[type[TrialBuffer]] = TrialBuffer
    """What acts in trials and records them."""
    num_tasks_option = "trials_per_iteration"
    config: TrialLearnerConfig
    optimizer: torch.optim.Optimizer

    def build(self) -> None:
        config, family = self.config, self.interface
        self.episodes_per_trial = config.episodes_per_trial or family.episodes_per_trial
        self.reset_memory_every = config.reset_memory_every
        self.first_episodes_per_trial = config.first_episodes_per_trial or self.episodes_per_trial
        if self.first_episodes_per_trial > self.episodes_per_trial:
            raise InvalidValueError(
                f"first_episodes_per_trial ({self.first_episodes_per_trial}) must not exceed "
                f"episodes_per_trial ({self.episodes_per_trial})"
            )
        self.trial_input = TrialInput(self.observation_space, self.action_space)
        self.observation_moments = RunningMoments(self.trial_input.observation.stop).to(self.device)
        self.reward_moments = RunningMoments(1).to(self.device)
        self.return_moments = RunningMoments(1).to(self.device)
        self.moments = {
            "observation_moments": self.observation_moments,
            "reward_moments": self.reward_moments,
            "return_moments": self.return_moments,
        }

    @contextlib.contextmanager
    def initial_weights(self) -> Iterator[torch.Generator]:
        """Return the source of initial weights, for a ``with`` block in which networks are made."""
        weights = torch.Generator().manual_seed(stream_seed(self.seed, "network"))
        with torch.random.fork_rng(devices=[]):
            # Layers draw weights before ours replace them; those of an added memory may stay.
            torch.default_generator.manual_seed(weights.initial_seed())
            yield weights

    @property
    @abstractmethod
    def ppo_network(self) -> TrialNetwork:
        """What PPO trains."""

    # One iteration.

    def collect(self, env: TaskVectorEnv, on_step: OnStep) -> tuple[Rollout, TrialBuffer]:
        observations = self.begin_tasks(env)
        num_episodes = self._present_episodes_per_trial()
        task = torch.as_tensor(self.tasks.encode(env.tasks), device=self.device)
        noise = self.collecting_noise()
        buffer = self.buffer_class(
            self.policy(), self.n_envs, num_episodes, env.horizon, noise, task
        )
        return rollout(env, observations, buffer, num_episodes, on_step), buffer

    def update_policy(self, trials: Trials, labels: ActionLabels | None = None) -> None:
        """Make PPO's epochs on what was recorded, and log them.

        Args:
            trials: What was recorded.
            labels: A teacher's action distributions, which the policy is to imitate.
        """
        config = self.config.annealed(self.progress())
        batch, explained_variance = self.batch_of(trials)
        if labels is not None:
            batch = replace(batch, labels=labels)
            # How random actions are, and how far a policy may move, is up to the teacher.
            config = replace(config, ent_coef=0.0, target_kl=None)
        generator = self.generator_for("minibatches")
        measured = ppo_update(
            self.ppo_network, self.optimizer, batch, config, generator, self.ranks
        )
        if labels is not None:
            measured["teacher_kl"] = measured.pop("policy_loss")
        measured |= {
            "explained_variance": explained_variance,
            "learning_rate": config.learning_rate,
        }
        for name, value in measured.items():
            self.logger.record(f"train/{name}", value)

    def batch_of(self, trials: Trials) -> tuple[Batch, float]:
        """Return what is learned from of what was recorded; see :func:`make_batch`."""
        rows, rewards = self.ppo_rows(trials), trials.rewards
        if self.config.normalize_reward:
            rewards = rewards / self.return_moments.std()
        return make_batch(self.ppo_network, trials, rows, rewards, self.config, self.ranks)

    def ppo_rows(self, trials: Trials) -> torch.Tensor:
        """Return the inputs of ``ppo_network``, of shape (time, num_trials, size)."""
        return self.normalizer()(trials.rows)

    def update_moments(self, trials: Trials) -> None:
        """Take in what was recorded. Last of all in an iteration.

        What was recorded under the old moments is learned from under the old ones.
        """
        real = trials.mask.bool()
        seen: dict[RunningMoments, torch.Tensor] = {}
        if self.config.normalize_observation:
            seen[self.observation_moments] = trials.rows[..., self.trial_input.observation]
        if self.config.normalize_reward:
            returns = running_returns(trials.rewards, self.config.gamma)
            seen[self.reward_moments] = trials.rewards.unsqueeze(-1)
            seen[self.return_moments] = returns.unsqueeze(-1)
        for moments, values in seen.items():  # (time, n, size)
            moments.merge(self.ranks.gather(summarized(values[real])))

    def _present_episodes_per_trial(self) -> int:
        growth = self.episodes_per_trial / self.first_episodes_per_trial
        share = min(2.0 * self.progress(), 1.0)
        return round(float(self.first_episodes_per_trial * growth**share))

    # Acting.

    def normalizer(self) -> Normalizer:
        """Return the function from rows to network inputs, with the present moments."""
        part = self.trial_input
        normalizer = Normalizer(part.size, self.device)
        if self.config.normalize_observation:
            moments = self.observation_moments
            normalizer.set(part.observation, moments.mean.float(), moments.std())
            if part.mask is not None:  # the network reads it
                normalizer.set(part.mask, 0.0, torch.ones(()))
        if self.config.normalize_reward:
            normalizer.set(part.reward, 0.0, self.reward_moments.std())
        return normalizer
