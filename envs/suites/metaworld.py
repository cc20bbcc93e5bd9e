"""Meta-World: a robot arm and its manipulations (Yu et al. 2019), on today's MuJoCo."""

import pickle
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import gymnasium
import metaworld
import mujoco
import numpy as np
from gymnasium import spaces
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerMocapBase
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.envs.custom.gym import from_gymnasium
from metarl.errors import InvalidValueError, did_you_mean
from metarl.splits import TaskSet
from metarl.tasks import Task

HORIZON = 500
_PLACES = 9  # the most numbers that place the objects and the goal of a manipulation
_SEED = 0  # of the places, so that a family has the same ones everywhere


def _reset_mocap_welds(env: Any) -> None:
    # Meta-World writes 11 numbers into rows that have 12 columns since MuJoCo 3.17.
    welds = env.model.eq_type == mujoco.mjtEq.mjEQ_WELD
    env.model.eq_data[welds, :11] = [0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 5]


SawyerMocapBase.reset_mocap_welds = _reset_mocap_welds


class Arm(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Meta-World's environments behind one interface; the task names one, and places in it.

    Attributes:
        present: Meta-World's own environment of the present task.
    """

    def __init__(self, render_mode: str | None = None):
        self.metadata = dict(SawyerMocapBase.metadata)
        self.render_mode = render_mode
        self.observation_space = spaces.Box(-np.inf, np.inf, (39,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
        self._name = ""
        self.present: Any = None

    def set_task(self, task: Task) -> None:
        """Set manipulation, object and goal; the goal is not in the observation."""
        name = task["manipulation"]
        kind = ALL_V3_ENVIRONMENTS[name]
        if name != self._name:  # one at a time: each keeps its own model in memory
            self.close()
            self._name, self.present = name, kind(render_mode=self.render_mode)
        size = self.present._random_reset_space.low.size
        places = np.array(task["places"])[:size]
        data = {"rand_vec": places, "env_cls": kind, "partially_observable": True}
        self.present.set_task(metaworld.Task(env_name=name, data=pickle.dumps(data)))

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode of the present task."""
        observation, info = self.present.reset(seed=seed)
        return observation.astype(np.float32), info

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Take a step."""
        observation, reward, terminated, truncated, info = self.present.step(action)
        return observation.astype(np.float32), reward, terminated, truncated, info

    def render(self) -> Any:
        """Return a picture."""
        return self.present.render()

    def close(self) -> None:
        """Free the environments."""
        if self.present is not None:
            self.present.close()


def ml1(manipulation: str) -> TaskDistribution:
    """Return one manipulation with 50 goals to train on and 50 others to evaluate on.

    Args:
        manipulation: For example ``reach``, ``push`` or ``pick-place``.

    Raises:
        ValueError: If there is no such manipulation.
    """
    name = f"{manipulation}-v3"
    if name not in ALL_V3_ENVIRONMENTS:
        known = [each.removesuffix("-v3") for each in ALL_V3_ENVIRONMENTS]
        raise InvalidValueError(
            f"Meta-World has no {manipulation!r}; {did_you_mean(manipulation, known)}"
        )
    return _family(f"ml1-{manipulation}", metaworld.ML1(name, seed=_SEED))


def ml10() -> TaskDistribution:
    """Return ten manipulations to train on and five others to evaluate on, each with 50 goals."""
    return _family("ml10", metaworld.ML10(seed=_SEED))


def _family(name: str, benchmark: Any) -> TaskDistribution:
    family = from_gymnasium(
        Arm,
        splits={
            "train": _task_set(benchmark.train_tasks),
            "held_out": _task_set(benchmark.test_tasks),
        },
        name=name,
        horizon=HORIZON,
        # The object's place is observed, the goal's is not.
        visible=("manipulation", "places"),
    )
    return replace(family, simulator="mujoco")


def _task_set(tasks: Iterable[Any]) -> TaskSet:
    """Return Meta-World's tasks as columns; places of fewer numbers are filled up by zeros."""
    names, places = [], []
    for task in tasks:
        place = pickle.loads(task.data)["rand_vec"]  # pickled by Meta-World in this process
        names.append(task.env_name)
        places.append(np.pad(place, (0, _PLACES - len(place))))
    return TaskSet({"manipulation": np.array(names), "places": np.array(places)})


FAMILIES = {"ml10": ml10}


def build(name: str) -> TaskDistribution:
    """Return the family of that name, for example of ``ml1-pick-place`` or ``ml10``."""
    return FAMILIES[name]() if name in FAMILIES else ml1(name.removeprefix("ml1-"))
