"""Replay recorded episodes of Symbolic Alchemy.

``python -m metarl.experiments.benchmarks.check_alchemy FILE.npz``

Per episode the file has ``potion_dim``, ``potion_dir``, ``stone_dir`` (3), ``next_stone`` (8, 6),
``rotation`` (3, 3), the ``stones`` (10, 3) and ``potions`` (10, 12) at the start of each trial,
``actions`` (200), ``observations`` (201, 39) and ``rewards`` (200). Printed is how many
observations and rewards differ from those of the family ``alchemy-rotated``.
"""

import sys

import numpy as np

from metarl import envs
from metarl.envs.alchemy.chemistry import EDGES, ROTATIONS
from metarl.envs.alchemy.family import HORIZON
from metarl.tasks import Tasks
from metarl.vector.env import TaskVectorEnv


def chemistries(data: dict[str, np.ndarray]) -> Tasks:
    """Return the tasks of recorded episodes."""
    edges = [data["next_stone"][:, low, 2 * d + 1] == low | 1 << d for d, low in EDGES]
    potions = np.empty((len(data["actions"]), 6), dtype=np.int64)
    for color in range(6):
        dimension = data["potion_dim"][:, color // 2].astype(np.int64)
        upward = data["potion_dir"][np.arange(len(potions)), dimension] == (1 if color % 2 else -1)
        potions[:, color] = 2 * dimension + upward
    inverse = {name: np.linalg.inv(matrix).round() for name, matrix in ROTATIONS.items()}
    turns = [
        next(name for name, m in inverse.items() if (m == rotation).all())
        for rotation in data["rotation"]
    ]
    return Tasks(
        "alchemy-rotated",
        {
            "edges": np.stack(edges, axis=1).astype(np.int64),
            "potions": potions,
            "stones": data["stone_dir"].astype(np.int64),
            "rotation": np.array(turns),
        },
    )


def replay(env: TaskVectorEnv, data: dict[str, np.ndarray]) -> tuple[int, int]:
    """Return how many observations and rewards differ from the recorded ones.

    Args:
        env: A batch of ``alchemy-rotated``, one sub-environment for each episode.
        data: The arrays of the file.
    """
    tasks = chemistries(data)
    env.set_tasks(tasks)
    env.reset(seed=0)
    color_of = np.argsort(tasks.columns["potions"], axis=1)  # for each kind of potion
    colors = np.take_along_axis(color_of[:, None], data["potions"].astype(np.int64), axis=2)
    observations = rewards = 0
    num_steps = data["actions"].shape[1]
    for step in range(num_steps):
        trial, moment = divmod(step, HORIZON)
        if moment == 0:
            seen = env.begin(slice(None), data["stones"][:, trial], colors[:, trial])  # type: ignore[attr-defined]
        observations += int((np.abs(seen - data["observations"][:, step]) > 1e-6).any(axis=1).sum())
        seen, earned, *_ = env.step(data["actions"][:, step].astype(np.int64))
        rewards += int((earned != data["rewards"][:, step]).sum())
    return observations, rewards


def main(path: str) -> None:
    """Replay the episodes of a file."""
    with np.load(path, allow_pickle=False) as file:
        data = {name: file[name] for name in file.files}
    env = envs.make("alchemy-rotated").make_vec(len(data["actions"]))
    observations, rewards = replay(env, data)
    episodes, steps = data["actions"].shape
    print(
        f"{episodes} episodes of {steps} steps: "
        f"{observations} observations and {rewards} rewards differ"
    )
    sys.exit(bool(observations or rewards))


if __name__ == "__main__":
    main(*sys.argv[1:])
