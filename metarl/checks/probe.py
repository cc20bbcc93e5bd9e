"""Runs of random actions over a few tasks, which :mod:`metarl.checks.check` compares."""

import copy
import math
from collections.abc import Set
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from metarl.batches import map_leaves, replaced, stack, take
from metarl.distribution import TaskDistribution
from metarl.masks import find_mask
from metarl.seeding import stream, stream_seed
from metarl.spaces import Values, leaf_values, leaves
from metarl.tasks import Tasks
from metarl.vector.env import Array, TaskVectorEnv

NUM_TASKS = 8
NUM_DRAWS = 64


@dataclass(frozen=True)
class Trajectories:
    """A run of several tasks side by side.

    Attributes:
        start: The first observations, in rows of shape (num_tasks, size).
        outcomes: The results of each step by name: arrays of shape (num_steps, num_tasks, ...).
        episode: The number of the episode of each step, of shape (num_steps, num_tasks).
        seen: All observations as the environment gave them, a batch for each step.
    """

    start: Array
    outcomes: dict[str, Array]
    episode: NDArray[np.int64]
    seen: tuple[Values, ...] = ()

    def lane(self, lane: int, steps: NDArray[np.bool_]) -> "Trajectories":
        """Return the part of one task in some of the steps."""
        outcomes = {name: rows[steps][:, [lane]] for name, rows in self.outcomes.items()}
        return Trajectories(self.start[[lane]], outcomes, self.episode[steps][:, [lane]])

    def differs(self, other: "Trajectories", tolerance: float = 0.0) -> NDArray[np.bool_]:
        """Return for each step and task whether its outcome differs, of shape (steps, tasks)."""
        differences = np.zeros(self.episode.shape, dtype=np.bool_)
        for name, mine in self.outcomes.items():
            theirs = other.outcomes[name]
            if tolerance:
                close = np.isclose(mine * 1.0, theirs * 1.0, rtol=tolerance, atol=tolerance)
            else:
                close = mine == theirs
            differences |= ~close.reshape(*differences.shape, -1).all(axis=2)
        return differences

    def check_same(self, other: "Trajectories", message: str, tolerance: float = 0.0) -> None:
        """Raise at the first difference.

        Raises:
            ValueError: With the message, and where the difference is.
        """
        starts_agree = np.allclose(
            self.start * 1.0, other.start * 1.0, rtol=tolerance, atol=tolerance
        )
        if not starts_agree or self.differs(other, tolerance).any():
            raise ValueError(self.explain(other, message, tolerance))

    def explain(self, other: "Trajectories", message: str, tolerance: float = 0.0) -> str:
        """Return the message, and where the first difference is."""
        differences = self.differs(other, tolerance)
        if not differences.any():
            return f"{message} (they differ in the first observation)"
        step, lane = np.argwhere(differences)[0]
        names = [
            name
            for name, mine in self.outcomes.items()
            if np.any(mine[step, lane] != other.outcomes[name][step, lane])
        ]
        return f"{message} (they differ in step {step + 1}: {', '.join(names)})"

    def same_episode(self, other: "Trajectories", lane: int, number: int) -> bool:
        """Return whether an episode of a task is the same in both runs, as far as both go."""
        mine, theirs = (run.episode[:, lane] == number for run in (self, other))
        length = min(mine.sum(), theirs.sum())
        return all(
            np.array_equal(
                self.outcomes[name][mine, lane][:length],
                other.outcomes[name][theirs, lane][:length],
            )
            for name in ("observation", "reward", "terminated")
        )


