"""Tasks that change: a batch whose sub-environments each get another task within the trial."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.parameters import Parameter, Uniform
from metarl.seeding import Ids
from metarl.splits import Columns, TaskSampler
from metarl.vector.env import StepResult, TaskVectorEnv

Array = NDArray[Any]

NEXT, CHANGE_AT = "next_", "change_at"
EARLIEST, LATEST = 0.25, 0.75
"""Between which shares of a trial the change comes."""


def changing_parameters(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Return the parameters of tasks that change: before, after, and when."""
    after = {NEXT + name: parameter for name, parameter in parameters.items()}
    return {**parameters, **after, CHANGE_AT: Uniform(EARLIEST, LATEST)}


class ChangingTasks(TaskSampler):
    """Two independent tasks of a distribution, and when the first becomes the second.

    Args:
        tasks: The distribution.
    """

    def __init__(self, tasks: TaskSampler):
        self.tasks = tasks

    def sample(self, rng: np.random.Generator, num_tasks: int) -> Columns:
        before, after = self.tasks.sample(rng, num_tasks), self.tasks.sample(rng, num_tasks)
        return {
            **before,
            **{NEXT + name: column for name, column in after.items()},
            CHANGE_AT: rng.uniform(EARLIEST, LATEST, num_tasks),
        }


class ChangingVectorEnv(TaskVectorEnv):
    """A batch in which each task becomes another one once, which the observation does not show.

    The change comes at a step of the trial, ``change_at`` of the steps that it has at most, counted
    from :meth:`reset`. Where the wrapped batch takes a task at the start of an episode alone, it
    comes with the next episode.

    Args:
        env: The batch to wrap.
        num_episodes: The episodes of a trial.

    Attributes:
        change_steps: Before which step of its trial each task changes, of shape (num_envs,).
    """

    def __init__(self, env: TaskVectorEnv, num_episodes: int):
        self.env = env
        self.metadata = env.metadata
        self.changes_within_episodes = env.changes_within_episodes
        self._num_steps = num_episodes * env.horizon
        self._steps = np.zeros(env.num_envs, dtype=np.int64)  # of the trial
        self._changed = np.zeros(env.num_envs, dtype=np.bool_)
        self._lanes = np.arange(env.num_envs)
        super().__init__(
            env.num_envs,
            parameters=changing_parameters(env.parameters),
            observation_space=env.single_observation_space,
            action_space=env.single_action_space,
            horizon=env.horizon,
            render_mode=env.render_mode,
        )
        env.elapsed = self.elapsed  # counted here; the wrapped batch names steps in its messages

    def set_parameters(self, columns: Mapping[str, Array]) -> None:
        self._before = {name: columns[name] for name in self.env.parameters}
        self._after = {name: columns[NEXT + name] for name in self.env.parameters}
        self.change_steps = np.floor(columns[CHANGE_AT] * self._num_steps).astype(np.int64)
        self._restart()

    def _restart(self) -> None:
        self._steps[:], self._changed[:] = 0, False
        self._present = {name: column.copy() for name, column in self._before.items()}
        self.env.set_parameters(self._present)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start a new trial in every sub-environment, with the first task of each."""
        self._restart()
        return super().reset(seed=seed, options=options)

    def seed_lanes(self, seed: int) -> None:
        self.env.seed_lanes(seed)

    def reset_lanes(self, ids: Ids) -> Any:
        self._change(ids)
        return self.env.reset_lanes(ids)

    def step_lanes(self, ids: Ids, actions: Array) -> StepResult:
        if self.env.changes_within_episodes:
            self._change(ids)
        self._steps[ids] += 1
        return self.env.step_lanes(ids, actions)

    def _change(self, ids: Ids) -> None:
        """Change the tasks whose time has come."""
        lanes = self._lanes[ids]
        lanes = lanes[~self._changed[lanes] & (self._steps[lanes] >= self.change_steps[lanes])]
        if len(lanes):
            self._changed[lanes] = True
            self._present = {
                name: np.where(
                    self._changed.reshape(-1, *[1] * (before.ndim - 1)), self._after[name], before
                )
                for name, before in self._before.items()
            }
            self.env.set_parameters(self._present)

    def render(self) -> Any:
        """Return the wrapped batch's pictures."""
        return self.env.render()

    def close(self, **kwargs: Any) -> None:
        """Close the wrapped batch."""
        self.env.close(**kwargs)
