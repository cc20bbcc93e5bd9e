"""Trials: several episodes of one task, as one stream for an agent with a memory."""

import itertools
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.batches import map_leaves, map_spaces, take
from metarl.distribution import TaskDistribution
from metarl.errors import check_at_least
from metarl.masks import find_mask
from metarl.seeding import Seed, check_seed, stream, stream_seed
from metarl.spaces import Values, check_space, flatten, image_shapes, split, vector_size
from metarl.tasks import Task

Array = NDArray[Any]
Rows: TypeAlias = tuple[NDArray[np.float32], NDArray[np.uint8]]


class TrialInput:
    """The input of a recurrent agent: observation, last action, last reward, episode end.

    The four parts are concatenated in one float32 row (Duan et al. 2016, section 2.2). Discrete
    parts become one-hot. Images are kept separately, as a row of pixels. At the start of a trial
    the last three parts are zero; at a boundary between episodes they describe the transition that
    ended the episode.

    Args:
        observation_space: The observation space of the task environments.
        action_space: Their action space.

    Attributes:
        size: The length of a row.
        image_shapes: The shape of each image of an observation.
        num_pixels: The length of a row of pixels.
        observation, action, reward, episode_end: The slice of each part.
        mask: The slice of the observation that says which actions are allowed; None where there
            is no mask (:mod:`metarl.masks`).

    Raises:
        ValueError: If agents do not support a space, or a mask does not fit the actions.
    """

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]):
        check_space("observation", observation_space)
        check_space("action", action_space)
        self.observation_space = observation_space
        self.action_space = action_space
        bounds = np.cumsum([0, vector_size(observation_space), spaces.flatdim(action_space), 1, 1])
        self.observation, self.action, self.reward, self.episode_end = (
            slice(int(start), int(stop)) for start, stop in itertools.pairwise(bounds)
        )
        self.size = int(bounds[-1])
        mask = find_mask(observation_space, action_space)
        self.mask = None if mask is None else mask.columns(images=False)
        self.image_shapes = image_shapes(observation_space)
        self.num_pixels = sum(math.prod(shape) for shape in self.image_shapes)

    def start(self, observations: Values) -> Rows:
        """Return rows and pixels at the start of a trial, of shape (n, size), (n, num_pixels)."""
        vectors, pixels = split(self.observation_space, observations)
        rows = np.zeros((len(vectors), self.size), dtype=np.float32)
        rows[:, self.observation] = vectors
        return rows, pixels

    def follow(
        self, observations: Values, actions: Values, rewards: Array, episode_end: Array
    ) -> Rows:
        """Return rows and pixels after a step, of shape (n, size), (n, num_pixels).

        Args:
            observations: The present observations, the first of the next episode after an end.
            actions: The actions just taken.
            rewards: The rewards just received.
            episode_end: Whether that step ended an episode.
        """
        rows, pixels = self.start(observations)
        rows[:, self.action] = flatten(self.action_space, actions)
        rows[:, self.reward.start] = rewards
        rows[:, self.episode_end.start] = episode_end
        return rows, pixels

    def sequence(
        self, observations: Values, actions: Values, rewards: Array, episode_end: Array
    ) -> Rows:
        """Return rows and pixels of whole trials, of shape (n, num_steps, ...).

        They are what :meth:`start` and :meth:`follow` give step by step.

        Args:
            observations: What each action was chosen from, of shape (n, num_steps, ...).
            actions: The actions, of shape (n, num_steps, ...).
            rewards: The rewards, of shape (n, num_steps).
            episode_end: Whether the step ended an episode, of shape (n, num_steps).
        """
        shape = rewards.shape

        def flat(values: Array) -> Array:  # (n, num_steps, ...) to (n * num_steps, ...)
            return values.reshape(-1, *values.shape[2:])

        # The first step of a trial gets the last one of another, which is then set to zero.
        def last_of(values: Array) -> Array:
            return np.roll(flat(values), 1, axis=0)

        last = (map_leaves(last_of, values) for values in (actions, rewards, episode_end))
        rows, pixels = self.follow(map_leaves(flat, observations), *last)
        rows, pixels = rows.reshape(*shape, -1), pixels.reshape(*shape, self.num_pixels)
        rows[:, 0, self.observation.stop :] = 0.0
        return rows, pixels

    def space(self) -> spaces.Space[Any]:
        """Return the space of a row; of a dictionary of ``row`` and ``pixels`` with images."""
        row = spaces.Box(-np.inf, np.inf, (self.size,), np.float32)
        if not self.num_pixels:
            return row
        pixels = spaces.Box(0, 255, (self.num_pixels,), np.uint8)
        return spaces.Dict({"row": row, "pixels": pixels})

    def value(self, rows: Rows) -> Values:
        """Return rows and pixels as a batch of values of :meth:`space`."""
        return {"row": rows[0], "pixels": rows[1]} if self.num_pixels else rows[0]


class TrialEnv(gymnasium.Env[Any, Any]):
    """A gymnasium environment whose episode is a whole trial, with a new task at each reset.

    Its observations are the rows of :class:`TrialInput`. Any agent with a memory can train on
    it, and ``agent.predict`` of RL² accepts its observations, so SB3's ``evaluate_policy`` works.

    Args:
        tasks: The family.
        split: The split that tasks are drawn from.
        episodes_per_trial: The number of episodes of a trial; None takes the family's.
        seed: The seed of tasks and episodes; ``reset(seed=...)`` restarts from another.
    """

    def __init__(
        self,
        tasks: TaskDistribution,
        split: str = "train",
        episodes_per_trial: int | None = None,
        seed: Seed = 0,
    ):
        tasks.sampler(split)  # raises if there is no such split
        self._tasks = tasks
        self._split = split
        self._seed = seed
        self._num_trials = 0
        if episodes_per_trial is None:
            episodes_per_trial = tasks.episodes_per_trial
        check_at_least(1, episodes_per_trial=episodes_per_trial)
        self.episodes_per_trial = episodes_per_trial
        self._env = tasks.make_vec(1)
        self.action_space = self._env.single_action_space
        self._input = TrialInput(self._env.single_observation_space, self.action_space)
        self.observation_space = self._input.space()

    @property
    def task(self) -> Task:
        """The present trial's task."""
        return self._env.tasks[0]

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start a trial with a new task."""
        if seed is not None:
            check_seed(seed)
        super().reset(seed=seed)
        if seed is not None:
            self._seed, self._num_trials = seed, 0
        trial_seed = stream(self._seed, "trial", self._num_trials)
        self._num_trials += 1
        self._episode = 0
        self._env.set_tasks(self._tasks.sample(self._split, 1, trial_seed))
        observations, info = self._env.reset(seed=stream_seed(trial_seed, "env"))
        return take(self._input.value(self._input.start(observations)), 0), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step; ``terminated`` marks the end of the trial, not of an episode."""
        actions = map_spaces(lambda _, part: np.asarray(part)[None], self.action_space, action)
        observations, rewards, terminated, truncated, info = self._env.step(actions)
        ended = terminated | truncated
        self._episode += int(ended[0])
        trial_end = self._episode >= self.episodes_per_trial
        if trial_end:  # the trial is over
            observations = info["final_obs"]
        rows = self._input.value(self._input.follow(observations, actions, rewards, ended))
        return take(rows, 0), float(rewards[0]), trial_end, False, {}

    def close(self) -> None:
        """Close the task environment."""
        self._env.close()
