"""Policies of Stable-Baselines3, evaluated like any other agent."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecNormalize

from metarl.agents.sb3.streams import global_streams
from metarl.agents.sb3.vec_env import from_zero_based, zero_based
from metarl.batches import map_leaves, replaced, take
from metarl.distribution import TaskDistribution
from metarl.errors import InvalidTypeError, check_at_least
from metarl.evaluation.adaptation import Transition, check_rows
from metarl.seeding import Seed, stream_seed
from metarl.spaces import Values
from metarl.trial import TrialInput

Array = NDArray[Any]


class Predicts(Protocol):
    """What SB3's algorithms and policies have."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Array, Any]:
        """Choose actions."""
        ...


class SB3Agent:
    """An algorithm or a policy of SB3, with or without a state, for :func:`metarl.evaluate`.

    ::

        model = PPO("MlpPolicy", TaskVecEnv(tasks, 64)).learn(1_000_000)
        evaluate(SB3Agent(model, tasks), tasks)

    It adapts by its state alone: one that was trained on whole trials
    (``TaskVecEnv(..., episodes_per_trial=3)``) keeps it over the episodes of a task, any other
    resets it in each.

    Args:
        model: What has SB3's ``predict``.
        tasks: The family it was trained on.
        trials: Whether it was trained on trials.
        normalize: The ``VecNormalize`` it was trained behind, if there was one.
        name: Its name in reports.

    Raises:
        TypeError: If the model has no ``predict``.
    """

    episodes_per_adaptation = 1

    def __init__(
        self,
        model: Predicts,
        tasks: TaskDistribution,
        *,
        trials: bool = False,
        normalize: VecNormalize | None = None,
        name: str | None = None,
    ):
        if not hasattr(model, "predict"):
            raise InvalidTypeError(f"the model needs SB3's predict(), got {model!r}")
        env = tasks.make_vec(1)
        env.close()
        self.observation_space = env.single_observation_space
        self.action_space = env.single_action_space
        self.name = name or type(model).__name__
        self._model = model
        self._trials = trials
        self._normalize = normalize

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> "SB3Adaptation":
        """Return the model in ``num_tasks`` tasks, with empty states."""
        check_at_least(1, num_tasks=num_tasks)
        return SB3Adaptation(
            self._model,
            num_tasks,
            seed=seed,
            deterministic=deterministic,
            prepare=self._prepare,
            finish=partial(from_zero_based, self.action_space),
            trial_input=(
                TrialInput(self.observation_space, self.action_space) if self._trials else None
            ),
        )

    def _prepare(self, observations: Values) -> Values:
        if not self._trials:  # the rows of trials are numbers anyway
            observations = zero_based(self.observation_space, observations)
        return self._normalize.normalize_obs(observations) if self._normalize else observations


class SB3Adaptation:
    """A model's states in several tasks.

    Args:
        model: What has SB3's ``predict``.
        num_tasks: The number of tasks.
        seed: The seed of the actions.
        deterministic: Whether to take the most likely actions.
        prepare: Makes of a batch of observations what the model takes.
        finish: Makes of its actions those of the environments.
        trial_input: Makes the rows of trials of observations before, for a model trained on trials.
    """

    def __init__(
        self,
        model: Predicts,
        num_tasks: int,
        *,
        seed: Seed,
        deterministic: bool,
        prepare: Callable[[Values], Values],
        finish: Callable[[Array], Array],
        trial_input: TrialInput | None = None,
    ):
        self._model = model
        self._seed = seed
        self._deterministic = deterministic
        self._prepare = prepare
        self._finish = finish
        self._input = trial_input
        self._state: Any = None
        self._state_before: Any = None
        self._starts = np.ones(num_tasks, dtype=np.bool_)
        self._last: tuple[Array, Array, Array] | None = None  # actions, rewards, episode ends
        self._num_steps = 0

    def act(self, observations: Values) -> Array:
        check_rows(observations, len(self._starts))
        if self._input is not None:
            observations = self._rows(self._input, observations)
        observations = self._prepare(observations)
        self._state_before = self._state
        with global_streams(stream_seed(self._seed, "actions", self._num_steps)):
            actions, self._state = self._model.predict(
                observations, self._state, self._starts, deterministic=self._deterministic
            )
        self._num_steps += 1
        return self._finish(actions)

    def _rows(self, trial_input: TrialInput, observations: Values) -> Values:
        if self._last is None:
            return trial_input.value(trial_input.start(observations))
        return trial_input.value(trial_input.follow(observations, *self._last))

    def observe(self, transition: Transition) -> None:
        active, ended = transition.active, transition.episode_end
        last: Any = (transition.actions, transition.rewards, ended)
        # Over a trial's episodes the state is kept: it is what adapts.
        starts = ended & (self._input is None)
        if not active.all():  # the others took no step, and their state must not change
            idle = ~active
            starts[idle] = self._starts[idle]
            if self._last is not None:
                last = replaced(last, idle, take(self._last, idle))
            if self._state_before is not None:
                self._state = map_leaves(
                    lambda after, before: np.where(_lanes(active, after), after, before),
                    self._state,
                    self._state_before,
                )
        self._last, self._starts = last, starts


def _lanes(active: Array, state: Array) -> Array:
    """Return which entries of a state are active; SB3's have the shape (layers, n, size)."""
    return active if state.ndim == 1 else active[:, None]
