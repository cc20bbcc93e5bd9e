"""Learners that collect experience in environments and learn from it, iteration by iteration."""

from abc import abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from metarl.agents.common.noise import ActionNoise
from metarl.agents.training.callbacks import MaybeCallback
from metarl.agents.training.learner import Learner
from metarl.agents.training.threads import one_thread
from metarl.errors import DivergedError, InvalidValueError, RankError, check_at_least
from metarl.evaluation.adaptation import OnStep, Rollout, Transition
from metarl.spaces import Values
from metarl.vector.env import TaskVectorEnv

SelfOnline = TypeVar("SelfOnline", bound="OnlineLearner[Any]")
Experience = TypeVar("Experience")
"""What an agent hands from collecting to updating."""
MAX_STEPS = 10**8
"""How many env steps one episode in all environments may take: an iteration is kept in memory."""
COLLECTED, STOPPED, DIVERGED, FAILED = range(4)
"""How collecting may end; the worst that happened to one process counts for all."""


class OnlineLearner(Learner, Generic[Experience]):
    """A learner whose iteration collects experience in new tasks and learns from it.

    An agent implements ``build``, ``collect``, ``update`` and ``adaptation``::

        def collect(self, env, on_step):
            observations = self.begin_tasks(env)
            recorder = ...  # an adaptation that acts with self.collecting_noise()
            return rollout(env, observations, recorder, num_episodes, on_step), recorder

    With ``divisible`` several processes train it: ``env`` is then this process's share of the
    environments, ``update`` sums over ``self.ranks`` what it has found in them, and ``adaptation``
    takes ``shard``, which of the tasks it acts in.
    """

    num_tasks_option: ClassVar[str]
    """The hyperparameter that says how many tasks an iteration has."""

    @property
    def envs_per_task(self) -> int:
        """How many environments each task has, side by side."""
        return 1

    def _before_build(self) -> None:
        self.num_tasks: int = getattr(self.config, self.num_tasks_option)
        self.own_tasks = self.ranks.shard(self.num_tasks, self.num_tasks_option)
        self.n_envs: int = (self.own_tasks.stop - self.own_tasks.start) * self.envs_per_task
        if self.n_envs * self.horizon > MAX_STEPS:
            raise InvalidValueError(
                f"{self.n_envs:,} environments at once, of up to {self.horizon:,} steps each, are "
                f"more than the {MAX_STEPS:,} steps that an iteration may hold; take fewer"
            )

    # What an agent implements.

    @abstractmethod
    def collect(self, env: TaskVectorEnv, on_step: OnStep) -> tuple[Rollout, Experience]:
        """Collect the experience of one iteration.

        Args:
            env: The training environments, ``n_envs`` of them.
            on_step: To be passed to :func:`metarl.rollout`: it counts steps and calls callbacks.

        Returns:
            The rollout, which is not complete if a callback stopped it, and the experience.
        """

    @abstractmethod
    def update(self, experience: Experience) -> None:
        """Learn from what was collected, and record to ``self.logger``."""

    # What helps it.

    def begin_tasks(self, env: TaskVectorEnv) -> Values:
        """Give the environments new tasks of the train split; return their first observations.

        A task's environments lie side by side.
        """
        sampled = self.tasks.sample("train", self.num_tasks, self.seed_for("tasks"))
        env.set_tasks(sampled[self.own_tasks].repeat(self.envs_per_task))
        # Environment i has this seed + i.
        first = self.own_tasks.start * self.envs_per_task
        observations, _ = env.reset(seed=self.seed_for("envs") + first)
        return observations

    def collecting_noise(self) -> ActionNoise:
        """Return what the iteration's actions are drawn with; its lanes are the tasks."""
        return ActionNoise(self.generator_for("actions"), self.num_tasks, self.own_tasks)

    def progress(self) -> float:
        """Return the share of the env steps of ``learn`` that is done, as of this iteration."""
        return min(self._saved_timesteps / max(self._total_timesteps, 1), 1.0)

    # The loop.

    def learn(
        self: SelfOnline,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfOnline:
        """Train. SB3's signature and meaning.

        Args:
            total_timesteps: How many env steps to train for; the last iteration is completed.
            callback: SB3 callbacks, called at SB3's moments.
            log_interval: How many iterations there are between two entries of the log.
            tb_log_name: The run's name in TensorBoard; the agent's name if None.
            reset_num_timesteps: Whether to count env steps from zero again.
            progress_bar: Show a progress bar with speed, time left and current returns.

        Returns:
            The agent.

        Raises:
            TypeError: If ``total_timesteps`` or ``log_interval`` is no integer.
            ValueError: If one is below 1.
        """
        check_at_least(1, total_timesteps=total_timesteps, log_interval=log_interval)
        if self._env is None:
            self._env = self.tasks.make_vec(self.n_envs)
        self._train(
            total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar
        )
        return self

    def close(self) -> None:
        """Close the training environments; the next ``learn`` makes new ones."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _run_iteration(self) -> bool:
        assert self._env is not None
        before, outcome = self.num_timesteps, FAILED
        try:
            with one_thread():
                rollout, experience = self.collect(self._env, self._on_step)
            outcome = COLLECTED if rollout.complete else STOPPED
        except DivergedError:  # parameters so large that actions are not finite
            outcome = DIVERGED
        finally:  # whatever happened, the other processes wait for this one
            outcome, steps = self.ranks.all_reduce_status(outcome, self.num_timesteps - before)
            self.num_timesteps = before + steps
        if outcome == DIVERGED:
            if self._good_state is not None:  # the last update made them so large
                self._rollback_state = self._good_state
            raise self.diverged("actions must be finite, got NaN or infinity")
        if outcome == FAILED:
            raise RankError("another of the processes that train together has failed")
        if outcome == STOPPED:
            return False
        self.last_rollout = self.ranks.gather_rollout(rollout)
        self._callback.on_rollout_end()
        self.update(experience)
        return True

    def _on_step(self, transition: Transition) -> bool:
        """Count the env steps of one vector step; return whether training continues."""
        self.num_timesteps += int(transition.active.sum())
        return self._continue_after_step(transition.rewards, transition.episode_end)

    def _record_iteration(self) -> None:
        assert self.last_rollout is not None
        rollout = self.last_rollout
        returns, successes = rollout.returns, rollout.successes
        if returns.shape[1] > 1:
            self.logger.record("rollout/return_first_episode", float(returns[:, 0].mean()))
            self.logger.record("rollout/return_last_episode", float(returns[:, -1].mean()))
        self.logger.record("rollout/return_mean", float(returns.mean()))
        if successes is not None:
            shares = successes.mean(0)
            self.logger.record("rollout/success_first_episode", float(shares[0]))
            self.logger.record("rollout/success_last_episode", float(shares[-1]))
        self.logger.record("rollout/ep_len_mean", float(rollout.lengths.mean()))
