"""RL²: the learning algorithm is a recurrent network, learned by reinforcement learning."""

from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch

from metarl.agents.common.acting import TrialBuffer
from metarl.agents.common.actor_critic import NetworkConfig, RecurrentActorCritic
from metarl.agents.common.losses import running_returns
from metarl.agents.common.memory.contract import tensors_of
from metarl.agents.common.memory_agent import MemoryAgent
from metarl.agents.common.normalization import Normalizer, RunningMoments, summarized
from metarl.agents.common.ppo import Batch, TrialPPOConfig, make_batch, of_pieces, ppo_update
from metarl.agents.common.teacher import ActionLabels, check_teacher, oracle_rows
from metarl.agents.common.trials import Trials
from metarl.agents.rl2.presets import PRESETS
from metarl.agents.training.config import Count, Share
from metarl.agents.training.learner import Learner
from metarl.agents.training.online import OnlineLearner
from metarl.errors import InvalidTypeError, InvalidValueError
from metarl.evaluation.adaptation import OnStep, Rollout, rollout
from metarl.seeding import stream_seed
from metarl.spaces import difference, to_json
from metarl.trial import TrialInput
from metarl.vector.env import TaskVectorEnv


@dataclass(frozen=True)
class RL2Config(TrialPPOConfig):
    """The hyperparameters of RL²."""

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
    teacher_share: Share = 0.0
    """The share of the env steps of ``learn`` during which the policy imitates its teacher, an
    agent that observes the task (:meth:`RL2.set_teacher`); PPO follows. The critic learns from the
    returns all the time."""
    normalize_observation: bool = False
    """Whether to normalise observations by running moments."""
    normalize_reward: bool = False
    """Whether to scale training rewards by the running deviation of discounted returns, and the
    rewards in the network's input by their own running deviation."""
    policy_kwargs: dict[str, Any] | None = None
    """Arguments of the network, those of :class:`metarl.agents.common.actor_critic.NetworkConfig`:
    ``hidden_size``, ``memory``, ``head``, ``separate_critic`` and more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.trials_per_minibatch or 0) > self.trials_per_iteration:
            raise InvalidValueError(
                f"trials_per_minibatch ({self.trials_per_minibatch}) must not exceed "
                f"trials_per_iteration ({self.trials_per_iteration})"
            )


class RL2(MemoryAgent, OnlineLearner[TrialBuffer]):
    """RL² (Duan et al. 2016; Wang et al. 2016) with PPO over whole trials.

    ::

        repeat
            sample tasks from the train split, one for each trial               collect
            for each trial: h = 0, and for K episodes of its task               rollout
                a ~ pi(. | observation, last action, last reward, episode end; h)   act
            advantages across the whole trial, not cut at episode ends          make_batch
            for each epoch, for each minibatch of whole trials                  ppo_update
                ascend PPO's clipped objective through the whole trial          ppo_loss

    On the right is the function that does it: ``collect`` and ``update`` are this class's,
    ``update`` calls :func:`~metarl.agents.common.ppo.make_batch` and
    :func:`~metarl.agents.common.ppo.ppo_update`; ``act`` is that of
    :class:`~metarl.agents.common.actor_critic.RecurrentActorCritic`.

    The memory h is reset between trials and never inside one, so what the network learns in one
    episode it can use in the next: the forward pass is the inner loop.

    Differences from the paper: PPO with minibatches of trials and Adam. The end of a trial is
    terminal, in the bootstrap and in training alike: the objective is the return of the trial.
    The critic predicts the return of each episode left in the trial, not of all together: that
    varies far less over a trial, so the little that an exploring step is worth is not lost in
    the trend. ``infinite_horizon_critic`` does the same for a discount that sees no whole trial,
    and ``wall_clock_discount`` keeps such a discount from rewarding the end of an episode.

    Args:
        tasks: The family to train on.
        seed: The seed of everything; None draws one.
        device: Where to compute.
        verbose: 1 prints the log of every iteration.
        tensorboard_log: The folder for TensorBoard, or None.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of its range, or a name is unknown.
    """

    name = "RL2"
    presets = PRESETS
    divisible = True
    num_tasks_option = "trials_per_iteration"
    config: RL2Config
    network: RecurrentActorCritic
    _teacher: Learner | None = None
    config_class = RL2Config
    policy_config_class = NetworkConfig

    def build(self) -> None:
        config, tasks = self.config, self.tasks
        network_config = NetworkConfig.build(config.policy_kwargs or {}, "policy_kwargs name")
        self.episodes_per_trial = config.episodes_per_trial or tasks.episodes_per_trial
        self.reset_memory_every = config.reset_memory_every
        self.first_episodes_per_trial = config.first_episodes_per_trial or self.episodes_per_trial
        if self.first_episodes_per_trial > self.episodes_per_trial:
            raise InvalidValueError(
                f"first_episodes_per_trial ({self.first_episodes_per_trial}) must not exceed "
                f"episodes_per_trial ({self.episodes_per_trial})"
            )
        self.trial_input = TrialInput(self.observation_space, self.action_space)
        weights = torch.Generator().manual_seed(stream_seed(self.seed, "network"))
        with torch.random.fork_rng(devices=[]):
            # Layers draw weights before ours replace them; those of an added memory may stay.
            torch.default_generator.manual_seed(weights.initial_seed())
            self.network = RecurrentActorCritic(
                self.trial_input,
                self.action_space,
                weights,
                network_config,
                tasks,
                predicts_task=bool(config.task_prediction_coef),
            ).to(self.device)
        if config.sequence_length is not None:
            self._check_fixed_state(network_config.memory)
        if not self.network.actor.remembers:
            self.name = "RL2 without memory"
        self.observation_moments = RunningMoments(self.trial_input.observation.stop).to(self.device)
        self.reward_moments = RunningMoments(1).to(self.device)
        self.return_moments = RunningMoments(1).to(self.device)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=config.learning_rate, eps=1e-5, fused=True
        )
        self.modules = {
            "network": self.network,
            "observation_moments": self.observation_moments,
            "reward_moments": self.reward_moments,
            "return_moments": self.return_moments,
        }
        self.optimizers = {"optimizer": self.optimizer}

    # What training knows and the policy does not.

    def set_teacher(self, teacher: Learner) -> None:
        """Set the agent that the policy imitates in the first ``teacher_share`` of ``learn``.

        It imitates the teacher's action distributions in its own trials (Ross et al. 2011): the
        teacher observes what the policy does, and the task. Saved files do not hold the teacher: a
        loaded agent that is trained on needs it again.

        Args:
            teacher: Trained on ``tasks.oracle()`` of the same family; it is only read.

        Raises:
            TypeError: If such an agent cannot be a teacher.
            ValueError: If it is of another family or of a view without the task, its spaces are
                others, or ``teacher_share`` is zero.
        """
        if not isinstance(teacher, Learner):
            raise InvalidTypeError(f"teacher must be a trained agent, got {teacher!r}")
        if not self.config.teacher_share:
            raise InvalidValueError(
                "teacher_share is 0, so nothing would be learned from the teacher; pass "
                "teacher_share=1.0, or less for PPO after it"
            )
        check_teacher(self.tasks, teacher.tasks.name, teacher.tasks.view)
        with closing(self.tasks.oracle().make_vec(1)) as view:
            expected = {
                "observation_space": view.single_observation_space,
                "action_space": view.single_action_space,
            }
        for name, space in expected.items():
            if differs := difference(to_json(getattr(teacher, name)), space):
                raise InvalidValueError(f"the teacher has another {name}: {differs}")
        self._teacher = teacher

    def action_labels(self, rows: torch.Tensor, pixels: torch.Tensor) -> ActionLabels:
        rows, network = self.normalizer()(rows), self.network

        def outputs(piece: torch.Tensor) -> torch.Tensor:
            return network.outputs(rows[:, piece], pixels[:, piece])

        log_std = None if network.log_std is None else network.log_std.detach()
        return ActionLabels(network.action_head, of_pieces(network, outputs, rows), log_std)

    def _present_teacher(self) -> Learner | None:
        """Return the teacher to imitate in the present iteration; None if there is none.

        Raises:
            ValueError: If there should be one.
        """
        share = self.config.teacher_share
        if self.progress() >= share:
            return None
        if self._teacher is None:
            raise InvalidValueError(
                f"teacher_share is {share:g} and there is no teacher; call set_teacher(teacher) "
                "before learn(), or set teacher_share=0"
            )
        return self._teacher

    @torch.no_grad()
    def _check_fixed_state(self, memory: str) -> None:
        """Raise if the memory's state grows: there would be a copy of it for each sequence.

        Raises:
            ValueError: If it does.
        """
        before = self.network.initial_state(1)
        rows = torch.zeros(1, self.trial_input.size, device=self.device)
        pixels = torch.zeros(1, self.trial_input.num_pixels, dtype=torch.uint8, device=self.device)
        _, after = self.network.act(rows, pixels, before)
        if [t.shape for t in tensors_of(before)] != [t.shape for t in tensors_of(after)]:
            raise InvalidValueError(
                "sequence_length needs a memory whose state has a fixed size, such as 'gru', got "
                f"{memory!r}, whose state grows with the trial; leave sequence_length at None"
            )

    # One iteration.

    def collect(self, env: TaskVectorEnv, on_step: OnStep) -> tuple[Rollout, TrialBuffer]:
        self._present_teacher()  # raises before any work
        observations = self.begin_tasks(env)
        num_episodes = self._present_episodes_per_trial()
        task = torch.as_tensor(self.tasks.encode(env.tasks), device=self.device)
        noise = self.collecting_noise()
        buffer = TrialBuffer(self.policy(), self.n_envs, num_episodes, env.horizon, noise, task)
        return rollout(env, observations, buffer, num_episodes, on_step), buffer

    def update(self, experience: TrialBuffer) -> None:
        config, trials = self.config.annealed(self.progress()), experience.trials()
        batch, explained_variance = self.batch_of(trials)
        teacher = self._present_teacher()
        if teacher is not None:
            labels = teacher.action_labels(
                oracle_rows(trials, self.trial_input.observation), trials.pixels
            )
            batch = replace(batch, labels=labels)
            # How random actions are, and how far a policy may move, is up to the teacher.
            config = replace(config, ent_coef=0.0, target_kl=None)
        generator = self.generator_for("minibatches")
        measured = ppo_update(self.network, self.optimizer, batch, config, generator, self.ranks)
        if teacher is not None:
            measured["teacher_kl"] = measured.pop("policy_loss")
        # The moments change only between iterations: what was recorded under the old ones is
        # learned from under the old ones.
        self._update_moments(trials)
        measured |= {
            "explained_variance": explained_variance,
            "learning_rate": config.learning_rate,
        }
        for name, value in measured.items():
            self.logger.record(f"train/{name}", value)

    def batch_of(self, trials: Trials) -> tuple[Batch, float]:
        """Return what is learned from of what was recorded; see :func:`make_batch`."""
        rows, rewards = self.normalizer()(trials.rows), trials.rewards
        if self.config.normalize_reward:
            rewards = rewards / self.return_moments.std()
        return make_batch(self.network, trials, rows, rewards, self.config, self.ranks)

    def _present_episodes_per_trial(self) -> int:
        growth = self.episodes_per_trial / self.first_episodes_per_trial
        share = min(2.0 * self.progress(), 1.0)
        return round(float(self.first_episodes_per_trial * growth**share))

    def _update_moments(self, trials: Trials) -> None:
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

    # Acting.

    def evaluation_warning(self, num_episodes: int) -> str | None:
        remembers = self.network.actor.remembers
        return super().evaluation_warning(num_episodes) if remembers else None

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
