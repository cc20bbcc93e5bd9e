"""What every learner shares: hyperparameters, seeds, the frame of its training, rollback."""

import copy
import json
import os
import time
import warnings
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from safetensors.torch import load, save
from stable_baselines3.common.utils import configure_logger, get_device

from metarl.agents.common.actions import advice
from metarl.agents.common.graph import PolicyGraph
from metarl.agents.common.noise import ActionNoise
from metarl.agents.common.teacher import ActionLabels, Teacher
from metarl.agents.training.callbacks import MaybeCallback, as_callback
from metarl.agents.training.config import document
from metarl.agents.training.export import write_onnx
from metarl.agents.training.interface import TaskInterface
from metarl.agents.training.preset import Preset, first_match
from metarl.agents.training.ranks import ALONE, current_ranks
from metarl.agents.training.saving import SavedAgent, State, check_device
from metarl.agents.training.sb3_model import SB3Model
from metarl.agents.training.session import Session
from metarl.distribution import TaskDistribution
from metarl.errors import DivergedError, InvalidTypeError, InvalidValueError
from metarl.evaluation.adaptation import Adaptation, Rollout
from metarl.seeding import Seed, check_seed, stream_seed

SelfLearner = TypeVar("SelfLearner", bound="Learner")
NO_MEMORY = "predict() of an agent without a memory needs observations as TaskEnv gives them"
"""What is said of observations of another shape, as the rows of a TrialEnv are."""


