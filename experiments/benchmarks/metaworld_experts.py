"""Do Meta-World's scripted experts succeed on the MuJoCo that is installed?

    pip install 'metarl-suite[metaworld]' 'mujoco>=3.17'
    python -m metarl.experiments.benchmarks.metaworld_experts [--num-goals 10]

Each expert plays one episode for each of the first goals of its ``ml1`` family, given the goal. An
episode is a success if it is one at any step.
"""

import warnings
from typing import Any

import mujoco
import numpy as np
import tyro
from metaworld import policies
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from metarl.envs.suites.metaworld import Arm, ml1
from metarl.evaluation.tables import plain_table

_NAMES = {"peg-insert-side": "PegInsertionSide"}
"""Experts that are not called like their environment."""


def expert(manipulation: str) -> Any:
    """Return the scripted policy of a manipulation."""
    words = _NAMES.get(manipulation) or manipulation.title().replace("-", "")
    return getattr(policies, f"Sawyer{words}V3Policy")()


def succeeds(arm: Arm, policy: Any, seed: int) -> bool:
    """Tell whether a policy that is given the goal succeeds in an episode of the present task."""
    observation, _ = arm.reset(seed=seed)
    done = False
    while not done:
        seen = np.array(observation, dtype=np.float64)
        seen[-3:] = arm.present._get_pos_goal()
        action = np.clip(policy.get_action(seen), -1.0, 1.0).astype(np.float32)
        observation, _, _, done, info = arm.step(action)
        if info["success"]:
            return True
    return False


def main(num_goals: int = 10) -> None:
    """Print on how many goals each expert succeeds.

    Args:
        num_goals: How many held-out goals of each manipulation, 50 at most.
    """
    warnings.simplefilter("ignore")  # experts warn of actions that are clipped
    print(f"MuJoCo {mujoco.__version__}; successes of {num_goals} goals")
    rows = []
    for name in sorted(ALL_V3_ENVIRONMENTS):
        manipulation = name.removesuffix("-v3")
        tasks = ml1(manipulation).sample("held_out", num_goals, 0)
        arm, policy = Arm(), expert(manipulation)
        count = 0
        for number, task in enumerate(tasks):
            arm.set_task(task)
            count += succeeds(arm, policy, number)
        arm.close()
        rows.append((manipulation, f"{count}"))
    print(plain_table(("manipulation", "successes"), rows, left=1))
    counts = [int(count) for _, count in rows]
    print(f"all goals: {counts.count(num_goals)} of {len(counts)}; any: {np.count_nonzero(counts)}")


if __name__ == "__main__":
    tyro.cli(main)