class Probe:
    """A family under test, and the runs shared by its checks.

    Args:
        family: The family.
        num_steps: The length of each run.
        seed: The seed of tasks, actions and environments.

    Attributes:
        draws: Tasks of each split, ``NUM_DRAWS`` of them.
        tasks: The tasks that are run, ``NUM_TASKS`` of them from ``train``.
        others: For each parameter another value for each of these, or None if there is none.
    """

    def __init__(self, family: TaskDistribution, num_steps: int, seed: int):
        self.family = family
        self.num_steps = num_steps
        self.seed = seed
        self.draws = {
            split: family.sample(split, NUM_DRAWS, stream(seed, "tasks")) for split in family.splits
        }
        self.tasks = self.draws["train"][:NUM_TASKS]
        self.others = {name: self._other(name) for name in family.parameters}
        with self.make(1) as env:
            self.observation_space = env.single_observation_space
            space = copy.deepcopy(env.single_action_space)
        space.seed(stream_seed(seed, "actions") % 2**32)
        samples = stack(space, [space.sample() for _ in range(num_steps * NUM_TASKS)])
        self.actions = map_leaves(
            lambda part: part.reshape(num_steps, NUM_TASKS, *part.shape[1:]), samples
        )
        self.mask = find_mask(self.observation_space, space)
        if self.mask is not None:
            rng = np.random.default_rng(stream(seed, "masked actions"))
            self.choices = rng.random((num_steps, NUM_TASKS, len(self.mask.counts)))

    def _other(self, name: str) -> Array | None:
        own = self.tasks.columns[name]
        pool = np.concatenate([draws.columns[name] for draws in self.draws.values()])
        differs = (own[:, None] != pool).reshape(NUM_TASKS, len(pool), -1).any(axis=2)
        return pool[differs.argmax(axis=1)] if differs.any(axis=1).all() else None

    @cached_property
    def other_tasks(self) -> Tasks:
        """Tasks that differ from ``self.tasks`` in every parameter that has another value."""
        return self._changed(set(self.others))

    @cached_property
    def tasks_alike(self) -> Tasks:
        """The same, except for visible parameters."""
        return self._changed(self.others.keys() - set(self.family.visible))

    def _changed(self, names: Set[str]) -> Tasks:
        columns = {
            name: self.tasks.columns[name] if other is None or name not in names else other
            for name, other in self.others.items()
        }
        return Tasks(self.family.name, columns)

    def make(self, num_envs: int = NUM_TASKS, short: bool = False) -> "closing[TaskVectorEnv]":
        """Build environments, with episodes cut ``short`` so that a run sees some ends."""
        env = self.family.make_vec(num_envs)
        if short:
            env.horizon = min(env.horizon, max(1, self.num_steps // 8))
        return closing(env)

    def run(
        self,
        env: TaskVectorEnv,
        tasks: Tasks | None = None,
        *,
        first: int = 0,
        active: NDArray[np.bool_] | None = None,
    ) -> Trajectories:
        """Run random actions that depend only on the task's number, the episode and its step.

        Args:
            env: The environments.
            tasks: Their tasks; None leaves those they have.
            first: The number of the first task; it shifts seeds and actions.
            active: Which to step, of shape (num_steps, num_envs).
        """
        if tasks is not None:
            env.set_tasks(tasks)
        start, _ = env.reset(seed=stream_seed(self.seed, "envs") + first)
        present, seen = start, [start]
        lanes = np.arange(env.num_envs)
        elapsed = np.zeros(env.num_envs, dtype=np.int64)
        episode = np.zeros(env.num_envs, dtype=np.int64)
        steps = []
        for mask in np.ones((self.num_steps, env.num_envs), bool) if active is None else active:
            if not mask.any():
                continue
            number = (elapsed + episode) % self.num_steps, lanes + first
            actions = take(self.actions, number)
            if self.mask is not None:
                actions = self.mask.redrawn(actions, present, self.choices[number])
            following, rewards, terminated, truncated, info = env.step(actions, mask)
            if self.mask is not None:  # the rows of those that did not step are empty
                present = replaced(following, ~mask, take(present, ~mask))
            last = info.get("final_obs", following)
            seen.append(last)
            outcome = (self._rows(last), rewards, terminated, truncated, self._rows(following))
            steps.append((*outcome, episode.copy()))
            ended = terminated | truncated
            elapsed = np.where(ended, 0, elapsed + mask)
            episode = episode + ended
        *columns, episodes = (np.array(column) for column in zip(*steps))
        names = ("observation", "reward", "terminated", "truncated", "observation after the step")
        return Trajectories(self._rows(start), dict(zip(names, columns)), episodes, tuple(seen))

    def _rows(self, observations: Values) -> Array:
        """Return observations as rows of numbers, with their parts side by side."""
        parts = [part for _, part in leaf_values(self.observation_space, observations)]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)

    def entries(self, indices: NDArray[np.intp]) -> str:
        """Name entries of an observation's row, a few of them."""
        names = [
            "".join(f"[{key!r}]" for key in (*path, index)) if path else str(index)
            for path, leaf in leaves(self.observation_space)
            for index in range(math.prod(leaf.shape or ()))
        ]
        shown = ", ".join(names[index] for index in indices[:5])
        return f"entry {shown}{', ...' if len(indices) > 5 else ''}"

    def fresh_run(self, tasks: Tasks, short: bool = False) -> Trajectories:
        """Run tasks in new environments."""
        with self.make(short=short) as env:
            return self.run(env, tasks)

    @cached_property
    def base(self) -> Trajectories:
        """The reference run."""
        return self.fresh_run(self.tasks)

    @cached_property
    def short_base(self) -> Trajectories:
        """The same with short episodes."""
        return self.fresh_run(self.tasks, short=True)
