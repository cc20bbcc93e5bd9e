"""What all meta-learners share: SB3's interface, logging, callbacks, checkpoints, seeds."""

import copy
import json
import os
import time
import warnings
from abc import abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from safetensors.torch import load, save
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import configure_logger, get_device

from metarl.agents.common.actions import advice
from metarl.agents.training.callbacks import MaybeCallback, as_callback
from metarl.agents.training.config import Config, document
from metarl.agents.training.preset import Preset, first_match
from metarl.agents.training.ranks import ALONE, Noise, RankError, Ranks
from metarl.agents.training.saving import SavedAgent, State, check_device
from metarl.agents.training.threads import one_thread
from metarl.distribution import TaskDistribution
from metarl.errors import (
    DivergedError,
    InvalidTypeError,
    InvalidValueError,
    check_at_least,
    check_at_most,
)
from metarl.evaluation.adaptation import Adaptation, OnStep, Rollout, Transition
from metarl.seeding import Seed, check_seed, stream_seed
from metarl.vector.env import TaskVectorEnv

SelfAgent = TypeVar("SelfAgent", bound="MetaAgent[Any]")
Experience = TypeVar("Experience")
"""What an agent hands from collecting to updating."""
NO_MEMORY = "predict() of an agent without a memory needs observations as TaskEnv gives them"
"""What is said of observations of another shape, as the rows of a TrialEnv are."""
MAX_TIMESTEPS = 10**15
"""How many env steps a training may take: more is a slip of the pen."""
MAX_STEPS = 10**8
"""How many env steps one episode in all environments may take: an iteration is kept in memory."""
COLLECTED, STOPPED, DIVERGED, FAILED = range(4)
"""How collecting may end; the worst that happened to one process counts for all."""


