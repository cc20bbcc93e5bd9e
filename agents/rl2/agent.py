"""RL²: the learning algorithm is a recurrent network, learned by reinforcement learning."""

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from metarl.agents.common.acting import TrialBuffer
from metarl.agents.common.actor_critic import NetworkConfig, RecurrentActorCritic
from metarl.agents.common.memory.contract import tensors_of
from metarl.agents.common.ppo import of_pieces
from metarl.agents.common.teacher import ActionLabels, OracleRows, Teacher, check_teacher
from metarl.agents.common.trial_learner import TrialLearner, TrialLearnerConfig
from metarl.agents.rl2.presets import PRESETS
from metarl.agents.training.config import Share
from metarl.agents.training.learner import Learner
from metarl.errors import InvalidTypeError, InvalidValueError
from metarl.evaluation.adaptation import OnStep, Rollout
from metarl.spaces import difference, to_json
from metarl.vector.env import TaskVectorEnv


@dataclass(frozen=True)
class RL2Config(TrialLearnerConfig):
    """The hyperparameters of RL²."""

    teacher_share: Share = 0.0
    """The share of the env steps of ``learn`` during which the policy imitates its teacher, an
    agent that observes the task (:meth:`RL2.set_teacher`); PPO follows. The critic learns from the
    returns all the time."""
    policy_kwargs: dict[str, Any] | None = None
    """Arguments of the network, those of :class:`metarl.agents.common.actor_critic.NetworkConfig`:
    ``hidden_size``, ``memory``, ``head``, ``separate_critic`` and more."""


class RL2(TrialLearner):
    """RL² (Duan et al. 2016; Wang et al. 2016) with PPO over whole trials.

    ::

        repeat
            sample tasks from the train split, one for each trial               collect
            for each trial: h = 0, and for K episodes of its task               rollout
                a ~ pi(. | observation, last action, last reward, episode end; h)   act
            advantages across the whole trial, not cut at episode ends          make_batch
            for each epoch, for each minibatch of whole trials                  ppo_update
                ascend PPO's clipped objective through the whole trial          ppo_loss

    On the right is the function that does it: ``collect`` is that of
    :class:`~metarl.agents.common.trial_learner.TrialLearner`, whose ``update_policy`` calls
    :func:`~metarl.agents.common.ppo.make_batch` and
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
    config: RL2Config
    network: RecurrentActorCritic
    _teacher: Teacher | None = None
    _oracle_rows: OracleRows
    config_class = RL2Config
    policy_config_class = NetworkConfig

    def build(self) -> None:
        super().build()
        config = NetworkConfig.build(self.config.policy_kwargs or {}, "policy_kwargs name")
        with self.initial_weights() as weights:
            self.network = RecurrentActorCritic(
                self.trial_input,
                self.action_space,
                weights,
                config,
                self.interface,
                predicts_task=bool(self.config.task_prediction_coef),
            ).to(self.device)
        if self.config.sequence_length is not None:
            self._check_fixed_state(config.memory)
        if not self.network.actor.remembers:
            self.name = "RL2 without memory"
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=self.config.learning_rate, eps=1e-5, fused=True
        )
        self.modules = {"network": self.network, **self.moments}
        self.optimizers = {"optimizer": self.optimizer}

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

    # What training knows and the policy does not.

    def set_teacher(self, teacher: Teacher) -> None:
        """Set the agent that the policy imitates in the first ``teacher_share`` of ``learn``.

        It imitates the teacher's action distributions in its own trials (Ross et al. 2011): the
        teacher observes what the policy does, and the task. Saved files do not hold the teacher: a
        loaded agent that is trained on needs it again.

        Args:
            teacher: An agent trained on ``tasks.oracle()`` of the same family, or a reference that
                can teach; it is only read.

        Raises:
            TypeError: If such an agent cannot be a teacher.
            ValueError: If it is of another family or of a view without the task, its spaces are
                others, or ``teacher_share`` is zero.
        """
        if not isinstance(teacher, Teacher):
            raise InvalidTypeError(
                f"teacher must be a trained agent, or a reference that can teach, got {teacher!r}"
            )
        if not self.config.teacher_share:
            raise InvalidValueError(
                "teacher_share is 0, so nothing would be learned from the teacher; pass "
                "teacher_share=1.0, or less for PPO after it"
            )
        check_teacher(self.tasks, teacher.tasks.name, teacher.tasks.view)
        if isinstance(teacher, Learner):
            self._check_spaces(teacher)
        self._teacher, self._oracle_rows = teacher, OracleRows(self.tasks, self.trial_input)

    def _check_spaces(self, teacher: Learner) -> None:
        """Raise unless a teacher was trained with the spaces of this family.

        Raises:
            ValueError: If they differ.
        """
        with closing(self.tasks.oracle().make_vec(1)) as view:
            expected = {
                "observation_space": view.single_observation_space,
                "action_space": view.single_action_space,
            }
        for name, space in expected.items():
            if differs := difference(to_json(getattr(teacher, name)), space):
                raise InvalidValueError(f"the teacher has another {name}: {differs}")

    def action_labels(self, rows: torch.Tensor, pixels: torch.Tensor) -> ActionLabels:
        rows, network = self.normalizer()(rows), self.network

        def outputs(piece: torch.Tensor) -> torch.Tensor:
            return network.outputs(rows[:, piece], pixels[:, piece])

        log_std = None if network.log_std is None else network.log_std.detach()
        return ActionLabels(network.action_head, of_pieces(network, outputs, rows), log_std)

    def _present_teacher(self) -> Teacher | None:
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

    # One iteration.

    @property
    def ppo_network(self) -> RecurrentActorCritic:
        return self.network

    def collect(self, env: TaskVectorEnv, on_step: OnStep) -> tuple[Rollout, TrialBuffer]:
        self._present_teacher()  # raises before any work
        return super().collect(env, on_step)

    def update(self, experience: TrialBuffer) -> None:
        trials, teacher, labels = experience.trials(), self._present_teacher(), None
        if teacher is not None:
            labels = teacher.action_labels(self._oracle_rows(trials), trials.pixels)
        self.update_policy(trials, labels)
        self.update_moments(trials)

    def evaluation_warning(self, num_episodes: int) -> str | None:
        remembers = self.network.actor.remembers
        return super().evaluation_warning(num_episodes) if remembers else None