class Learner(SavedAgent, SB3Model):
    """An agent with SB3's interface that is trained on a family of tasks.

    Training is a sequence of iterations. All randomness of one comes from streams named by the seed
    and by how far training has come, so the state between two iterations is what ``save`` writes,
    and a resumed run ends in the same bits. An iteration that fails, or leaves numbers that are not
    finite, is rolled back: modules, optimisers, counters and extra state.

    What an iteration consists of is said by :class:`~metarl.agents.training.online.OnlineLearner`
    and :class:`~metarl.agents.training.offline.OfflineLearner`. An agent names its
    ``config_class``, makes what it learns in ``build``, and acts by ``adaptation``.

    Args:
        tasks: The family to train on.
        seed: The seed of everything; None draws one.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or a torch device.
        verbose: 1 prints the log of every iteration.
        tensorboard_log: The folder for TensorBoard, or None.
        hyperparameters: The fields of ``config_class`` that differ from their defaults.

    Raises:
        TypeError: If ``tasks`` is not a TaskDistribution, or an argument of another wrong type.
        ValueError: If a value is out of its range, a name is unknown, or there is no such device.
    """

    name: str
    presets: ClassVar[tuple[Preset, ...]] = ()
    """Tuned hyperparameters; the first pattern that matches a family counts."""
    divisible: ClassVar[bool] = False
    """Whether several processes can train it together."""
    step_sizes: ClassVar[tuple[str, ...]] = ("learning_rate",)
    """The hyperparameters to lower where training diverges."""
    unit: ClassVar[str] = "env steps"
    """What ``num_timesteps`` counts."""
    episodes_per_adaptation: int = 1

    @property
    def has_converged(self) -> bool:
        """Whether training ends before its number of steps."""
        return False

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
        tasks: TaskDistribution | TaskInterface,
        *,
        seed: int | None = None,
        device: torch.device | str = "auto",
        verbose: int = 0,
        tensorboard_log: str | None = None,
        **hyperparameters: Any,
    ):
        self.config = type(self).config_class.build(hyperparameters)
        if not isinstance(tasks, (TaskDistribution, TaskInterface)):
            raise InvalidTypeError(
                "tasks must be a TaskDistribution, as metarl.envs.make(name) builds it, "
                f"got {tasks!r}"
            )
        self.ranks = ranks = current_ranks() if self.divisible else ALONE
        if seed is None:
            drawn = int(np.random.SeedSequence().generate_state(1)[0])
            seed = int(ranks.broadcast(str(drawn).encode()))
        check_seed(seed)
        check_device(device)
        if not isinstance(tensorboard_log, (str, os.PathLike, type(None))):
            raise InvalidTypeError(f"tensorboard_log must be a folder, got {tensorboard_log!r}")
        self._tasks = tasks if isinstance(tasks, TaskDistribution) else None
        self.interface = TaskInterface.of(tasks) if isinstance(tasks, TaskDistribution) else tasks
        self.observation_space = self.interface.observation_space
        self.action_space = self.interface.action_space
        self.horizon = self.interface.horizon
        if self._tasks is not None and (advised := advice(self.action_space)):
            warnings.warn(advised, stacklevel=2)
        self.seed = int(seed)
        self.device = get_device(ranks.device(device))
        self.verbose = verbose if ranks.is_main else 0
        self.tensorboard_log = tensorboard_log if ranks.is_main else None
        self.iteration = 0
        self.num_timesteps = 0
        self.last_rollout: Rollout | None = None
        self.modules = {}
        self.optimizers = {}
        self._total_timesteps = 0
        self._saved_timesteps = 0
        self._predict_generator: torch.Generator | None = None
        self._complete_state = self._good_state = None
        self._before_build()
        self.build()

    @classmethod
    def from_preset(cls: type[SelfLearner], tasks: TaskDistribution, **options: Any) -> SelfLearner:
        """Make an agent as ``metarl train`` does: with hyperparameters tuned for such a family.

        Args:
            tasks: The family to train on.
            options: Arguments of the constructor, which override those of the preset.

        Raises:
            ValueError: If there is no preset for such a family.
        """
        preset = first_match(cls.presets, cls.name.lower(), tasks)
        return cls(tasks, **{**preset.hyperparameters, **options})

    @property
    def tasks(self) -> TaskDistribution:
        """The family it trains on.

        Raises:
            ValueError: If it was loaded without one.
        """
        if self._tasks is None:
            raise InvalidValueError(
                f"this {self.name} was loaded without a family, so it acts and does not train; "
                f"pass tasks: {type(self).__name__}.load(path, tasks)"
            )
        return self._tasks

    # What a learner implements.

    @abstractmethod
    def build(self) -> None:
        """Make what is learned of ``config``, spaces and ``seed``; fill in the dictionaries.

        ``modules`` and ``optimizers`` are what is saved, restored and checked to be finite.
        """

    @abstractmethod
    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> Adaptation:
        """Return a fresh learner for ``num_tasks`` tasks; see :class:`metarl.Agent`."""

    # What a learner may implement.

    def session(self, *, seed: Seed = 0, deterministic: bool = False) -> Session:
        """Return the agent in one environment of a new task, unbatched.

        Args:
            seed: The seed of the actions.
            deterministic: Whether to take the most likely action instead of sampling.

        Raises:
            ValueError: If the agent learns from episodes in several environments side by side.
        """
        adaptation = self.single_adaptation(seed, deterministic)
        return Session(self.name, self.modules, adaptation, self.observation_space)

    def export(self, path: str | Path) -> None:
        """Write one step of the agent as an ONNX file, which runs without metarl and PyTorch.

        Args:
            path: The file, which must end in ``.onnx``.

        Raises:
            ImportError: If ``onnx`` is not installed.
            ValueError: If the file has another ending, or such an agent cannot be exported.
        """
        write_onnx(path, self.policy_graph(), {"agent": self.name, **self.interface.to_json()})

    def policy_graph(self) -> PolicyGraph:
        """Return one step of the trained agent, to be exported.

        Raises:
            ValueError: If such an agent cannot be exported.
        """
        raise InvalidValueError(
            f"{self.name} cannot be exported as a graph; RL2, VariBAD, AD and MAML can, and "
            "session() runs any agent in Python"
        )

    def single_adaptation(self, seed: Seed, deterministic: bool) -> Adaptation:
        """Return a fresh learner for one task, which acts in a single environment."""
        if self.episodes_per_adaptation > 1:
            raise InvalidValueError(
                f"{self.name} learns from {self.episodes_per_adaptation} episodes side by side, "
                "and a session has one environment: use adaptation(1), or set "
                "episodes_per_adaptation=1"
            )
        return self.adaptation(1, seed=seed, deterministic=deterministic)

    def set_teacher(self, teacher: Teacher) -> None:
        """Set the agent to imitate in training.

        Raises:
            TypeError: If this learner imitates none, or the other cannot be a teacher.
            ValueError: If the other does not fit.
        """
        raise InvalidTypeError(f"{self.name} learns from no teacher; rl2 does")

    def action_labels(self, rows: torch.Tensor, pixels: torch.Tensor) -> ActionLabels:
        """Return what this agent would do in the steps of trials, for a student to imitate.

        Args:
            rows: The input rows that it would have had (:class:`metarl.trial.TrialInput`), of shape
                (time, n, row_size).
            pixels: Their pixels, uint8, of shape (time, n, num_pixels).

        Raises:
            TypeError: If it cannot be a teacher.
        """
        raise InvalidTypeError(f"{self.name} cannot be a teacher; multi-task and rl2 can")

    # What a loop implements.

    def close(self) -> None:
        """Close what training keeps open, such as environments; the next ``learn`` opens it."""

    def __enter__(self: SelfLearner) -> SelfLearner:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _before_build(self) -> None:
        """Set what the loop needs before ``build``."""

    @abstractmethod
    def _run_iteration(self) -> bool:
        """Take the steps of one iteration; return False if a callback stopped it on the way."""

    def _record_iteration(self) -> None:
        """Record what is worth knowing of the iteration just completed."""

    # Randomness.

    @property
    def _moment(self) -> int:
        """How far training has come, as streams of random numbers are named."""
        return self.iteration

    def seed_for(self, *path: str | int) -> int:
        """Return the seed of a name for the present iteration or, offline, gradient step."""
        return stream_seed(self.seed, *path, self._moment)

    def generator_for(self, *path: str | int) -> torch.Generator:
        """Return a torch generator with the seed of a name, on the agent's device."""
        return torch.Generator(self.device).manual_seed(self.seed_for(*path))

    def adaptation_noise(
        self, seed: Seed, num_tasks: int, shard: slice | None = None
    ) -> ActionNoise:
        """Return what an adaptation draws its actions with.

        Args:
            seed: That of the adaptation.
            num_tasks: How many tasks there are.
            shard: Which of them are acted in; None is all.
        """
        generator = torch.Generator(self.device).manual_seed(stream_seed(seed, "actions"))
        return ActionNoise(generator, num_tasks, slice(None) if shard is None else shard)

    def prediction_generator(self, deterministic: bool) -> torch.Generator | None:
        """Return what ``predict`` draws actions from; None takes the most likely ones."""
        if deterministic:
            return None
        if self._predict_generator is None:
            generator = torch.Generator(self.device)
            self._predict_generator = generator.manual_seed(stream_seed(self.seed, "predict"))
        return self._predict_generator

    def prediction_noise(self, deterministic: bool) -> ActionNoise | None:
        """Return the same as noise."""
        generator = self.prediction_generator(deterministic)
        return None if generator is None else ActionNoise(generator)

    # The frame of training.

    def _train(
        self,
        total: int,
        callback: MaybeCallback,
        log_interval: int,
        tb_log_name: str | None,
        reset_num_timesteps: bool,
        progress_bar: bool,
    ) -> None:
        """Run iterations until ``total`` more steps were taken; see ``learn``."""
        callbacks = as_callback(callback, progress_bar and self.ranks.is_main)
        if reset_num_timesteps:
            self.num_timesteps = self._saved_timesteps = 0
        self._total_timesteps = self.num_timesteps + total
        if self.ranks.size > 1:
            self._follow_main()
        own_logger = None
        if not self._has_custom_logger:
            self._logger = own_logger = configure_logger(
                self.verbose, self.tensorboard_log, tb_log_name or self.name, reset_num_timesteps
            )
        try:
            self._start_callback(callbacks, self._total_timesteps)
            try:
                while self.num_timesteps < self._total_timesteps and not self.has_converged:
                    if not self._iterate(log_interval):
                        break
            finally:
                callbacks.on_training_end()
        finally:
            if own_logger is not None:
                own_logger.close()  # ends TensorBoard's thread
                own_logger.output_formats = []  # what is recorded later has no place to go

    def _iterate(self, log_interval: int) -> bool:
        """Run one iteration, or leave no trace of it; return False if a callback stopped it."""
        started, before = time.perf_counter(), self.num_timesteps
        self._complete_state = self._rollback_state = start = self._copied_state()
        try:
            self._callback.on_rollout_start()
            if not self._run_iteration():
                self._restore_state("the last state", *start)
                return False
            self._check_finite()
        except BaseException:
            # Whatever failed, the agent can be saved and resumed.
            self._restore_state("the last state", *self._rollback_state)
            raise
        finally:
            self._complete_state = None
        self._good_state = start
        self.iteration += 1
        self._saved_timesteps = self.num_timesteps
        if self.iteration % log_interval == 0:
            seconds = max(time.perf_counter() - started, 1e-9)
            unit, rate = self.unit.replace(" ", "_"), (self.num_timesteps - before) / seconds
            self._record_iteration()
            self.logger.record("time/iteration", self.iteration)
            self.logger.record("time/total_timesteps", self.num_timesteps)
            self.logger.record("time/seconds", seconds)
            self.logger.record(f"time/{unit}_per_second", round(rate))
            self.logger.dump(self.num_timesteps)
        return True

    def _follow_main(self) -> None:
        """Begin where the main process begins: with what it has restored, or its first weights."""
        tensors, data = self._copied_state()
        header = json.dumps({"total": self._total_timesteps, **data})
        main = json.loads(self.ranks.broadcast(header.encode()))
        tensors = load(self.ranks.broadcast(save(tensors)))
        self._restore_state("the main process's state", tensors, main)
        self._total_timesteps = main["total"]

    def _copied_state(self) -> State:
        tensors, data = self._state()
        return {name: tensor.clone() for name, tensor in tensors.items()}, copy.deepcopy(data)

    def _check_finite(self) -> None:
        """Raise if the update has made the state non-finite; it would never recover.

        Raises:
            DivergedError: If a tensor of the state is not finite.
        """
        tensors, _ = self._state()
        finite = torch.stack(  # looked at once: a GPU is waited for at each look
            [t.isfinite().all().to(self.device, non_blocking=True) for t in tensors.values()]
        )
        for name, is_finite in zip(tensors, finite.tolist()):
            if not is_finite:
                raise self.diverged(f"{name.removeprefix('extra.')} is not finite")

    def diverged(self, what: str) -> DivergedError:
        """Return the error of a training that has diverged, which says what to lower."""
        settings = ", ".join(f"{name}={getattr(self.config, name)}" for name in self.step_sizes)
        return DivergedError(
            f"{what} after {self.num_timesteps:,} {self.unit}: the training has diverged; "
            f"lower {settings}"
        )