class MetaAgent(SavedAgent, Generic[Experience]):
    """A learner with SB3's interface that trains on a family of tasks.

    Training is a sequence of iterations: sample tasks, collect experience in them, update. All
    randomness of iteration i comes from streams named by the seed and i, so the state between two
    iterations is what ``save`` writes, and a resumed run ends in the same bits.

    A subclass names its ``config_class``, fills ``_modules`` and ``_optimizers``, and implements
    ``_collect``, ``_update`` and ``adaptation``.

    Args:
        tasks: The family to train on.
        config: The hyperparameters.
        num_envs: The number of environments that this process steps at once.
        seed: The seed of everything; None draws one.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or a torch device.
        verbose: 1 prints the log of every iteration.
        tensorboard_log: The folder for TensorBoard, or None.
        ranks: The processes that train the agent together.

    Raises:
        TypeError: If ``tasks`` is not a TaskDistribution, or an argument of another wrong type.
        ValueError: If the seed is negative, there is no such device, or an iteration would take
            more than ``MAX_STEPS`` env steps for each episode of a trial.
    """

    name: str
    presets: ClassVar[tuple[Preset, ...]] = ()
    """Tuned hyperparameters; the first pattern that matches a family counts."""
    divisible: ClassVar[bool] = False
    """Whether several processes can train it together: its constructor then takes ``ranks``."""
    step_sizes: ClassVar[tuple[str, ...]] = ("learning_rate",)
    """The hyperparameters to lower where training diverges."""
    episodes_per_adaptation: int = 1

    @property
    def evaluation_options(self) -> tuple[str, ...]:
        """The hyperparameters that change how the trained agent acts, in sorted order."""
        return ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "config_class" in vars(cls):
            document(cls, cls.config_class)

    def __init__(
        self,
        tasks: TaskDistribution,
        config: Config,
        *,
        num_envs: int,
        seed: int | None,
        device: torch.device | str,
        verbose: int,
        tensorboard_log: str | None,
        ranks: Ranks = ALONE,
    ):
        if not isinstance(tasks, TaskDistribution):
            raise InvalidTypeError(
                "tasks must be a TaskDistribution, as metarl.envs.make(name) builds it, "
                f"got {tasks!r}"
            )
        if seed is None:
            drawn = int(np.random.SeedSequence().generate_state(1)[0])
            seed = int(ranks.tell(str(drawn).encode()))
        check_seed(seed)
        check_device(device)
        if not isinstance(tensorboard_log, (str, os.PathLike, type(None))):
            raise InvalidTypeError(f"tensorboard_log must be a folder, got {tensorboard_log!r}")
        probe = tasks.make_vec(1)
        self.observation_space = probe.single_observation_space
        self.action_space = probe.single_action_space
        self.horizon = probe.horizon
        probe.close()
        if advised := advice(self.action_space):
            warnings.warn(advised, stacklevel=3)
        if num_envs * self.horizon > MAX_STEPS:
            raise InvalidValueError(
                f"{num_envs:,} environments at once, of up to {self.horizon:,} steps each, are "
                f"more than the {MAX_STEPS:,} steps that an iteration may hold; take fewer"
            )
        self.tasks = tasks
        self.config = config
        self.n_envs = num_envs
        self.seed = int(seed)
        self.ranks = ranks
        self.device = get_device(ranks.device(device))
        self.verbose = verbose if ranks.leads else 0
        self.tensorboard_log = tensorboard_log if ranks.leads else None
        self.iteration = 0
        self.num_timesteps = 0
        self.last_rollout: Rollout | None = None
        self._total_timesteps = 0
        self._saved_timesteps = 0
        self._modules: dict[str, torch.nn.Module] = {}
        self._optimizers: dict[str, torch.optim.Optimizer] = {}
        self._env: TaskVectorEnv | None = None
        self._logger: Logger | None = None
        self._custom_logger = False
        self._callback: BaseCallback | None = None
        self._no_infos: list[dict[str, Any]] = [{} for _ in range(num_envs)]
        self._predict_generator: torch.Generator | None = None
        self._complete_state = self._good_state = None

    @classmethod
    def from_preset(cls: type[SelfAgent], tasks: TaskDistribution, **options: Any) -> SelfAgent:
        """Make an agent as ``metarl train`` does: with hyperparameters tuned for such a family.

        Args:
            tasks: The family to train on.
            options: Arguments of the constructor, which override those of the preset.

        Raises:
            ValueError: If there is no preset for such a family.
        """
        preset = first_match(cls.presets, cls.name.lower(), tasks)
        return cls(tasks, **{**preset.hyperparameters, **options})

    # What a learner implements.

    @abstractmethod
    def _collect(self, env: TaskVectorEnv, on_step: OnStep) -> tuple[Rollout, Experience]:
        """Collect the experience of one iteration.

        Args:
            env: The training environments, ``n_envs`` of them.
            on_step: To be passed to :func:`metarl.rollout`: it counts steps and calls callbacks.

        Returns:
            The rollout, which is not complete if a callback stopped it, and the experience.
        """

    @abstractmethod
    def _update(self, experience: Experience) -> None:
        """Learn from what was collected, and record to ``self.logger``."""

    @abstractmethod
    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> Adaptation:
        """Return a fresh learner for ``num_tasks`` tasks; see :class:`metarl.Agent`."""

    # Training.

    def learn(
        self: SelfAgent,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfAgent:
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
            ValueError: If one is below 1, or ``total_timesteps`` above ``MAX_TIMESTEPS``.
        """
        check_at_least(1, total_timesteps=total_timesteps, log_interval=log_interval)
        check_at_most(MAX_TIMESTEPS, total_timesteps=total_timesteps)
        if reset_num_timesteps:
            self.num_timesteps = self._saved_timesteps = 0
        self._total_timesteps = self.num_timesteps + total_timesteps
        if self.ranks.size > 1:
            self._follow_the_first()
        if self._env is None:
            self._env = self.tasks.make_vec(self.n_envs)
        self._callback = as_callback(callback, progress_bar and self.ranks.leads)
        own_logger = None
        if not self._custom_logger:
            self._logger = own_logger = configure_logger(
                self.verbose, self.tensorboard_log, tb_log_name or self.name, reset_num_timesteps
            )
        try:
            self._callback.init_callback(self)  # type: ignore[arg-type]
            # SB3's callbacks read these names.
            total_timesteps = self._total_timesteps
            self._callback.on_training_start(locals(), globals())
            try:
                while self.num_timesteps < self._total_timesteps:
                    if not self._iterate(self._env, log_interval):
                        break
            finally:
                self._callback.on_training_end()
        finally:
            if own_logger is not None:
                own_logger.close()  # ends TensorBoard's thread
                own_logger.output_formats = []  # what is recorded later has no place to go
        return self

    def close(self) -> None:
        """Close the training environments; the next ``learn`` makes new ones."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def __enter__(self: SelfAgent) -> SelfAgent:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _iterate(self, env: TaskVectorEnv, log_interval: int) -> bool:
        """Collect and update once; return False if a callback stopped it on the way."""
        assert self._callback is not None
        started, before = time.perf_counter(), self.num_timesteps
        self._complete_state = start = good_state = self._copied_state()
        try:
            self._callback.on_rollout_start()
            outcome = FAILED
            try:
                with one_thread():
                    rollout, experience = self._collect(env, self._on_step)
                outcome = COLLECTED if rollout.complete else STOPPED
            except DivergedError:  # parameters so large that actions are not finite
                outcome = DIVERGED
            finally:  # whatever happened, the other processes wait for this one
                outcome, steps = self.ranks.agree(outcome, self.num_timesteps - before)
                self.num_timesteps = before + steps
            if outcome == DIVERGED:
                good_state = self._good_state or start  # the last update made them so large
                raise self._diverged("actions must be finite, got NaN or infinity")
            if outcome == FAILED:
                raise RankError("another of the processes that train together has failed")
            if outcome == STOPPED:
                self._restore_state("the last state", *start)
                return False
            self.last_rollout = rollout = self.ranks.gather_rollout(rollout)
            self._callback.on_rollout_end()
            self._update(experience)
            self._check_finite()
        except BaseException:
            # Whatever failed, the agent can be saved and resumed: the iteration leaves no trace.
            self._restore_state("the last state", *good_state)
            raise
        finally:
            self._complete_state = None
        self._good_state = start
        self.iteration += 1
        self._saved_timesteps = self.num_timesteps
        if self.iteration % log_interval == 0:
            self._record_rollout(rollout)
            seconds = max(time.perf_counter() - started, 1e-9)
            self.logger.record("time/iteration", self.iteration)
            self.logger.record("time/total_timesteps", self.num_timesteps)
            self.logger.record("time/seconds", seconds)
            rate = (self.num_timesteps - before) / seconds
            self.logger.record("time/env_steps_per_second", round(rate))
            self.logger.dump(self.num_timesteps)
        return True

    def _record_rollout(self, rollout: Rollout) -> None:
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

    def _follow_the_first(self) -> None:
        """Begin where the first process begins: with what it has restored, or its first weights."""
        tensors, data = self._copied_state()
        header = json.dumps({"total": self._total_timesteps, **data})
        first = json.loads(self.ranks.tell(header.encode()))
        tensors = load(self.ranks.tell(save(tensors)))
        self._restore_state("the first process's state", tensors, first)
        self._total_timesteps = first["total"]

    def _copied_state(self) -> State:
        tensors, data = self._state()
        return {name: tensor.clone() for name, tensor in tensors.items()}, copy.deepcopy(data)

    def _check_finite(self) -> None:
        """Raise if the update has left numbers from which nothing can be learned any more.

        Raises:
            DivergedError: If a tensor of the state is not finite.
        """
        tensors, _ = self._state()
        finite = torch.stack(  # looked at once: a GPU is waited for at each look
            [t.isfinite().all().to(self.device, non_blocking=True) for t in tensors.values()]
        )
        for name, is_finite in zip(tensors, finite.tolist()):
            if not is_finite:
                raise self._diverged(f"{name.removeprefix('extra.')} is not finite")

    def _diverged(self, what: str) -> DivergedError:
        settings = ", ".join(f"{name}={getattr(self.config, name)}" for name in self.step_sizes)
        return DivergedError(
            f"{what} after {self.num_timesteps:,} env steps: the training has diverged; "
            f"lower {settings}"
        )

    def _on_step(self, transition: Transition) -> bool:
        """Count the env steps of one vector step; return whether training continues."""
        assert self._callback is not None
        self.num_timesteps += int(transition.active.sum())
        self._callback.update_locals(
            {
                "rewards": transition.rewards,
                "dones": transition.episode_end,
                "infos": self._no_infos,
            }
        )
        return self._callback.on_step()

    def _seed(self, *path: str | int) -> int:
        """Return the present iteration's seed of that name."""
        return stream_seed(self.seed, *path, self.iteration)

    def _generator(self, *path: str | int) -> torch.Generator:
        """Return a torch generator, on the agent's device, for the present iteration."""
        generator = torch.Generator(self.device)
        generator.manual_seed(self._seed(*path))
        return generator

    def _action_noise(self, seed: Seed, ranks: Ranks) -> Noise:
        """Return what an adaptation draws its actions with."""
        generator = torch.Generator(self.device)
        generator.manual_seed(stream_seed(seed, "actions"))
        return Noise(generator, ranks)

    def _prediction_generator(self, deterministic: bool) -> torch.Generator | None:
        """Return what ``predict`` draws actions from; None takes the most likely ones."""
        if deterministic:
            return None
        if self._predict_generator is None:
            self._predict_generator = torch.Generator(self.device)
            self._predict_generator.manual_seed(stream_seed(self.seed, "predict"))
        return self._predict_generator

    def _prediction_noise(self, deterministic: bool) -> Noise | None:
        generator = self._prediction_generator(deterministic)
        return None if generator is None else Noise(generator)

    # What SB3's callbacks ask of a model.

    @property
    def logger(self) -> Logger:
        """The logger; there is one once ``learn`` or ``set_logger`` was called."""
        if self._logger is None:
            raise RuntimeError("there is no logger yet: call learn() or set_logger() first")
        return self._logger

    def set_logger(self, logger: Logger) -> None:
        """Use this SB3 logger instead of the one ``learn`` would make."""
        self._logger = logger
        self._custom_logger = True

    def dump_logs(self) -> None:
        """Write what was recorded since the last iteration; some callbacks ask for it."""
        self.logger.dump(self.num_timesteps)

    def get_env(self) -> TaskVectorEnv | None:
        """Return the training environment; there is one once ``learn`` was called."""
        return self._env

    def get_vec_normalize_env(self) -> None:
        """Return None: normalisation is part of the agent, not of the environment."""
        return
