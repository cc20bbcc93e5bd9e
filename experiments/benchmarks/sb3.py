"""SB3's PPO on a family of robots, against the same PPO on processes of gymnasium's robot.

Both have the same number of environments, network, rollouts and epochs; they take turns in one run.

Run: ``python -m metarl.experiments.benchmarks.sb3``
"""

import functools

import gymnasium
import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from metarl import envs
from metarl.agents import TaskVecEnv
from metarl.experiments.benchmarks.turns import compare, learning_rate

HORIZON = 200


def main(
    family: str = "half-cheetah-vel",
    env_id: str = "HalfCheetah-v5",
    num_envs: int = 64,
    rounds: int = 3,
) -> None:
    """Train both for a few rollouts in turn, and print env steps per second.

    Args:
        family: A family of robots.
        env_id: gymnasium's environment of the same robot.
        num_envs: The environments of a batch; as many processes for gymnasium's.
        rounds: How often both are timed.
    """
    make = functools.partial(gymnasium.make, env_id, max_episode_steps=HORIZON)
    subproc: VecEnv = SubprocVecEnv([make] * num_envs, start_method="spawn")
    venvs = {"TaskVecEnv": TaskVecEnv(envs.make(family), num_envs), "SubprocVecEnv": subproc}
    contestants = {}
    for name, venv in venvs.items():
        size = num_envs * HORIZON // 4
        agent = PPO("MlpPolicy", venv, n_steps=HORIZON, batch_size=size, seed=0, device="cpu")
        contestants[name] = functools.partial(learning_rate, agent)
    print(compare(contestants, rounds))
    for venv in venvs.values():
        venv.close()


if __name__ == "__main__":
    tyro.cli(main)
